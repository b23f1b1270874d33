"""Our curves against published ones, point by point and curve by curve."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reproduction.analysis.curves import COLUMNS, CURVE, PUBLISHED, READING, read, short_name
from reproduction.analysis.evidence import Evidence, judged_studies
from reproduction.analysis.quantities import (
    FIGURES,
    JUDGED,
    Moment,
    Studies,
    before,
)

FRAME = ["figure", "condition", "measure", "layer"]
COMPARED = ["study", "seeds", "layers", "difference", "skill", "correlation", "coverage"]
# A measure in files of curves -> a variable of a judged study.
MEASURES = {"sensitivity": "sensitivity", "normalized total variation": "smoothness"}


def compare(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The `points` of `beside`, curve by curve: (a table of curves, the points that have no
    counterpart).

    One row per curve, of its points that have a counterpart; differences are in the curve's own
    unit (normalized distance, total variation):

    study, seeds  whose records, and how many seeds of this variant
    layers        points compared
    difference    mean of |ours - published|
    skill         1 - difference / that of the same networks before training: 1 perfect, 0 no better
                  than not to train, negative worse; nan for a figure of untrained networks
    correlation   over layers, once the mean over variants is subtracted from both, layer by layer:
                  do the variants differ as published? nan for a single variant
    coverage      fraction of published values in a band around ours: two standard deviations over
                  seeds (of two or more), two over sets of images and deformations (where records
                  have several), and the error of reading, added in quadrature

    The second table has the columns row, figure, variant, layer and reason.
    """
    matched = points[points["reason"] == ""]
    ours, theirs = (
        matched[column] - matched.groupby(FRAME)[column].transform("mean")
        for column in ("ours", "value")
    )
    rows = []
    for key, curve in matched.groupby(CURVE, sort=False):
        compared = _compared(curve, ours[curve.index], theirs[curve.index])
        rows.append(dict(zip(CURVE, key, strict=True)) | compared)
    table = pd.DataFrame(rows, columns=[*CURVE, *COMPARED]).set_index(CURVE)
    columns = ["row", "figure", "variant", "layer", "reason"]
    return table, points.loc[points["reason"] != "", columns].reset_index(drop=True)


