"""The record of a theory run on a small network, and the tables made from such records."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from deformlib import cifar10_vgg
from deformlib.models import initialize
from deformlib.seeding import stream
from reproduction.analysis.evidence import Evidence
from reproduction.analysis.prediction import (
    Network,
    explained,
    measurements,
    networks_of,
    smoothing_and_change,
    table,
)
from reproduction.experiments import networks, runs, studies, theory
from reproduction.experiments.records import TheoryRecord, from_json, to_json
from reproduction.experiments.specs import Recipe, Theory, Training
from reproduction.experiments.store import Record, Store

TRAINING = Training("photos", "max-pool", 0, Recipe(1, 64, 0.02), "quick-2", width=1 / 16)


@pytest.fixture(scope="module")
def record() -> TheoryRecord:
    theory_networks = {
        name: cifar10_vgg("max-pool", width=1 / 16, generator=stream(0, purpose)).eval()
        for name, purpose in (("before", "initialization"), ("after", "another"))
    }
    spec = Theory(TRAINING, images=16, smoothings=(1.0,))
    fractions: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory, "BOUNDED", 4)
        patch.setattr(theory, "STRENGTHS", (0.5, 1.0))
        measured, _ = theory.measure_theory(spec, theory_networks, fractions.append)
    assert fractions[-1] == 1
    return measured


def test_a_record_has_every_network_and_goes_through_json(record):
    assert list(record.networks) == ["before", "after", "smoothed-1"]
    text = json.dumps(to_json(record))
    again = from_json(json.loads(text), TheoryRecord)
    assert json.dumps(to_json(again)) == text  # equality would fail where a value is NaN
    assert len(record.bounds) == 3 * 2


def test_no_bound_is_violated_on_photographs(record):
    for row in record.bounds:
        assert all(value <= 1 for value in row.largest.values()), row
        assert all(value > 0 for value in row.tightness.values()), row


def test_smoothing_makes_the_first_layers_filters_smoother_and_its_prediction_smaller(record):
    before, smoother = record.filters["before"], record.filters["smoothed-1"]
    assert smoother.smoothness < before.smoothness
    assert max(smoother.edge_variation) < min(before.edge_variation)
    first = {name: record.networks[name][1] for name in ("before", "smoothed-1")}
    assert first["before"].name == "conv1_1.norm"
    assert first["smoothed-1"].filtered["cosine"]["any"] < first["before"].filtered["cosine"]["any"]


def test_a_smoothed_network_is_the_one_of_figure_4():
    model = cifar10_vgg("strided-relu", width=1 / 16, generator=stream(5, "initialization"))
    [found] = theory.smoothed(model, (0.5,), 5).values()
    again = initialize(
        cifar10_vgg("strided-relu", width=1 / 16),
        generator=stream(5, "initialization"),
        smoothing=0.5,
    )
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name])


def parts(record: TheoryRecord) -> list[Network]:
    make = partial(Network, variant="max-pool", seed=0)
    return [
        make(kind=name, layers=layers, smoothness=record.smoothness[name])
        for name, layers in record.networks.items()
    ]


def test_the_table_has_a_row_for_each_layer_before_and_after_its_relu(record):
    values = table(parts(record))
    assert len(values) == 3 * (13 + 8)
    image = values[values["layer"] == 0]
    assert image["paper"].nunique() == 1
    assert image["own any"].tolist() == pytest.approx(image["dense any"].tolist())


def test_a_prediction_that_is_always_half_is_known_as_such():
    rng = np.random.default_rng(0)
    paper = np.exp(rng.normal(size=60))
    values = pd.DataFrame(
        {
            "kind": np.repeat(["a", "b"], 30),
            "variant": "max-pool",
            "seed": 0,
            "layer": np.tile(np.arange(15), 4),
            "before_relu": np.tile(np.repeat([True, False], 15), 2),
            "paper": paper,
            "half": paper / 2,
            "noise": np.exp(rng.normal(size=60)),
        }
    )
    found = explained(values, ["half", "noise"])
    assert found.loc["half", "ratio"] == pytest.approx(0.5)
    assert found.loc["half", "off by"] == pytest.approx(1)
    assert found.loc["half", ["R2, fitted", "rank", "layers"]].tolist() == pytest.approx([1, 1, 1])
    assert found.loc["half", "R2"] == pytest.approx(1 - np.log(2) ** 2 / np.log(paper).var())
    assert abs(found.loc["noise", "rank"]) < 0.4


def test_what_filters_change_is_compared_with_their_own_smoothness(record):
    found = smoothing_and_change(parts(record))
    assert len(found) == 3 * 8
    means = found.groupby("kind")[["smoothness", "change"]].mean()
    assert means.loc["smoothed-1", "smoothness"] < means.loc["before", "smoothness"]
    assert means.loc["smoothed-1", "change"] < means.loc["before", "change"]


def test_an_untrained_network_is_that_of_the_first_study_that_has_it(record):
    found = [Record(Theory(replace(TRAINING, seed=seed)), record, {}) for seed in (0, 1)]
    of_studies = {name: Evidence(name, "full", found, []) for name in ("first", "second")}
    chosen = measurements(of_studies)
    assert list(chosen) == [("first", "max-pool"), ("second", "max-pool")]
    kinds = [network.kind for network in networks_of(chosen)]
    assert kinds == ["before", "first", "smoothed-1", "second"]


def test_a_spec_is_executed_into_a_record_that_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(theory, "BOUNDED", 2)
    monkeypatch.setattr(theory, "STRENGTHS", (1.0,))
    store, spec = Store(tmp_path / "store"), Theory(TRAINING, images=4)
    with pytest.raises(FileNotFoundError, match="photos-max-pool-0-theory needs the weights"):
        runs.execute(spec, store)
    store.save_weights(TRAINING, networks.build(TRAINING, 10, 3).state_dict())
    made = runs.execute(spec, store).measurements
    assert isinstance(made, TheoryRecord) and list(made.networks) == ["before", "after"]
    assert to_json(store.load(spec).measurements) == to_json(made)


@pytest.mark.parametrize("mode", studies.MODES)
def test_studies_are_of_networks_whose_weights_are_kept(mode: str):
    for name in ("cifar10-theory", "cifar10-random-labels-theory"):
        made = studies.study(name).specs(mode)
        assert {spec.training for spec in made} <= studies.keeping(mode)
        smoothed = {spec.downsampling for spec in made if spec.smoothings}
        assert smoothed == ({*studies.TWO} if name == "cifar10-theory" else set())
