"""A record is what its spec says: one small run of every kind, made again and compared with the committed record."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_of_each import STUDY

from reproduction.experiments import runs
from reproduction.experiments.specs import KINDS, Spec, network_of
from reproduction.experiments.store import Store

FOLDER = Path(__file__).parents[1] / "records"
SPECS = STUDY.specs("quick")


def numbers(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(inner, f"{place}/{key}")
    elif isinstance(value, int | float):
        yield place, value


def test_every_kind_is_here():
    assert {spec.kind for spec in SPECS} == KINDS.keys()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_record_comes_out_again(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """To a thousandth, shares to two images of 128. Two threads instead of one make trained networks differ by up to a
    seventh after these eight steps, as another processor would; so after the first step, to a quarter and 0.05."""
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    committed, store, training = Store(FOLDER), Store(tmp_path), network_of(spec)
    if (
        training != spec and committed.weights_path(training).exists()
    ):  # what looks at a network looks at the committed one
        for path in (committed.path(training), committed.weights_path(training)):
            (target := tmp_path / path.relative_to(FOLDER)).parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    expected = dict(numbers(committed.load(spec).measurements))
    found = dict(numbers(runs.execute(spec, store).measurements))
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        trained = spec.kind == "training" and not place.startswith("/checkpoints/0/")
        fraction = spec.kind == "intervention" or place.endswith(
            ("accuracy", "flip_rate", "shift_consistency")
        )
        relative, absolute = (0.25, 0.05) if trained else (1e-3, 0.016 if fraction else 1e-6)
        assert found[place] == pytest.approx(value, rel=relative, abs=absolute), place
