"""Every example that a `--help` gives runs as it is written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from reproduction.__main__ import app
from reproduction.experiments.store import ROOT

COMMANDS = typer.main.get_command(app).commands
EXAMPLES = [
    example
    for command in COMMANDS.values()
    for example in re.findall(r"Example:\s+`([^`]+)`", command.help)
]


def test_every_command_has_an_example():
    assert {example.split()[3] for example in EXAMPLES} == {*COMMANDS}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_as_it_is_written(example: str, tmp_path: Path):
    """In a folder of its own that holds the checkout's `book`, whose full mode has its records."""
    (tmp_path / "book").symlink_to(ROOT / "book")
    python, *arguments = shlex.split(example)
    assert python == "python"
    places = {name: str(tmp_path / name) for name in ("DEFORMLIB_STORE", "DEFORMLIB_CACHE")}
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=os.environ | places | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    if "--out" in arguments:
        assert (tmp_path / "chapters" / "01_introduction.ipynb").exists()
    if "--plot" in arguments:
        assert (tmp_path / "curves.png").exists()
