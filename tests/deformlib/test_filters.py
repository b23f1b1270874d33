"""Kernels as a smaller filter followed by a smoothing, against least squares by brute force and
exact expectations."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from deformlib import models
from deformlib.filters import (
    AVERAGES,
    SMOOTHINGS,
    expected_fraction,
    explained,
    filters_of,
    gaussian,
    kernels_by_variation,
    normalized_total_variation,
    relative_norm,
    remainder,
    shifts,
    smoothed,
    smoothness,
)

LOPSIDED = torch.tensor([[0.5, 0.2], [0.3, 0.0]])
every_smoothing = pytest.mark.parametrize(
    "smoothing", [*SMOOTHINGS.values(), LOPSIDED], ids=[*SMOOTHINGS, "lopsided"]
)


def bank(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def brute_force(kernel: np.ndarray, smoothing: np.ndarray) -> tuple[np.ndarray, float]:
    """The smaller filter and the share of energy, by lstsq on SciPy's convolution of unit
    filters."""
    p, q = (k - s + 1 for k, s in zip(kernel.shape, smoothing.shape))
    units = np.eye(p * q).reshape(-1, p, q)
    matrix = np.stack([convolve2d(unit, smoothing).ravel() for unit in units], 1)
    g = np.linalg.lstsq(matrix, kernel.ravel(), rcond=None)[0]
    return g.reshape(p, q), float(((matrix @ g) ** 2).sum() / (kernel**2).sum())


@every_smoothing
@pytest.mark.parametrize("shape", [(2, 3, 3, 3), (3, 1, 5, 4)])
def test_against_least_squares_kernel_by_kernel(shape: tuple[int, ...], smoothing: torch.Tensor):
    weight = bank(*shape)
    rest, fraction, norm = (f(weight, smoothing) for f in (remainder, explained, relative_norm))
    assert fraction.shape == norm.shape == shape[:2]
    for out in range(shape[0]):
        for channel in range(shape[1]):
            kernel = weight[out, channel].double().numpy()
            g, expected = brute_force(kernel, smoothing.double().numpy())
            np.testing.assert_allclose(rest[out, channel], g, rtol=1e-9, atol=1e-12)
            assert fraction[out, channel].item() == pytest.approx(expected)
            assert norm[out, channel].item() == pytest.approx(
                np.linalg.norm(g) / np.linalg.norm(kernel)
            )


@every_smoothing
def test_what_was_made_by_smoothing_is_explained_whole(smoothing: torch.Tensor):
    g = bank(4, 5, *(4 - side for side in smoothing.shape)).double()
    weight = torch.tensor(
        np.stack([[convolve2d(k, smoothing.double()) for k in row] for row in g])
    )  # (4, 5, 3, 3)
    torch.testing.assert_close(explained(weight, smoothing), torch.ones(4, 5, dtype=torch.float64))
    torch.testing.assert_close(remainder(weight, smoothing), g)


def test_by_hand():
    box, corner = SMOOTHINGS["2x2 box"], torch.zeros(1, 1, 3, 3)
    corner[..., :2, :2] = 4.0  # the box in a corner, 16 times over
    assert remainder(corner, box).flatten().tolist() == pytest.approx([16, 0, 0, 0], abs=1e-12)
    assert relative_norm(corner, box).item() == pytest.approx(2) and explained(
        corner, box
    ).item() == pytest.approx(1)
    checkered = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])[None, None]
    assert explained(checkered, box).item() == pytest.approx(0, abs=1e-12)
    constant = torch.ones(1, 1, 3, 3)
    assert explained(constant, gaussian(1e6)).item() == pytest.approx(1)


@pytest.mark.parametrize("name, fraction", [("2x2 box", 4 / 9), ("Gaussian", 1 / 9)])
def test_independent_weights_have_the_exact_expectation(name: str, fraction: float):
    assert expected_fraction(SMOOTHINGS[name]) == fraction
    for weight in (
        models.cifar10_vgg(
            "max-pool", generator=torch.Generator().manual_seed(1)
        ).conv4_2.conv.weight.detach(),
        bank(200, 200, 3, 3).sign(),
    ):
        found = explained(weight, SMOOTHINGS[name])
        assert found.mean().item() == pytest.approx(
            fraction, abs=4 * found.std().item() / found.numel() ** 0.5
        )


def test_the_gaussian_is_that_of_the_initialization():
    assert SMOOTHINGS["Gaussian"].sum().item() == pytest.approx(1)
    assert SMOOTHINGS["Gaussian"][1, 1].item() == pytest.approx(
        (1 / (1 + 2 * math.exp(-1 / 2))) ** 2
    ), "a deviation of one pixel"
    tap = torch.zeros(1, 1, 3, 3)
    tap[..., 1, 1] = 1.0
    torch.testing.assert_close(smoothed(tap, 0.7)[0, 0], gaussian(0.7).float())


def test_neither_scale_nor_precision_matters_and_zero_kernels_have_no_share():
    weight = bank(3, 3, 3, 3)
    weight[1, 2] = 0
    fraction = explained(weight, SMOOTHINGS["2x2 box"])
    assert fraction.isnan().nonzero().tolist() == [[1, 2]] and fraction.dtype == torch.float64
    torch.testing.assert_close(
        explained(-7 * weight, SMOOTHINGS["2x2 box"]), fraction, equal_nan=True
    )
    torch.testing.assert_close(
        explained(weight.bfloat16(), SMOOTHINGS["2x2 box"]),
        fraction,
        rtol=0.05,
        atol=0.02,
        equal_nan=True,
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: explained(torch.ones(3, 3), LOPSIDED),
            r"weight must be \(out, in, kh, kw\), got \(3, 3\)",
        ),
        (
            lambda: remainder(torch.ones(1, 1, 3, 3).int(), LOPSIDED),
            "weight must be a floating-point tensor",
        ),
        (
            lambda: relative_norm(torch.full((1, 1, 3, 3), torch.nan), LOPSIDED),
            "weight must be finite",
        ),
        (
            lambda: explained(torch.ones(1, 1, 3, 3), torch.ones(4, 2)),
            "smoothing must be at most 3x3, got 4x2",
        ),
        (lambda: shifts(torch.ones(2, 3), (3, 2)), "smoothing must be at most 3x2, got 2x3"),
    ],
)
def test_bad_arguments_are_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_box_leaves_four_taps_and_the_gaussian_one():
    assert [shifts(smoothing).shape for smoothing in SMOOTHINGS.values()] == [
        (9, 4),
        (9, 1),
    ]


@pytest.mark.parametrize("scale", [2.0**-140, 2.0**-80, 2.0**80, 2.0**125])
def test_no_ratio_depends_on_scale(scale: float):
    weight = bank(4, 3, 3, 3).bfloat16().float()  # few bits, which even denormal numbers hold
    weight = weight.div(0.25).round().mul(0.25)
    for average in AVERAGES:
        torch.testing.assert_close(
            normalized_total_variation(scale * weight, average),
            normalized_total_variation(weight, average),
        )
    for found, expected in zip(
        kernels_by_variation(scale * weight, [0, 0.5, 1]), kernels_by_variation(weight, [0, 0.5, 1])
    ):
        torch.testing.assert_close(found / found[0], expected / expected[0], equal_nan=True)
    for measure in (explained, relative_norm):
        for factor in (scale, scale**7):  # beyond float32, squares beyond float64
            torch.testing.assert_close(
                measure(factor * weight.double(), SMOOTHINGS["2x2 box"]),
                measure(weight, SMOOTHINGS["2x2 box"]),
                equal_nan=True,
            )


def test_filters_are_convolutions_of_at_least_3x3():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.Conv2d(2, 2, (3, 2)),
        torch.nn.Conv1d(2, 2, 3),
        torch.nn.Sequential(torch.nn.Conv2d(2, 4, (5, 3))),
        torch.nn.Linear(3, 3),
    )
    assert {name: tuple(w.shape) for name, w in filters_of(model).items()} == {
        "0": (2, 1, 3, 3),
        "3.0": (4, 2, 5, 3),
    }
    assert filters_of(model, "3*").keys() == smoothness(model, layers="3*").keys() == {"3.0"}
    network = models.cifar10_vgg("strided", width=0.1)
    assert filters_of(network).keys() == smoothness(network).keys()
    assert not any(name.startswith("down") for name in filters_of(network))
