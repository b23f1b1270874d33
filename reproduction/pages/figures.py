"""The figures: values in, a Matplotlib figure out.

Every function is decorated with `styled` and returns a Figure that pyplot does not know. A figure is 6.5 inches
wide, so that its type can be read both across a page and, at half that size, on a phone.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, product

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import AutoLocator, MaxNLocator, NullLocator, ScalarFormatter
from torch import Tensor

from deformlib.models import DOWNSAMPLINGS
from deformlib.warping import ThinPlateSpline

WIDTH = 6.5  # inches
INK, ARROW, HIGHLIGHT, MARK = (
    "#333333",
    "#0072B2",
    "#F0E442",
    "#D55E00",
)  # of Okabe and Ito, told apart by the colour-blind
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
def image_rows(rows: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """Figure 1: images (N, C, H, W) in [0, 1] with one or three channels, a row for each label, a name above each of N columns."""
    figure = Figure(figsize=(WIDTH, WIDTH * (len(rows) + 0.1) / len(names)), layout="constrained")
    panels = figure.subplots(len(rows), len(names), squeeze=False)
    for axes, image in zip(
        panels.flat, [image for images in rows.values() for image in images], strict=True
    ):
        _show(axes, image)
    for axes, name in zip(panels[0], names, strict=True):
        axes.set_title(name)
    for axes, label in zip(panels[:, 0], rows, strict=True):
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[], ylabel=label)
        axes.spines[:].set_visible(False)
    return figure


@styled
def deformation_steps(
    image: Tensor, deformed: Tensor, spline: ThinPlateSpline, control: Tensor, step: int
) -> Figure:
    """Figure 2: (a) control points with displacements (K, 2), (b) the spline's field at every `step` pixels, (c) the
    field over the image (3, H, W), (d) the deformed image. An arrow runs from where a value is taken to its place."""
    figure = Figure(figsize=(WIDTH, WIDTH * 1.05), layout="constrained")
    (a, b), (c, d) = figure.subplots(2, 2)
    y, x = torch.meshgrid(
        *(torch.arange(step // 2, side, step) for side in spline.size), indexing="ij"
    )
    field, places = spline.field(control[None])[0, y, x], torch.stack([x, y], -1)  # (h, w, 2) each
    _arrows(a, spline.points, control, ARROW, width=0.009)
    a.scatter(*spline.points.T, s=24, color=INK, zorder=3)
    _arrows(b, places, field, ARROW, width=0.006)
    _show(c, image)
    _arrows(c, places, field, HIGHLIGHT, width=0.006)
    _show(d, deformed)
    for axes, title in zip(
        (a, b, c, d),
        ("(a) control points", "(b) smoothed field", "(c) over the image", "(d) result"),
        strict=True,
    ):
        _frame(axes, spline.size, margin=float(control.abs().max()))
        axes.set_title(title, pad=0)
    return figure


@styled
def sensitivity_by_layer(
    values: pd.DataFrame,
    published: pd.DataFrame | None = None,
    distance: str = "cosine",
    variant_field: str = "downsampling",
) -> Figure:
    """Figures 3, 4 and 7: one line per variant over the layers, the mean over seeds with a band of two standard deviations
    over seeds. `values` has the columns variant, seed, layer, value; `published` variant, layer, value, drawn thin and dashed.
    `variant_field` is the field of a spec that tells the variants apart."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.62), layout="constrained")
    axes = figure.subplots()
    _curves(axes, values, published, variant_field)
    axes.set(xlabel="layer", ylabel=f"normalized {distance} distance", ylim=(0, None))
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


