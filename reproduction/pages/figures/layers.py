"""Curves over the layers of a network.

A table of values has the columns variant, seed, layer and value. A line is the mean over seeds, its
band two standard deviations over seeds to each side. `variant_field` is the field of a spec that
tells the variants apart. Filters are counted from 1, as in `Evidence.banks`.
"""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deformlib.models import DOWNSAMPLINGS
from reproduction.pages.figures.curves import draw_curves, draw_initial
from reproduction.pages.figures.style import (
    RULE,
    WIDTH,
    legend_above,
    shared_legend,
    sheet,
    styled,
)


@styled
def sensitivity_by_layer(
    values: pd.DataFrame,
    published: pd.DataFrame | None = None,
    distance: str = "cosine",
    variant_field: str = "downsampling",
) -> Figure:
    """Figures 3, 4 and 7: one line per variant; `published` (variant, layer, value) is dashed."""
    figure = sheet(WIDTH * 0.62)
    axes = figure.subplots()
    draw_curves(axes, values, published, variant_field)
    axes.set(xlabel="layer", ylabel=f"normalized {distance} distance", ylim=(0, None))
    legend_above(axes)
    return figure


@styled
def smoothness_by_layer(
    values: pd.DataFrame,
    initial: pd.DataFrame,
    published: pd.DataFrame | None = None,
    variant_field: str = "downsampling",
    each_seed: bool = False,
) -> Figure:
    """Figures 5 and 6: smoothness of the filters; `initial`, before training, is dotted.

    published  counts filters from 0, as the paper's axis does
    each_seed  a thin line for each seed in place of the band, where seeds end in different places
    """
    figure = sheet(WIDTH * 0.62)
    axes = figure.subplots()
    draw_initial(axes, initial)
    theirs = None if published is None else published.assign(layer=published["layer"] + 1)
    draw_curves(axes, values, theirs, variant_field, each_seed)
    axes.set(xlabel="filter bank", ylabel="normalized total variation")
    legend_above(axes)
    return figure


@styled
def panels_by_layer(
    panels: Mapping[str, pd.DataFrame],
    ylabel: str,
    initial: Mapping[str, pd.DataFrame] | None = None,
    level: tuple[str, Mapping[str, float]] | None = None,
    variant_field: str = "downsampling",
    shared: bool = False,
    each_seed: bool = False,
) -> Figure:
    """Curves over the filters side by side, one panel per title.

    initial    before training, by title: dotted
    level      a horizontal line: its label, and its height by title
    shared     one vertical axis for all panels, as their values need; otherwise each begins at 0
    each_seed  as in `smoothness_by_layer`
    """
    figure = sheet(WIDTH * 0.55)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=shared)[0]
    for axes, (title, values) in zip(row, panels.items(), strict=True):
        if initial:
            draw_initial(axes, initial[title])
        if level:
            label, heights = level
            axes.axhline(heights[title], color=RULE, linewidth=1, label=label)
        draw_curves(axes, values, None, variant_field, each_seed)
        axes.set(title=title, xlabel="filter bank")
        if not shared:
            axes.set_ylim(0)
    row[0].set_ylabel(ylabel)
    shared_legend(figure)
    return figure


@styled
def rows_of_panels(
    rows: Mapping[str, Mapping[str, pd.DataFrame]],
    xlabel: str = "layer",
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Curves in a grid: for each label of a vertical axis a row of panels by title.

    The panels of a row share their vertical axis. `levels` are horizontal lines, by row.
    """
    titles = list(next(iter(rows.values())))
    height = WIDTH * (0.3 if len(rows) > 1 else 0.42)  # of a row
    figure = sheet(0.5 + height * len(rows))
    grid = figure.subplots(len(rows), len(titles), squeeze=False, sharey="row", sharex=True)
    for row, (label, panels) in zip(grid, rows.items(), strict=True):
        for axes, values in zip(row, panels.values(), strict=True):
            if levels and label in levels:
                axes.axhline(levels[label], color=RULE, linewidth=1)
            draw_curves(axes, values)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        row[0].set_ylabel(label)
        # Once the whole row is drawn: from here on the upper limit no longer follows the curves.
        row[0].set_ylim(0)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel)
    shared_legend(figure)
    return figure


@styled
def sensitivity_by_depth(networks: Mapping[str, pd.Series]) -> Figure:
    """Sensitivity of different networks' layers, in execution order, over relative depth.

    One line per name, from 0, the first layer of a network, to 1, the last.
    """
    figure = sheet(WIDTH * 0.5)
    axes = figure.subplots()
    colours = cycle(look.colour for look in DOWNSAMPLINGS.values())
    markers = cycle("os^Dv")
    for name, values in networks.items():
        axes.plot(
            np.linspace(0, 1, len(values)),
            values,
            color=next(colours),
            label=name,
            linewidth=2,
            marker=next(markers),
            markersize=4.5,
        )
    axes.set(
        xlabel="depth, as a share of the layers shown",
        ylabel="normalized cosine distance",
        ylim=(0, None),
    )
    legend_above(axes)
    return figure
