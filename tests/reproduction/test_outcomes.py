"""What comes out under each combination, on records whose answers are known."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from made_up import checkpoint, probe, profile, smoothness
from made_up import training as made_training

from reproduction.analysis import claims, outcomes, quantities
from reproduction.analysis.curves import published
from reproduction.analysis.evidence import Evidence
from reproduction.analysis.outcomes import (
    BOOK,
    by_combination,
    changes,
    difference,
    findings,
    in_words,
    nearest,
    of_recipes,
    options,
    order_of_variants,
    reached,
    robustness,
    survival,
    values,
    worded,
)
from reproduction.analysis.quantities import FIVE
from reproduction.experiments import multiverse
from reproduction.experiments.multiverse import Multiverse
from reproduction.experiments.records import Checkpoint, VariationRecord
from reproduction.experiments.specs import Recipe, Training, Variation
from reproduction.experiments.store import Record
from reproduction.pages.figures import specification_curve, survival_of_claims

ALONE = {
    "pixels": ("unit", "signed"),
    "statistics": ("running", "calibrated"),
    "map": ("backward", "forward"),
}
CROSSED = {"pixels": ("unit", "signed"), "statistics": ("running", "calibrated")}
LAYERS = ["input", *(f"layer{k}" for k in range(1, 13))]


def of_variant(variant: str, when: str) -> np.ndarray:
    """The published curve."""
    curves = published("3c" if when == "before" else "3d")
    return curves[curves["variant"] == variant].sort_values("layer")["value"].to_numpy()


def record(variant: str, seed: int = 0) -> Record:
    """The published curves; signed pixels double them, calibrated statistics add 0.1, and a forward
    map swaps the variants' last layers at initialization."""
    before, after = of_variant(variant, "before"), of_variant(variant, "after")
    swapped = before.copy()
    swapped[-1] = 1 / swapped[-1] / 100
    calibrated = before + 0.1
    spec = Variation(Training("cifar10", variant, seed, Recipe(1, 8, 0.1), "protocol-1"), "known")
    found = {
        "book": {"before": before, "after": after, "calibrated": calibrated},
        "alone": {
            "pixels": {"signed": {"before": 2 * before}},
            "statistics": {
                "calibrated": {"before": calibrated, "after": after, "calibrated": calibrated}
            },
            "map": {"forward": {"before": swapped, "after": after, "calibrated": calibrated}},
        },
        "crossed": {
            "before": [before, calibrated, 2 * before, 2 * before + 0.1],
            "after": [after, after + 0.1],
        },
    }

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else [plain(each) for each in value]

    return Record(spec, VariationRecord(LAYERS, **plain(found)), {})


def evidence_of(records: list[Record]) -> Evidence:
    return Evidence("multiverse-cifar10", "full", records, [])


def under_the_books_choices(evidence: Evidence) -> xr.DataArray:
    return outcomes._of_study(evidence, outcomes.alone).isel(combination=0, drop=True)


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> Evidence:
    monkeypatch.setitem(multiverse.MULTIVERSES, "known", Multiverse(ALONE, CROSSED))
    return evidence_of([record(variant) for variant in FIVE])


def test_values_are_those_of_the_records(evidence: Evidence):
    table = values(evidence)
    one = table.query("variant == 'strided' and choice == 'pixels' and layer == 12")
    assert list(one["when"]) == ["before"] and one["value"].item() == pytest.approx(
        2 * of_variant("strided", "before")[12]
    )
    assert set(map(tuple, table[["choice", "option"]].to_numpy())) == {
        BOOK,
        *((n, o[1]) for n, o in ALONE.items()),
    }
    crossed = values(evidence, "crossed")
    assert len(crossed) == 5 * 13 * (4 + 2 + 2)
    cell = crossed.query(
        "variant == 'subsample' and pixels == 'unit' and statistics == 'calibrated' and layer == 3"
    ).set_index("when")["value"]
    assert (
        cell["before"]
        == cell["calibrated"]
        == pytest.approx(of_variant("subsample", "before")[3] + 0.1)
    )
    assert cell["after"] == pytest.approx(of_variant("subsample", "after")[3] + 0.1)


