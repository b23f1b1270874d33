"""Our curves against published ones, point by point and curve by curve."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from reproduction.analysis import quantities
from reproduction.analysis.curves import COLUMNS, CURVE, PUBLISHED, READING, read, short_name

FRAME = ["figure", "condition", "measure", "layer"]
MEASURES = {
    "sensitivity": "s",
    "normalized total variation": "kernel",
}  # -> `what` of `quantities.observed`


def compare(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The `points` of `beside`, curve by curve: (a table of curves, the points that have no counterpart).

    One row per curve, of its points that have a counterpart; differences are in the curve's own unit (normalized
    distance, total variation):

    study, seeds  whose records, and how many seeds of this variant
    layers        points compared
    difference    mean of |ours - published|
    skill         1 - difference / that of the same networks before training: 1 perfect, 0 no better than not to
                  train, negative worse; nan for a figure of untrained networks
    correlation   over layers, once the mean over variants is subtracted from both, layer by layer: do the variants differ as
                  published? nan for a single variant
    coverage      share of published values in a band around ours: two standard deviations over seeds (of two or
                  more), two over sets of images and deformations (where records have several), and the error of
                  reading, added in quadrature

    The second table has the columns row, figure, variant, layer and reason.
    """
    matched = points[points["reason"] == ""]
    ours, theirs = (
        matched[column] - matched.groupby(FRAME)[column].transform("mean")
        for column in ("ours", "value")
    )
    rows = [
        dict(zip(CURVE, names, strict=True))
        | _measured(curve, ours[curve.index], theirs[curve.index])
        for names, curve in matched.groupby(CURVE, sort=False)
    ]
    measured = ["study", "seeds", "layers", "difference", "skill", "correlation", "coverage"]
    unmatched = points.loc[points["reason"] != "", ["row", "figure", "variant", "layer", "reason"]]
    return pd.DataFrame(rows, columns=[*CURVE, *measured]).set_index(CURVE), unmatched.reset_index(
        drop=True
    )


def beside(evidence: Mapping[str, Any], file: Path = PUBLISHED) -> pd.DataFrame:
    """Every published point beside ours: columns row and COLUMNS, study, seeds, ours, initial (before training), band
    (half the width of `compare`'s for coverage), and reason, why there is no counterpart, or "".

    evidence  {study: anything with `records`}, as for `claims.findings`
    file      published curves in COLUMNS

    Ours is the mean over seeds, on the first set of test images, as in the figures. Errors are those of `read`.
    """
    curves = [
        _beside(curve, evidence) for _, curve in read(file).groupby([*CURVE, "dataset"], sort=False)
    ]
    return pd.concat(curves).reindex(
        columns=["row", *COLUMNS, "study", "seeds", "ours", "initial", "band", "reason"]
    )


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
    """The second table of `compare`, one row per curve and reason: figure, variant, reason, rows and layers as "2 to 20"."""

    def span(numbers: pd.Series) -> str:
        return " to ".join(map(str, dict.fromkeys((numbers.min(), numbers.max()))))

    spans = (
        unmatched.groupby(["figure", "variant", "reason"], sort=False)[["row", "layer"]]
        .agg(span)
        .reset_index()
    )
    return spans.rename(columns={"row": "rows", "layer": "layers"})


def _measured(curve: pd.DataFrame, ours: pd.Series, theirs: pd.Series) -> dict[str, Any]:
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


