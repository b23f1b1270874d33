"""What a reader of the book adds without touching the package: an object in a file or module of theirs, by name."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def named_object(text: str) -> Any:
    """What "package.module:NAME" or "folder/file.py:NAME" stands for. ValueError says which part of it is not there."""
    place, colon, name = text.rpartition(":")
    here = place.endswith(".py") or all(part.isidentifier() for part in place.split("."))
    if not colon or not here or not name.isidentifier():
        raise ValueError(f"must be MODULE:NAME or FILE.py:NAME, got {text!r}")
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise ValueError(f"there is no file {place}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        sys.path.insert(0, str(path.parent))  # it may import its neighbours
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, "")
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise ValueError(f"there is no module {error.name!r} (for {text!r})") from error
    if not hasattr(module, name):
        raise ValueError(f"{place} has no {name!r}")
    return getattr(module, name)
