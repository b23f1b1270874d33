"""The two bounds: closed forms, equality where it can be had, no violation on random fields."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deformlib import Deformation, ThinPlateSpline, warp
from reproduction.experiments import bounds
from reproduction.experiments.bounds import (
    commutation,
    edge_variation,
    first_moment,
    gradient_energy,
    lipschitz,
    stability,
    tap_norms,
    tightness,
)

PER_PIXEL = 4


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def single_channel(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


CONSTANT = single_channel([[1, 1, 1]] * 3)
ALTERNATING = single_channel([[1, -1, 1], [-1, 1, -1], [1, -1, 1]])
ONE_TAP = single_channel([[0, 0, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("weight", "expected"), [(CONSTANT, 2 / 3), (ALTERNATING, 2.0), (ONE_TAP, 2.0)]
)
def test_edge_variation_of_a_constant_kernel_is_two_thirds_and_at_most_two(weight, expected):
    both = edge_variation(weight) / tap_norms(weight).sum()
    assert both.tolist() == pytest.approx([expected, expected])


def test_a_constant_kernel_has_no_variation_by_the_papers_formula():
    from deformlib import normalized_total_variation

    assert normalized_total_variation(CONSTANT).item() == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_edge_variation_lies_between_two_thirds_and_two(seed):
    weight = random(3, 2, 3, 3, seed=seed)
    ratio = edge_variation(weight) / tap_norms(weight).sum()
    assert ((ratio >= 2 / 3 - 1e-9) & (ratio <= 2 + 1e-9)).all()


def test_edge_variation_takes_each_direction_by_itself():
    columns = single_channel([[1, -1, 1]] * 3)  # constant downwards
    right, down = (edge_variation(columns) / tap_norms(columns).sum()).tolist()
    assert (right, down) == pytest.approx((2.0, 2 / 3))


def test_first_moment_weighs_each_tap_with_its_distance():
    assert first_moment(CONSTANT).item() == pytest.approx(4 + 4 * math.sqrt(2))
    assert first_moment(ONE_TAP).item() == 0


def test_taps_are_measured_by_their_spectral_norm():
    weight = random(4, 3, 3, 3)
    expected = torch.linalg.svdvals(weight[:, :, 0, 2])[0]
    torch.testing.assert_close(tap_norms(weight)[0, 2], expected)


def test_lipschitz_is_the_steepest_of_many_short_steps():
    values = random(1, 3, 5, 6)
    points = torch.rand(1, 1, 200_000, 2, dtype=torch.float64)
    points = points * torch.tensor([5.0, 4.0])
    angle = 2 * math.pi * torch.rand(1, 1, 200_000, dtype=torch.float64)
    step = 1e-5 * torch.stack([angle.cos(), angle.sin()], -1)
    other = (points + step).clamp(min=0)
    moved = bounds._sample(values, other) - bounds._sample(values, points)
    slopes = moved.norm(dim=1) / (other - points).norm(dim=-1).clamp(min=1e-12)
    steepest, exact = float(slopes.max()), lipschitz(values).item()
    assert 0.9 * exact < steepest <= exact * (1 + 1e-6)


def test_lipschitz_of_an_affine_map_is_its_spectral_norm():
    matrix = random(2, 2)
    y, x = torch.meshgrid(*[torch.arange(5.0, dtype=torch.float64)] * 2, indexing="ij")
    values = torch.einsum("cd,dhw->chw", matrix, torch.stack([x, y]))
    expected = torch.linalg.svdvals(matrix)[0]
    torch.testing.assert_close(lipschitz(values[None])[0], expected)


def test_gradient_energy_is_the_integral_of_the_interpolants_gradient():
    values, n = random(1, 2, 4, 5), 400  # points along a pixel
    y = (torch.arange(3 * n, dtype=torch.float64) + 0.5) / n
    x = (torch.arange(4 * n, dtype=torch.float64) + 0.5) / n
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    total = 0.0
    for axis in (0, 1):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = 0.4 / n  # stays within the cell
        ahead, behind = (bounds._sample(values, points + sign * step) for sign in (1, -1))
        total += float(((ahead - behind) / (0.8 / n)).square().sum()) / n**2
    assert gradient_energy(values).item() == pytest.approx(total, rel=1e-4)


def test_the_commutator_is_the_difference_of_both_orders_pixel_by_pixel():
    images, weight = random(1, 2, 9, 9), random(3, 2, 3, 3, seed=1)
    field = 0.3 * random(1, 9, 9, 2, seed=2)
    largest = 0.0
    for row in range(2, 7):
        for column in range(2, 7):
            here = field[0, row, column]
            total = torch.zeros(3, dtype=torch.float64)
            for i in range(3):
                for j in range(3):
                    tap = torch.tensor([column + j - 1.0, row + i - 1.0], dtype=torch.float64)
                    there = field[0, row + i - 1, column + j - 1]
                    points = torch.stack([tap + there, tap + here])[None, None]
                    both = bounds._sample(images, points)[0, :, 0]  # (2 channels, 2 points)
                    total += weight[:, :, i, j] @ (both[:, 0] - both[:, 1])
            largest = max(largest, float(total.norm()))
    found = commutation(images, field, weight)
    assert found.commutator.item() >= largest - 1e-12
    same = commutation(images, torch.full_like(field, 0.3), weight)
    assert same.commutator.item() < 1e-12  # a shift commutes with every convolution


def test_a_shift_has_a_bound_of_zero_on_its_commutator():
    shift = torch.full((2, 8, 8, 2), 0.4, dtype=torch.float64)
    found = commutation(random(2, 3, 8, 8), shift, CONSTANT.expand(2, 3, 3, 3))
    assert found.by_differences.abs().max() < 1e-12
    assert found.by_gradient.abs().max() < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 3.0), st.sampled_from([2, 3, 4]))
def test_neither_bound_is_violated_below_the_folding_limit(seed, strength, grid):
    generator = torch.Generator().manual_seed(seed)
    control = Deformation(grid, strength).sample(2, generator=generator).double()
    side = 20
    pixels = ThinPlateSpline((side, side), grid, dtype=torch.float64).field(control)
    fine = (side - 1) * PER_PIXEL + 1
    points = ThinPlateSpline((fine, fine), grid, dtype=torch.float64).field(control)
    images, weight = random(2, 3, side, side, seed=seed), random(4, 3, 3, 3, seed=seed + 1)
    if seed % 2:  # smooth images, where the bounds are tighter
        images = F.avg_pool2d(F.pad(images, [2] * 4, mode="replicate"), 5, 1)
    for found in (
        commutation(images, pixels, weight),
        stability(images, points, weight, PER_PIXEL),
    ):
        for name, values in tightness(found).items():
            assert (values <= 1 + 1e-3).all(), (name, values)


def test_transport_of_a_ramp_by_a_shift_reaches_its_bound():
    """|L_u y - y| = |u| |grad y| where the shift runs along the gradient: nothing is lost."""
    side = 16
    ramp = torch.arange(side, dtype=torch.float64).expand(1, 1, side, side)
    fine = (side - 1) * PER_PIXEL + 1
    field = torch.zeros(1, fine, fine, 2, dtype=torch.float64)
    field[..., 0] = 0.5
    found = stability(ramp, field, ONE_TAP, PER_PIXEL)
    expected = 12 / 13  # sides of the interior, 1.5 pixels from the edge, and of the response
    assert tightness(found)["transport_bound"].item() == pytest.approx(expected)


@pytest.mark.parametrize(("directions", "power"), [(1, 0.5), (2, 1.0)])
def test_the_constant_is_the_determinants_root_in_two_dimensions(directions, power):
    """A contraction by 1 - g along one axis costs the root of 1 / (1 - g), along both all of it."""
    shrink, n = 0.4, 601
    line = torch.linspace(-30, 30, n, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    scale = (1 - shrink, 1 - shrink if directions == 2 else 1.0)
    before = torch.exp(-(x**2 + y**2) / 8)
    after = torch.exp(-((scale[0] * x) ** 2 + (scale[1] * y) ** 2) / 8)
    ratio = after.norm() / before.norm()
    assert ratio.item() == pytest.approx((1 - shrink) ** -power, rel=1e-6)


def test_the_response_to_a_filter_is_bounded_through_its_edge_variation():
    images = random(3, 2, 12, 12)
    found = stability(
        images, torch.zeros(3, 45, 45, 2, dtype=torch.float64), random(4, 2, 3, 3, seed=5), 4
    )
    assert (found.response_gradient <= found.response_gradient_bound).all()
    brighter = stability(
        images + 7, torch.zeros(3, 45, 45, 2, dtype=torch.float64), random(4, 2, 3, 3, seed=5), 4
    )
    torch.testing.assert_close(
        brighter.response_gradient_bound, found.response_gradient_bound
    )  # a colour added everywhere has no gradient


def test_the_change_is_at_most_its_two_parts():
    generator = torch.Generator().manual_seed(3)
    control = Deformation.CIFAR10.sample(4, generator=generator).double()
    points = ThinPlateSpline((93, 93), 3, dtype=torch.float64).field(control)
    found = stability(random(4, 3, 24, 24), points, random(5, 3, 3, 3, seed=4), PER_PIXEL)
    assert (found.change <= found.commutator + found.transport + 1e-12).all()
    assert (found.commutator > 0).all() and (found.transport > 0).all()


def test_on_whole_pixels_the_integrands_are_those_of_a_network():
    """W L_u x on the finer lattice has the pixels' own values at every fourth point."""
    images, weight = random(1, 2, 10, 10), random(3, 2, 3, 3, seed=1)
    control = torch.full((1, 9, 2), 0.0, dtype=torch.float64)
    control[:, 4] = 0.7
    fine = ThinPlateSpline((37, 37), 3, dtype=torch.float64).field(control)
    lattice = bounds._lattice(fine) / PER_PIXEL
    finer = bounds._dilated(bounds._sample(images, lattice + fine), weight, PER_PIXEL)
    pixels = F.conv2d(warp(images, fine[:, ::4, ::4]), weight)
    torch.testing.assert_close(finer[..., 4:-4:4, 4:-4:4], pixels)


def test_a_field_that_may_fold_has_no_bound():
    _, x = torch.meshgrid(*[torch.arange(61, dtype=torch.float64) / 4] * 2, indexing="ij")
    ripple = torch.sin(2 * math.pi * x / 4)[None, ..., None] * torch.tensor([1.0, 0.0])
    images = random(1, 1, 16, 16)
    gentle, steep = (stability(images, height * ripple.double(), ONE_TAP, 4) for height in (0.5, 1))
    assert gentle.gradient.item() < 1 < steep.gradient.item()
    assert gentle.change_bound.isfinite().all()
    assert steep.change_bound.isinf().all() and steep.transport_bound.isinf().all()
    assert tightness(steep)["change_bound"].item() == 0


def test_what_cannot_be_bounded_is_refused():
    with pytest.raises(ValueError, match=r"weight must be .* odd sides, got \(1, 1, 2, 2\)"):
        commutation(random(1, 1, 8, 8), random(1, 8, 8, 2), torch.ones(1, 1, 2, 2).double())
    with pytest.raises(ValueError, match="field must be small enough"):
        stability(random(1, 1, 8, 8), torch.full((1, 29, 29, 2), 3.0).double(), ONE_TAP, 4)
