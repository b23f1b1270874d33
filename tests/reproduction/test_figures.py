"""The figures show what they are given, in one style, and leave pyplot as it was."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from deformlib import Deformation
from deformlib.models import DOWNSAMPLINGS
from reproduction.analysis.evidence import smoothness_and_sensitivity
from reproduction.pages.figures import (
    STYLE,
    WIDTH,
    course_of_training,
    deformation_steps,
    filters,
    image_rows,
    networks_as_points,
    panels_by_layer,
    rows_of_panels,
    sensitivity_by_depth,
    sensitivity_by_layer,
    smoothness_by_layer,
)


@pytest.fixture
def images():
    return torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def drawn(figure):
    figure.canvas.draw()
    return figure


def test_rows_of_images_are_one_above_the_other(images):
    figure = drawn(image_rows({"original": images[:3], "deformed": images[3:]}, ["a", "b", "c"]))
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_allclose(np.stack(shown), images.permute(0, 2, 3, 1), rtol=1e-6)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["original", "deformed"]


def test_rows_of_grey_images(images):
    grey = {label: factor * images[:3, :1] for label, factor in (("class", 1.0), ("C = 1", 0.5))}
    figure = drawn(image_rows(grey, "abc"))
    shown = np.stack([axes.images[0].get_array() for axes in figure.axes])
    assert shown.shape == (6, 20, 20, 3) and (shown == shown[..., :1]).all(), (
        "grey in all three channels"
    )
    np.testing.assert_allclose(shown[3:, ..., 0], 0.5 * images[:3, 0], rtol=1e-6)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["a", "b", "c"]
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["class", "C = 1"]


def test_rows_of_images_want_as_many_of_each(images):
    with pytest.raises(ValueError):
        image_rows({"original": images[:3], "deformed": images[3:5]}, ["a", "b", "c"])


def test_an_arrow_runs_from_where_a_value_is_taken_to_its_place(images):
    spline, control = Deformation(4, 3.0).spline((20, 20)), Deformation(4, 3.0).sample(1)[0]
    figure = drawn(deformation_steps(images[0], images[1], spline, control, step=5))
    arrows = figure.axes[0].collections[0]
    heads, along = np.stack([arrows.X, arrows.Y], -1), np.stack([arrows.U, arrows.V], -1)
    np.testing.assert_allclose(heads, spline.points)
    np.testing.assert_allclose(heads - along, spline.points + control, atol=1e-5)
    assert arrows.pivot == "tip"


def test_the_field_is_drawn_where_it_was_sampled(images):
    spline, control = Deformation(4, 3.0).spline((20, 20)), Deformation(4, 3.0).sample(1)[0]
    figure = drawn(deformation_steps(images[0], images[1], spline, control, step=5))
    field = spline.field(control[None])[0]
    for axes in figure.axes[1:3]:
        arrows = axes.collections[0]
        at = field[arrows.Y.astype(int), arrows.X.astype(int)]
        np.testing.assert_allclose(np.stack([-arrows.U, -arrows.V], -1), at, atol=1e-6)
        assert len(arrows.X) == 16
    for axes, image in zip(figure.axes[2:], images):
        np.testing.assert_allclose(axes.images[0].get_array(), image.permute(1, 2, 0), rtol=1e-6)


def test_figures_share_a_style_and_leave_none_behind(images):
    before = dict(plt.rcParams)
    figure = image_rows({"original": images[:1], "deformed": images[1:2]}, ["a"])
    assert figure.get_figwidth() == WIDTH and figure.dpi == STYLE["figure.dpi"]
    assert figure.axes[0].title.get_fontsize() == STYLE["axes.titlesize"]
    assert dict(plt.rcParams) == before and not plt.get_fignums()


def curves(variants, layers: range, seeds: int = 2) -> pd.DataFrame:
    """Made-up numbers: the variant's place, a tenth for each layer, a hundredth for each seed."""
    rows = [
        (variant, seed, layer, place + layer / 10 + seed / 100)
        for place, variant in enumerate(variants)
        for seed in range(seeds)
        for layer in layers
    ]
    return pd.DataFrame(rows, columns=["variant", "seed", "layer", "value"])