def test_the_nearest_combinations_in_words():
    index = pd.MultiIndex.from_product(
        [("unit", "signed"), ("running", "local")], names=["pixels", "statistics"]
    )
    found = nearest(pd.Series([0.5, 0.2, 0.9, 0.3], index), 2, to=0.28)
    assert found.index.names == ["pixel values", "batch norm statistics"] and found.tolist() == [
        0.3,
        0.2,
    ]
    assert list(found.index) == [
        ("in [-1, 1]", "of the batch, clean and deformed apart"),
        ("in [0, 1]", "of the batch, clean and deformed apart"),
    ]
    assert nearest(pd.Series([0.5, 0.2, 0.9, 0.3], index), 1).tolist() == [0.2]


def test_options_in_words(evidence: Evidence):
    table = changes(evidence, "3c")
    assert (
        worded(table)
        .loc[("pixel values", "in [-1, 1]")]
        .equals(table.loc[("pixels", "signed")].rename(("pixel values", "in [-1, 1]")))
    )
    assert worded(table).index[0] == BOOK and worded(table).index.names == ["choice", "option"]


def test_the_difference_is_the_mean_over_variants_and_layers(evidence: Evidence):
    table = changes(evidence, "3c")
    assert list(table.index[:1]) == [BOOK] and table.loc[BOOK, "off 3c"] == pytest.approx(0)
    assert table.loc[("pixels", "signed"), "off 3c"] == pytest.approx(
        published("3c")["value"].mean()
    )
    assert table.loc[("statistics", "calibrated"), "off 3c"] == pytest.approx(0.1)
    assert table.loc[("pixels", "signed"), "factor, before"] == pytest.approx(2) and math.isnan(
        table.loc[("pixels", "signed"), "factor, after"]
    )
    assert table.loc[("map", "forward"), "factor, after"] == pytest.approx(1)
    before = np.array([of_variant(variant, "before") for variant in FIVE])
    assert table.loc[("statistics", "calibrated"), "factor, before"] == pytest.approx(
        np.exp(np.mean(np.log((before + 0.1) / before)))
    )


def test_the_mean_over_seeds_is_compared(evidence: Evidence):
    other = record("strided", 1)
    other.measurements.book["before"] = [v + 0.2 for v in other.measurements.book["before"]]
    table = values(evidence_of([record("strided"), other]))
    book = table.query("option == \"the book's\" and when == 'before'")
    assert difference(book, "3c", ["choice"]).item() == pytest.approx(0.1)


def test_a_claim_that_a_choice_turns_over_is_seen(evidence: Evidence):
    table = survival(evidence)
    assert table.loc[BOOK, "claim 1"].startswith("6/6 (-0."), table.loc[BOOK].to_dict()
    assert table.loc[in_words("map", "forward"), "claim 1"].startswith("0/6 (")
    assert list(table.loc[in_words("pixels", "signed")])[1:] == ["-"] * 4
    assert table.loc[BOOK, "claim 3"] == table.loc[in_words("map", "forward"), "claim 3"]


def test_the_books_row_is_judged_as_the_ledger_judges(evidence: Evidence):
    """The claims' own statistics on the published curves, which the book's row is made of."""
    found = findings(under_the_books_choices(evidence))
    for number in outcomes.JUDGED:
        theirs = {"cifar10": quantities.published_study("cifar10")}
        ours, theirs = found[number].detail, claims.judge(number, theirs).detail
        both = ours.merge(theirs, on=["study", "what"]).query(
            "study == 'cifar10' and not what.str.contains('calibrated')"
        )
        assert len(both) and both["value_x"].to_numpy() == pytest.approx(
            both["value_y"].to_numpy(), nan_ok=True
        )


def test_the_calibrated_baseline_is_used(evidence: Evidence):
    detail = findings(under_the_books_choices(evidence))[3].detail.set_index("what")["value"]
    before, after = of_variant("strided", "before"), of_variant("strided", "after")
    assert detail["strided, before"] == pytest.approx(np.log(after / before)[1:5].mean())
    assert detail["strided, calibrated"] == pytest.approx(
        np.log(after / (before + 0.1))[1:5].mean()
    )