@styled
def networks_as_points(values: pd.DataFrame, xlabel: str, ylabel: str, columns: int = 3) -> Figure:
    """A panel for each name, a point for each network: `values` has the columns variant, name, x, y, and may have `study`,
    whose shape a point then has."""
    names, studies = (
        list(values["name"].unique()),
        list(values.get("study", pd.Series([""])).unique()),
    )
    rows = -(-len(names) // columns)
    size = (WIDTH, 0.4 + 1.75 * rows) if len(names) > 1 else (WIDTH, WIDTH * 0.62)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, min(columns, len(names)), squeeze=False).ravel()
    shapes = dict(zip(studies, cycle("os^D")))
    colours = {
        variant: (label, colour)
        for variant, (label, colour, _) in _looks(list(values["variant"].unique()), "downsampling").items()
    }
    for axes, name in zip(panels, names):
        for study, variant in product(shapes, colours):
            points = values[
                (values["name"] == name)
                & (values["variant"] == variant)
                & (values.get("study", "") == study)
            ]
            axes.plot(points["x"], points["y"], shapes[study], color=colours[variant][1], markersize=5)
        axes.set_title(name)
        axes.locator_params(
            axis="x", nbins=2 if len(names) > 1 else 6
        )  # three long numbers would touch in a narrow panel
        axes.locator_params(axis="y", nbins=3 if len(names) > 1 else 6)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.supxlabel(xlabel, fontsize=STYLE["axes.labelsize"])
    figure.supylabel(ylabel, fontsize=STYLE["axes.labelsize"])
    keys = {label: ("o", colour) for label, colour in colours.values()}
    keys |= {study: (shape, INK) for study, shape in shapes.items()} if len(shapes) > 1 else {}
    handles = [
        Line2D([], [], marker=shape, color=colour, linestyle="", markersize=5)
        for shape, colour in keys.values()
    ]
    figure.legend(handles, keys, ncols=3, loc="outside upper center")
    return figure


