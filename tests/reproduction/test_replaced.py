"""Fractions of a change, on curves that were made up."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reproduction.analysis import replaced
from reproduction.analysis.evidence import Evidence
from reproduction.experiments.records import MatchingRecord, Smoothed, SmoothingRecord
from reproduction.experiments.specs import Matching, Recipe, Smoothing, Training
from reproduction.experiments.store import Record

# Changes of log sensitivity by training, layer by layer; the third goes through zero.
TRAINED = {0: [0, 0.8, 0.01, -0.6, -1.0], 1: [0, 0.6, -0.03, -0.4, -1.2]}
MATCHED = {0: [0, 0.1, -0.5, -0.5, -0.7], 1: [0, 0.0, -0.6, -0.5, -0.3]}
BEFORE = np.array([0.1, 0.2, 0.3, 0.4, 0.5])


def evidence(
    variants: tuple[str, ...] = ("max-pool",), seeds: tuple[int, ...] = (0, 1)
) -> Evidence:
    records = []
    for variant in variants:
        for seed in seeds:
            training = Training("cifar10", variant, seed, Recipe(1, 8, 0.1), "protocol-1")
            curves = {"before": BEFORE, "after": BEFORE * np.exp(TRAINED[seed])}
            curves["moments"] = BEFORE * np.exp(MATCHED[seed])
            values = {name: list(curve) for name, curve in curves.items()}
            found = MatchingRecord(list("abcde"), [], values, {})
            records.append(Record(Matching(training, 8, 8), found, {}))
    return Evidence("a study", "full", records, [])


def test_changes_are_of_logarithms_since_before_training():
    table = replaced.changes(evidence())
    assert len(table) == 2 * 3 * 5 and set(table["variant"]) == {"max-pool"}
    of_one = table.query("network == 'moments' and seed == 1").sort_values("layer")
    assert of_one["value"].tolist() == pytest.approx(MATCHED[1])
    assert of_one["name"].tolist() == list("abcde")
    assert table.query("network == 'before'")["value"].abs().max() == 0


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("rise", [0.1 / 0.8, 0.0 / 0.6]),
        ("rise, plain sum", [0.1 / 0.8, 0.0 / 0.6]),
        (
            "fall",  # weights are means over seeds: 0.01, 0.5, 1.1
            [
                (0.01 * -0.5 + 0.5 * -0.5 + 1.1 * -0.7) / (0.01 * 0.01 + 0.5 * -0.6 - 1.1),
                (0.01 * -0.6 + 0.5 * -0.5 + 1.1 * -0.3) / (0.01 * -0.03 + 0.5 * -0.4 + 1.1 * -1.2),
            ],
        ),
        # The layer at zero falls in the mean over seeds, and so it is summed in both.
        (
            "fall, plain sum",
            [(-0.5 - 0.5 - 0.7) / (0.01 - 0.6 - 1.0), (-0.6 - 0.5 - 0.3) / (-0.03 - 0.4 - 1.2)],
        ),
        ("last layer", [0.7, 0.25]),
        (
            "highest to last",
            [(-0.7 - 0.1) / (-1.0 - 0.8), (-0.3 - 0.0) / (-1.2 - 0.6)],
        ),
    ],
)
def test_fractions_are_of_sums_over_layers(scope: str, expected: list[float]):
    table = replaced.changes(evidence())
    found = replaced.fractions(table, scope).query("network == 'moments'").sort_values("seed")
    assert found["value"].tolist() == pytest.approx(expected)
    interval = replaced.carried(table, scope)["max-pool", "moments"]
    half = stats.t.ppf(0.975, 1) * stats.sem(expected)
    assert interval == pytest.approx(
        (np.mean(expected), np.mean(expected) - half, np.mean(expected) + half)
    )
    assert replaced.carried(table, scope)["max-pool", "after"].value == pytest.approx(1)
    assert replaced.carried(table, scope)["max-pool", "before"].value == pytest.approx(0)


def test_a_variant_of_which_nothing_rises_has_no_fraction():
    table = replaced.changes(evidence(("max-pool", "strided")))
    table.loc[(table["variant"] == "strided") & (table["value"] > 0), "value"] *= -1
    assert {variant for variant, _ in replaced.carried(table, "rise")} == {"max-pool"}


def test_one_seed_has_no_interval():
    found = replaced.carried(replaced.changes(evidence(seeds=(0,))), "last layer")
    assert found["max-pool", "moments"].value == pytest.approx(0.7)
    assert np.isnan(found["max-pool", "moments"].low)
    table = replaced.as_table(found, {"moments": "the moments"})
    assert table.loc["the moments", "Max-pool"] == "0.70"


def test_a_table_has_networks_as_rows_and_variants_as_columns():
    found = replaced.carried(replaced.changes(evidence(("strided", "max-pool"))), "last layer")
    table = replaced.as_table(found, {"after": "trained", "moments": "the moments"})
    assert list(table.index) == ["trained", "the moments"]
    assert list(table.columns) == ["Strided", "Max-pool"]
    assert table.loc["trained", "Strided"] == "1.00 (1.00 to 1.00)"
    assert isinstance(table, pd.DataFrame)


def test_of_a_change_that_is_too_small_there_is_no_fraction():
    table = replaced.changes(evidence(("max-pool", "strided")))
    table.loc[table["variant"] == "strided", "value"] *= 0.2
    assert {variant for variant, _ in replaced.carried(table, "last layer")} == {"max-pool"}
    table["value"] *= 0.2
    assert replaced.carried(table, "last layer") == {}
    assert replaced.as_table({}, {"moments": "the moments"}).shape == (1, 0)
    assert "too little" in replaced.in_words({}, "moments")


def test_sentences_say_how_much_and_of_what():
    found = replaced.carried(replaced.changes(evidence()), "last layer")
    assert replaced.in_words(found, "moments") == "part with Max-pool (0.48)"
    assert replaced.in_words(found, "after") == "most with Max-pool (1.00)"


def test_smoothing_is_told_against_its_control():
    training = Training("cifar10", "max-pool", 0, Recipe(1, 8, 0.1), "protocol-1")

    def network(last: float, accuracy: float) -> Smoothed:
        return Smoothed([0.1, last], [1.5, 1.7], [0.9, 0.7], accuracy)

    softer, other = [network(0.2, 0.8), network(0.15, 0.6)], [network(0.3, 0.7), network(0.5, 0.2)]
    found = SmoothingRecord(["a", "b"], ["b"], 10, network(0.25, 0.9), softer, other)
    record = Record(Smoothing(training, 8, 10, 8, sigmas=(0.4, 1.0)), found, {})
    of_smoothing = Evidence("a study", "full", [record], [])
    tables = replaced.smoothings(of_smoothing, "sensitivity")
    assert tables["smoothed"]["value"].tolist() == [0.25, 0.2, 0.15]
    assert tables["random"]["layer"].tolist() == [0, 0.4, 1.0]
    assert replaced.smoothings(of_smoothing, "turned")["random"]["value"].tolist() == [0.8] * 3
    table = replaced.changes(evidence())
    sentences = replaced.findings(table, table, of_smoothing)
    assert len(sentences) == 3
    assert "Smoothing by 0.4 px changes the last layer's sensitivity by -20% with" in sentences[2]
    assert "takes 10 to 10 points" in sentences[2] and "+20% with Max-pool" in sentences[2]
    assert "random change" in sentences[2] and "takes 20 to 20 points" in sentences[2]