def lines(axes) -> dict[str, np.ndarray]:
    """{label: (x, y)}; published curves go without one."""
    return {
        line.get_label(): np.array(line.get_data())
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_a_line_is_the_mean_over_seeds():
    values = curves(["max-pool", "strided"], range(13))
    [axes] = drawn(sensitivity_by_layer(values, distance="euclidean")).axes
    assert (
        lines(axes).keys() == {"Max-pool", "Strided"}
        and axes.get_ylabel() == "normalized euclidean distance"
    )
    np.testing.assert_allclose(lines(axes)["Strided"], [range(13), 1.005 + np.arange(13) / 10])
    assert axes.lines[1].get_color() == DOWNSAMPLINGS["strided"].colour
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx(
        (1.005 - 2 * 0.01 / 2**0.5, 2.205 + 2 * 0.01 / 2**0.5)
    ), "two standard deviations over seeds"


def test_figure_4_has_darker_lines_for_smoother_filters():
    sigmas = [0.5, 0.1, 0.3]
    published = pd.DataFrame(
        {"variant": ["sigma=0.3", "sigma=0.3"], "layer": [0, 1], "value": [0.7, 0.8]}
    )
    [axes] = drawn(
        sensitivity_by_layer(curves(sigmas, range(19)), published, variant_field="smoothing")
    ).axes
    found = {line.get_label(): line for line in axes.lines if line.get_label().startswith("σ")}
    assert found.keys() == {"σ = 0.1 px", "σ = 0.3 px", "σ = 0.5 px"}
    bright = [sum(found[f"σ = {sigma} px"].get_color()[:3]) for sigma in sorted(sigmas)]
    assert bright == sorted(bright, reverse=True) and len(set(bright)) == 3
    dashed = [line for line in axes.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    [theirs] = [line for line in dashed if len(line.get_xdata()) == 2]
    assert theirs.get_color() == found["σ = 0.3 px"].get_color() and list(theirs.get_ydata()) == [
        0.7,
        0.8,
    ]


def test_figure_5_has_the_strengths_and_the_initialization():
    strengths = [1.0, 2.0, 3.0, 4.0]
    initial = (
        curves(strengths, range(1, 9))
        .assign(value=lambda table: 1.87 + 0.01 * table["seed"])
        .iloc[:-8]
    )
    published = pd.DataFrame({"variant": "strength=4", "layer": range(8), "value": 1.4})
    [axes] = drawn(
        smoothness_by_layer(
            curves(strengths, range(1, 9)), initial, published, variant_field="strength"
        )
    ).axes
    assert {"C = 1 px", "C = 4 px", "initialization", "published"} < lines(axes).keys()
    np.testing.assert_allclose(
        lines(axes)["initialization"], [range(1, 9), [1.875] * 8], err_msg="a variant lacks a seed"
    )
    [theirs] = [line for line in axes.lines if list(line.get_ydata()) == [1.4] * 8]
    assert list(theirs.get_xdata()) == list(range(1, 9)), "the paper counts filter banks from 0"


def test_each_seed_is_a_thin_line_in_place_of_the_band():
    values = curves([1.0, 4.0], range(1, 9))
    figures = [
        smoothness_by_layer(values, values, variant_field="strength", each_seed=True),
        panels_by_layer({"one": values}, "variation", variant_field="strength", each_seed=True),
    ]
    for axes in (figure.axes[0] for figure in figures):
        thin = [
            line for line in axes.lines if line.get_linewidth() < 1 and line.get_linestyle() == "-"
        ]
        found = [(line.get_color(), line.get_xydata().tolist()) for line in thin]
        thick = {
            line.get_label(): line.get_color()
            for line in axes.lines
            if line.get_label().startswith("C")
        }
        assert found == [
            (thick[f"C = {variant:g} px"], of_seed[["layer", "value"]].to_numpy().tolist())
            for (variant, _), of_seed in values.groupby(["variant", "seed"])
        ]
        assert not axes.collections, "no band"


def test_figure_6a_has_thirteen_banks():
    variants = ["max-pool", "strided-relu"]
    [axes] = drawn(
        smoothness_by_layer(curves(variants, range(1, 14)), curves(variants, range(1, 14)))
    ).axes
    assert list(axes.get_xticks()) == list(range(1, 14)) and lines(axes).keys() == {
        "Max-pool",
        "Strided-ReLU",
        "initialization",
    }


def test_panels_stand_side_by_side():
    variants = ["max-pool", "strided"]
    panels = {
        "one": curves(variants, range(1, 9)),
        "two": curves(variants, range(1, 9)).assign(value=5.0),
    }
    initial = {
        title: values.assign(value=value)
        for value, (title, values) in zip((0.5, 0.7), panels.items())
    }
    figure = drawn(panels_by_layer(panels, "share", initial, ("chance", {"one": 0.1, "two": 0.2})))
    assert [{*lines(axes)["initialization"][1]} for axes in figure.axes] == [{0.5}, {0.7}]
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    assert [lines(axes)["chance"][1].tolist() for axes in figure.axes] == [[0.1, 0.1], [0.2, 0.2]]
    assert (
        set(lines(figure.axes[1])["Strided"][1]) == {5.0} and figure.axes[0].get_ylabel() == "share"
    )
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "initialization",
        "chance",
        "Max-pool",
        "Strided",
    ]
    assert set(lines(drawn(panels_by_layer(panels, "share")).axes[0])) == {"Max-pool", "Strided"}


def test_panels_may_share_an_axis_that_holds_all_of_them():
    panels = {
        title: curves(["max-pool"], range(1, 9)).assign(value=value)
        for title, value in (("one", 1.8), ("two", 1.2))
    }
    alone, shared = (
        drawn(panels_by_layer(panels, "variation", shared=shared)).axes for shared in (False, True)
    )
    assert [axes.get_ylim()[0] for axes in alone] == [0, 0] and alone[0].get_ylim() != alone[
        1
    ].get_ylim()
    assert shared[0].get_ylim() == shared[1].get_ylim()
    low, high = shared[0].get_ylim()
    assert 1 < low < 1.2 and 1.8 < high < 2, "no panel's curve is cut off"


def test_filters_have_a_row_for_each_layer_and_their_own_scale():
    kernels = {"a": torch.randn(3, 3, 3), "b": 100 * torch.randn(3, 3, 3)}
    both = {
        "a": (kernels["a"], torch.tensor([0.5, 1, 2])),
        "b": (kernels["b"], torch.tensor([0.25, 1, 2])),
    }
    figure = drawn(filters(both, ["smooth", "", "rough"]))
    shown = [axes.images[0] for axes in figure.axes]
    np.testing.assert_allclose([image.get_array() for image in shown[3:]], kernels["b"], rtol=1e-6)
    assert [image.norm.vmax for image in shown] == pytest.approx(
        [float(k.abs().max()) for k in (*kernels["a"], *kernels["b"])]
    )
    assert all(image.norm.vmin == -image.norm.vmax for image in shown)
    red, _, blue, _ = shown[0].cmap(1.0)
    assert red > blue and shown[0].cmap(0.0)[2] > shown[0].cmap(0.0)[0], "positive is red"
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "0.50",
        "1.00",
        "2.00",
        "0.25",
        "1.00",
        "2.00",
    ]
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["a", "b"]
    with pytest.raises(ValueError):
        filters({"a": (kernels["a"], torch.ones(2))}, ["smooth", "", "rough"])


