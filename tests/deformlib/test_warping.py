"""Thin-plate-spline deformations against SciPy's spline and SciPy's interpolation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import map_coordinates
from torch import Tensor

from deformlib.warping import Deformation, ThinPlateSpline, deform, warp

DEVICES = ["cpu"] + ["cuda:0"] * torch.cuda.is_available()
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}  # pixels
SIZES = [(32, 32), (20, 47), (33, 6), (2, 2), (70, 64)]  # the last is more than one chunk
GRIDS = [2, 3, 4, 5, 6, 7, (2, 5), (6, 3)]

sizes = st.tuples(st.integers(2, 20), st.integers(2, 20))
grids = st.tuples(st.integers(2, 5), st.integers(2, 5))
properties = settings(max_examples=25, deadline=None)


def seeded(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=seeded(seed), dtype=torch.float64)


def lattice(height: float, width: float, rows: int, columns: int) -> np.ndarray:
    """(rows * columns, 2) points (x, y), row by row, from edge to edge."""
    return np.array(
        [
            (x, y)
            for y in np.linspace(0, height - 1, rows)
            for x in np.linspace(0, width - 1, columns)
        ]
    )


def scipy_field(control: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    pixels, points = lattice(*size, *size), lattice(*size, *grid)
    splines = (
        RBFInterpolator(points, c, kernel="thin_plate_spline", degree=1)
        for c in control.double().numpy()
    )
    return np.stack([spline(pixels).reshape(*size, 2) for spline in splines])


def scipy_warp(images: Tensor, field: Tensor, mode: str = "nearest") -> np.ndarray:
    rows, columns = np.mgrid[: images.shape[2], : images.shape[3]]
    places = [(rows + f[..., 1], columns + f[..., 0]) for f in field.double().numpy()]
    channels = images.double().numpy()
    return np.stack(
        [[map_coordinates(c, p, order=1, mode=mode) for c in x] for x, p in zip(channels, places)]
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", SIZES)
def test_field_agrees_with_scipy(size, grid, dtype, device):
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    spline = ThinPlateSpline(size, grid, device=device, dtype=dtype)
    control = uniform(2, rows * columns, 2, low=-10, high=10).to(device, dtype)
    field, expected = spline.field(control), scipy_field(control.cpu(), size, (rows, columns))
    assert field.shape == (2, *size, 2) and field.dtype == dtype
    np.testing.assert_allclose(field.cpu(), expected, rtol=0, atol=TOLERANCE[dtype])


def test_field_agrees_with_scipy_on_the_papers_images():
    for deformation, size in [(Deformation.IMAGENET, (224, 224)), (Deformation.CIFAR10, (32, 32))]:
        control = deformation.sample(1, generator=seeded())
        expected = scipy_field(control, size, (deformation.grid, deformation.grid))
        np.testing.assert_allclose(
            deformation.spline(size).field(control), expected, rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_field_agrees_with_scipy_on_elongated_images(dtype):
    control = uniform(1, 49, 2, low=-10, high=10).to(dtype)
    field = ThinPlateSpline((8, 100), 7, dtype=dtype).field(control)
    np.testing.assert_allclose(
        field, scipy_field(control, (8, 100), (7, 7)), rtol=0, atol=TOLERANCE[dtype]
    )


@properties
@given(sizes, grids)
def test_points_run_row_by_row_from_edge_to_edge(size, grid):
    spline = ThinPlateSpline(size, grid, dtype=torch.float64)
    np.testing.assert_allclose(spline.points, lattice(*size, *grid), atol=1e-12)
    assert spline.basis.shape == (size[0] * size[1], grid[0] * grid[1])


@properties
@given(sizes, grids, st.integers(0, 2**32))
def test_field_is_the_basis_times_the_control(size, grid, seed):
    spline = ThinPlateSpline(size, grid, dtype=torch.float64)
    control = uniform(2, grid[0] * grid[1], 2, low=-3, high=3, seed=seed)
    torch.testing.assert_close(spline.field(control).flatten(1, 2), spline.basis @ control)


@properties
@given(sizes, grids, st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_an_affine_control_gives_the_same_affine_field(size, grid, numbers):
    matrix, offset = (
        torch.tensor(numbers[:4]).double().view(2, 2),
        torch.tensor(numbers[4:]).double(),
    )
    spline = ThinPlateSpline(size, grid, dtype=torch.float64)
    pixels = torch.from_numpy(lattice(*size, *size)).view(1, *size, 2)
    field = spline.field((spline.points @ matrix + offset)[None])
    torch.testing.assert_close(field, pixels @ matrix + offset, rtol=0, atol=1e-8)


def test_field_takes_the_controls_value_at_each_control_point():
    spline, control = (
        ThinPlateSpline((13, 21), (4, 5), dtype=torch.float64),
        uniform(3, 20, 2, low=-4, high=4),
    )
    torch.testing.assert_close(
        spline.field(control)[:, ::4, ::5].flatten(1, 2), control, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "padding_mode, mode",
    [("border", "nearest"), ("zeros", "grid-constant"), ("reflection", "mirror")],
)
def test_warp_agrees_with_scipy(padding_mode, mode, dtype, device):
    images, field = (
        uniform(3, 2, 9, 14).to(dtype),
        uniform(3, 9, 14, 2, low=-4, high=4, seed=1).to(dtype),
    )
    warped = warp(images.to(device), field.to(device), padding_mode).cpu()
    assert warped.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    np.testing.assert_allclose(warped, scipy_warp(images, field, mode), rtol=0, atol=tolerance)


def test_what_lies_outside_is_the_border_unless_told_otherwise():
    images, field = uniform(2, 1, 6, 7), torch.full((2, 6, 7, 2), 3.0).double()
    spline, control = (
        ThinPlateSpline((6, 7), 2, dtype=torch.float64),
        torch.full((2, 4, 2), 3.0).double(),
    )
    torch.testing.assert_close(warp(images, field), warp(images, field, "border"))
    torch.testing.assert_close(spline.warp(images, control), warp(images, field, "border"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("padding_mode", ["border", "zeros", "reflection"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fast_way_is_the_field_and_then_the_warp(dtype, size, padding_mode, device):
    spline = ThinPlateSpline(size, (3, 4), device=device, dtype=dtype)
    images, control = (
        uniform(4, 2, *size).to(device, dtype),
        uniform(4, 12, 2, low=-3, high=3).to(device, dtype),
    )
    expected = warp(images, spline.field(control), padding_mode)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(
        spline.warp(images, control, padding_mode), expected, rtol=0, atol=tolerance
    )


def test_a_displacement_says_where_the_value_is_taken_from():
    images = torch.arange(12.0).view(1, 1, 3, 4)
    right, down = torch.zeros(2, 1, 3, 4, 2)
    right[..., 0], down[..., 1] = 1, 1
    torch.testing.assert_close(warp(images, right)[..., :-1], images[..., 1:])
    torch.testing.assert_close(warp(images, down)[..., :-1, :], images[..., 1:, :])
    spline = ThinPlateSpline((3, 4), 2)
    torch.testing.assert_close(
        spline.warp(images, torch.tensor([[[1.0, 0.0]] * 4])), warp(images, right)
    )
    torch.testing.assert_close(
        spline.warp(images, torch.tensor([[[0.0, 1.0]] * 4])), warp(images, down)
    )


@properties
@given(sizes, grids)
def test_no_displacement_is_the_identity(size, grid):
    images, control = uniform(2, 3, *size).float(), torch.zeros(2, grid[0] * grid[1], 2)
    torch.testing.assert_close(warp(images, torch.zeros(2, *size, 2)), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        ThinPlateSpline(size, grid).warp(images, control), images, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(deform(images, Deformation(grid, 0)), images, rtol=0, atol=1e-5)


def test_one_field_serves_all_images():
    images, spline, control = (
        uniform(3, 2, 8, 9),
        ThinPlateSpline((8, 9), 3),
        uniform(1, 9, 2, low=-2, high=2),
    )
    field = spline.field(control)
    torch.testing.assert_close(warp(images, field), warp(images, field.expand(3, -1, -1, -1)))
    torch.testing.assert_close(
        spline.warp(images, control), spline.warp(images, control.expand(3, -1, -1))
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("other", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_float_is_computed_in_at_least_float32(dtype, other, device):
    # Images of ramps read off where each value came from; their range is small enough for
    # float16 to resolve.
    ramps = torch.linspace(-1, 1, 40, dtype=torch.float64).expand(2, 1, 40, 40).to(dtype)
    control = uniform(2, 9, 2, low=-2, high=2).to(other)
    spline64 = ThinPlateSpline((40, 40), 3, dtype=torch.float64)
    expected = warp(ramps.double(), spline64.field(control.double()))
    spline = ThinPlateSpline((40, 40), 3, device=device, dtype=other)
    assert spline.basis.dtype == spline.points.dtype == torch.promote_types(other, torch.float32)
    for warped in (
        spline.warp(ramps.to(device), control.to(device)),
        warp(ramps.to(device), spline.field(control.to(device))),
    ):
        assert warped.dtype == dtype
        exact = 1e-10 if dtype == other == torch.float64 else 1e-6
        rounding = torch.finfo(dtype).eps / 2
        torch.testing.assert_close(warped.cpu().double(), expected, rtol=0, atol=exact + rounding)


def test_float64_in_any_input_means_float64_inside():
    images, control = uniform(1, 1, 30, 30), uniform(1, 4, 2, low=-2, high=2)
    field = ThinPlateSpline((30, 30), 2, dtype=torch.float64).field(control)
    expected = scipy_warp(images.float(), field)
    # Rounded once, at the end: within half a unit in the last place of a value below 1.
    np.testing.assert_allclose(warp(images.float(), field), expected, rtol=0, atol=3.1e-8)
    np.testing.assert_allclose(
        warp(images, field.float()), scipy_warp(images, field.float()), rtol=0, atol=1e-12
    )
    assert ThinPlateSpline((30, 30), 2).field(control).dtype == torch.float64
    thirds = torch.full_like(images, 1 / 3)
    warped = ThinPlateSpline((30, 30), 2).warp(thirds, control.float())
    torch.testing.assert_close(warped, thirds, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coordinates_stay_in_float32_when_every_input_is_lower(dtype):
    ramps, field = (
        torch.linspace(-1, 1, 200).expand(1, 1, 200, 200).to(dtype),
        uniform(1, 200, 200, 2).to(dtype),
    )
    expected = warp(ramps.double(), field.double())
    tolerance = 1e-6 + torch.finfo(dtype).eps / 2
    torch.testing.assert_close(warp(ramps, field).double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_does_not_reach_the_coordinates(device):
    images, field = (
        uniform(2, 1, 64, 64).float().to(device),
        uniform(2, 64, 64, 2).float().to(device),
    )
    control = uniform(2, 25, 2, low=-5, high=5).float().to(device)
    spline = ThinPlateSpline((64, 64), 5, device=device)
    expected = spline.field(control), spline.warp(images, control), warp(images, field)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        spline = ThinPlateSpline((64, 64), 5, device=device)
        results = spline.field(control), spline.warp(images, control), warp(images, field)
    for result, value in zip(results, expected):
        torch.testing.assert_close(result, value)


def test_any_memory_layout_will_do():
    images, control = uniform(2, 3, 10, 12).float(), uniform(2, 9, 2, low=-2, high=2).float()
    spline = ThinPlateSpline((10, 12), 3)
    expected = spline.warp(images, control)
    strided, backwards = images.mT.contiguous().mT, control.flip(1).clone().flip(1)
    columns = torch.stack([control, control], -1)[..., 0]
    for x in (
        images.contiguous(memory_format=torch.channels_last),
        strided,
        images.repeat(1, 1, 1, 2)[..., :12],
    ):
        for c in (backwards, columns):
            torch.testing.assert_close(spline.warp(x, c), expected)
            torch.testing.assert_close(
                warp(x, spline.field(c).contiguous()), expected, rtol=0, atol=1e-5
            )


@properties
@given(
    sizes,
    grids,
    st.sampled_from(FLOATS),
    st.booleans(),
    st.integers(0, 99),
    st.sampled_from(
        [
            torch.clone,
            lambda x: x.contiguous(memory_format=torch.channels_last),
            lambda x: x.mT.contiguous().mT,
            lambda x: x.repeat_interleave(2, 3)[..., ::2],
            lambda x: x[:1].expand(len(x), -1, -1, -1),
        ]
    ),
)
def test_any_type_layout_and_gradient(size, grid, dtype, gradients, seed, layout):
    images = layout(uniform(3, 2, *size, seed=seed).to(dtype)).requires_grad_(gradients)
    control = uniform(3, grid[0] * grid[1], 2, low=-2, high=2, seed=seed + 1)
    spline = ThinPlateSpline(size, grid, dtype=torch.float64)
    warped = spline.warp(images, control)
    assert (
        warped.dtype == dtype and warped.shape == images.shape and warped.requires_grad == gradients
    )
    expected = torch.from_numpy(scipy_warp(images.detach(), spline.field(control)))
    torch.testing.assert_close(
        warped.detach().double(), expected, rtol=0, atol=1e-10 + torch.finfo(dtype).eps / 2
    )


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_in_images_and_displacements(device):
    images = uniform(2, 2, 5, 6).to(device).requires_grad_()
    control = uniform(2, 6, 2, low=-0.8, high=0.8, seed=1).to(device).requires_grad_()
    spline = ThinPlateSpline((5, 6), (2, 3), device=device, dtype=torch.float64)
    assert torch.autograd.gradcheck(spline.warp, (images, control))
    assert torch.autograd.gradcheck(
        lambda x, c: warp(x, spline.field(c), "zeros"), (images, control)
    )


def test_a_spline_moves():
    spline = ThinPlateSpline((6, 7), 3)
    moved = spline.to("meta")
    assert moved.points.is_meta and moved.basis.is_meta and not spline.basis.is_meta
    assert moved.size == (6, 7) and moved.grid == (3, 3)


def test_the_papers_deformations():
    assert (
        Deformation(5, 10.0) == Deformation.IMAGENET and Deformation(3, 2.0) == Deformation.CIFAR10
    )


@pytest.mark.parametrize(
    "grid, largest", [(3, 2), ((3, 3), 2.0), ([3, 3], np.float32(2)), (np.int64(3), 2)]
)
def test_equal_deformations_are_the_same_value(grid, largest):
    same = Deformation(grid, largest)
    assert same == Deformation.CIFAR10 and hash(same) == hash(Deformation.CIFAR10)
    assert repr(same) == "Deformation(grid=3, max_displacement=2.0)"


def test_a_deformation_cannot_be_changed():
    assert Deformation([2, 3], 1).grid == (2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Deformation.CIFAR10.grid = 4


def test_displacements_are_uniform_on_each_axis():
    control = Deformation((2, 3), 4).sample(5000, generator=seeded())
    assert control.shape == (5000, 6, 2) and control.dtype == torch.float32
    for axis in control.double().unbind(-1):
        values = axis.flatten().sort().values
        assert -4 <= values[0] < -3.99 and 3.99 < values[-1] <= 4
        # Kolmogorov and Smirnov: 30,000 draws stay within 1.95 / sqrt(n) of the uniform
        # law 99.9% of the time.
        steps = torch.linspace(-4, 4, len(values), dtype=torch.float64)
        assert (values - steps).abs().max() / 8 < 1.95 / math.sqrt(len(values))
    x, y = control.double().flatten(0, 1).T
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.02


@pytest.mark.parametrize("device", DEVICES)
def test_a_generator_fixes_the_draws_on_every_device(device):
    deformation = Deformation(3, 2)
    draw = deformation.sample(4, generator=seeded(1), device=device)
    assert str(draw.device) == device and deformation.sample(4, device="meta").is_meta
    torch.testing.assert_close(
        draw.cpu(), deformation.sample(4, generator=seeded(1)), rtol=0, atol=0
    )
    assert not torch.equal(draw.cpu(), deformation.sample(4, generator=seeded(2)))
    assert deformation.sample(4, generator=seeded(1, device)).device == torch.device(device)
    torch.manual_seed(3)
    default = deformation.sample(4, device=device)
    torch.manual_seed(3)
    assert torch.equal(default.cpu(), deformation.sample(4))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_deform_gives_each_image_a_deformation_of_its_own(dtype, device):
    images = uniform(1, 2, 12, 15).expand(3, -1, -1, -1).to(device, dtype)
    deformed = deform(images, Deformation.CIFAR10, generator=seeded())
    control = Deformation.CIFAR10.sample(3, generator=seeded(), device=device)
    expected = ThinPlateSpline((12, 15), 3, device=device, dtype=dtype).warp(images, control)
    assert deformed.dtype == dtype and torch.equal(deformed, expected)
    assert not torch.equal(deformed[0], deformed[1]) and not torch.equal(deformed[1], deformed[2])


def test_float64_images_are_deformed_in_float64():
    images, control = uniform(2, 1, 30, 30), Deformation.CIFAR10.sample(2, generator=seeded())
    expected = scipy_warp(images, torch.from_numpy(scipy_field(control, (30, 30), (3, 3))))
    np.testing.assert_allclose(
        deform(images, Deformation.CIFAR10, generator=seeded()), expected, rtol=0, atol=1e-10
    )


IMAGES, CONTROL, FIELD = torch.rand(2, 3, 6, 7), torch.zeros(2, 9, 2), torch.zeros(2, 6, 7, 2)
SPLINE = ThinPlateSpline((6, 7), 3)


def with_last(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x.view(-1)[-1] = value
    return x


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ThinPlateSpline((1, 8), 3), r"size .*at least 2, got \(1, 8\)"),
        (lambda: ThinPlateSpline((8, 1), 3), r"size .*at least 2, got \(8, 1\)"),
        (lambda: ThinPlateSpline((8, 8, 8), 3), r"size .*got \(8, 8, 8\)"),
        (lambda: ThinPlateSpline(8, 3), "size .*got 8"),
        (lambda: ThinPlateSpline((8.0, 8), 3), r"size .*got \(8.0, 8\)"),
        (
            lambda: ThinPlateSpline((8, 8), 1),
            r"grid must be an int of at least 2, or two of them, got 1",
        ),
        (lambda: ThinPlateSpline((8, 8), (2, 1)), r"grid .*at least 2.* got \(2, 1\)"),
        (lambda: ThinPlateSpline((8, 8), 2.5), "grid .*got 2.5"),
        (
            lambda: ThinPlateSpline((8, 8), 3, dtype=torch.int64),
            "dtype .*floating-point.*got torch.int64",
        ),
        (
            lambda: ThinPlateSpline((8, 8), 3, dtype="float32"),
            "dtype .*floating-point.*got float32",
        ),
        (
            lambda: ThinPlateSpline((8, 8), 3, inset=0.5),
            "inset must be at least 0 and below 0.5, got 0.5",
        ),
        (
            lambda: ThinPlateSpline((8, 8), 3, inset="0"),
            "inset must be at least 0 and below 0.5, got 0",
        ),
        (lambda: Deformation(1, 2), r"grid must be an int of at least 2, or two of them, got 1"),
        (lambda: Deformation((3, 0), 2), r"grid .*at least 2.* got \(3, 0\)"),
        (lambda: Deformation("33", 2), "grid .*got 33"),
        (lambda: Deformation(3, -2), "max_displacement must be a number >= 0 .*, got -2"),
        (lambda: Deformation(3, float("nan")), "max_displacement .*got nan"),
        (lambda: Deformation(3, float("inf")), "max_displacement .*got inf"),
        (lambda: Deformation(3, "2"), "max_displacement .*got 2"),
        (lambda: Deformation(3, None), "max_displacement .*got None"),
        (lambda: Deformation(3, 2).sample(0), "n must be an int >= 1, got 0"),
        (lambda: Deformation(3, 2).sample(2.5), "n must be an int >= 1, got 2.5"),
        (
            lambda: Deformation(3, 2).sample(2, generator=7),
            "generator must be a torch.Generator or None, got 7",
        ),
        (lambda: SPLINE.field(CONTROL[0]), r"control .*\(N, 9, 2\).*got \(9, 2\)"),
        (lambda: SPLINE.field(CONTROL[:, :4]), r"control .*\(N, 9, 2\).*got \(2, 4, 2\)"),
        (lambda: SPLINE.field(CONTROL[:0]), r"control .*at least 1 .*got \(0, 9, 2\)"),
        (lambda: SPLINE.field(CONTROL.long()), "control .*floating-point.*got torch.int64"),
        (
            lambda: SPLINE.field(CONTROL.numpy()),
            "control must be a floating-point tensor .*, got ndarray",
        ),
        (lambda: SPLINE.field(with_last(CONTROL, float("nan"))), "control must be finite"),
        (lambda: SPLINE.field(with_last(CONTROL, float("inf"))), "control must be finite"),
        (lambda: SPLINE.warp(IMAGES, with_last(CONTROL, -float("inf"))), "control must be finite"),
        (lambda: SPLINE.warp(IMAGES, CONTROL[:, :4]), r"control .*got \(2, 4, 2\)"),
        (
            lambda: SPLINE.warp(IMAGES, torch.zeros(3, 9, 2)),
            "control must be one for each of 2 images, or one, got 3",
        ),
        (lambda: SPLINE.warp(IMAGES.mT, CONTROL), r"images .*size \(6, 7\), got \(2, 3, 7, 6\)"),
        (lambda: SPLINE.warp(IMAGES[0], CONTROL), r"images .*\(N, C, H, W\).*got \(3, 6, 7\)"),
        (
            lambda: SPLINE.warp(IMAGES, CONTROL, "circular"),
            "padding_mode must be one of .*border.*got 'circular'",
        ),
        (lambda: SPLINE.warp(IMAGES.byte(), CONTROL), "images .*255.*got torch.uint8"),
        (
            lambda: SPLINE.warp(with_last(IMAGES, float("nan")), CONTROL),
            "images must be finite, got 1 NaN or infinite",
        ),
        (lambda: warp(IMAGES.byte(), FIELD), "images .*255.*got torch.uint8"),
        (lambda: warp(IMAGES.cfloat(), FIELD), "images .*floating-point.*got torch.complex64"),
        (
            lambda: warp(IMAGES.numpy(), FIELD),
            "images must be a floating-point tensor .*, got ndarray",
        ),
        (lambda: warp(IMAGES[0], FIELD), r"images .*got \(3, 6, 7\)"),
        (lambda: warp(IMAGES[:0], FIELD), r"images .*none of it empty.*got \(0, 3, 6, 7\)"),
        (lambda: warp(IMAGES[:, :0], FIELD), r"images .*none of it empty.*got \(2, 0, 6, 7\)"),
        (
            lambda: warp(IMAGES[..., :1], FIELD[:, :, :1]),
            r"images .*at least 2, got \(2, 3, 6, 1\)",
        ),
        (
            lambda: warp(IMAGES[..., :1, :], FIELD[:, :1]),
            r"images .*at least 2, got \(2, 3, 1, 7\)",
        ),
        (lambda: warp(IMAGES, FIELD, "wrap"), "padding_mode .*got 'wrap'"),
        (lambda: warp(IMAGES, FIELD.mT), r"field .*\(N, 6, 7, 2\).*got \(2, 6, 2, 7\)"),
        (lambda: warp(IMAGES, FIELD[0]), r"field .*got \(6, 7, 2\)"),
        (lambda: warp(IMAGES, FIELD[:0]), r"field .*at least 1 .*got \(0, 6, 7, 2\)"),
        (
            lambda: warp(IMAGES, torch.zeros(3, 6, 7, 2)),
            "field must be one for each of 2 images, or one, got 3",
        ),
        (lambda: warp(IMAGES, FIELD.int()), "field .*floating-point.*got torch.int32"),
        (lambda: warp(IMAGES, with_last(FIELD, float("nan"))), "field must be finite"),
        (lambda: warp(with_last(IMAGES, float("nan")), FIELD), "images must be finite"),
        (lambda: warp(with_last(IMAGES, float("inf")), FIELD), "images must be finite"),
        (lambda: deform(IMAGES.byte(), Deformation.CIFAR10), "images .*255.*got torch.uint8"),
        (lambda: deform(IMAGES[0], Deformation.CIFAR10), r"images .*got \(3, 6, 7\)"),
        (
            lambda: deform(IMAGES[:0], Deformation.CIFAR10),
            r"images .*none of it empty.*got \(0, 3, 6, 7\)",
        ),
        (
            lambda: deform(with_last(IMAGES, float("nan")), Deformation.CIFAR10),
            "images must be finite",
        ),
        (lambda: deform(IMAGES, (3, 2.0)), r"deformation must be a Deformation, got \(3, 2.0\)"),
    ],
)
def test_bad_input_names_the_argument_its_value_and_what_it_may_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_finite_values_whose_sum_is_not_are_deformed():
    images = torch.full((2, 1, 6, 7), 60000.0, dtype=torch.float16)
    assert images.sum().isinf() and torch.equal(SPLINE.warp(images, CONTROL), images)