@styled
def over_published(points: pd.DataFrame) -> Figure:
    """Our curves over published ones, a panel for each figure: `points` as of `agreement.beside`, those with a counterpart.
    Ours with the band in which coverage is counted, published dashed."""
    names = list(points["figure"].unique())
    rows = -(-len(names) // 2)
    figure = Figure(figsize=(WIDTH, 0.3 + 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, min(2, len(names)), squeeze=False).ravel()
    for axes, name in zip(panels, names):
        shown = points[points["figure"] == name]
        variants, shades = list(shown["variant"].unique()), plt.colormaps["YlGnBu"]
        for k, variant in enumerate(variants):
            curve, look = (
                shown[shown["variant"] == variant].sort_values("layer"),
                DOWNSAMPLINGS.get(variant.lower()),
            )
            colour = look.colour if look else shades(0.3 + 0.7 * k / max(1, len(variants) - 1))
            axes.plot(curve["layer"], curve["ours"], color=colour, label=variant, linewidth=1.5)
            axes.fill_between(
                curve["layer"],
                curve["ours"] - curve["band"],
                curve["ours"] + curve["band"],
                color=colour,
                alpha=0.2,
                lw=0,
            )
            axes.plot(curve["layer"], curve["value"], color=colour, **DASHED)
        measure = shown["measure"].iloc[0]
        axes.set(
            title=f"Figure {name}",
            xlabel="layer" if measure == "sensitivity" else "filter bank, from 0",
            ylabel=measure,
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=7, frameon=True, framealpha=0.8, edgecolor="none")
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure


@styled
def sensitivity_by_depth(networks: Mapping[str, pd.Series]) -> Figure:
    """Sensitivity of the layers of different networks, in execution order, over the share of its layers that a
    representation has behind it: one line per name."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.5), layout="constrained")
    axes = figure.subplots()
    for (name, values), marker, look in zip(
        networks.items(), cycle("os^Dv"), cycle(DOWNSAMPLINGS.values())
    ):
        depth = np.linspace(0, 1, len(values))
        axes.plot(
            depth, values, color=look.colour, label=name, linewidth=2, marker=marker, markersize=4.5
        )
    axes.set(
        xlabel="depth, as a share of the layers shown",
        ylabel="normalized cosine distance",
        ylim=(0, None),
    )
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


@styled
def smoothness_by_layer(
    values: pd.DataFrame,
    initial: pd.DataFrame,
    published: pd.DataFrame | None = None,
    variant_field: str = "downsampling",
    each_seed: bool = False,
) -> Figure:
    """Figures 5 and 6: as `sensitivity_by_layer`, smoothness of the filter banks; `initial`, before training, is dotted.
    `each_seed` as a thin line in place of bands: for seeds that end in different places, between which nothing lies.

    Banks are counted from 1, as in `Evidence.banks`, but from 0 in `published`, as on the paper's axis."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.62), layout="constrained")
    axes = figure.subplots()
    _initial(axes, initial)
    theirs = None if published is None else published.assign(layer=published["layer"] + 1)
    _curves(axes, values, theirs, variant_field, each_seed)
    axes.set(xlabel="filter bank", ylabel="normalized total variation")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
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
    """Curves over the filter banks side by side, one panel per title: as `smoothness_by_layer`, with a horizontal line
    in each, `level`: its label, and its height by title. Every panel from 0 on, or all as `shared` values need."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.55), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False, sharey=shared)[0]
    for axes, (title, values) in zip(row, panels.items()):
        if initial:
            _initial(axes, initial[title])
        if level:
            axes.axhline(level[1][title], color="#999999", linewidth=1, label=level[0])
        _curves(axes, values, None, variant_field, each_seed)
        axes.set(title=title, xlabel="filter bank")
        if not shared:
            axes.set_ylim(0)
    row[0].set_ylabel(ylabel)
    figure.legend(*row[0].get_legend_handles_labels(), ncols=3, loc="outside upper center")
    return figure


@styled
def rows_of_panels(
    rows: Mapping[str, Mapping[str, pd.DataFrame]],
    xlabel: str = "layer",
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Curves in a grid: for each label of a vertical axis a row of panels by title, which share that axis, as in
    `sensitivity_by_layer`; `levels` are horizontal lines, by the same labels."""
    height = 0.5 + WIDTH * (0.3 if len(rows) > 1 else 0.42) * len(rows)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(
        len(rows), len(next(iter(rows.values()))), squeeze=False, sharey="row", sharex=True
    )
    for row, (label, panels) in zip(grid, rows.items()):
        for axes, (title, values) in zip(row, panels.items(), strict=True):
            if label in (levels or {}):
                axes.axhline(levels[label], color="#999999", linewidth=1)
            _curves(axes, values, None, "downsampling")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        row[0].set_ylabel(label)
        row[0].set_ylim(0)  # once all of the row is drawn: the top no longer follows the curves
    for axes, title in zip(grid[0], next(iter(rows.values()))):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel)
    figure.legend(*grid[0][0].get_legend_handles_labels(), ncols=3, loc="outside upper center")
    return figure


@styled
def course_of_training(panels: Mapping[str, pd.DataFrame], linear: bool = False) -> Figure:
    """Panels by title, each over the epochs of training: lines and bands as in `sensitivity_by_layer`, of values with the
    columns variant, seed, epoch, value. The axis is linear up to a hundredth of an epoch and logarithmic from there,
    or all of it `linear`."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.5), layout="constrained")
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items()
    ):
        _curves(axes, values.rename(columns={"epoch": "layer"}), None, "downsampling")
        if linear:
            axes.xaxis.set_major_locator(AutoLocator())
            axes.xaxis.set_major_formatter(ScalarFormatter())
        else:
            axes.set_xscale("symlog", linthresh=0.01, linscale=0.4)
            last = values["epoch"].max()
            axes.set_xticks([0, 0.01, 0.1, 1, last], ["0", "", "0.1", "1", f"{last:g}"])
            axes.set_xlim(-0.002, 1.2 * last)
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(title)
        axes.set_xlabel("epoch")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), ncols=3, loc="outside upper center")
    return figure


@styled
def filters(kernels: Mapping[str, tuple[Tensor, Tensor]], columns: Sequence[str]) -> Figure:
    """Kernels (K, kh, kw) and their normalized total variations (K,) by name: one row each, the numbers below. White is
    zero; a kernel's largest weight by magnitude is dark red if positive, dark blue if negative."""
    figure = Figure(
        figsize=(WIDTH, WIDTH * (0.06 + 1.4 * len(kernels) / (len(columns) + 1))),
        layout="constrained",
    )
    rows = figure.subplots(len(kernels), len(columns), squeeze=False)
    for row, name in zip(rows, kernels):
        for axes, kernel, variation in zip(row, *kernels[name], strict=True):
            largest = float(kernel.abs().max())
            axes.imshow(kernel.float().numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"{variation:.2f}", fontsize=STYLE["xtick.labelsize"])
            axes.spines[:].set(visible=True, color="#999999", linewidth=0.6)
        row[0].set_ylabel(name)
    for axes, title in zip(rows[0], columns, strict=True):
        axes.set_title(title, fontsize=STYLE["ytick.labelsize"])
    return figure


@styled
def specification_curve(
    values: pd.Series,
    ylabel: str,
    words: Callable[[str, str], tuple[str, str]],
    level: tuple[str, float] | None = None,
    marked: Mapping[str, Mapping[str, str]] | None = None,
) -> Figure:
    """What comes out under every combination of choices, sorted (Simonsohn et al. 2020): the values above, and below,
    for each option, a mark under every combination that has it.

    `values` has a MultiIndex of options, one level a choice; `words` gives choice and option in words. `level` is a
    horizontal line and its label; `marked` are single combinations, {label: {choice: option}}, shown as points.
    """
    options, values = values.index, values.sort_values(kind="stable")
    figure, above = _over_options(options, values.index, words)
    places = np.arange(len(values))
    above.plot(places, values, ".", color=ARROW, markersize=3)
    if level:
        above.axhline(level[1], color=INK, linewidth=1, linestyle=(0, (4, 2)), label=level[0])
    for (label, single), shape in zip((marked or {}).items(), cycle("os^D")):
        found = int(
            np.flatnonzero(
                [key == tuple(single[name] for name in values.index.names) for key in values.index]
            )[0]
        )
        above.plot(found, values.iloc[found], shape, color=MARK, markersize=7, label=label)
    if level or marked:
        above.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    above.set(ylabel=ylabel, ylim=(0, None))
    return figure


@styled
def survival_of_claims(
    fractions: pd.DataFrame, words: Callable[[str, str], tuple[str, str]]
) -> Figure:
    """Which claims survive which choices: above, a row of cells for each column of `shares` (in [0, 1], 1 if a claim survives
    whole), below the options as in `specification_curve`; combinations under which most survives come first."""
    options, fractions = (
        fractions.index,
        fractions.loc[fractions.mean(axis=1).sort_values(ascending=False, kind="stable").index],
    )
    figure, above = _over_options(options, fractions.index, words)
    shown = above.imshow(
        fractions.T,
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=1,
        interpolation="none",
        extent=(-0.5, len(fractions) - 0.5, fractions.shape[1] - 0.5, -0.5),
    )
    above.set_yticks(range(fractions.shape[1]), fractions.columns, fontsize=8)
    above.set_yticks(np.arange(0.5, fractions.shape[1] - 1), minor=True)
    above.grid(axis="y", which="minor", color="white", linewidth=2)
    above.tick_params(axis="y", which="both", length=0)
    above.spines[:].set_visible(False)
    figure.colorbar(
        shown,
        ax=above,
        location="top",
        shrink=0.5,
        aspect=30,
        label="share of a claim's parts that reach its threshold",
    )
    return figure


def _over_options(
    options: pd.MultiIndex,
    combinations: pd.MultiIndex,
    words: Callable[[str, str], tuple[str, str]],
) -> tuple[Figure, Axes]:
    """A figure with empty axes above, and below a row for each option of a choice that has several, in the order of
    `options`, with a mark under each of the `combinations`, in their own order, that has it."""
    varied = [name for name in options.names if len(options.unique(name)) > 1]
    rows = [(name, option) for name in varied for option in options.unique(name)]
    size = 0.185 * (len(rows) + 0.5 * len(varied))  # inches
    figure = Figure(figsize=(WIDTH, 2.3 + size), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, size])
    places = np.arange(len(combinations))
    heights, labels, height, last = [], [], 0.0, None
    for name, option in rows:
        height += 1.0 if name == last else 1.5
        has = places[combinations.get_level_values(name) == option]
        below.plot(
            has,
            np.full(len(has), height),
            "|",
            color=INK,
            markersize=5,
            markeredgewidth=max(0.25, 150 / len(places)),
        )
        choice, said = words(name, option)
        labels.append(said if name == last else f"{choice}: {said}")
        heights.append(height)
        last = name
    below.set(
        ylim=(height + 0.7, 0.8),
        xlim=(-0.01 * len(places) - 0.5, 1.01 * len(places) - 0.5),
        xticks=[],
        xlabel="combinations, sorted",
    )
    below.set_yticks(heights, labels, fontsize=8)
    below.tick_params(axis="y", length=0)
    below.spines[:].set_visible(False)
    return figure, above


