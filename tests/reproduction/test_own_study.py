"""A study of the user's own, in a file of theirs, with a downsampling layer of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reproduction.experiments import studies

STUDY = """
from torch import nn
from deformlib.models import DOWNSAMPLINGS, Downsampling
from reproduction.experiments.protocol import PROTOCOLS, Protocol
from reproduction.experiments.specs import Recipe, Training
from reproduction.experiments.studies import Study

PROTOCOLS["tiny"] = Protocol(
    images=8, sets=1, strengths=(), light=3, full=2, calibration=16, probes=16, final=32
)
DOWNSAMPLINGS["corner"] = Downsampling(lambda n: nn.MaxPool2d(1, stride=2), "Corner", "#000000")
RECIPE = Recipe(1, 16, 0.05)
MINE = Study(
    "mine",
    lambda mode, seed: [
        Training("photos", "corner", seed, RECIPE, "tiny", width=0.05, examples=64)
    ],
    {"full": range(1), "quick": range(1)},
)
"""


def test_a_study_of_ones_own(tmp_path: Path):
    (tmp_path / "mine.py").write_text(STUDY)
    environment = os.environ | {
        "DEFORMLIB_CACHE": str(tmp_path / "cache"),
        "DEFORMLIB_STORE": str(tmp_path / "store"),
        "TQDM_DISABLE": "1",
    }
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "reproduction",
            "run",
            "./mine.py:MINE",
            "--mode",
            "quick",
            "--workers",
            "1",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [path.name.rsplit("-", 1)[0] for path in (tmp_path / "store").glob("*.json")] == [
        "photos-subset-corner-0"
    ]


def test_what_is_not_a_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "net.py").write_text("number = 3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(
        ValueError,
        match=r"net\.py:number must be a .*\.Study, got int",
    ):
        studies.study("net.py:number")
