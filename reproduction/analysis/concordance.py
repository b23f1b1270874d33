"""Do the measures of others agree with the paper's, and what does each say of a network? Evidence
in, tables out.

`trained` is the evidence of a study of trainings, `others` that of the comparisons of the same
networks. Correlations are Spearman's, of ranks: measures differ in scale."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd
from scipy import stats

from deformlib.models import READOUT
from reproduction.analysis.evidence import Evidence, last
from reproduction.experiments.data import side_of
from reproduction.experiments.protocol import PROTOCOLS, deformation_of
from reproduction.experiments.specs import Training

FACTORS = {"D": "deformation", "G": "noise", "R": "ratio"}
CHECKPOINTS = {"before": 0, "after": -1}
APART = 3  # the first downsampling layer: below it, untrained variants of a seed are one network
NETWORK = ["variant", "seed"]
Tables = Mapping[str, pd.DataFrame]  # {measure: table of `Evidence.layers`}


def by_measure(trained: Evidence, others: Evidence, when: str) -> dict[str, pd.DataFrame]:
    """Tables of `Evidence.layers`, by every measure, of the networks that `others` has, "before"
    training or "after".

    "sensitivity" is the paper's; "D", "G" and "R" are to diffeomorphisms; "R, splines" is the same
    ratio with the paper's deformations."""
    factors = {symbol: others.relative_stability(name, when) for symbol, name in FACTORS.items()}
    checkpoint = CHECKPOINTS[when]
    moved, shaken = (
        trained.layers(
            checkpoint=checkpoint,
            distance="euclidean",
            statistic="mean_square",
            condition=condition,
        )
        for condition in ("test-0", "noise")
    )
    paper = trained.layers(checkpoint=checkpoint)
    splines = moved.assign(value=moved["value"] / shaken["value"])
    compared = factors["R"][[*NETWORK, "layer"]]
    return {"sensitivity": paper.merge(compared), **factors, "R, splines": splines.merge(compared)}


