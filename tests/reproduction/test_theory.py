"""The record of a theory run on a small network, and the tables made from such records."""

import json
from dataclasses import asdict
from functools import partial

import cattrs
import numpy as np
import pandas as pd
import pytest
import torch

from deformlib import cifar10_vgg
from deformlib.models import initialize
from deformlib.seeding import stream
from reproduction.analysis.prediction import Network, explained, smoothing_and_change, table
from reproduction.experiments import theory
from reproduction.experiments.specs import Recipe, Training

TRAINING = Training("photos", "max-pool", 0, Recipe(1, 64, 0.02), "quick-2", width=1 / 16)


@pytest.fixture(scope="module")
def record() -> theory.TheoryMeasurements:
    theory_networks = {
        name: cifar10_vgg("max-pool", width=1 / 16, generator=stream(0, purpose)).eval()
        for name, purpose in (("before", "initialization"), ("after", "another"))
    }
    spec = theory.Theory(TRAINING, images=16, smoothings=(1.0,))
    fractions: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory, "BOUNDED", 4)
        patch.setattr(theory, "STRENGTHS", (0.5, 1.0))
        measured, _ = theory.measure(spec, theory_networks, fractions.append)
    assert fractions[-1] == 1
    return measured


def test_a_record_has_every_network_and_goes_through_json(record):
    assert list(record.networks) == ["before", "after", "smoothed-1"]
    text = json.dumps(asdict(record))
    again = cattrs.structure(json.loads(text), theory.TheoryMeasurements)
    assert json.dumps(asdict(again)) == text  # equality would fail where a value is NaN
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


def networks(record: theory.TheoryMeasurements) -> list[Network]:
    make = partial(Network, variant="max-pool", seed=0)
    return [
        make(kind=name, layers=layers, smoothness=record.smoothness[name])
        for name, layers in record.networks.items()
    ]


def test_the_table_has_a_row_for_each_layer_before_and_after_its_relu(record):
    values = table(networks(record))
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
    found = smoothing_and_change(networks(record))
    assert len(found) == 3 * 8
    means = found.groupby("kind")[["smoothness", "change"]].mean()
    assert means.loc["smoothed-1", "smoothness"] < means.loc["before", "smoothness"]
    assert means.loc["smoothed-1", "change"] < means.loc["before", "change"]