def test_smoothness_against_stability_pairs_a_convolution_with_its_filters():
    names = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    banks = pd.DataFrame(
        [
            (variant, seed, name, 10 * k + seed)
            for variant in ("max-pool", "strided")
            for seed in (0, 1)
            for k, name in enumerate(names)
        ],
        columns=["variant", "seed", "name", "value"],
    )
    layers = banks.assign(value=banks["value"] + 0.5).sample(frac=1, random_state=0)
    layers = pd.concat([layers, layers.assign(name="down1")])
    both = smoothness_and_sensitivity(banks, layers).rename(
        columns={"smoothness": "x", "sensitivity": "y"}
    )
    figure = drawn(networks_as_points(both, "smoothness", "sensitivity", columns=4))
    shown = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title() for axes in shown] == names
    for k, axes in enumerate(shown):
        assert [line.get_color() for line in axes.lines] == [
            DOWNSAMPLINGS[variant].colour for variant in ("max-pool", "strided")
        ]
        for line in axes.lines:
            x, y = line.get_data()
            assert sorted(x) == [10 * k, 10 * k + 1] and list(y - x) == [0.5, 0.5]


def test_no_network_and_no_study_is_left_out_for_want_of_a_mark():
    many = {f"network {k}": pd.Series([0.1, k]) for k in range(9)}
    assert [line.get_label() for line in sensitivity_by_depth(many).axes[0].get_lines()] == [*many]
    points = pd.DataFrame(
        [(f"study {k}", "strided", "error", k, k) for k in range(6)],
        columns=["study", "variant", "name", "x", "y"],
    )
    shown = [line.get_xdata() for line in networks_as_points(points, "x", "y").axes[0].get_lines()]
    assert sorted(float(x[0]) for x in shown if len(x)) == [*range(6)]


