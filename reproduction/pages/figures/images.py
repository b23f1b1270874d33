"""Images, deformations and filters as pictures."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from deformlib.warping import ThinPlateSpline
from reproduction.pages.figures.style import (
    ARROW,
    HIGHLIGHT,
    INK,
    RULE,
    STYLE,
    WIDTH,
    sheet,
    styled,
)


@styled
def image_rows(rows: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """Figure 1: a row of images for each label, a name above each of N columns.

    Images are (N, C, H, W) in [0, 1] with one or three channels.
    """
    figure = sheet(WIDTH * (len(rows) + 0.1) / len(names))
    panels = figure.subplots(len(rows), len(names), squeeze=False)
    for row, (label, images) in zip(panels, rows.items(), strict=True):
        for axes, image in zip(row, images, strict=True):
            _show(axes, image)
        _label(row[0], label)
    for axes, name in zip(panels[0], names, strict=True):
        axes.set_title(name)
    return figure


@styled
def deformation_steps(
    image: Tensor, deformed: Tensor, spline: ThinPlateSpline, control: Tensor, step: int
) -> Figure:
    """Figure 2: control points, the spline's field, the field over the image, the deformed image.

    An arrow runs from where a value is taken to where it is put.

    image, deformed  (3, H, W) in [0, 1]
    control          displacements of the control points, (K, 2), in pixels
    step             pixels between the arrows of the field
    """
    figure = sheet(WIDTH * 1.05)
    (a, b), (c, d) = figure.subplots(2, 2)
    height, width = spline.size
    rows = torch.arange(step // 2, height, step)
    columns = torch.arange(step // 2, width, step)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([x, y], -1)  # (h, w, 2)
    field = spline.field(control[None])[0, y, x]  # (h, w, 2)

    _arrows(a, spline.points, control, ARROW, width=0.009)
    a.scatter(*spline.points.T, s=24, color=INK, zorder=3)
    _arrows(b, places, field, ARROW, width=0.006)
    _show(c, image)
    _arrows(c, places, field, HIGHLIGHT, width=0.006)
    _show(d, deformed)

    titles = {
        "(a) control points": a,
        "(b) smoothed field": b,
        "(c) over the image": c,
        "(d) result": d,
    }
    for title, axes in titles.items():
        _frame(axes, spline.size, margin=float(control.abs().max()))
        axes.set_title(title, pad=0)
    return figure


@styled
def filters(kernels: Mapping[str, tuple[Tensor, Tensor]], columns: Sequence[str]) -> Figure:
    """Kernels (K, kh, kw) and their normalized total variations (K,) by name: one row each.

    The number stands below its kernel. White is zero; a kernel's largest weight by magnitude is
    dark red if it is positive, dark blue if negative.
    """
    figure = sheet(WIDTH * (0.06 + 1.4 * len(kernels) / (len(columns) + 1)))
    rows = figure.subplots(len(kernels), len(columns), squeeze=False)
    for row, (name, (weights, variations)) in zip(rows, kernels.items(), strict=True):
        for axes, kernel, variation in zip(row, weights, variations, strict=True):
            _kernel(axes, kernel)
            axes.set_xlabel(f"{variation:.2f}", fontsize=STYLE["xtick.labelsize"])
        row[0].set_ylabel(name)
    for axes, title in zip(rows[0], columns, strict=True):
        axes.set_title(title, fontsize=STYLE["ytick.labelsize"])
    return figure


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).numpy())
    axes.set_axis_off()


def _label(axes: Axes, label: str) -> None:
    """A row's label, beside its first image."""
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], ylabel=label)
    axes.spines[:].set_visible(False)


def _kernel(axes: Axes, kernel: Tensor) -> None:
    largest = float(kernel.abs().max())
    axes.imshow(kernel.float().numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=RULE, linewidth=0.6)


def _arrows(axes: Axes, heads: Tensor, displacements: Tensor, colour: str, width: float) -> None:
    """Arrows to heads (..., 2) from heads + displacements, in pixels: the map is backward."""
    x, y = heads.flatten(0, -2).T.numpy()
    dx, dy = displacements.flatten(0, -2).T.numpy()
    axes.quiver(
        x,
        y,
        -dx,
        -dy,
        color=colour,
        width=width,
        pivot="tip",
        angles="xy",
        scale_units="xy",
        scale=1,
    )


def _frame(axes: Axes, size: tuple[int, int], margin: float) -> None:
    """The image's edge, with room for what is taken from beyond it."""
    height, width = size
    edge = Rectangle((0, 0), width - 1, height - 1, fill=False, color=RULE, linewidth=0.8)
    axes.add_patch(edge)
    axes.set_xlim(-margin, width - 1 + margin)
    axes.set_ylim(height - 1 + margin, -margin)
    axes.set_aspect("equal")
    axes.set_axis_off()