# Arms that are numbers, by the field that tells them apart: how a legend and the file of published curves name them.
# They are drawn from light to dark, "darker lines are for smoother random filters" (Figure 4).
NUMBERED = {
    "smoothing": ("σ = {:g} px", "sigma={:g}"),
    "strength": ("C = {:g} px", "strength={:g}"),
}
DASHED = {"linewidth": 0.9, "linestyle": (0, (4, 2))}


def _curves(
    axes: Axes,
    values: pd.DataFrame,
    published: pd.DataFrame | None,
    variant_field: str,
    each_seed: bool = False,
) -> None:
    """A line for each variant, with a band or one of `each_seed`, and its published curve."""
    looks = _looks(list(values["variant"].unique()), variant_field)
    for variant, of_variant in values.groupby("variant", sort=False):
        (label, colour, theirs), by_layer = looks[variant], of_variant.groupby("layer")["value"]
        mean, deviation = by_layer.mean(), by_layer.std().fillna(0)
        axes.plot(
            mean.index, mean, color=colour, label=label, linewidth=2, marker="o", markersize=3.5
        )
        if each_seed:
            axes.plot(
                of_variant.pivot(index="layer", columns="seed", values="value"),
                color=colour,
                linewidth=0.8,
                alpha=0.6,
            )
        else:
            axes.fill_between(
                mean.index,
                mean - 2 * deviation,
                mean + 2 * deviation,
                color=colour,
                alpha=0.2,
                lw=0,
            )
        if published is not None:
            curve = published[published["variant"] == theirs]
            axes.plot(curve["layer"], curve["value"], color=colour, **DASHED)
    if published is not None:
        axes.plot([], [], color=INK, label="published", **DASHED)
    axes.set_xticks(sorted(values["layer"].unique()))


