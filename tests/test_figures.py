"""The figures show what they are given, in one style, and leave pyplot as it was."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from deformlib import Deformation
from deformlib.figures import STYLE, WIDTH, deformation_steps, deformed_pairs


@pytest.fixture
def images():
    return torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def drawn(figure):
    figure.canvas.draw()
    return figure


def test_deformed_pairs_has_originals_above_deformed(images):
    figure = drawn(deformed_pairs(["a", "b", "c"], images[:3], images[3:]))
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_allclose(np.stack(shown), images.permute(0, 2, 3, 1), rtol=1e-6)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["original", "deformed"]


def test_deformed_pairs_wants_as_many_of_each(images):
    with pytest.raises(ValueError):
        deformed_pairs(["a", "b", "c"], images[:3], images[3:5])


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


def test_figures_share_a_style_and_leave_none_behind(images):
    before = dict(plt.rcParams)
    figure = deformed_pairs(["a"], images[:1], images[1:2])
    assert figure.get_figwidth() == WIDTH and figure.dpi == STYLE["figure.dpi"]
    assert figure.axes[0].title.get_fontsize() == STYLE["axes.titlesize"]
    assert dict(plt.rcParams) == before and not plt.get_fignums()
