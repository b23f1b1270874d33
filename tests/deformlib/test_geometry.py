"""Steepness, folds and affine part of displacement fields, against closed forms."""

import numpy as np
import pytest
import torch

from deformlib import Deformation
from deformlib.geometry import affine_fraction, folds, gradient_norm


def affine_field(matrix, shift=(0.0, 0.0), size=(7, 11)):
    """u(p) = matrix p + shift at every pixel: (1, H, W, 2) in float64."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    return (
        torch.stack([x, y], -1) @ torch.tensor(matrix, dtype=torch.float64).T + torch.tensor(shift)
    )[None]


def random_fields(n=8, size=(20, 31), strength=3.0):
    deformation = Deformation((3, 4), strength)
    control = deformation.sample(n, generator=torch.Generator().manual_seed(0))
    return deformation.spline(size, dtype=torch.float64).field(control)


@pytest.mark.parametrize(
    "matrix", [[[0, 0.3], [0, 0]], [[0, 0], [-0.2, 0]], [[0.1, 0.2], [-0.4, 0.3]]]
)
def test_gradient_norm_of_an_affine_field_is_the_spectral_norm_of_its_matrix(matrix):
    assert gradient_norm(affine_field(matrix, (5, -3))).item() == pytest.approx(
        np.linalg.norm(matrix, 2), abs=1e-12
    )


def test_gradient_norm_is_the_largest_over_cells_and_one_for_each_field():
    field = torch.zeros(2, 6, 6, 2)
    field[1, :, 3:, 0] = 0.5  # a step of half a pixel in x, in one column of cells
    assert gradient_norm(field).tolist() == [0, 0.5]


def test_gradient_norm_is_linear_in_the_field_and_blind_to_shifts():
    fields = random_fields()
    torch.testing.assert_close(gradient_norm(-2 * fields + 7), 2 * gradient_norm(fields))


def test_affine_fraction_of_an_affine_field_is_one():
    assert affine_fraction(
        affine_field([[0.1, 0.2], [-0.4, 0.3]], (5, -3))
    ).item() == pytest.approx(1, abs=1e-12)


def test_affine_fraction_of_a_field_orthogonal_to_affine_maps_is_zero():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 9), torch.linspace(-1, 1, 6), indexing="ij")
    assert affine_fraction(torch.stack([x * y, -x * y], -1)[None]).item() == pytest.approx(
        0, abs=1e-6
    )


def test_affine_fraction_is_what_least_squares_leaves():
    fields = random_fields()
    y, x = np.mgrid[:20, :31].reshape(2, -1)
    design = np.stack([np.ones_like(x), x, y], 1)
    for field, fraction in zip(fields.numpy(), affine_fraction(fields), strict=True):
        residual = np.linalg.lstsq(design, field.reshape(-1, 2), rcond=None)[1].sum()
        assert fraction.item() == pytest.approx(1 - residual / (field**2).sum(), abs=1e-12)


@pytest.mark.parametrize(
    "matrix, folded",
    [
        ([[-0.9, 0], [0, 0]], False),
        ([[-1.1, 0], [0, 0]], True),  # x is turned over
        ([[-1, 0], [0, 0]], True),  # flattened
        ([[-2.0, 0], [0, -2.0]], False),  # a half turn keeps its orientation
        ([[0, 5.0], [0, 0]], False),  # no shear folds
        ([[0, 2.0], [2.0, 0]], True),
    ],
)
def test_folds_where_the_orientation_changes(matrix, folded):
    assert folds(affine_field(matrix)).tolist() == [folded]


def test_folds_in_one_cell_is_enough():
    fields = torch.zeros(2, 6, 6, 2)
    fields[1, 2, 2, 0] = 5.0
    assert folds(fields).tolist() == [False, True]


def test_a_gradient_below_one_never_folds():
    fields = random_fields(64, strength=6.0)
    below = gradient_norm(fields) < 1
    assert below.any() and not below.all()
    assert not folds(fields[below]).any()


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_squares_that_float32_lacks_matter_to_no_derivative(scale: float):
    fields = random_fields().float()
    torch.testing.assert_close(gradient_norm(scale * fields), scale * gradient_norm(fields))
    assert folds(scale * fields).tolist() == [scale > 1] * len(fields)