def rank_correlations(before: Tables, after: Tables) -> pd.DataFrame:
    """Rank correlation of every other measure with the first: one row a measure, columns by what is
    ranked.

    layers    of a network, all but the image; mean over networks
    variants  at a layer of a seed, from the first downsampling on; mean over layers and seeds
    training  by how much training changes it: all layers of all variants of a seed; mean over seeds
    """
    first, *others = before
    rows = {}
    for name in others:
        one, other = (
            {"before": _wide(before[each]), "after": _wide(after[each])} for each in (first, name)
        )
        row = {}
        for when in one:
            ranked = one[when].corrwith(other[when], axis=1, method="spearman")
            row["layers", when] = ranked.mean()
        for when in one:
            row["variants", when] = over_variants(one[when], other[when]).mean()
        changes = (pair["after"] / pair["before"] for pair in (one, other))
        row["training", "change"] = _over_changes(*changes)
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def over_variants(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """{layer: rank correlation over the variants of a seed}, mean over seeds, from the first
    downsampling layer on."""
    one, other = one.loc[:, APART:], other.loc[:, APART:]
    found = [
        one.xs(seed).corrwith(other.xs(seed), method="spearman")
        for seed in one.index.unique("seed")
    ]
    return pd.concat(found, axis=1).mean(axis=1)


def _over_changes(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Rank correlation over all layers of all variants of a seed, mean over seeds."""
    found = [
        stats.spearmanr(
            one.xs(seed).to_numpy().ravel(), other.xs(seed).to_numpy().ravel()
        ).statistic
        for seed in one.index.unique("seed")
    ]
    return float(np.mean(found))


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row a network, (seed, variant), one column a layer; without the image, which is no
    network's."""
    return table[table["layer"] > 0].pivot(
        index=["seed", "variant"], columns="layer", values="value"
    )


def by_strength(trained: Evidence, when: str) -> pd.DataFrame:
    """Columns of `Evidence.layers` and `strength`, in pixels, the largest displacement of the
    deformations."""
    spec = cast(Training, trained.records[0].spec)
    side = cast(int, spec.size or side_of(spec.data))
    paper = deformation_of(spec.data, side).max_displacement
    strengths = PROTOCOLS[spec.protocol].strengths
    conditions = {1.0: "test-0"} | {strength: f"strength-{strength:g}" for strength in strengths}
    tables = []
    for strength, condition in sorted(conditions.items()):
        table = trained.layers(checkpoint=CHECKPOINTS[when], condition=condition)
        tables.append(table.assign(strength=strength * paper))
    return pd.concat(tables, ignore_index=True)


def orders(before: pd.DataFrame, after: pd.DataFrame, paper: float) -> pd.DataFrame:
    """Rank correlation over variants of the sensitivity to each strength of `by_strength` with that
    to the `paper`'s, in pixels: at the last layer, and mean over the layers from the first
    downsampling on."""
    rows: dict[float, dict[tuple[str, str], float]] = {}
    for when, table in (("before", before), ("after", after)):
        strengths = table["strength"].unique().tolist()
        wide = {strength: _wide(table[table["strength"] == strength]) for strength in strengths}
        for strength, of_strength in wide.items():
            found = over_variants(of_strength, wide[paper])
            row = rows.setdefault(strength, {})
            row["last layer", when] = found.iloc[-1]
            row["all layers", when] = found.mean()
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("C, px")
    return table.sort_index(axis=1, ascending=False).round(2)


def networks(trained: Evidence, others: Evidence) -> pd.DataFrame:
    """One row a trained network that `others` has: variant, seed, test error, and what every
    measure says of it. Fractions of test images: error, flips (another class when deformed) and
    shifts (another class when shifted otherwise)."""
    probes = trained.probes()
    sensitivity = last(trained.layers())[[*NETWORK, "value"]]
    columns = probes[NETWORK].assign(**{"test error": 1 - probes["test_accuracy"]})
    columns = columns.merge(sensitivity.rename(columns={"value": "sensitivity, last layer"}))
    columns = columns.merge(_of_others(others))
    columns = columns.merge(probes[NETWORK].assign(flips=probes["flip_rate"]))
    return columns.assign(shifts=columns.pop("shifts"))


def _of_others(others: Evidence) -> pd.DataFrame:
    """One row a network: variant, seed, relative stability and its factors at the last layer and at
    the output, shifts."""
    array = others.array
    after = array["relative_stability"].sel(when="after")
    layers = [name for name in array["layer"].values if name not in READOUT]
    places = {"last layer": layers[-1], "output": array["layer"].values[-1]}
    columns = {"variant": array["variant"], "seed": array["seed"]}
    for place, layer in places.items():
        for symbol, factor in FACTORS.items():
            columns[f"{symbol}, {place}"] = after.sel(layer=layer, factor=factor)
    columns["shifts"] = 1 - array["shift_consistency"]
    return pd.DataFrame({name: values.values for name, values in columns.items()})


def prediction(table: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of every measure of `networks` with test error: over all of them, over the
    variants' means, and over the variants of each seed; at the head of each column, how many are
    ranked."""
    groups = {"networks": table, "means of variants": table.groupby("variant", sort=False).mean()}
    groups |= {f"of seed {seed}": part for seed, part in table.groupby("seed")}
    measures = [name for name in table if name not in (*NETWORK, "test error")]
    columns = {
        f"{len(part)} {name}": part[measures].corrwith(part["test error"], method="spearman")
        for name, part in groups.items()
    }
    return pd.DataFrame(columns).round(2)


def performance(*evidence: Evidence) -> pd.DataFrame:
    """One row a trained network: study, variant, seed, sensitivity of its last layer and test
    accuracy; none of a study that has no records."""
    tables = []
    for each in evidence:
        for record in each.records:  # one by one: a study may have a variant twice
            network = replace(each, records=[record])
            table = last(network.layers()).merge(network.probes())
            tables.append(table.assign(study=each.study))
    columns = {
        "study": "study",
        "variant": "variant",
        "seed": "seed",
        "value": "sensitivity, last layer",
        "test_accuracy": "test accuracy",
    }
    return pd.concat(tables, ignore_index=True)[[*columns]].rename(columns=columns)
