"""Lines over layers: a mean over seeds for each variant, in the variant's look."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from deformlib.models import DOWNSAMPLINGS
from reproduction.pages.figures.style import DASHED, INK

# Variants that are numbers, by the field of a spec that tells them apart: how a legend names them,
# and # how a file of published curves does.
NUMBERED = {
    "smoothing": ("σ = {:g} px", "sigma={:g}"),
    "strength": ("C = {:g} px", "strength={:g}"),
}


class Look(NamedTuple):
    """How a variant is drawn, and its name among published curves."""

    label: str
    colour: ColorType
    published: str


def looks_of(variants: Iterable[Any], variant_field: str) -> dict[Any, Look]:
    """{variant: its look}: a downsampling layer's own colour, numbers from light to dark."""
    if variant_field == "downsampling":
        known = {name: DOWNSAMPLINGS[name] for name in variants}
        return {name: Look(layer.label, layer.colour, name) for name, layer in known.items()}
    # "Darker lines are for smoother random filters" (the paper's Figure 4).
    label, theirs = NUMBERED.get(variant_field, (f"{variant_field} {{}}", "{}"))
    ordered = sorted(variants)
    colours = light_to_dark(len(ordered))
    return {
        variant: Look(label.format(variant), colour, theirs.format(variant))
        for variant, colour in zip(ordered, colours, strict=True)
    }


def light_to_dark(count: int) -> list[ColorType]:
    """So many shades of one colour."""
    shades = plt.colormaps["YlGnBu"]
    return [shades(0.3 + 0.7 * k / max(1, count - 1)) for k in range(count)]


def draw_curves(
    axes: Axes,
    values: pd.DataFrame,
    published: pd.DataFrame | None = None,
    variant_field: str = "downsampling",
    each_seed: bool = False,
) -> None:
    """For each variant a line, its band or a thin line for `each_seed`, and its published curve."""
    looks = looks_of(values["variant"].unique(), variant_field)
    for variant, of_variant in values.groupby("variant", sort=False):
        look = looks[variant]
        _mean(axes, of_variant, look)
        if each_seed:
            _seeds(axes, of_variant, look.colour)
        else:
            _band(axes, of_variant, look.colour)
        if published is not None:
            curve = published[published["variant"] == look.published]
            axes.plot(curve["layer"], curve["value"], color=look.colour, **DASHED)
    if published is not None:
        axes.plot([], [], color=INK, label="published", **DASHED)
    axes.set_xticks(sorted(values["layer"].unique()))


def draw_initial(axes: Axes, values: pd.DataFrame) -> None:
    """A dotted line through the mean over seeds before training.

    Variants share their initial filters, so one variant of a seed stands for all.
    """
    mean = values.drop_duplicates(["seed", "layer"]).groupby("layer")["value"].mean()
    axes.plot(mean.index, mean, color=INK, linewidth=1.2, linestyle=":", label="initialization")


def _mean(axes: Axes, values: pd.DataFrame, look: Look) -> None:
    mean = values.groupby("layer")["value"].mean()
    axes.plot(
        mean.index,
        mean,
        color=look.colour,
        label=look.label,
        linewidth=2,
        marker="o",
        markersize=3.5,
    )


def _band(axes: Axes, values: pd.DataFrame, colour: ColorType) -> None:
    """Two standard deviations over seeds to each side of the mean."""
    by_layer = values.groupby("layer")["value"]
    mean = by_layer.mean()
    half = 2 * by_layer.std().fillna(0)
    axes.fill_between(mean.index, mean - half, mean + half, color=colour, alpha=0.2, lw=0)


def _seeds(axes: Axes, values: pd.DataFrame, colour: ColorType) -> None:
    lines = values.pivot(index="layer", columns="seed", values="value")
    axes.plot(lines, color=colour, linewidth=0.8, alpha=0.6)