def test_variants_told_apart_by_any_field_are_drawn():
    axes = sensitivity_by_layer(curves([0.25, 0.5], range(4)), variant_field="width").axes[0]
    assert {*lines(axes)} == {"width 0.25", "width 0.5"}


def test_sensitivity_by_depth_puts_networks_of_any_depth_on_one_axis():
    axes = sensitivity_by_depth(
        {"shallow": pd.Series([0.1, 0.2]), "deep": pd.Series([0.1, 0.3, 0.2, 0.4])}
    ).axes[0]
    shallow, deep = axes.get_lines()
    assert shallow.get_xdata().tolist() == [0, 1] and deep.get_xdata() == pytest.approx(
        [0, 1 / 3, 2 / 3, 1]
    )
    assert deep.get_ydata().tolist() == [0.1, 0.3, 0.2, 0.4] and shallow.get_label() == "shallow"


def test_rows_of_panels_share_an_axis_along_a_row():
    variants = ["max-pool", "strided"]
    rows = {
        name: {
            "before": curves(variants, range(13)).assign(value=value),
            "after": curves(variants, range(13)),
        }
        for name, value in (("D", 5.0), ("R", 2.0))
    }
    figure = drawn(rows_of_panels(rows, "depth", {"R": 1.0}))
    (a, b, c, d) = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["D", "", "R", ""] and [
        axes.get_xlabel() for axes in figure.axes
    ] == ["", "", "depth", "depth"]
    assert [axes.get_title() for axes in figure.axes] == ["before", "after", "", ""]
    assert a.get_ylim() == b.get_ylim() != c.get_ylim() == d.get_ylim() and a.get_ylim()[0] == 0
    assert a.get_ylim()[1] > 5 and c.get_ylim()[1] > 2.2, "the second panel's curves are cut off"
    assert set(lines(a)["Strided"][1]) == {5.0} and lines(d)["Strided"][1][0] == pytest.approx(
        1.005
    )
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 3, 3], (
        "a level in the row that has one"
    )
    assert {*c.lines[0].get_ydata()} == {*d.lines[0].get_ydata()} == {1.0}
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Max-pool", "Strided"]


def test_the_course_of_training_is_over_epochs():
    values = curves(["max-pool", "strided"], range(4)).rename(columns={"layer": "epoch"})
    values["epoch"] = values["epoch"].map([0, 0.004, 0.5, 8].__getitem__)
    figure = drawn(course_of_training({"one": values, "two": values.assign(value=7.0)}))
    first, second = figure.axes
    np.testing.assert_allclose(
        lines(first)["Strided"], [[0, 0.004, 0.5, 8], 1.005 + np.arange(4) / 10]
    )
    assert set(lines(second)["Max-pool"][1]) == {7.0} and [
        axes.get_title() for axes in figure.axes
    ] == ["one", "two"]
    assert [label.get_text() for label in first.get_xticklabels()] == [
        "0",
        "",
        "0.1",
        "1",
        "8",
    ] and first.get_xlim()[1] > 8
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Max-pool", "Strided"]
    (axes,) = drawn(course_of_training({"one": values}, linear=True)).axes
    assert axes.get_xscale() == "linear" and {"0", "2", "4", "6", "8"} <= {
        label.get_text() for label in axes.get_xticklabels()
    }


def test_networks_are_points_of_the_colour_of_their_variant_and_the_shape_of_their_study():
    values = pd.DataFrame(
        [
            ("one", "max-pool", 1, 2, "here"),
            ("one", "strided", 3, 4, "there"),
            ("two", "max-pool", 5, 6, "here"),
        ],
        columns=["name", "variant", "x", "y", "study"],
    )
    figure = drawn(networks_as_points(values, "across", "up"))
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    points = {
        (line.get_marker(), line.get_color(), *line.get_xydata()[0])
        for axes in figure.axes
        for line in axes.lines
        if len(line.get_xdata())
    }
    pooled, strided = (DOWNSAMPLINGS[variant].colour for variant in ("max-pool", "strided"))
    assert points == {("o", pooled, 1, 2), ("s", strided, 3, 4), ("o", pooled, 5, 6)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Max-pool",
        "Strided",
        "here",
        "there",
    ]
    alone = drawn(networks_as_points(values.drop(columns="study"), "across", "up"))
    assert [text.get_text() for text in alone.legends[0].get_texts()] == ["Max-pool", "Strided"]
