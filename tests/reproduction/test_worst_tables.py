"""Tables of worst deformations, of records made by hand."""

import math

import pandas as pd
import pytest

from reproduction.analysis import worst as tables
from reproduction.experiments.records import (
    Budget,
    Carried,
    Maxima,
    OfNetwork,
    Predictions,
    WorstRecord,
    from_json,
    to_json,
)
from reproduction.experiments.specs import Recipe, Training, Worst
from reproduction.experiments.store import Record
from reproduction.experiments.worst import CLASS
from reproduction.pages.matrix import matrix

LAYERS = ["input", "conv1_2", "down4"]


def maxima(scale: float) -> Maxima:
    """random 1, 2, 3; the best 2, 4, 6; the worst 4, 8, 30: times scale."""
    random, best, worst = ([scale * x for x in row] for row in ([1, 2, 3], [2, 4, 6], [4, 8, 30]))
    half = [0.5 * x for x in worst]
    return Maxima(
        random, best, worst, worst, half, worst, [1.0, 0.5, 0.0], [0.1, 0.2, 0.3], [1.0] * 3
    )


def record(variant: str, other: str, before: float, after: float) -> Record:
    training = Training("cifar10", variant, 0, Recipe(1, 8, 0.1), "protocol-1")
    predictions = Predictions(
        0.8, 0.75, 0.1, 0.6, 0.3, accuracy=[0.7, 0.6, 0.5, 0.2], flips=[0.2, 0.3, 0.4, 0.9]
    )
    own = [[4.0, 2, 1], [3, 4, 1], [2, 2, 10], [2, 2, 3]]
    foreign = [[4.0, 2, 1], [3, 3, 1], [2, 2, 5], [2, 2, 2]]
    networks = {
        "before": OfNetwork(LAYERS, maxima(before), {"before": Carried(own[:3])}),
        "after": OfNetwork(
            [*LAYERS, CLASS],
            maxima(after),
            {
                "before": Carried(foreign, [0.0] * 4),
                "after": Carried(own, [0.2, 0.3, 0.4, 0.9]),
                f"{other}-0": Carried(foreign, [0.1, 0.2, 0.3, 0.6]),
            },
            predictions,
        ),
    }
    measured = WorstRecord(LAYERS, [0, 2, 12], 8, Budget(10, 8, 10), networks)
    return Record(Worst(training, 8, 4, 2), measured, {})


@pytest.fixture
def records() -> list[Record]:
    return [
        record("max-pool", "strided", before=1.0, after=1.0),
        record("strided", "max-pool", before=math.e**2, after=math.e),
    ]


def test_numbers_of_layers_are_those_of_the_network(records: list[Record]) -> None:
    values = tables.by_layer(records, "after", "worst")
    assert values["layer"].tolist() == [0, 2, 12] * 2
    assert values["value"].tolist() == pytest.approx(
        [4, 8, 30, 4 * math.e, 8 * math.e, 30 * math.e]
    )
    assert tables.ratio(records, "after", "worst", "random")["value"].tolist() == pytest.approx(
        [4, 4, 10] * 2
    )


def test_search_says_what_the_second_half_still_gained(records: list[Record]) -> None:
    found = tables.search(records, "after").droplevel("layer")
    assert found.loc["down4", "over random"] == pytest.approx(10)
    assert found.loc["down4", "over best random"] == pytest.approx(5)
    assert found["steps"].tolist() == pytest.approx([1.0] * 3)
    assert found["restarts"].tolist() == pytest.approx([0.0] * 3)
    assert found["beaten"].tolist() == [1.0, 0.5, 0.0]


def test_spread_is_that_of_logarithms(records: list[Record]) -> None:
    assert tables.spread(tables.by_layer(records, "before", "worst")).tolist() == pytest.approx(
        [2 / math.sqrt(2)] * 3
    )
    assert tables.remaining_spread(records, "worst") == pytest.approx(0.5)
    assert list(tables.convergence(records).columns) == [
        (field, tables.WHEN[when]) for when in ("before", "after") for field in ("random", "worst")
    ]


def test_carrying_over_between_layers_and_networks(records: list[Record]) -> None:
    own = tables.carried(records, "after")
    assert own.loc["down4", "down4"] == 10 and own.loc[CLASS, "down4"] == 3
    assert tables.carried(records, "after", "before").loc["conv1_2", "conv1_2"] == 3
    between = tables.across(records, "down4")
    assert between.loc["max-pool-0"].to_dict() == {"max-pool-0": 10, "strided-0": 5}
    assert between.loc["strided-0"].to_dict() == {"max-pool-0": 5, "strided-0": 10}
    assert tables.across(records, CLASS).loc["strided-0", "max-pool-0"] == 0.6


def test_classes_by_kind_of_deformation(records: list[Record]) -> None:
    found = tables.classes(records)
    assert list(found.index) == [("Max-pool", 0), ("Strided", 0)]
    assert found["flips", "worst, last layer"].tolist() == [0.4] * 2
    assert found["flips", "against the class"].tolist() == [0.9] * 2
    assert found["accuracy", "against the class"].tolist() == [0.2] * 2


def test_findings_follow_the_numbers(records: list[Record]) -> None:
    far, alike, flips = tables.findings(records)
    assert "4.0 times" in far and "10.0 times (4.0 to 10.0 over" in far
    assert "converge under them as well" in alike and "leaves 0.50 of" in alike
    assert "changes 10% of" in flips and "for the image itself 20%" in flips
    assert "against the class 90%, which leaves 20% accuracy of 80%" in flips
    apart = [record("max-pool", "strided", 1, 1), record("strided", "max-pool", 2, 4)]
    assert "do not converge under them" in tables.findings(apart)[1]


def test_record_goes_through_json(records: list[Record]) -> None:
    measured = records[0].measurements
    assert from_json(to_json(measured), WorstRecord) == measured


def test_matrix_writes_every_number() -> None:
    values = pd.DataFrame([[1.0, 2.25], [0.5, 3.0]], index=["a", "b"], columns=["c", "d"])
    axes = matrix(values, "x", "y", "label").axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.0", "2.2", "0.5", "3.0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c", "d"]
    assert axes.texts[0].get_color() == "white" and axes.texts[3].get_color() == "black"
