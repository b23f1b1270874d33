"""What training changes in sensitivity, and what networks with replaced weights have of it.

Tables have the columns variant, seed, layer and value, and as `replaced.changes` has them, network.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from reproduction.pages.figures.curves import draw_curves
from reproduction.pages.figures.style import RULE, WIDTH, shared_legend, sheet, styled


@styled
def changes_by_layer(rows: Mapping[str, pd.DataFrame], networks: Mapping[str, str]) -> Figure:
    """A row of panels for each table, by title, a panel for each of `networks`, {name: title}."""
    figure = sheet(0.5 + WIDTH * 0.32 * len(rows))
    grid = figure.subplots(len(rows), len(networks), squeeze=False, sharex=True, sharey=True)
    for row, (label, values) in zip(grid, rows.items(), strict=True):
        for axes, network in zip(row, networks, strict=True):
            axes.axhline(0, color=RULE, linewidth=1)
            draw_curves(axes, values[values["network"] == network])
            axes.set_xticks(range(0, int(values["layer"].max()) + 1, 4))
        row[0].set_ylabel(f"{label},\nlog change")
    for axes, title in zip(grid[0], networks.values(), strict=True):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    shared_legend(figure)
    return figure


@styled
def ladder(panels: Mapping[str, pd.DataFrame], rungs: Mapping[str, str]) -> Figure:
    """A line for each variant over `rungs`, {network: label}; a panel for each table, by title."""
    figure = sheet(WIDTH * 0.62)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    order = {network: number for number, network in enumerate(rungs)}
    for axes, (title, values) in zip(row, panels.items(), strict=True):
        on_it = values[values["network"].isin(list(rungs))]
        axes.axhline(0, color=RULE, linewidth=1)
        draw_curves(axes, on_it.assign(layer=on_it["network"].map(order)))
        axes.set_xticks(range(len(rungs)), list(rungs.values()), rotation=40, ha="right")
        axes.set_title(title)
    row[0].set_ylabel("log change")
    shared_legend(figure)
    return figure
