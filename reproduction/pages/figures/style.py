"""The one style of all figures.

A figure is 6.5 inches wide, so that its type can be read both across a page and, at half that size,
on a phone.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 6.5  # inches

# Okabe and Ito's colours, which the colour-blind can tell apart.
INK = "#333333"
ARROW = "#0072B2"
HIGHLIGHT = "#F0E442"
MARK = "#D55E00"
RULE = "#999999"  # horizontal lines and frames

DASHED: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (4, 2))}  # published curves

STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 10,
}

# A notebook shows figures only after the cell that loads the backend; without this line that would
# be # the cell that draws the first figure.
plt.switch_backend(matplotlib.get_backend())

Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in `STYLE`, and leave Matplotlib's settings as they were."""

    @wraps(draw)
    def in_style(*args: Arguments.args, **named: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **named)

    return in_style


def sheet(height: float) -> Figure:
    """An empty figure `height` inches high, which pyplot does not know."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def legend_above(axes: Axes) -> None:
    """The legend of a figure with a single panel, above it."""
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def shared_legend(figure: Figure) -> None:
    """One legend above all panels, with the lines of the first."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, loc="outside upper center")


def hide(panels: Iterable[Axes]) -> None:
    """Leave panels of a grid empty."""
    for axes in panels:
        axes.set_axis_off()