def _beside(curve: pd.DataFrame, evidence: Mapping[str, Any]) -> pd.DataFrame:
    """The points of a curve with what our records have there (study, seeds, ours, initial, band), or with a `reason`."""
    try:
        study, what, when, variant = _counterpart(*curve[["dataset", *CURVE]].iloc[0])
    except LookupError as error:
        return curve.assign(reason=str(error))

    def values(evidence: Mapping[str, Any], when: str) -> pd.DataFrame:  # (seeds, layers)
        table = quantities.observed(evidence, study, what, when)[variant]
        return np.exp(table) if what == "s" else table

    found = values(evidence, when)
    if found.empty:
        return curve.assign(reason=f"study {study} has no record of {curve['variant'].iloc[0]}")
    sets = (
        [values(measured_on(name, evidence, study), when) for name in image_sets(evidence, study)]
        if what == "s"
        else []
    )
    of_seeds, of_sets = found.var(), pd.concat(sets or [found]).groupby(level=0).var().mean()
    ours = (
        pd.DataFrame(
            {
                "ours": found.mean(),
                "initial": values(evidence, "before").mean() if when == "after" else math.nan,
                "scatter": 2
                * np.sqrt(of_seeds.fillna(0) + of_sets.fillna(0)),  # nan: of fewer than two
            }
        )
        .reindex(curve["layer"])
        .set_axis(curve.index)
    )
    no_number = np.where(
        curve["layer"] < found.shape[1],
        f"study {study} has no number there",
        f"layer must be at most {found.shape[1] - 1}",
    )
    band = np.hypot(ours.pop("scatter"), curve["how"].map(READING))
    return curve.assign(
        study=study,
        seeds=len(found),
        **ours,
        band=band,
        reason=np.where(ours["ours"].isna(), no_number, ""),
    )


def _counterpart(
    dataset: str, figure: str, condition: str, measure: str, name: str
) -> tuple[str, str, str, Any]:
    """Study, what, when and variant, as for `quantities.observed`, that a published curve is to be compared with. LookupError
    that says why there is none."""
    sought = {
        figure: key for key, figure in reversed(quantities.FIGURES.items())
    }  # the first study that shows it
    if (figure := {"5b": "5"}.get(figure.lower(), figure.lower())) not in sought:  # 5a is a picture
        raise LookupError(f"figure must be one of {', '.join(sorted(sought))}")
    study, what, when = sought[figure]
    named, data = (
        "".join(filter(str.isalnum, dataset.lower())),
        study.split("-")[0],
    )  # "CIFAR-10" is cifar10
    if named != data and named in {each.split("-")[0] for each in quantities.STUDIES}:
        raise LookupError(f"figure {figure} is of {data}, not {dataset}")
    if MEASURES.get(measure) != what:
        raise LookupError(
            f"figure {figure} shows {next(name for name in MEASURES if MEASURES[name] == what)}, not {measure}"
        )
    if any(word in condition.lower() for word in ("initial", "untrained", "before")) != (
        when == "before"
    ):
        raise LookupError(
            f"figure {figure} is of {'untrained' if when == 'before' else 'trained'} networks, not {condition}"
        )
    variants = {
        variant if isinstance(variant, str) else f"{variant:g}": variant for variant in quantities.STUDIES[study][1]
    }
    if (short := short_name(name)) not in variants:
        raise LookupError(f"variant must be one of {', '.join(variants)}")
    return study, what, when, variants[short]


def measured_on(
    condition: str, evidence: Mapping[str, Any], study: str
) -> dict[str, SimpleNamespace]:
    """A study's records as if all had been measured under another condition of the protocol ("test-1"). Their
    checkpoints are the full ones, the first and the last among them; records without the condition are left out."""

    def swapped(record: Any) -> SimpleNamespace:
        checkpoints = [{"sensitivity": conditions[condition]} for conditions in _full(record)]
        return SimpleNamespace(
            spec=record.spec, measurements={**record.measurements, "checkpoints": checkpoints}
        )

    has = [
        record
        for record in evidence[study].records
        if _full(record) and all(condition in c for c in _full(record))
    ]
    return {study: SimpleNamespace(records=[swapped(record) for record in has])}


def image_sets(evidence: Mapping[str, Any], study: str) -> list[str]:
    """The conditions that are independent sets of test images with deformations of their own."""
    names = {
        name
        for record in evidence[study].records
        for conditions in _full(record)
        for name in conditions
    }
    return sorted(name for name in names if name.startswith("test-"))


def _full(record: Any) -> list[dict[str, Any]]:
    """What was measured at a record's full checkpoints, by condition."""
    return [
        checkpoint["full"]["conditions"]
        for checkpoint in record.measurements["checkpoints"]
        if "full" in checkpoint
    ]
