"""A record is what its spec says: one small run of every kind, made again and compared with the
committed record. And every committed record is read, and is the same file when written again."""

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_of_each import STUDY

from reproduction.experiments import records, runs, specs
from reproduction.experiments.records import Checkpoint, Distances, from_json, to_json
from reproduction.experiments.specs import KINDS, Spec, network_of
from reproduction.experiments.store import RESULTS, Store, read, rounded

FOLDER = Path(__file__).parents[1] / "records"
SPECS = STUDY.specs("quick")


def numbers(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(inner, f"{place}/{key}")
    elif isinstance(value, int | float):
        yield place, value


def order(value: object) -> object:
    """The names in a JSON value, in their order, without the numbers."""
    if isinstance(value, dict):
        return [(name, order(inner)) for name, inner in value.items()]
    return [order(inner) for inner in value] if isinstance(value, list) else None


def test_every_kind_is_here():
    """But one whose weights others have."""
    assert {spec.kind for spec in SPECS} | {"worst-pretrained"} == KINDS.keys()
    assert records.RECORDS.keys() == {*KINDS.values()}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_record_comes_out_again(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Names in the same order; numbers to a thousandth, fractions to two images of 128.

    Two threads instead of one make trained networks differ by up to a seventh after these eight
    steps, as another processor would; so after the first step, to a quarter and 0.05.
    """
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    committed, store, training = Store(FOLDER), Store(tmp_path), network_of(spec)
    # What looks at a network looks at the committed one.
    if training != spec and committed.weights_path(training).exists():
        for path in (committed.path(training), committed.weights_path(training)):
            (target := tmp_path / path.relative_to(FOLDER)).parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    runs.execute(spec, store, precision="float32")
    kept, made = (
        json.loads(each.path(spec).read_text())["measurements"] for each in (committed, store)
    )
    assert order(made) == order(kept)
    expected, found = dict(numbers(kept)), dict(numbers(made))
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        trained = spec.kind == "training" and not place.startswith("/checkpoints/0/")
        fraction = spec.kind == "intervention" or place.endswith(
            ("accuracy", "flip_rate", "shift_consistency")
        )
        relative, absolute = (0.25, 0.05) if trained else (1e-3, 0.016 if fraction else 1e-6)
        assert found[place] == pytest.approx(value, rel=relative, abs=absolute), place


@pytest.mark.parametrize("folder", [RESULTS, FOLDER], ids=["book", "tests"])
def test_every_record_is_read_and_is_the_same_file_written_again(folder: Path):
    paths = sorted(folder.glob("*.json"))
    assert len(paths) >= {RESULTS: 250, FOLDER: len(SPECS)}[folder]
    for path in paths:
        content = json.loads(path.read_text())
        record = read(path)
        content["spec"] = specs.to_dict(record.spec)
        content["measurements"] = rounded(to_json(record.measurements))
        text = json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"
        assert text == path.read_text(), path.name
        assert Store(folder).path(record.spec) == path


def test_what_was_not_measured_is_left_out_and_what_is_not_there_is_null():
    found = Distances(mean=[1.0], normalized=[math.nan])
    assert list(to_json(found)) == ["mean", "normalized"]
    again = from_json(rounded(to_json(found)), Distances)
    assert again.mean == [1.0] and math.isnan(again.normalized[0]) and again.pairs_mean is None


@pytest.mark.parametrize(
    "change, named",
    [
        ({"epochs": [{"loss": 1.0}]}, "accuracy"),
        ({"steps": "many"}, "steps"),
        ({"layers": None}, "layers"),
        ({"colour": 1}, "colour"),
        ({"epochs": [{"loss": "low", "accuracy": True}]}, r"expected float @ \$.epochs\[0\].loss"),
        ({"checkpoints": [{"step": 0}]}, "sensitivity"),
    ],
)
def test_a_malformed_record_is_refused_by_name(change: dict, named: str):
    [path] = FOLDER.glob("photos-subset-max-pool-0-6d4c7472fb77.json")
    content = json.loads(path.read_text())["measurements"]
    with pytest.raises(ValueError, match=named):
        records.measurements_from({**content, **change}, specs.Training)


def test_a_checkpoint_without_a_probe_has_no_best_one():
    [path] = FOLDER.glob("photos-initial-max-pool-0-955af5d32f3b.json")
    [checkpoint] = read(path).measurements.checkpoints
    assert isinstance(checkpoint, Checkpoint)
    with pytest.raises(ValueError, match="not trained"):
        checkpoint.best_probe  # noqa: B018
    with pytest.raises(dataclasses.FrozenInstanceError):
        checkpoint.step = 1
