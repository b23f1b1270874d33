"""What the paper's deformations can do, against closed forms and their own draws."""

import math

import torch

from deformlib import Deformation
from deformlib.geometry import affine_fraction, folds, gradient_norm
from reproduction.analysis.deformations import largest_gradient, shapes


def test_largest_gradient_on_a_grid_of_corners():
    # 2x2 control points: the spline is affine plus one bend; pulling two sides apart
    # stretches by 2 * max / side,
    # along both components at once.
    spline = Deformation(2, 1.0).spline((9, 9), dtype=torch.float64)
    assert largest_gradient(spline, 1.0) >= math.sqrt(2) * 2 / 8 - 1e-12


def test_largest_gradient_bounds_every_sample_and_is_reached():
    deformation, spline = (
        Deformation.CIFAR10,
        Deformation.CIFAR10.spline((32, 32), dtype=torch.float64),
    )
    bound = largest_gradient(spline, 2.0)
    corners = torch.randint(2, (4096, 9, 2), generator=torch.Generator().manual_seed(0)) * 4.0 - 2
    corners[1::2, :, 1] = corners[1::2, :, 0]  # the worst have both components alike
    reached = gradient_norm(spline.field(corners)).max().item()
    assert 0.99 * bound < reached <= bound * (1 + 1e-4)
    assert gradient_norm(spline.field(deformation.sample(256))).max() < bound


def test_shapes_are_the_measures_of_the_samples():
    shape = shapes(Deformation(3, 4.0), (32, 24), 20, generator=torch.Generator().manual_seed(5))
    control = Deformation(3, 4.0).sample(20, generator=torch.Generator().manual_seed(5))
    fields = Deformation(3, 4.0).spline((32, 24), dtype=torch.float64).field(control)
    torch.testing.assert_close(shape["gradient_norm"], gradient_norm(fields))
    torch.testing.assert_close(shape["affine_fraction"], affine_fraction(fields))
    assert shape["folds"].tolist() == folds(fields).tolist()