def _initial(axes: Axes, values: pd.DataFrame) -> None:
    """A dotted line through the mean over seeds; variants share their initial filters, so one of a seed stands for all."""
    mean = values.drop_duplicates(["seed", "layer"]).groupby("layer")["value"].mean()
    axes.plot(mean.index, mean, color=INK, linewidth=1.2, linestyle=":", label="initialization")


def _looks(
    variants: Sequence[str | float], variant_field: str
) -> dict[str | float, tuple[str, object, str]]:
    """{variant: (label, colour, its name among published curves)}."""
    if variant_field == "downsampling":
        return {variant: (DOWNSAMPLINGS[variant].label, DOWNSAMPLINGS[variant].colour, variant) for variant in variants}
    (label, theirs), shades = (
        NUMBERED.get(variant_field, (f"{variant_field} {{}}", "{}")),
        plt.colormaps["YlGnBu"],
    )
    fractions = [0.3 + 0.7 * k / max(1, len(variants) - 1) for k in range(len(variants))]
    return {
        variant: (label.format(variant), shades(fraction), theirs.format(variant))
        for variant, fraction in zip(sorted(variants), fractions)
    }


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).numpy())
    axes.set_axis_off()


def _arrows(
    axes: Axes, heads: Tensor, displacements: Tensor, colour: str, **options: float
) -> None:
    """Arrows to heads (..., 2) from heads + displacements, in pixels: the map is backward."""
    (x, y), (dx, dy) = heads.flatten(0, -2).T.numpy(), displacements.flatten(0, -2).T.numpy()
    axes.quiver(
        x, y, -dx, -dy, color=colour, pivot="tip", angles="xy", scale_units="xy", scale=1, **options
    )


def _frame(axes: Axes, size: tuple[int, int], margin: float) -> None:
    """The image's edge, with room for what is taken from beyond it."""
    height, width = size
    axes.add_patch(
        Rectangle((0, 0), width - 1, height - 1, fill=False, color="#999999", linewidth=0.8)
    )
    axes.set(
        xlim=(-margin, width - 1 + margin), ylim=(height - 1 + margin, -margin), aspect="equal"
    )
    axes.set_axis_off()
