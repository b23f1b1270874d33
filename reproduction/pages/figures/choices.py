"""What an outcome depends on: every combination of choices, sorted, above the options it has.

A table has a MultiIndex of options, one level a choice; `words` gives choice and option in words.
"""

from collections.abc import Callable, Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.pages.figures.style import ARROW, INK, MARK, legend_above, sheet, styled

Words = Callable[[str, str], tuple[str, str]]


@styled
def specification_curve(
    values: pd.Series,
    ylabel: str,
    words: Words,
    level: tuple[str, float] | None = None,
    marked: Mapping[str, Mapping[str, str]] | None = None,
) -> Figure:
    """The outcome of every combination of choices, sorted (Simonsohn et al. 2020).

    Above are the values; below, for each option, a mark under every combination that has it.

    level   a horizontal line: its label and its height
    marked  single combinations shown as points, {label: {choice: option}}
    """
    options = values.index
    choices = [str(name) for name in options.names]
    values = values.sort_values(kind="stable")
    figure, above = _over_options(options, values.index, words)
    above.plot(np.arange(len(values)), values, ".", color=ARROW, markersize=3)
    if level:
        label, height = level
        above.axhline(height, color=INK, linewidth=1, linestyle=(0, (4, 2)), label=label)
    shapes = cycle("os^D")
    for label, combination in (marked or {}).items():
        key = tuple(combination[name] for name in choices)
        place = list(values.index).index(key)
        above.plot(place, values.iloc[place], next(shapes), color=MARK, markersize=7, label=label)
    if level or marked:
        legend_above(above)
    above.set(ylabel=ylabel, ylim=(0, None))
    return figure


@styled
def survival_of_claims(fractions: pd.DataFrame, words: Words) -> Figure:
    """Which claims survive which choices: a row of cells for each claim, the options below.

    `fractions` are in [0, 1] with a column for each claim, 1 if it survives whole. Combinations
    under which most survives come first.
    """
    options = fractions.index
    order = fractions.mean(axis=1).sort_values(ascending=False, kind="stable").index
    fractions = fractions.loc[order]
    figure, above = _over_options(options, fractions.index, words)
    combinations, claims = fractions.shape
    shown = above.imshow(
        fractions.T,
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=1,
        interpolation="none",
        extent=(-0.5, combinations - 0.5, claims - 0.5, -0.5),
    )
    above.set_yticks(range(claims), fractions.columns, fontsize=8)
    above.set_yticks(np.arange(0.5, claims - 1), minor=True)
    above.grid(axis="y", which="minor", color="white", linewidth=2)
    above.tick_params(axis="y", which="both", length=0)
    above.spines[:].set_visible(False)
    label = "share of a claim's parts that reach its threshold"
    figure.colorbar(shown, ax=above, location="top", shrink=0.5, aspect=30, label=label)
    return figure


def _over_options(options: pd.Index, combinations: pd.Index, words: Words) -> tuple[Figure, Axes]:
    """A figure with empty axes above, and below a row for each option of a choice that has several.

    Rows are in the order of `options`, their marks in that of `combinations`.
    """
    varied = {str(name): options.unique(name) for name in options.names}
    varied = {name: found for name, found in varied.items() if len(found) > 1}
    count = sum(map(len, varied.values()))
    size = 0.185 * (count + 0.5 * len(varied))  # inches
    figure = sheet(2.3 + size)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, size])
    heights: list[float] = []
    labels: list[str] = []
    height = 0.0
    for name, found in varied.items():
        height += 0.5  # a gap between choices
        for option in found:
            height += 1.0
            _marks(below, height, combinations.get_level_values(name) == option)
            choice, said = words(name, option)
            heights.append(height)
            labels.append(f"{choice}: {said}" if option == found[0] else said)
    margin = 0.01 * len(combinations) + 0.5
    below.set_ylim(height + 0.7, 0.8)
    below.set_xlim(-margin, len(combinations) + margin - 1)
    below.set(xticks=[], xlabel="combinations, sorted")
    below.set_yticks(heights, labels, fontsize=8)
    below.tick_params(axis="y", length=0)
    below.spines[:].set_visible(False)
    return figure, above


def _marks(axes: Axes, height: float, has: np.ndarray) -> None:
    """A mark for each combination that `has` an option."""
    places = np.flatnonzero(has)
    axes.plot(
        places,
        np.full(len(places), height),
        "|",
        color=INK,
        markersize=5,
        markeredgewidth=max(0.25, 150 / len(has)),
    )
