"""Where a record comes from: commit, versions, machine."""

import functools
import importlib.metadata
import platform
import subprocess
import time
from contextlib import suppress
from typing import Any

import torch

from reproduction.experiments.hardware import Hardware, name_of, peak_memory
from reproduction.experiments.store import ROOT

PACKAGES = ("deformlib", "torch", "numpy", "datasets")
SOURCES = ("deformlib", "reproduction")  # a change outside these changes no record


def provenance(on: Hardware) -> dict[str, Any]:
    """What a record says of its making, after it was measured, as JSON values."""
    precision = "bfloat16 autocast" if on.precision == "bfloat16" else on.precision
    return {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
        "device": name_of(on.device),
        "threads": torch.get_num_threads(),
        "training_precision": precision,
        **peak_memory(on.device),
    }


def versions() -> dict[str, str | None]:
    """{"python" or package: version}; None where a package runs from a checkout, not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        found[package] = None
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


@functools.cache
def commit() -> str | None:
    """The commit of the project's own checkout, "+" if it was changed since; None outside one."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changes = _git("status", "--porcelain", *SOURCES)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changes else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
