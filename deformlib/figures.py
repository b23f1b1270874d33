"""The figures: values in, a Matplotlib figure out.

Every function is decorated with `styled` and returns a Figure that pyplot does not know. A figure is 6.5 inches
wide, so that its type can be read both across a page and, at half that size, on a phone.
"""

from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .models import DOWNSAMPLINGS
from .warping import ThinPlateSpline

WIDTH = 6.5  # inches
INK, ARROW, HIGHLIGHT = "#333333", "#0072B2", "#F0E442"  # of Okabe and Ito, told apart by the colour-blind
STYLE = {
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
styled = plt.rc_context(STYLE)  # decorates a function that draws
# A notebook can show figures only after the cell that loads the backend, which would be the first to draw one.
plt.switch_backend(matplotlib.get_backend())


@styled
def deformed_pairs(names: Sequence[str], originals: Tensor, deformed: Tensor) -> Figure:
    """Figure 1: images (N, 3, H, W) in [0, 1] in one row, the same deformed (N, 3, H, W) below."""
    figure = Figure(figsize=(WIDTH, WIDTH * 2.1 / len(names)), layout="constrained")
    rows = figure.subplots(2, len(names), squeeze=False)
    for axes, image in zip(rows.flat, [*originals, *deformed], strict=True):
        _show(axes, image)
    for axes, name in zip(rows[0], names, strict=True):
        axes.set_title(name)
    for axes, label in zip(rows[:, 0], ("original", "deformed"), strict=True):
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[], ylabel=label)
        axes.spines[:].set_visible(False)
    return figure


@styled
def deformation_steps(image: Tensor, deformed: Tensor, spline: ThinPlateSpline, control: Tensor, step: int) -> Figure:
    """Figure 2: (a) control points with displacements (K, 2), (b) the spline's field at every `step` pixels, (c) the
    field over the image (3, H, W), (d) the deformed image. An arrow runs from where a value is taken to its place."""
    figure = Figure(figsize=(WIDTH, WIDTH * 1.05), layout="constrained")
    (a, b), (c, d) = figure.subplots(2, 2)
    y, x = torch.meshgrid(*(torch.arange(step // 2, side, step) for side in spline.size), indexing="ij")
    field, places = spline.field(control[None])[0, y, x], torch.stack([x, y], -1)  # (h, w, 2) each
    _arrows(a, spline.points, control, ARROW, width=0.009)
    a.scatter(*spline.points.T, s=24, color=INK, zorder=3)
    _arrows(b, places, field, ARROW, width=0.006)
    _show(c, image)
    _arrows(c, places, field, HIGHLIGHT, width=0.006)
    _show(d, deformed)
    for axes, title in zip((a, b, c, d), ("(a) control points", "(b) smoothed field", "(c) over the image", "(d) result"),
                           strict=True):
        _frame(axes, spline.size, margin=float(control.abs().max()))
        axes.set_title(title, pad=0)
    return figure


@styled
def sensitivity_by_layer(values: pd.DataFrame, published: pd.DataFrame | None = None, distance: str = "cosine") -> Figure:
    """Figure 3: one line per arm over the layers, the mean over seeds with a band of two standard deviations over
    seeds. `values` has the columns arm, seed, layer, value; `published` arm, layer, value, drawn thin and dashed."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.62), layout="constrained")
    axes = figure.subplots()
    for arm, of_arm in values.groupby("arm", sort=False):
        look, by_layer = DOWNSAMPLINGS[arm], of_arm.groupby("layer")["value"]
        mean, deviation = by_layer.mean(), by_layer.std().fillna(0)
        axes.plot(mean.index, mean, color=look.colour, label=look.label, linewidth=2, marker="o", markersize=3.5)
        axes.fill_between(mean.index, mean - 2 * deviation, mean + 2 * deviation, color=look.colour, alpha=0.2, lw=0)
        if published is not None:
            curve = published[published["arm"] == arm]
            axes.plot(curve["layer"], curve["value"], color=look.colour, linewidth=0.9, linestyle=(0, (4, 2)))
    layers = sorted(values["layer"].unique())
    axes.set(xlabel="layer", ylabel=f"normalized {distance} distance", ylim=(0, None), xticks=layers)
    if published is not None:
        axes.plot([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="published")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


@styled
def sensitivity_of_a_network(values: pd.Series) -> Figure:
    """Sensitivity of a network's layers, by name from the first (top) to the last: as many lines as layers."""
    figure = Figure(figsize=(WIDTH, max(2.0, 0.6 + 0.19 * len(values))), layout="constrained")
    axes = figure.subplots()
    places = range(len(values))
    axes.plot(values, places, color=ARROW, linewidth=1.5, marker="o", markersize=4)
    axes.set(xlabel="normalized cosine distance", xlim=(0, None), ylim=(len(values) - 0.5, -0.5))
    axes.set_yticks(places, values.index, fontsize=8)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    return figure


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy())
    axes.set_axis_off()


def _arrows(axes: Axes, heads: Tensor, displacements: Tensor, colour: str, **options: float) -> None:
    """Arrows to heads (..., 2) from heads + displacements, in pixels: the map is backward."""
    (x, y), (dx, dy) = heads.flatten(0, -2).T.numpy(), displacements.flatten(0, -2).T.numpy()
    axes.quiver(x, y, -dx, -dy, color=colour, pivot="tip", angles="xy", scale_units="xy", scale=1, **options)


def _frame(axes: Axes, size: tuple[int, int], margin: float) -> None:
    """The image's edge, with room for what is taken from beyond it."""
    height, width = size
    axes.add_patch(Rectangle((0, 0), width - 1, height - 1, fill=False, color="#999999", linewidth=0.8))
    axes.set(xlim=(-margin, width - 1 + margin), ylim=(height - 1 + margin, -margin), aspect="equal")
    axes.set_axis_off()
