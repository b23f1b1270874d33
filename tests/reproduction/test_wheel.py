"""The wheel holds both packages whole, and works without the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from reproduction.experiments.store import ROOT

PACKAGES = ("deformlib", "reproduction")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, built from a copy that is clean of other builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", str(source), *options, "-w", str(folder)]
    subprocess.run(command, check=True)
    [wheel] = folder.glob("deformlib-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(installed: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Python in the folder that holds the installed packages' folder, with these packages alone."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=installed.parent,
        env=os.environ | {"PYTHONPATH": str(installed), "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
    )


def files(folder: Path) -> set[str]:
    """The files of both packages, but those that Python makes."""
    found = (path for package in PACKAGES for path in (folder / package).rglob("*"))
    return {
        str(path.relative_to(folder))
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(installed: Path):
    assert files(installed) == files(ROOT)
    assert {"deformlib/py.typed", "reproduction/py.typed"} < files(installed)
    beside = {path.name for path in installed.iterdir()}
    assert beside == {*PACKAGES, "deformlib-0.1.0.dist-info"}


def test_the_instrument_works_without_the_checkout(installed: Path):
    code = """
import deformlib, torch
images = torch.rand(8, 3, 32, 32)
deformed = deformlib.deform(images, deformlib.Deformation.CIFAR10)
model = deformlib.cifar10_vgg("max-pool", width=0.25)
print(deformlib.__file__, len(deformlib.sensitivity(model, images, deformed)))
"""
    result = run(installed, "-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(installed)), "another deformlib was imported"


def test_its_command_line_works_without_the_checkout(installed: Path):
    folder = installed.parent / "photos"
    folder.mkdir()
    for k in range(2):
        Image.effect_noise((64, 64), 60 + k).convert("RGB").save(folder / f"{k}.png")
    deformed = run(installed, "-m", "deformlib", "deform", folder / "0.png", "deformed.png")
    assert deformed.returncode == 0, deformed.stderr
    assert Image.open(installed.parent / "deformed.png").size == (64, 64)
    (installed.parent / "mine.py").write_text(
        "import deformlib\ndef net(): return deformlib.cifar10_vgg('max-pool', width=0.25)\n"
    )
    options = ["--images", folder, "--size", 32]
    measured = run(installed, "-m", "deformlib", "measure", "mine.py:net", *options)
    assert measured.returncode == 0, measured.stderr
    assert "conv1_1" in measured.stdout


def test_help_of_the_laboratory_needs_no_checkout(installed: Path):
    result = run(installed, "-m", "reproduction", "--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in ("status", "run", "book", "agreement"))


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["status", "cifar10"],
        ["run", "cifar10"],
        ["book"],
        ["book", "--mode", "quick"],
        ["agreement"],
    ],
)
def test_a_command_that_needs_the_checkout_says_so(command: list[str], installed: Path):
    result = run(installed, "-m", "reproduction", *command)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert "come with a checkout of the project, not with the installed package" in line


def test_quick_mode_needs_no_checkout(installed: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DEFORMLIB_STORE", str(tmp_path))
    result = run(installed, "-m", "reproduction", "status", "cifar10", "--mode", "quick")
    assert result.returncode == 0, result.stderr
    assert "missing" in result.stdout
