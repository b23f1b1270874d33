"""How far a run in progress is: what its own process writes in the cache, and what others read."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from deformlib.files import write_whole
from reproduction.experiments import specs
from reproduction.experiments.specs import Spec
from reproduction.experiments.store import cache_root

Progress = Callable[[float], None]  # called with the fraction of a run that is done


def folder_of(spec: Spec) -> Path:
    """Where a run in progress keeps what it needs to go on."""
    return cache_root() / "runs" / specs.file_name(spec)


def lock_of(spec: Spec) -> Path:
    """The file that the process that executes a spec holds locked."""
    return folder_of(spec) / "lock"


def progress_of(spec: Spec) -> float | None:
    """The fraction of a run that is done, as its own process last wrote it; None if unknown."""
    try:
        return json.loads((folder_of(spec) / "progress.json").read_text())["done"]
    except (OSError, ValueError, KeyError):
        return None


def is_running(spec: Spec) -> bool:
    """Whether a process on this machine is executing `spec`, as far as can be seen: a lock that
    cannot be tried, such as another user's, counts as held."""
    file = lock_of(spec)
    try:
        if not file.exists():
            return False
        with FileLock(file, timeout=0):
            return False
    except OSError:  # filelock.Timeout is one
        return True


class Reporter:
    """Writes the fraction that is done to a file, at most once a second, and passes it on."""

    def __init__(self, file: Path, also: Progress | None) -> None:
        self.file = file
        self.also = also
        self.last = 0.0

    def __call__(self, fraction: float) -> None:
        if self.also:
            self.also(fraction)
        if time.monotonic() - self.last >= 1:
            self.last = time.monotonic()
            write_whole(self.file, lambda file: file.write_text(json.dumps({"done": fraction})))

    def done(self) -> None:
        self.file.unlink(missing_ok=True)
