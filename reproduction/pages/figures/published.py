"""Our curves over the paper's."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import ColorType

from deformlib.models import DOWNSAMPLINGS
from reproduction.pages.figures.curves import light_to_dark
from reproduction.pages.figures.style import DASHED, hide, sheet, styled


@styled
def over_published(points: pd.DataFrame) -> Figure:
    """A panel for each figure: ours with the band in which coverage is counted, published dashed.

    `points` are those of `agreement.beside` that have a counterpart.
    """
    names = list(points["figure"].unique())
    rows = -(-len(names) // 2)
    figure = sheet(0.3 + 2.9 * rows)
    panels = figure.subplots(rows, min(2, len(names)), squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, points[points["figure"] == name])
        axes.set_title(f"Figure {name}")
    hide(panels[len(names) :])
    return figure


def _panel(axes: Axes, points: pd.DataFrame) -> None:
    """The curves of one figure."""
    variants = list(points["variant"].unique())
    for variant, shade in zip(variants, light_to_dark(len(variants)), strict=True):
        look = DOWNSAMPLINGS.get(variant.lower())
        curve = points[points["variant"] == variant].sort_values("layer")
        _curve(axes, curve, look.colour if look else shade, variant)
    measure = points["measure"].iloc[0]
    axes.set_xlabel("layer" if measure == "sensitivity" else "filter bank, from 0")
    axes.set_ylabel(measure)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=7, frameon=True, framealpha=0.8, edgecolor="none")


def _curve(axes: Axes, curve: pd.DataFrame, colour: ColorType, label: str) -> None:
    low = curve["ours"] - curve["band"]
    high = curve["ours"] + curve["band"]
    axes.plot(curve["layer"], curve["ours"], color=colour, label=label, linewidth=1.5)
    axes.fill_between(curve["layer"], low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(curve["layer"], curve["value"], color=colour, **DASHED)
