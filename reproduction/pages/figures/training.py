"""Curves over the epochs of training."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, NullLocator, ScalarFormatter

from reproduction.pages.figures.curves import draw_curves
from reproduction.pages.figures.style import WIDTH, shared_legend, sheet, styled


@styled
def course_of_training(panels: Mapping[str, pd.DataFrame], linear: bool = False) -> Figure:
    """Panels by title, each over the epochs: values have the columns variant, seed, epoch, value.

    The axis is linear up to a hundredth of an epoch and logarithmic from there, or all of it
    `linear`.
    """
    figure = sheet(WIDTH * 0.5)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, values) in zip(row, panels.items(), strict=True):
        draw_curves(axes, values.rename(columns={"epoch": "layer"}))
        if linear:
            _linear(axes)
        else:
            _logarithmic(axes, values["epoch"].max())
        axes.set_title(title)
        axes.set_xlabel("epoch")
    shared_legend(figure)
    return figure


def _linear(axes: Axes) -> None:
    axes.xaxis.set_major_locator(AutoLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())


def _logarithmic(axes: Axes, last: float) -> None:
    axes.set_xscale("symlog", linthresh=0.01, linscale=0.4)
    axes.set_xticks([0, 0.01, 0.1, 1, last], ["0", "", "0.1", "1", f"{last:g}"])
    axes.set_xlim(-0.002, 1.2 * last)
    axes.xaxis.set_minor_locator(NullLocator())
