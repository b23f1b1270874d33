"""Files written whole or not at all."""

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

STALE = 3600  # seconds without a change after which the writer of a draft must have been killed


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` fill a file of a unique name beside `path`, flush it to disk, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(".*." + "[0-9a-f]" * 32):  # of any file, told by their names
        with suppress(FileNotFoundError):  # renamed or removed in this moment
            if time.time() - stale.stat().st_mtime > STALE:
                stale.unlink()
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
