"""Curves read off the paper's plots, and files of such curves.

A file of published curves has one row a point, with the columns COLUMNS: a curve is a figure, condition, measure and
variant ("max-pool", "sigma=0.1", "strength=4"); layers count from 0, the image for sensitivity and the first filter bank
for normalized total variation; `how` says how the value was read off the plot.
"""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from reproduction.experiments.store import ROOT

PUBLISHED = ROOT / "book" / "published" / "curves.csv"
COLUMNS = ("figure", "dataset", "condition", "measure", "variant", "layer", "value", "how")
CURVE = ["figure", "condition", "measure", "variant"]
READING = {
    "fit": 0.01,
    "eye": 0.02,
}  # a curve's own pixels, or guessed where another hid it -> error of the value


def published(figure: str) -> pd.DataFrame:
    """The curves read off one of the paper's figures, "3c": columns variant, layer, value.

    Good to about 0.01 (0.02 where a curve was hidden). ValueError, listing the known ones, for another figure.
    """
    curves = read(PUBLISHED)
    if figure not in set(curves.figure):
        raise ValueError(
            f"figure must be one of {', '.join(sorted(set(curves.figure)))}, got {figure!r}"
        )
    return curves.loc[curves.figure == figure, ["variant", "layer", "value"]].reset_index(drop=True)


def overlay(figure: str, mode: str) -> pd.DataFrame | None:
    """`published`, to be drawn over our own: None for a figure that has not been read off the paper, and in quick mode,
    whose networks are others."""
    return published(figure) if mode == "full" and figure in set(read(PUBLISHED).figure) else None


def read(file: Path) -> pd.DataFrame:
    """A file of published curves, checked: COLUMNS, and `row`, the line of the file that a point stands in.

    FileNotFoundError if there is none; ValueError that names file, row and column for what cannot be read, and for a
    point that is there twice.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    points: dict[tuple, dict[str, Any]] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, restkey="more")
            # The column is called "arm" in files, and a variant everywhere else.
            reader.fieldnames = [{"arm": "variant"}.get(n, n) for n in reader.fieldnames or ()]
            if lacking := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
                raise ValueError(
                    f"{file} must have the columns {', '.join(COLUMNS)}; it lacks {', '.join(lacking)}"
                )
            for fields in reader:
                where = f"{file}, row {reader.line_num}"
                point = {"row": reader.line_num, **_checked(fields, where)}
                names = [
                    short_name(point[column]) for column in CURVE
                ]  # "Max-pool" and "max-pool" are one variant
                first = points.setdefault((*names, point["layer"]), point)
                if first is not point:
                    raise ValueError(
                        f"{where}, column layer: {point['layer']} of this curve was given in row {first['row']} already"
                    )
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no CSV in UTF-8 ({error})") from error
    if not points:
        raise ValueError(f"{file} has no points, only its head")
    return pd.DataFrame(list(points.values()), columns=["row", *COLUMNS])


def _checked(fields: dict[str, Any], where: str) -> dict[str, Any]:
    if "more" in fields:
        raise ValueError(f"{where}: more values than columns")
    point = {}
    for column in COLUMNS:
        text, (parse, may_be) = (fields[column] or "").strip(), PARSERS[column]
        try:
            point[column] = parse(text)
        except ValueError:
            raise ValueError(f"{where}, column {column}: must be {may_be}, got {text!r}") from None
    return point


def _that(holds: Callable[[Any], Any], kind: type) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if holds(value := kind(text)):
            return value
        raise ValueError(text)

    return parse


NAME = (_that(bool, str), "a name")
PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "figure": NAME,
    "dataset": (str, "any text"),
    "condition": NAME,
    "measure": NAME,
    "variant": NAME,
    "layer": (_that(lambda layer: layer >= 0, int), "a whole number >= 0"),
    "value": (_that(math.isfinite, float), "a finite number"),
    "how": (_that(READING.__contains__, str), " or ".join(READING)),
}


def short_name(variant: str) -> str:
    """ "Max-Pool" as "max-pool", "sigma=0.10" as "0.1"."""
    try:
        return f"{float(variant.rpartition('=')[2]):g}"
    except ValueError:
        return variant.lower().replace(" ", "-")
