"""Rank correlations where they are known: of measures made from one another."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up import checkpoint, distances, probe, profile
from made_up import training as made_training
from scipy import stats

from reproduction.analysis.concordance import (
    by_measure,
    by_strength,
    networks,
    orders,
    over_variants,
    performance,
    prediction,
    rank_correlations,
)
from reproduction.analysis.evidence import Evidence, last
from reproduction.experiments.records import (
    BeforeAndAfter,
    Checkpoint,
    ComparisonRecord,
    Relative,
)
from reproduction.experiments.specs import Comparison, Recipe, Training
from reproduction.experiments.store import Record

VARIANTS = ("subsample", "max-pool", "average-pool", "strided")
LAYERS = ["input", *(f"layer{k}" for k in range(1, 7)), "pool", "head"]
FIGURES = np.random.default_rng(0).uniform(
    0.1, 0.4, (2, 2, len(VARIANTS), len(LAYERS))
)  # when, seed, variant, layer


def spec(variant: str, seed: int) -> Training:
    return Training("cifar10", variant, seed, Recipe(1, 8, 0.1), "quick-2")


def s(when: int, variant: str, seed: int) -> np.ndarray:
    return FIGURES[when, seed, VARIANTS.index(variant)]


def training(variant: str, seed: int) -> Record:
    """Sensitivity to twice the deformation is twice as large; to half of it, less the larger it is.
    Variants are the more accurate the later they stand in VARIANTS."""

    def at(when: int) -> Checkpoint:
        of = s(when, variant, seed)
        strengths = {"test-0": of, "strength-2": 2 * of, "strength-0.5": 1 - of, "noise": of}
        conditions = {
            name: profile(v, distances(v, mean_square=6 * v if name == "test-0" else v / v))
            for name, v in strengths.items()
        }
        place = VARIANTS.index(variant)
        found = probe(test_accuracy=0.8 + place / 100 + seed / 1000, flip_rate=0.2 - place / 100)
        return checkpoint(of, conditions=conditions, probe=found, full_probe=found)

    return made_training(spec(variant, seed), [at(0), at(1)], LAYERS)


def comparison(variant: str, seed: int) -> Record:
    """D is the square of the sensitivity; G falls where it rises."""

    def stability(when: int) -> Relative:
        of = s(when, variant, seed)
        return Relative(deformation=list(of**2), noise=list(1 / of), ratio=list(of**3))

    consistency = 0.9 + seed / 100 + VARIANTS.index(variant) / 1000
    found = ComparisonRecord(LAYERS, BeforeAndAfter(stability(0), stability(1)), consistency)
    return Record(Comparison(spec(variant, seed), 8, 8), found, {})


@pytest.fixture
def trained() -> Evidence:
    return Evidence(
        "cifar10", "full", [training(variant, seed) for seed in (0, 1) for variant in VARIANTS], []
    )


@pytest.fixture
def others() -> Evidence:
    return Evidence(
        "cifar10-other-measures",
        "full",
        [comparison(variant, seed) for seed in (0, 1) for variant in VARIANTS],
        [],
    )


def test_measures_side_by_side(trained: Evidence, others: Evidence):
    before, after = (by_measure(trained, others, when) for when in ("before", "after"))
    assert list(before) == list(after) == ["sensitivity", "D", "G", "R", "R, splines"]
    for when, tables in enumerate((before, after)):
        for name, power, factor in (
            ("sensitivity", 1, 1),
            ("D", 2, 1),
            ("G", -1, 1),
            ("R", 3, 1),
            ("R, splines", 1, 6),
        ):
            table = tables[name]
            assert table.columns.tolist() == ["variant", "seed", "layer", "name", "value"] and set(
                table["layer"]
            ) == set(range(7))
            expected = [
                factor * s(when, variant, seed)[layer] ** power
                for variant, seed, layer in zip(table["variant"], table["seed"], table["layer"])
            ]
            assert table["value"].tolist() == pytest.approx(expected)


def test_only_networks_that_were_compared_are(trained: Evidence, others: Evidence):
    few = Evidence("", "full", others.records[:3], [])
    assert {
        (len(table), *table["variant"].unique())
        for table in by_measure(trained, few, "after").values()
    } == {(21, *VARIANTS[:3])}
    assert networks(trained, few)["variant"].tolist() == list(VARIANTS[:3])


def test_measures_made_from_the_papers_agree_with_it_or_oppose_it(
    trained: Evidence, others: Evidence
):
    table = rank_correlations(*(by_measure(trained, others, when) for when in ("before", "after")))
    assert table.index.tolist() == ["D", "G", "R", "R, splines"]
    assert table.columns.tolist() == [
        ("layers", "before"),
        ("layers", "after"),
        ("variants", "before"),
        ("variants", "after"),
        ("training", "change"),
    ]
    assert (table.drop("G") == 1).all(axis=None) and (table.loc["G"] == -1).all()


def test_measures_that_have_nothing_to_do_with_each_other_are_ranked_as_in_a_loop():
    one, other = np.random.default_rng(1).uniform(
        1, 2, (2, 2, 2, 4, 6)
    )  # each (when, seed, variant, layer from 1 on)

    def tables(when: int) -> dict[str, pd.DataFrame]:
        return {
            name: pd.DataFrame(
                [(*key, value) for key, value in np.ndenumerate(of[when])],
                columns=["seed", "variant", "layer", "value"],
            ).assign(layer=lambda table: table["layer"] + 1)
            for name, of in (("one", one), ("other", other))
        }

    def ranked(a: np.ndarray, b: np.ndarray, places: list[tuple]) -> float:
        return np.mean(
            [stats.spearmanr(a[place].ravel(), b[place].ravel()).statistic for place in places]
        )

    found = rank_correlations(tables(0), tables(1)).loc["other"]
    networks, layers = (
        [(seed, variant) for seed in (0, 1) for variant in range(4)],
        [(seed, slice(None), layer) for seed in (0, 1) for layer in range(2, 6)],
    )
    expected = [
        ranked(one[when], other[when], places) for places in (networks, layers) for when in (0, 1)
    ]
    assert found.tolist() == pytest.approx(
        [*expected, ranked(one[1] / one[0], other[1] / other[0], [(0,), (1,)])], abs=0.006
    )


def test_the_image_is_no_networks_and_variants_are_compared_where_they_differ(
    trained: Evidence, others: Evidence
):
    tables = [by_measure(trained, others, when) for when in ("before", "after")]
    odd = [
        {**of, "D": of["D"].assign(value=of["D"]["value"].where(of["D"]["layer"] > 0, 1e6))}
        for of in tables
    ]
    assert rank_correlations(*odd).equals(rank_correlations(*tables))
    wide = pd.DataFrame(
        np.arange(12.0).reshape(2, 6), pd.MultiIndex.from_product([[0], ["a", "b"]]), range(1, 7)
    ).rename_axis(["seed", "variant"])
    assert over_variants(wide, -wide).to_dict() == pytest.approx(dict.fromkeys((3, 4, 5, 6), -1))


def test_strengths_are_in_pixels(trained: Evidence):
    table = by_strength(trained, "after")
    assert table["strength"].unique().tolist() == [1, 2, 4]
    final = last(table)
    assert set(final["layer"]) == {6} and len(final) == 3 * len(VARIANTS) * 2
    expected = s(1, "max-pool", 1)[6]
    of = final[(final["variant"] == "max-pool") & (final["seed"] == 1)]
    assert of["value"].tolist() == pytest.approx([1 - expected, expected, 2 * expected])


def test_strengths_are_in_pixels_of_the_images(trained: Evidence):
    def strengths(**fields: object) -> np.ndarray:
        records = [
            Record(dataclasses.replace(record.spec, **fields), record.measurements, {})
            for record in trained.records
        ]
        return by_strength(dataclasses.replace(trained, records=records), "after")[
            "strength"
        ].unique()

    assert strengths(data="tiny-imagenet") == pytest.approx(
        [10 * 64 / 224 * factor for factor in (0.5, 1, 2)]
    )
    assert strengths(data="imagenet", size=112) == pytest.approx([2.5, 5, 10]), (
        "of the size that they were loaded in"
    )


def test_the_order_of_variants_at_every_strength(trained: Evidence):
    table = orders(by_strength(trained, "before"), by_strength(trained, "after"), 2.0)
    assert (
        table.loc[1.0].tolist() == [-1] * 4
        and table.loc[2.0].tolist() == [1] * 4 == table.loc[4.0].tolist()
    )
    assert set(table.columns) == {
        (what, when) for what in ("last layer", "all layers") for when in ("before", "after")
    }
    after = by_strength(trained, "after")
    after.loc[
        (after["strength"] == 4) & (after["layer"] == 6), "value"
    ] *= -1  # the last of layers 3 to 6 the other way round
    assert orders(after, after, 2.0).loc[4.0, ["last layer", "all layers"]].tolist() == [
        -1,
        -1,
        0.5,
        0.5,
    ]


def test_what_each_measure_says_of_a_network(trained: Evidence, others: Evidence):
    table = networks(trained, others)
    assert len(table) == 8 and table[["variant", "seed"]].drop_duplicates().shape == (8, 2)
    row = table[(table["variant"] == "strided") & (table["seed"] == 1)].iloc[0]
    of = s(1, "strided", 1)
    assert (
        row["test error"] == pytest.approx(1 - 0.831)
        and row["flips"] == pytest.approx(0.17)
        and row["shifts"] == pytest.approx(0.087)
    )
    assert row["sensitivity, last layer"] == pytest.approx(of[6]) and row[
        "R, last layer"
    ] == pytest.approx(of[6] ** 3)
    assert row["D, output"] == pytest.approx(of[8] ** 2) and row["G, output"] == pytest.approx(
        1 / of[8]
    )


def test_prediction_says_how_many_are_ranked(trained: Evidence, others: Evidence):
    table = prediction(networks(trained, others))
    assert table.columns.tolist() == [
        "8 networks",
        "4 means of variants",
        "4 of seed 0",
        "4 of seed 1",
    ]
    assert (table.loc[["flips", "shifts"], ["4 means of variants", "4 of seed 1"]] == 1).all(
        axis=None
    ), "fewer flips, fewer errors"
    assert not {"test error", "seed", "variant"} & set(table.index)


def test_prediction_is_of_ranks():
    error, noise = np.random.default_rng(1).uniform(size=(2, 2, 4))  # (seed, variant)
    flips = error**9 + 0.2 * noise
    rows = [
        (variant, seed, error[seed, k], flips[seed, k])
        for seed in (0, 1)
        for k, variant in enumerate(VARIANTS)
    ]
    found = prediction(pd.DataFrame(rows, columns=["variant", "seed", "test error", "flips"])).loc[
        "flips"
    ]
    pairs = [
        (error.ravel(), flips.ravel()),
        (error.mean(0), flips.mean(0)),
        (error[0], flips[0]),
        (error[1], flips[1]),
    ]
    assert found.tolist() == pytest.approx(
        [stats.spearmanr(*pair).statistic for pair in pairs], abs=0.006
    )


def test_performance_of_the_studies_that_have_records(trained: Evidence):
    nothing = Evidence("cifar10-subset", "full", [], [])
    other = Evidence("other", "full", trained.records[:1], [])
    table = performance(trained, nothing, other)
    assert table.columns.tolist() == [
        "study",
        "variant",
        "seed",
        "sensitivity, last layer",
        "test accuracy",
    ]
    assert table["study"].tolist() == ["cifar10"] * 8 + ["other"]
    assert table["sensitivity, last layer"][8] == pytest.approx(s(1, "subsample", 0)[6]) and table[
        "test accuracy"
    ][8] == pytest.approx(0.8)
    twice = Evidence(
        "recipes", "full", trained.records[:1] * 2, []
    )  # one variant and seed by two recipes
    assert len(performance(twice)) == 2
