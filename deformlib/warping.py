"""Deform an image: random thin-plate-spline deformations (paper, Section 2.1 and Figure 2).

Displacements are in pixels, (dx, dy), x to the right and y downwards. The map is backward: the
displacement at a point says where the value there is taken from, out(p) = image(p + field(p)).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from deformlib.seeding import device_of
from deformlib.validation import check_known, check_vectors, is_real, is_whole, require

PADDING_MODES = ("border", "zeros", "reflection")
CHUNK = 1 << 12  # pixels whose basis is held in float64 at a time: about a megabyte, in the cache


class ThinPlateSpline:
    """The smoothest field through given displacements of a grid of control points: one matrix,
    solved once, on the CPU, so that all devices agree.

    size    (H, W) of the images in pixels, at least 2 each
    grid    control points, an int or (rows, columns), at least 2, evenly spaced from edge to edge
    inset   how far they stay from the edge, as a fraction of the image's side, below 0.5
    dtype   float32 or float64; a lower one is raised to float32, which coordinates need
    points  (K, 2) control points in pixels, (x, y), row by row
    basis   (H*W, K), pixels row by row: field = basis @ control

    ValueError for a side of size or grid below 2, another inset, or a dtype that is not floating
    point.
    """

    def __init__(
        self,
        size: Sequence[int],
        grid: int | Sequence[int],
        *,
        inset: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.size = _sides("size", size, "two ints of at least 2")
        self.grid = _grid_sides(grid)
        require(is_real(inset) and 0 <= inset < 0.5, "inset", "at least 0 and below 0.5", inset)
        require(getattr(dtype, "is_floating_point", False), "dtype", "a floating-point type", dtype)
        dtype = torch.promote_types(dtype, torch.float32)
        points = (1 - 2 * inset) * unit_lattice(self.grid).T  # (K, 2) in [-1, 1]
        extent = points.new_tensor([self.size[1] - 1, self.size[0] - 1])  # (x, y)
        self.points = ((points + 1) / 2 * extent).to(device, dtype)
        self._planes = _planes(self.size, self.grid, inset, dtype).to(device)  # (K+2, H*W)

    @property
    def basis(self) -> Tensor:
        return self._planes[:-2].T

    def field(self, control: Tensor) -> Tensor:
        """Displacement of every pixel, in pixels: control (N, K, 2) -> (N, H, W, 2).

        ValueError for a control of another shape or type, empty or not finite.
        """
        _check_displacements("control", control, (len(self.points), 2))
        return self._combine(control.mT, self._planes[:-2])

    def warp(self, images: Tensor, control: Tensor, padding_mode: str = "border") -> Tensor:
        """As warp(images, self.field(control)), faster: (N, C, H, W), (N, K, 2) -> (N, C, H, W).

        `control` is in pixels, (dx, dy), and its N may be 1. ValueError as for `warp`.
        """
        _check_images(images, padding_mode)
        shape = tuple(images.shape)
        require(shape[2:] == self.size, "images", f"of the spline's size {self.size}", shape)
        _check_displacements("control", control, (len(self.points), 2), len(images))
        dtype = torch.promote_types(control.dtype, self._planes.dtype)
        rows = _to_unit(control.to(dtype), self.size).mT  # (N, 2, K)
        identity = torch.eye(2, dtype=rows.dtype, device=rows.device).expand(len(rows), 2, 2)
        grid = self._combine(torch.cat([rows, identity], -1), self._planes)  # (N, H, W, 2)
        return _sample(images, grid, padding_mode)

    def to(self, device: torch.device | str) -> ThinPlateSpline:
        """The same spline on another device."""
        moved = copy.copy(self)
        moved.points, moved._planes = self.points.to(device), self._planes.to(device)
        return moved

    def _combine(self, rows: Tensor, planes: Tensor) -> Tensor:
        """(N, 2, R) combinations of planes (R, H*W) -> (N, H, W, 2), rows of pixels contiguous."""
        dtype = torch.promote_types(rows.dtype, planes.dtype)
        with torch.autocast(rows.device.type, enabled=False):  # bfloat16 is off by pixels
            planar = rows.to(dtype).flatten(0, 1) @ planes.to(dtype)  # (2N, R) x (R, H*W)
        return planar.view(len(rows), 2, *self.size).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Deformation:
    """A distribution of deformations: control points displaced uniformly (Section 2.1), by up to
    `max_displacement` pixels along each axis. `grid` is an int or (rows, columns), at least 2;
    (5, 5) is kept as 5. ValueError for a smaller one, or a negative or infinite displacement."""

    grid: int | tuple[int, int]
    max_displacement: float

    IMAGENET: ClassVar[Deformation]
    CIFAR10: ClassVar[Deformation]

    def __post_init__(self) -> None:
        rows, columns = _grid_sides(self.grid)
        largest = self.max_displacement
        valid = is_real(largest) and 0 <= largest < 1e30  # far from where float32 ends
        require(valid, "max_displacement", "a number >= 0 and < 1e30, in pixels", largest)
        # One value, one form: specs that mean the same must hash the same.
        object.__setattr__(self, "grid", rows if rows == columns else (rows, columns))
        object.__setattr__(self, "max_displacement", float(largest))

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """n displacements of the control points, in pixels: (n, K, 2), float32. Drawn on the
        generator's device (the CPU if None), then moved: devices agree."""
        require(is_whole(n, 1), "n", "an int >= 1", n)
        shape, origin = (int(n), math.prod(_grid_sides(self.grid)), 2), device_of(generator)
        unit = torch.rand(shape, generator=generator, device=origin, dtype=torch.float32)
        return ((2 * unit - 1) * self.max_displacement).to(device)

    def spline(
        self,
        size: Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> ThinPlateSpline:
        """The spline that carries a sample to every pixel of images of size (H, W)."""
        return ThinPlateSpline(size, self.grid, device=device, dtype=dtype)


def warp(images: Tensor, field: Tensor, padding_mode: str = "border") -> Tensor:
    """Images resampled along a field: out(p) = image(p + field(p)), bilinear.
    (N, C, H, W), floating point, and (N, H, W, 2) displacements in pixels, (dx, dy), one field for
    all if N is 1 -> (N, C, H, W) of images' type, computed in float32, or in float64 if an input
    is. `padding_mode` says what lies outside: "border" (the edge goes on), "zeros" or "reflection".
    ValueError for an input of another shape or type, empty or not finite.
    """
    _check_images(images, padding_mode)
    size = tuple(images.shape[2:])
    _check_displacements("field", field, (*size, 2), len(images))
    dtype = torch.promote_types(torch.promote_types(images.dtype, field.dtype), torch.float32)
    identity = unit_lattice(size).to(field.device, dtype).T.unflatten(0, size)  # (H, W, 2)
    return _sample(images, identity + _to_unit(field.to(dtype), size), padding_mode)


def deform(
    images: Tensor, deformation: Deformation, *, generator: torch.Generator | None = None
) -> Tensor:
    """Each image (N, C, H, W) under a random deformation of its own (Section 2.1). Errors as for
    `warp`."""
    _check_images(images)
    require(isinstance(deformation, Deformation), "deformation", "a Deformation", deformation)
    spline = deformation.spline(images.shape[2:], device=images.device, dtype=images.dtype)
    control = deformation.sample(len(images), generator=generator, device=images.device)
    return spline.warp(images, control)


def _planes(
    size: tuple[int, int], grid: tuple[int, int], inset: float, dtype: torch.dtype
) -> Tensor:
    """(K+2, H*W): how far each control point moves each pixel, then each pixel's own x and y."""
    pixels = unit_lattice(size)  # (2, H*W)
    aspect, points, system = _system(size, grid, inset)
    k = points.shape[1]
    unit = torch.eye(k + 3, k, dtype=torch.float64, device="cpu")
    weights = torch.linalg.solve(system, unit).T  # (K, K+3)
    parts = []
    for part in pixels.split(CHUNK, 1):
        parts.append(torch.cat([weights @ _terms(points, part * aspect), part]).to(dtype))
    return torch.cat(parts, 1)


def _system(
    size: tuple[int, int], grid: tuple[int, int], inset: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Half the sides (2, 1), points (2, K) and equations (K+3, K+3); the longer side is 2."""
    # The spline does not depend on the unit of length, but in pixels the kernel outgrows the
    # polynomial, which costs a decimal digit of the solution.
    points = (1 - 2 * inset) * unit_lattice(grid)
    aspect = points.new_tensor([[size[1] - 1], [size[0] - 1]]) / (max(size) - 1)
    points = points * aspect
    k = points.shape[1]
    system = points.new_zeros(k + 3, k + 3)
    system[:, :k] = _terms(points, points)
    system[:k, k:] = system[k:, :k].T
    return aspect, points, system


def field_by_rows(
    size: tuple[int, int], grid: int, control: Tensor
) -> Callable[[int, int], Tensor]:
    """The field of control (K, 2) without the spline's matrix, for images too large for it.
    Returns a function of the first row and the one after the last: (rows, W, 2), float64."""
    aspect, points, system = _system(size, (grid, grid), 0.0)
    values = F.pad(control.double(), (0, 0, 0, 3))  # (K+3, 2)
    weights = torch.linalg.solve(system, values).T  # (2, K+3)
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in size)
    chunk = CHUNK * 25 // (25 + grid**2) + 1  # pixels: few where control points are many

    def rows(top: int, bottom: int) -> Tensor:
        lattice = torch.meshgrid(x, y[top:bottom], indexing="xy")
        pixels = torch.stack(lattice).flatten(1) * aspect  # (2, rows * W)
        parts = [weights @ _terms(points, part) for part in pixels.split(chunk, 1)]
        return torch.cat(parts, 1).T.unflatten(0, (-1, size[1]))

    return rows


def _terms(points: Tensor, x: Tensor) -> Tensor:
    """Kernels r^2 log r about points (2, K), then the polynomial 1, x, y, at x (2, P): (K+3, P)."""
    squared = (points[:, :, None] - x[:, None]).square().sum(0)  # (K, P)
    return torch.cat([torch.special.xlogy(squared, squared) / 2, torch.ones_like(x[:1]), x])


def unit_lattice(shape: Sequence[int]) -> Tensor:
    """(2, rows * columns) points x and y, row by row, from edge to edge of [-1, 1], in float64."""
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64, device="cpu") for n in shape)
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).flatten(1)


def _to_unit(displacements: Tensor, size: Sequence[int]) -> Tensor:
    """Displacements (..., 2) from pixels to grid_sample's unit, in which an edge is 2 long."""
    return displacements * displacements.new_tensor([2 / (size[1] - 1), 2 / (size[0] - 1)])


def _sample(images: Tensor, grid: Tensor, padding_mode: str) -> Tensor:
    dtype = torch.promote_types(images.dtype, grid.dtype)
    grid = grid.to(dtype).expand(len(images), -1, -1, -1)
    with torch.autocast(images.device.type, enabled=False):
        values = images.to(dtype)
        warped = F.grid_sample(values, grid, padding_mode=padding_mode, align_corners=True)
    return warped.to(images.dtype)


def _sides(name: str, value: Any, rule: str) -> tuple[int, int]:
    valid = isinstance(value, Sequence) and len(value) == 2 and all(is_whole(n, 2) for n in value)
    require(valid, name, rule, value)
    return int(value[0]), int(value[1])


def _grid_sides(grid: Any) -> tuple[int, int]:
    grid = (grid, grid) if is_whole(grid, 2) else grid
    return _sides("grid", grid, "an int of at least 2, or two of them")


def _check_images(images: Tensor, padding_mode: str = "border") -> None:
    check_vectors("images", images)
    valid = images.ndim == 4 and min(images.shape[2:]) >= 2
    require(valid, "images", "(N, C, H, W) with H and W at least 2", tuple(images.shape))
    check_known("padding_mode", padding_mode, PADDING_MODES)


def _check_displacements(name: str, value: Tensor, shape: tuple[int, ...], n: int = 0) -> None:
    check_vectors(name, value)
    rule = f"(N, {', '.join(map(str, shape))})"
    require(value.shape[1:] == shape, name, rule, tuple(value.shape))
    require(not n or len(value) in (1, n), name, f"one for each of {n} images, or one", len(value))


Deformation.IMAGENET = Deformation(5, 10.0)
Deformation.CIFAR10 = Deformation(3, 2.0)
