"""Do the measures of others agree with the paper's, and what does each say of a network? Records in, tables out.

`trained` is the evidence of a study of trainings and `peers` that of the comparisons of the same networks. Correlations
are Spearman's, of ranks: measures differ in scale.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from reproduction.analysis.evidence import Evidence, last
from reproduction.analysis.quantities import WHEN
from reproduction.experiments.data import side_of
from reproduction.experiments.protocol import PROTOCOLS, deformation_of

FACTORS = {"D": "deformation", "G": "noise", "R": "ratio"}
APART = 3  # the first downsampling layer: below it, untrained variants of a seed are one network
Tables = Mapping[str, pd.DataFrame]  # {measure: table of `Evidence.layers`}


def by_measure(trained: Evidence, peers: Evidence, when: str) -> dict[str, pd.DataFrame]:
    """{measure: values of every layer}, "before" training or "after", of the networks that `peers` has: "sensitivity" is
    the paper's; "D", "G" and "R" are to diffeomorphisms; "R, splines" is the same ratio with the paper's deformations."""
    factors = {symbol: peers.relative_stability(factor, when) for symbol, factor in FACTORS.items()}
    squares = {"checkpoint": WHEN[when], "distance": "euclidean", "statistic": "mean_square"}
    moved, shaken = (
        trained.layers(condition=condition, **squares) for condition in ("test-0", "noise")
    )
    paper, splines = (
        trained.layers(checkpoint=WHEN[when]),
        moved.assign(value=moved["value"] / shaken["value"]),
    )
    networks = factors["R"][["variant", "seed", "layer"]]
    return {"sensitivity": paper.merge(networks), **factors, "R, splines": splines.merge(networks)}


def rank_correlations(before: Tables, after: Tables) -> pd.DataFrame:
    """Rank correlation of every other measure with the first: one row a measure, columns by what is ranked.

    layers    of a network, all but the image; mean over networks
    variants      at a layer of a seed, from the first downsampling on; mean over layers and seeds
    training  by how much training changes it: all layers of all variants of a seed; mean over seeds
    """
    of = {
        when: {name: _wide(table) for name, table in tables.items()}
        for when, tables in (("before", before), ("after", after))
    }
    first, *others = before
    rows = {}
    for name in others:
        one, other = ({when: of[when][which] for when in of} for which in (first, name))
        rows[name] = {
            **{
                ("layers", when): one[when].corrwith(other[when], axis=1, method="spearman").mean()
                for when in of
            },
            **{("variants", when): over_variants(one[when], other[when]).mean() for when in of},
            ("training", "change"): _over_changes(
                *(pair["after"] / pair["before"] for pair in (one, other))
            ),
        }
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def over_variants(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """{layer: rank correlation over the variants of a seed}, mean over seeds, from the first downsampling layer on."""
    one, other = one.loc[:, APART:], other.loc[:, APART:]
    found = [
        one.xs(seed).corrwith(other.xs(seed), method="spearman")
        for seed in one.index.unique("seed")
    ]
    return pd.concat(found, axis=1).mean(axis=1)


def _over_changes(one: pd.DataFrame, other: pd.DataFrame) -> float:
    return float(
        np.mean(
            [
                one.xs(seed).stack().corr(other.xs(seed).stack(), method="spearman")
                for seed in one.index.unique("seed")
            ]
        )
    )


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row a network, (seed, variant), one column a layer; without the image, which is no network's."""
    return table[table["layer"] > 0].pivot(
        index=["seed", "variant"], columns="layer", values="value"
    )


def by_strength(trained: Evidence, when: str) -> pd.DataFrame:
    """Columns of `Evidence.layers` and `strength`, in pixels, the largest displacement of the deformations."""
    spec = trained.records[0].spec
    paper = deformation_of(spec.data, spec.size or side_of(spec.data)).max_displacement
    conditions = {
        1.0: "test-0",
        **{strength: f"strength-{strength:g}" for strength in PROTOCOLS[spec.protocol].strengths},
    }
    return pd.concat(
        [
            trained.layers(checkpoint=WHEN[when], condition=conditions[strength]).assign(
                strength=strength * paper
            )
            for strength in sorted(conditions)
        ],
        ignore_index=True,
    )


def orders(before: pd.DataFrame, after: pd.DataFrame, paper: float) -> pd.DataFrame:
    """Rank correlation over variants of the sensitivity to each strength of `by_strength` with that to the `paper`'s, in pixels: at
    the last layer, and mean over the layers from the first downsampling on."""
    rows: dict[float, dict[tuple[str, str], float]] = {}
    for when, table in (("before", before), ("after", after)):
        of = {strength: _wide(part) for strength, part in table.groupby("strength")}
        for strength in of:
            found = over_variants(of[strength], of[paper])
            rows.setdefault(strength, {}).update(
                {("last layer", when): found.iloc[-1], ("all layers", when): found.mean()}
            )
    return (
        pd.DataFrame.from_dict(rows, orient="index")
        .rename_axis("C, px")
        .sort_index(axis=1, ascending=False)
        .round(2)
    )


def networks(trained: Evidence, peers: Evidence) -> pd.DataFrame:
    """One row a trained network that `peers` has: variant, seed, test error, and what every measure says of it. Shares of test
    images: error, flips (another class when deformed) and shifts (another class when shifted otherwise)."""
    rows = []
    for record in peers.records:
        found = record.measurements
        stability, places = (
            found["relative_stability"]["after"],
            {"last layer": found["layers"].index("pool") - 1, "output": -1},
        )
        rows.append(
            {
                "variant": peers.variant(record.spec),
                "seed": record.spec.seed,
                **{
                    f"{symbol}, {place}": stability[factor][k]
                    for place, k in places.items()
                    for symbol, factor in FACTORS.items()
                },
                "shifts": 1 - found["shift_consistency"],
            }
        )
    probes = trained.probes()
    paper = last(trained.layers())[["variant", "seed", "value"]].rename(
        columns={"value": "sensitivity, last layer"}
    )
    error, flips = (
        probes[["variant", "seed"]].assign(**{name: of})
        for name, of in (
            ("test error", 1 - probes["test_accuracy"]),
            ("flips", probes["flip_rate"]),
        )
    )
    found = error.merge(paper).merge(pd.DataFrame(rows)).merge(flips)
    return found[[name for name in found if name != "shifts"] + ["shifts"]]


def prediction(table: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of every measure of `networks` with test error: over all of them, over the variants' means, and over
    the variants of each seed; at the head of each column, how many are ranked."""
    groups = {
        "networks": table,
        "means of variants": table.groupby("variant", sort=False).mean(),
        **{f"of seed {seed}": part for seed, part in table.groupby("seed")},
    }
    measures = [name for name in table if name not in ("variant", "seed", "test error")]
    return pd.DataFrame(
        {
            f"{len(part)} {name}": part[measures].corrwith(part["test error"], method="spearman")
            for name, part in groups.items()
        }
    ).round(2)


def performance(*evidence: Evidence) -> pd.DataFrame:
    """One row a trained network: study, variant, seed, sensitivity of its last layer and test accuracy; none of a study that
    has no records."""
    alone = [
        replace(each, records=[record]) for each in evidence for record in each.records
    ]  # a study may have a variant twice
    found = [last(each.layers()).merge(each.probes()).assign(study=each.study) for each in alone]
    columns = {
        "study": "study",
        "variant": "variant",
        "seed": "seed",
        "value": "sensitivity, last layer",
        "test_accuracy": "test accuracy",
    }
    return pd.concat(found, ignore_index=True)[[*columns]].rename(columns=columns)
