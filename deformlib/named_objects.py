"""An object in a file or module of the user's own, by its name on the command line."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def named_object(text: str) -> Any:
    """The object that "package.module:NAME" or "folder/file.py:NAME" names. ValueError for another
    form, or a file, module or name that does not exist."""
    place, _, name = text.rpartition(":")
    is_file = place.endswith(".py")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not name.isidentifier() or not (is_file or is_module):
        raise ValueError(f"must be MODULE:NAME or FILE.py:NAME, got {text!r}")
    module = _module_of_file(Path(place)) if is_file else _module(place)
    if not hasattr(module, name):
        raise ValueError(f"{place} has no {name!r}")
    return getattr(module, name)


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    path = path.resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader  # of a .py file there always is one
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.parent))  # it may import its neighbours
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    sys.path.insert(0, "")  # modules in the current folder
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no module {error.name!r} (for {name})") from error
