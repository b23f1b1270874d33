"""Networks as points."""

from itertools import cycle, product

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

from reproduction.pages.figures.curves import looks_of
from reproduction.pages.figures.style import INK, STYLE, WIDTH, hide, sheet, styled


@styled
def networks_as_points(values: pd.DataFrame, xlabel: str, ylabel: str, columns: int = 3) -> Figure:
    """A panel for each name, a point for each network, in its variant's colour.

    `values` has the columns variant, name, x, y; with a column study, a point has its study's
    shape.
    """
    values = values if "study" in values else values.assign(study="")
    names = list(values["name"].unique())
    shapes = dict(zip(values["study"].unique(), cycle("os^D"), strict=False))
    looks = looks_of(values["variant"].unique(), "downsampling")
    several = len(names) > 1
    rows = -(-len(names) // columns)
    figure = sheet(0.4 + 1.75 * rows if several else WIDTH * 0.62)
    panels = figure.subplots(rows, min(columns, len(names)), squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        of_name = values[values["name"] == name]
        for study, variant in product(shapes, looks):
            points = of_name[(of_name["variant"] == variant) & (of_name["study"] == study)]
            colour = looks[variant].colour
            axes.plot(points["x"], points["y"], shapes[study], color=colour, markersize=5)
        axes.set_title(name)
        # Three long numbers would touch in a narrow panel.
        axes.locator_params(axis="x", nbins=2 if several else 6)
        axes.locator_params(axis="y", nbins=3 if several else 6)
    hide(panels[len(names) :])
    figure.supxlabel(xlabel, fontsize=STYLE["axes.labelsize"])
    figure.supylabel(ylabel, fontsize=STYLE["axes.labelsize"])
    keys = {look.label: _mark("o", look.colour) for look in looks.values()}
    if len(shapes) > 1:
        keys |= {study: _mark(shape, INK) for study, shape in shapes.items()}
    figure.legend(list(keys.values()), list(keys), ncols=3, loc="outside upper center")
    return figure


def _mark(shape: str, colour: ColorType) -> Line2D:
    """A point, for a legend."""
    return Line2D([], [], marker=shape, color=colour, linestyle="", markersize=5)
