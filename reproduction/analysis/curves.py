"""Curves read off the paper's plots, and files of such curves.

A file of published curves has one row a point, with the columns FILE_COLUMNS. A curve is a figure,
condition, measure and arm ("max-pool", "sigma=0.1", "strength=4"); layers count from 0, the image
for sensitivity and the first convolution for normalized total variation; `how` says how the value
was read off the plot. In memory the column `arm` is `variant`."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from reproduction.experiments.store import ROOT

PUBLISHED = ROOT / "book" / "published" / "curves.csv"
# How a value was read -> its error: the curve's own pixels, or guessed where another curve hid it.
READING = {"fit": 0.01, "eye": 0.02}


def _checked(kind: type, holds: Callable[[Any], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        value = kind(text)
        if not holds(value):
            raise ValueError(text)
        return value

    return parse


_NAME = (_checked(str, bool), "a name")
# Column of a file -> what reads its text, and what it may be.
PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "figure": _NAME,
    "dataset": (str, "any text"),
    "condition": _NAME,
    "measure": _NAME,
    "arm": _NAME,
    "layer": (_checked(int, lambda layer: layer >= 0), "a whole number >= 0"),
    "value": (_checked(float, math.isfinite), "a finite number"),
    "how": (_checked(str, READING.__contains__), " or ".join(READING)),
}
FILE_COLUMNS = tuple(PARSERS)
IN_MEMORY = {column: column for column in FILE_COLUMNS} | {"arm": "variant"}
COLUMNS = tuple(IN_MEMORY.values())
CURVE = ["figure", "condition", "measure", "variant"]


def published(figure: str) -> pd.DataFrame:
    """The curves read off one of the paper's figures, "3c": columns variant, layer, value.

    Good to about 0.01 (0.02 where a curve was hidden). ValueError, listing the known ones, for
    another figure."""
    curves = read(PUBLISHED)
    known = sorted(set(curves["figure"]))
    if figure not in known:
        raise ValueError(f"figure must be one of {', '.join(known)}, got {figure!r}")
    columns = ["variant", "layer", "value"]
    return curves.loc[curves["figure"] == figure, columns].reset_index(drop=True)


def overlay(figure: str, mode: str) -> pd.DataFrame | None:
    """`published`, to be drawn over our own: None for a figure that has not been read off the
    paper, and in quick mode, whose networks are others."""
    if mode != "full" or figure not in set(read(PUBLISHED)["figure"]):
        return None
    return published(figure)


def read(file: Path) -> pd.DataFrame:
    """A file of published curves, checked: COLUMNS, and `row`, the line of the file that a point
    stands in.

    FileNotFoundError if there is none; ValueError that names file, row and column for what cannot
    be read, and for a point that is there twice."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            points = _points(csv.DictReader(lines, restkey="more"), file)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no CSV in UTF-8 ({error})") from error
    if not points:
        raise ValueError(f"{file} has no points, only its head")
    return pd.DataFrame(points, columns=["row", *COLUMNS])


def _points(reader: csv.DictReader, file: Path) -> list[dict[str, Any]]:
    lacking = [column for column in FILE_COLUMNS if column not in (reader.fieldnames or ())]
    if lacking:
        wanted = ", ".join(FILE_COLUMNS)
        raise ValueError(f"{file} must have the columns {wanted}; it lacks {', '.join(lacking)}")
    rows: dict[tuple, int] = {}
    points = []
    for fields in reader:
        where = f"{file}, row {reader.line_num}"
        point = _point(fields, where)
        # "Max-pool" and "max-pool" are one variant.
        key = (*(short_name(point[column]) for column in CURVE), point["layer"])
        if key in rows:
            twice = f"{point['layer']} of this curve was given in row {rows[key]} already"
            raise ValueError(f"{where}, column layer: {twice}")
        rows[key] = reader.line_num
        points.append({"row": reader.line_num, **point})
    return points


def _point(fields: dict[str, Any], where: str) -> dict[str, Any]:
    if "more" in fields:
        raise ValueError(f"{where}: more values than columns")
    point = {}
    for column, (parse, may_be) in PARSERS.items():
        text = (fields[column] or "").strip()
        try:
            point[IN_MEMORY[column]] = parse(text)
        except ValueError:
            raise ValueError(f"{where}, column {column}: must be {may_be}, got {text!r}") from None
    return point


def short_name(variant: str) -> str:
    """ "Max-Pool" as "max-pool", "sigma=0.10" as "0.1"."""
    try:
        return f"{float(variant.rpartition('=')[2]):g}"
    except ValueError:
        return variant.lower().replace(" ", "-")