def test_fractions_over_crossed_combinations(evidence: Evidence):
    fractions = by_combination(evidence)
    assert list(fractions.index) == [("unit", "running"), ("unit", "calibrated")] and list(
        fractions
    ) == [f"claim {n}" for n in outcomes.JUDGED]
    table = robustness(fractions)
    assert table.index[0] == ("all", "2 combinations") and len(table) == 3, (
        "of pixels only one option is left open"
    )
    rows = table.loc[[in_words("statistics", "running"), in_words("statistics", "calibrated")]]
    pd.testing.assert_series_equal(table.iloc[0], rows.mean(), check_names=False)
    single = findings(under_the_books_choices(evidence))
    expected = [
        hits / tested for hits, tested in (reached(single[number]) for number in outcomes.JUDGED)
    ]
    assert rows.iloc[0].tolist() == pytest.approx(expected) and any(
        0 < fraction < 1 for fraction in expected
    )


def test_robustness_is_a_mean_over_combinations():
    index = pd.MultiIndex.from_product(CROSSED.values(), names=CROSSED)
    table = robustness(pd.DataFrame({"claim 1": [1, 0, 0.5, 0.25]}, index))["claim 1"]
    assert table.tolist() == [0.4375, 0.5, 0.375, 0.75, 0.125]
    assert table.index.tolist()[1:] == [
        in_words(name, option) for name, options in CROSSED.items() for option in options
    ]


def test_the_order_of_variants_is_that_of_the_worst_pair(evidence: Evidence):
    last = {variant: of_variant(variant, "before")[-1] for variant in FIVE}
    found = order_of_variants(evidence)[("unit", "running")]
    assert found == pytest.approx(
        max(last[p] for p in quantities.POOLED) / min(last[u] for u in quantities.UNPOOLED)
    )
    worst = max(quantities.POOLED, key=last.get)
    other = record(worst, 1)
    other.measurements.crossed["before"] = [
        [1.5 * value for value in of_layers] for of_layers in other.measurements.crossed["before"]
    ]
    both = evidence_of([*evidence.records, other])
    assert order_of_variants(both)[("unit", "running")] == pytest.approx(math.sqrt(1.5) * found), (
        "the geometric mean over its seeds"
    )


def test_options_are_named_in_words_the_books_first(evidence: Evidence):
    table = options(evidence)
    assert table.loc["control points move"].item() == "what is looked up; the image"
    assert in_words(*BOOK) == BOOK and in_words("border", "zeros") == ("outside the image", "black")


def test_a_specification_curve_is_sorted_and_marks_what_each_combination_has():
    index = pd.MultiIndex.from_product(
        [("unit", "signed"), ("edge", "inside")], names=["pixels", "grid"]
    )
    series = pd.Series([0.4, 0.1, 0.3, 0.2], index)
    figure = specification_curve(
        series,
        "off",
        in_words,
        level=("published", 0.25),
        marked={"the book's": {"pixels": "unit", "grid": "edge"}},
    )
    above, below = figure.axes
    assert list(above.lines[0].get_ydata()) == [0.1, 0.2, 0.3, 0.4]
    assert [line.get_label() for line in above.lines[1:]] == ["published", "the book's"]
    assert {*above.lines[1].get_ydata()} == {0.25}
    assert list(above.lines[2].get_ydata()) == [0.4] and list(
        np.atleast_1d(above.lines[2].get_xdata())
    ) == [3]
    marks = {
        label.get_text(): list(line.get_xdata())
        for label, line in zip(below.get_yticklabels(), below.lines, strict=True)
    }
    assert marks == {
        "pixel values: in [0, 1]": [0, 3],
        "in [-1, 1]": [1, 2],
        "control grid: to the edge": [2, 3],
        "half a cell inside": [0, 1],
    }


