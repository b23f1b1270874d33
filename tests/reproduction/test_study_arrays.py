"""A study as one array has every number of its records where its labels say."""

import numpy as np
import pytest
from made_up import checkpoint, probe, profile, training

from reproduction.analysis import evidence
from reproduction.analysis.evidence import Evidence
from reproduction.analysis.study_arrays import (
    at_checkpoint,
    by_variant_and_seed,
    study_array,
    tidy,
    without_readout,
)
from reproduction.experiments.specs import Recipe, Training
from reproduction.experiments.store import Record

LAYERS = ["input", "conv1_1", "head"]


def run(variant: str, seed: int, values: list[float], losses: tuple[float, ...] = ()) -> Record:
    """A checkpoint for each value, that of the first layer; the next have 10 and 100 more."""
    checkpoints = [
        checkpoint(
            profile([v, v + 10, v + 100], [-v, 0, 0]), [v, 2 * v], probe=probe(train_loss=loss)
        )
        for v, loss in zip(values, losses or [1.0] * len(values))
    ]
    spec = Training("cifar10", variant, seed, Recipe(1, 8, 0.1), "protocol-1")
    return training(spec, checkpoints, LAYERS, ["conv1_1", "conv1_2"])


def test_every_number_has_its_labels() -> None:
    array = study_array([run("strided", 3, [1, 2]), run("max-pool", 4, [5, 6])], "downsampling")
    chosen = array["sensitivity"].sel(layer="conv1_1", distance="cosine", statistic="normalized")
    assert chosen.values.tolist() == [[11, 12], [15, 16]]
    euclidean = array["sensitivity"].sel(layer="input", distance="euclidean", statistic="mean")
    assert euclidean.values.tolist() == [[-1, -2], [-5, -6]]
    filters = array["smoothness"].sel(average="kernel", filters="conv1_2").isel(checkpoint=1)
    assert filters.values.tolist() == [4, 12]
    assert "calibrated" not in array and "conditions" not in array, "measured in no run"
    table = tidy(without_readout(chosen.isel(checkpoint=0).expand_dims(layer=["conv1_1"])))
    assert table.values.tolist() == [
        ["strided", 3, 0, "conv1_1", 11],
        ["max-pool", 4, 0, "conv1_1", 15],
    ]


def test_a_missing_run_is_nan() -> None:
    runs = [run("strided", 0, [1]), run("strided", 1, [2]), run("max-pool", 1, [3])]
    array = by_variant_and_seed(study_array(runs, "downsampling"))
    first = array["smoothness"].sel(average="kernel", filters="conv1_1").isel(checkpoint=0)
    assert first.sel(variant="strided", seed=[0, 1]).values.tolist() == [1, 2]
    assert (
        np.isnan(first.sel(variant="max-pool", seed=0))
        and first.sel(variant="max-pool", seed=1) == 3
    )


def test_the_last_checkpoint_is_that_of_each_run() -> None:
    array = study_array([run("strided", 0, [1, 2, 3]), run("strided", 1, [7, 8])], "downsampling")
    smoothness = array["smoothness"].sel(average="kernel", filters="conv1_1")
    assert at_checkpoint(smoothness, -1).values.tolist() == [3, 8]
    assert at_checkpoint(smoothness, 1).values.tolist() == [2, 8]


def test_runs_of_other_networks_are_no_study() -> None:
    other = training(run("strided", 0, [1]).spec, [checkpoint([1.0])], ["input"])
    with pytest.raises(ValueError, match="must have the same layers"):
        study_array([run("strided", 1, [1]), other], "downsampling")


def test_two_runs_of_a_variant_and_seed_are_two_at_a_loss() -> None:
    """They were each listed twice."""
    runs = [run("strided", 0, [1, 3], (1.0, 0.25)), run("strided", 0, [5, 9], (1.0, 0.25))]
    table = evidence.at_loss(Evidence("", "full", runs, []), {"strided": 0.5})
    assert table.query("name == 'input'")["value"].tolist() == pytest.approx([2, 7])


def test_a_statistic_that_was_not_measured_is_an_error() -> None:
    found = Evidence("", "full", [run("strided", 0, [1])], [])
    with pytest.raises(
        ValueError, match="statistic must be one that was measured, got 'pairs_mean'"
    ):
        found.layers(statistic="pairs_mean")