def beside(evidence: Mapping[str, Evidence], file: Path = PUBLISHED) -> pd.DataFrame:
    """Every published point beside ours: columns row and COLUMNS, study, seeds, ours, initial
    (before training), band (half the width of `compare`'s for coverage), and reason, why there is
    no counterpart, or "".

    evidence  {study: its evidence}, as for `claims.findings`
    file      published curves (`curves`)

    Ours is the mean over seeds, on the first set of test images, as in the figures. Errors are
    those of `read`."""
    studies, groups = judged_studies(evidence), read(file).groupby([*CURVE, "dataset"], sort=False)
    curves = pd.concat([_beside(curve, studies) for _, curve in groups])
    columns = ["row", *COLUMNS, "study", "seeds", "ours", "initial", "band", "reason"]
    return curves.reindex(columns=columns)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The first table of `compare` as text, by figure and variant."""
    digits = {"difference": 3, "skill": 2, "correlation": 2, "coverage": 2}
    text = {
        name: table[name].map(
            lambda value, places=places: "-" if math.isnan(value) else f"{value:.{places}f}"
        )
        for name, places in digits.items()
    }
    return table.assign(**text).droplevel(["condition", "measure"])


def gaps(unmatched: pd.DataFrame) -> pd.DataFrame:
    """The second table of `compare`, one row per curve and reason: figure, variant, reason, rows
    and layers as "2 to 20"."""

    def span(numbers: pd.Series) -> str:
        return " to ".join(map(str, dict.fromkeys((numbers.min(), numbers.max()))))

    spans = (
        unmatched.groupby(["figure", "variant", "reason"], sort=False)[["row", "layer"]]
        .agg(span)
        .reset_index()
    )
    return spans.rename(columns={"row": "rows", "layer": "layers"})


def _compared(curve: pd.DataFrame, ours: pd.Series, theirs: pd.Series) -> dict[str, Any]:
    """A row of the table; `ours` and `theirs` are departures from the mean over variants."""
    off = abs(curve["ours"] - curve["value"])
    return {
        "study": curve["study"].iloc[0],
        "seeds": int(curve["seeds"].iloc[0]),
        "layers": len(curve),
        "difference": off.mean(),
        "skill": 1 - off.mean() / abs(curve["initial"] - curve["value"]).mean(),
        "correlation": ours.corr(theirs),
        "coverage": (off <= curve["band"]).mean(),
    }


def _beside(curve: pd.DataFrame, studies: Studies) -> pd.DataFrame:
    """The points of a curve with what our records have there (study, seeds, ours, initial, band),
    or with a `reason`."""
    try:
        name, quantity, when, variant = _counterpart(*curve[["dataset", *CURVE]].iloc[0])
    except LookupError as error:
        return curve.assign(reason=str(error))
    study = studies[name].sel(variant=variant).dropna("seed", how="all", subset=[quantity])
    found = when(study[quantity])  # (seed, layer)
    seeds, layers = found.shape
    if not seeds:
        return curve.assign(reason=f"study {name} has no record of {curve['variant'].iloc[0]}")
    initial = before(study[quantity]).mean("seed")
    scatter = found.var("seed", ddof=1).fillna(0)  # NaN of fewer than two
    if quantity == "sensitivity":
        over_sets = when(study["image_sets"]).var("condition", ddof=1)
        scatter = scatter + over_sets.mean("seed").fillna(0)
    ours = pd.DataFrame(
        {
            "ours": found.mean("seed").values,
            "initial": math.nan if when is before else initial.values,
            "scatter": 2 * np.sqrt(scatter.values),
        }
    )
    ours = ours.reindex(curve["layer"]).set_axis(curve.index)
    band = np.hypot(ours.pop("scatter"), curve["how"].map(READING))
    beyond, nothing = f"layer must be at most {layers - 1}", f"study {name} has no number there"
    reason = np.where(curve["layer"] < layers, nothing, beyond)
    reason = np.where(ours["ours"].isna(), reason, "")
    return curve.assign(study=name, seeds=seeds, **ours, band=band, reason=reason)


def _counterpart(
    dataset: str, figure: str, condition: str, measure: str, name: str
) -> tuple[str, str, Moment, Any]:
    """Study, quantity, moment and variant that a published curve is to be compared with.
    LookupError that says why there is none."""
    # The first study that shows a figure; 5a is a picture.
    shown = {figure: key for key, figure in reversed(FIGURES.items())}
    figure = {"5b": "5"}.get(figure.lower(), figure.lower())
    if figure not in shown:
        raise LookupError(f"figure must be one of {', '.join(sorted(shown))}")
    study, quantity, when = shown[figure]
    of_study, known = study.split("-")[0], {each.split("-")[0] for each in JUDGED}
    named = "".join(filter(str.isalnum, dataset.lower()))  # "CIFAR-10" is cifar10
    if named in known - {of_study}:
        raise LookupError(f"figure {figure} is of {of_study}, not {dataset}")
    if MEASURES.get(measure) != quantity:
        [shows] = (name for name, variable in MEASURES.items() if variable == quantity)
        raise LookupError(f"figure {figure} shows {shows}, not {measure}")
    untrained = any(word in condition.lower() for word in ("initial", "untrained", "before"))
    if untrained != (when is before):
        kind = "untrained" if when is before else "trained"
        raise LookupError(f"figure {figure} is of {kind} networks, not {condition}")
    variants = {short_name(str(variant)): variant for variant in JUDGED[study]}
    if short_name(name) not in variants:
        raise LookupError(f"variant must be one of {', '.join(variants)}")
    return study, quantity, when, variants[short_name(name)]