def test_survival_has_a_column_of_cells_and_marks_for_each_combination():
    index = pd.MultiIndex.from_product(
        [("unit", "signed"), ("edge", "inside"), ("zeros",)], names=["pixels", "grid", "border"]
    )
    fractions = pd.DataFrame(
        {"claim 1": [0.0, 1.0, 0.5, 0.25], "claim 5": [0.0, 1.0, 1.0, 0.5]}, index
    )
    above, below, _ = survival_of_claims(fractions, in_words).axes
    assert above.images[0].get_array().tolist() == [[1.0, 0.5, 0.25, 0.0], [1.0, 1.0, 0.5, 0.0]], (
        "most that survives first"
    )
    assert [label.get_text() for label in above.get_yticklabels()] == [
        "claim 1",
        "claim 5",
    ] and above.images[0].get_clim() == (0, 1)
    assert above.get_xlim() == below.get_xlim() and above.images[0].get_extent()[:2] == [-0.5, 3.5]
    marks = {
        label.get_text(): list(line.get_xdata())
        for label, line in zip(below.get_yticklabels(), below.lines, strict=True)
    }
    assert marks == {
        "pixel values: in [0, 1]": [0, 3],
        "in [-1, 1]": [1, 2],
        "control grid: to the edge": [1, 3],
        "half a cell inside": [0, 2],
    }, "not what is the same everywhere"


def trained(
    variant: str,
    recipe: Recipe,
    factor: float | np.ndarray = 1.0,
    rougher: float | np.ndarray = 0.0,
    test: float = 0.5,
) -> Record:
    """The published curves before training; after it `factor` times those, filters smoother by half
    less `rougher`."""
    before = of_variant(variant, "before")

    def at(values: np.ndarray, variation: float | np.ndarray) -> Checkpoint:
        return checkpoint(
            values,
            smoothness(variation + np.zeros(8), change_norm=np.ones(8)),
            calibrated=profile(values),
            probe=probe(train_accuracy=0.9, test_accuracy=test),
        )

    end = factor * of_variant(variant, "after")
    checkpoints = [at(before, 1.87), at(end, 1.37 + rougher)]
    spec = Training("cifar10", variant, 0, recipe, "protocol-1")
    return made_training(spec, checkpoints, LAYERS, [f"b{k}" for k in range(8)])


def test_recipes_are_compared_with_the_first_on_the_variants_they_have():
    first = Recipe(2, 8, 0.1)
    longer, adam = (
        dataclasses.replace(first, epochs=4),
        dataclasses.replace(first, optimizer="adamw", learning_rate=0.01),
    )
    made = [
        trained("max-pool", first, test=0.4),
        trained("strided-relu", first, test=0.6),
        trained("max-pool", longer, 2.0, 0.3, 0.7),
        trained("max-pool", adam, 0.25, 0.6),
        trained("strided-relu", adam, 1.0),
    ]
    table = of_recipes(Evidence("cifar10-recipes", "full", made, []))
    assert list(table.index) == ["the book's", "epochs 4", "learning rate 0.01, optimizer adamw"]
    assert (
        list(table["variants"]) == [2, 1, 2]
        and list(table["test %"]) == pytest.approx([50, 70, 50])
        and list(table["training %"]) == pytest.approx([90] * 3)
    )
    assert list(table["factor, early"]) == pytest.approx([1, 2, 0.5]) == list(table["factor, last"])
    assert list(table["smoothness"]) == pytest.approx([0, 0.3, 0.3])
    # 1.37 is smoother than 1.87, so is 1.67; 1.97, of Max-pool with AdamW, is not
    assert list(table["claim 8"]) == ["2/2 (-0.50)", "1/1 (-0.20)", "1/2 (0.10)"]
    assert list(table["claim 17"]) == ["0/1 (-20.00)", "-", "1/1 (0.00)"]
    without = of_recipes(Evidence("cifar10-recipes", "full", [made[0], *made[2:]], []))
    assert list(without["variants"]) == [1, 1, 1], (
        "a variant that the book's recipe lacks is compared with nothing"
    )


def test_layers_one_to_four_and_the_last_are_told_apart_and_banks_are_averaged():
    first, factor, rougher = (
        Recipe(2, 8, 0.1),
        np.array([9.0, 1, 2, 4, 16, 5, 5, 5, 5, 5, 5, 5, 0.5]),
        np.array([0.8, *[0] * 7]),
    )
    made = [
        trained("strided", first),
        trained("strided", dataclasses.replace(first, flip=True), factor, rougher),
    ]
    row = of_recipes(Evidence("x", "full", made, [])).loc["flip True"]
    assert row[["factor, early", "factor, last", "smoothness"]].tolist() == pytest.approx(
        [128 ** (1 / 4), 0.5, 0.1]
    )
