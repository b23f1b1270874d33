"""What the claims are about, as tables: one quantity of a study's records, or of the published curves."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from deformlib.models import BLOCKS, READOUT
from reproduction.analysis.curves import overlay
from reproduction.experiments.studies import SIGMAS, TWO

POOLED, UNPOOLED = ("max-pool", "average-pool"), ("subsample", "strided", "strided-relu")
FIVE, STRENGTHS = POOLED + UNPOOLED, (1, 2, 3, 4)
# study -> (field of the spec that tells its variants apart, the variants that must be there)
STUDIES: dict[str, tuple[str, tuple]] = {
    "cifar10": ("downsampling", FIVE),
    "imagenet": ("downsampling", TWO),
    "imagenet-init": ("downsampling", TWO),
    "imagenet-smoothed": ("smoothing", SIGMAS),
    "cifar10-random-labels": ("downsampling", FIVE),
    "cifar10-subset": ("downsampling", FIVE),
    "mnist-templates": ("strength", STRENGTHS),
    "mnist-templates-noise": ("strength", STRENGTHS),  # pixel noise of the norm that strength C has
    "initial-smoothness": ("", ("mean", "deviation", "draws")),
}
ARCHITECTURES = tuple(BLOCKS)  # of which initial-smoothness has a record each
WHEN = {
    "before": 0,
    "calibrated": 0,
    "after": -1,
}  # checkpoint; calibrated: with batch norm statistics computed anew
NAN = math.nan

Table = dict[
    Any, pd.DataFrame
]  # {variant: one row per seed, one column per layer or filter bank}; every variant, maybe empty
Look = Callable[..., Table]  # look(study, what, when, distance="cosine")


def observed(
    evidence: Mapping[str, Any], study: str, what: str, when: str, distance: str = "cosine"
) -> Table:
    """One quantity of a study's records. `when` is one of WHEN, or "path" for all checkpoints side by side.

    Every record has measurements["layers"] and ["checkpoints"], at least that of the initialization; that of
    initial-smoothness has ["kernel"], with lists over filter banks of "mean", "deviation" and number of "draws".

    what: "s" (log sensitivity; Euclidean distances are squared first, as cosine distance is half the square of a
    Euclidean one, so that the same thresholds apply), "accuracy", or a name in a record's smoothness.
    """
    field, variants = STUDIES[study]
    rows: dict[Any, dict[int, list[float]]] = {variant: {} for variant in variants}
    records = evidence[study].records if study in evidence else []
    if study == "initial-smoothness":  # a row an architecture, in place of a seed
        found = {record.spec.architecture: record.measurements[what] for record in records}
        return {
            variant: pd.DataFrame.from_dict(
                {name: of[variant] for name, of in found.items()}, orient="index", dtype=float
            )
            for variant in variants
        }
    for record in _main(records, field):
        checkpoints = record.measurements["checkpoints"]
        chosen = checkpoints if when == "path" else [checkpoints[WHEN[when]]]
        values = [
            v
            for c in chosen
            for v in _values(c, what, when, distance, record.measurements["layers"])
        ]
        if (variant := getattr(record.spec, field)) in rows:
            rows[variant][record.spec.seed] = values
    return {variant: pd.DataFrame.from_dict(rows[variant], orient="index", dtype=float) for variant in variants}


def _values(
    checkpoint: dict, what: str, when: str, distance: str, layers: list[str]
) -> list[float]:
    if what == "accuracy":
        return [100 * probe(checkpoint)["test_accuracy"]]
    if what != "s":
        return checkpoint["smoothness"][what]
    found = checkpoint["calibrated" if when == "calibrated" else "sensitivity"][distance][
        "normalized"
    ]
    power = 2 if distance == "euclidean" else 1
    return [
        power * math.log(v) if v else NAN
        for v, name in zip(found, layers, strict=True)
        if name not in READOUT
    ]


def probe(checkpoint: dict[str, Any]) -> dict[str, float]:
    """Accuracies, loss and rates of a checkpoint, on the most images that they were taken on."""
    return checkpoint.get("full", {}).get("probe", checkpoint["probe"])


def _main(records: list, field: str) -> list:
    """The records of a study's commonest specification (the first of equals), leaving out its further variants: other
    draws of labels, other widths, other sets of digits. (On how many sets of images is no variant: the first is the same.)"""

    def rest(record: Any) -> str:
        return repr(
            sorted((k, v) for k, v in vars(record.spec).items() if k not in (field, "seed", "sets"))
        )

    common = Counter(map(rest, records)).most_common(1)
    return [record for record in records if rest(record) == common[0][0]]


FIGURES = {  # what the curves of a published figure are
    ("cifar10", "s", "before"): "3c",
    ("cifar10", "s", "after"): "3d",
    ("cifar10", "kernel", "after"): "6b",
    ("imagenet-init", "s", "before"): "3a",
    ("imagenet", "s", "before"): "3a",
    ("imagenet", "s", "after"): "3b",
    ("imagenet", "kernel", "after"): "6a",
    ("imagenet-smoothed", "s", "before"): "4",
    ("mnist-templates", "kernel", "after"): "5",
    ("cifar10-random-labels", "kernel", "after"): "6c",
    ("cifar10-random-labels", "s", "after"): "7",
}


def published(study: str, what: str, when: str, distance: str = "cosine") -> Table:
    """The same from the published curves, as one seed; empty tables for what cannot be read from them."""
    variants = STUDIES[study][1]
    if study == "initial-smoothness" and what == "kernel":  # footnote 1
        rows = {"mean": [1.87] * 8, "deviation": [0.035] + [NAN] * 7, "draws": [NAN] * 8}
        return {
            variant: pd.DataFrame([row] * len(ARCHITECTURES), index=list(ARCHITECTURES))
            for variant, row in rows.items()
        }
    if (what, when) == ("kernel", "before"):  # the dotted line of Figures 5 and 6
        return {variant: table * 0 + 1.87 for variant, table in published(study, what, "after").items()}
    curves = overlay(
        FIGURES.get((study, what, when), "none") if distance == "cosine" else "none", "full"
    )
    if curves is None:
        return {variant: pd.DataFrame() for variant in variants}
    wide = curves.pivot(index="variant", columns="layer", values="value")
    wide.index = [type(variants[0])(name.split("=")[-1]) for name in wide.index]
    return {
        variant: (np.log(wide) if what == "s" else wide).loc[wide.index == variant].reset_index(drop=True)
        for variant in variants
    }


def cube(*tables: Table, layers: slice = slice(None)) -> tuple[np.ndarray, list]:
    """Tables side by side, (seeds, variants, layers of the first, of the second, ...), of the variants that all have and the
    seeds that those share; and the variants that some lack."""
    variants = [variant for variant in tables[0] if all(len(table[variant]) for table in tables)]
    frames = [[table[variant].iloc[:, layers] for variant in variants] for table in tables]
    seeds = (
        sorted(set.intersection(*(set(frame.index) for row in frames for frame in row)))
        if variants
        else []
    )
    stacked = (
        [np.stack([frame.loc[seeds] for frame in row], axis=1) for row in frames]
        if variants
        else [np.empty((0, 0, 0))]
    )
    return np.concatenate(stacked, axis=2), [variant for variant in tables[0] if variant not in variants]


def at_matched_displacement(look: Look, study: str) -> Table:
    """Smoothness per bank and seed where, on its way, the bank had moved from its initialization as far (relative
    norm) as it ever did under the strength that moved it least; linear between checkpoints."""
    smooth, moved, last = (
        look(study, *w) for w in (("kernel", "path"), ("change_norm", "path"), ("kernel", "after"))
    )
    (values, lacking), (far, _), (banks, _) = cube(smooth), cube(moved), cube(last)
    if lacking or not len(values):
        return {variant: pd.DataFrame() for variant in smooth}
    shape = (*values.shape[:2], -1, banks.shape[2])  # (seeds, variants, checkpoints, banks)
    values, far = values.reshape(shape), np.maximum.accumulate(far.reshape(shape), axis=2)
    reach = far.max(2).min(1)  # (seeds, banks)
    return {
        variant: pd.DataFrame(
            [
                [
                    np.interp(reach[s, b], far[s, a, :, b], values[s, a, :, b])
                    for b in range(shape[3])
                ]
                for s in range(shape[0])
            ]
        )
        for a, variant in enumerate(smooth)
    }
