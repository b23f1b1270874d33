"""`import deformlib` costs nothing, and its names are those of the modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deformlib

SLOW = {"torch", "numpy", "matplotlib", "pandas", "datasets", "torchvision", "skimage", "PIL"}
NAMES = {
    "DOWNSAMPLINGS",
    "Deformation",
    "ThinPlateSpline",
    "cifar10_vgg",
    "deform",
    "distances",
    "imagenet_vgg",
    "initialize",
    "normalized_distance",
    "normalized_total_variation",
    "relative_stability",
    "sensitivity",
    "shift_consistency",
    "smoothness",
    "visit",
    "warp",
}


def test_a_module_is_imported_when_a_name_of_it_is_asked_for():
    code = f"""
import sys, deformlib
print({SLOW} & {{*sys.modules}})
assert deformlib.warping.__name__ == "deformlib.warping"
from deformlib import *
print({SLOW} & {{*sys.modules}} - {{"torch", "numpy"}}, callable(deform), callable(visit))
"""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed == "set()\nset() True True\n"


def test_type_checkers_see_the_same_names():
    source = ast.parse(Path(deformlib.__file__).read_text())
    [block] = [node for node in source.body if isinstance(node, ast.If)]
    seen = {name.name: node.module for node in block.body for name in node.names}
    assert seen == {name: f"deformlib.{module}" for name, module in deformlib._MODULE_OF.items()}
    assert seen.keys() == {*deformlib.__all__} == NAMES


def test_no_name_is_that_of_a_module():
    assert not {*deformlib.__all__} & {
        path.stem for path in Path(deformlib.__file__).parent.glob("*.py")
    }


def test_names_are_those_of_the_modules():
    from deformlib import deform, warping

    assert deform is warping.deform is deformlib.deform
    assert {*deformlib.__all__, "metrics", "__doc__"} <= {*dir(deformlib)}


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="'deformlib' has no attribute 'deforn'"):
        deformlib.deforn  # noqa: B018
    with pytest.raises(ImportError, match="deforn"):
        from deformlib import deforn  # noqa: F401
