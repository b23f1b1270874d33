"""Two bounds on what a deformation does to a convolution, and the numbers that test them.

Image x, displacement u, L_u x(p) = x(p + u(p)), (W x)(p) = sum_k W_k x(p + k) with W_k (out, in).
Between pixels x and W x are bilinear, as in `deformlib.warp`, so that W of the interpolated image
is the interpolated W x. Lengths are in pixels; |W_k| is a spectral norm, |grad x| Frobenius's.

    A  |[W, L_u] x(p)| <= sum_k |W_k| |u(p+k) - u(p)| Lip(x) <= Lip(u) M1 Lip(x)
    B  |W L_u x - W x| <= (Lip(u) M1 |grad x| + |u| |grad(W x)|) / (1 - Lip(u))
       |grad(W x)|     <= V |x - c| for any colour c, V^2 = V_right^2 + V_down^2

In A norms are maxima over points, in B integrals over the plane (of u, always the maximum).
Chapter "Why smooth filters help" derives them. Both hold on the interior: the points that no
displacement carries to where a filter reaches over the edge.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from deformlib import warp
from deformlib.validation import require


@dataclass(frozen=True)
class Commutation:
    """Bound A for each image, (N,): the largest commutator on the interior and two bounds on it."""

    commutator: Tensor
    by_differences: Tensor  # of u between the taps, the largest over the interior
    by_gradient: Tensor


@dataclass(frozen=True)
class Stability:
    """Bound B for each image, (N,), step by step; integrals over the interior, in pixels.

    gradient, displacement        Lip(u) and the largest |u|
    commutator, transport         |[W, L_u] x| and |L_u W x - W x|, with a bound on each
    change                        |W L_u x - W x|, with the bound B
    response_gradient             |grad(W x)|, with the bound through V
    """

    gradient: Tensor
    displacement: Tensor
    commutator: Tensor
    commutator_bound: Tensor
    transport: Tensor
    transport_bound: Tensor
    change: Tensor
    change_bound: Tensor
    response_gradient: Tensor
    response_gradient_bound: Tensor


def tap_norms(weight: Tensor) -> Tensor:
    """|W_k|, the spectral norm of each tap: (out, in, kh, kw) -> (kh, kw)."""
    return torch.linalg.matrix_norm(weight.permute(2, 3, 0, 1), 2)


def tap_distances(weight: Tensor) -> Tensor:
    """|k|, how far each tap lies from the middle of the kernel, in pixels: (kh, kw)."""
    rows, columns = (torch.arange(side) - (side - 1) / 2 for side in weight.shape[2:])
    return torch.hypot(rows[:, None], columns).to(weight)


def first_moment(weight: Tensor) -> Tensor:
    """M1 = sum_k |k| |W_k|, scalar. No variation of the filter enters."""
    return (tap_distances(weight) * tap_norms(weight)).sum()


def edge_variation(weight: Tensor) -> Tensor:
    """V_e = sum_k |W_(k-e) - W_k| for e to the right and down, zeros around the kernel: (2,).

    Over sum_k |W_k| it is at least 2/3 for a 3x3 kernel, and a constant one reaches that; a single
    tap, or taps of alternating sign, have 2.
    """
    right = F.pad(weight, (1, 1)).diff(dim=3)
    down = F.pad(weight, (0, 0, 1, 1)).diff(dim=2)
    return torch.stack([tap_norms(right).sum(), tap_norms(down).sum()])


def lipschitz(values: Tensor) -> Tensor:
    """Lipschitz constant of the bilinear interpolant of each: (N, C, H, W) -> (N,), per pixel.

    Exact. Within a cell its derivative, (C, 2), is linear in the position, so the norm is largest
    at a corner of the cell.
    """
    right, down = values.diff(dim=3), values.diff(dim=2)
    corners = [
        torch.stack([along_x, along_y])  # (2, N, C, H-1, W-1)
        for along_x in (right[..., :-1, :], right[..., 1:, :])
        for along_y in (down[..., :-1], down[..., 1:])
    ]
    return torch.stack([_spectral_norm(*corner).amax((1, 2)) for corner in corners]).amax(0)


def gradient_energy(values: Tensor) -> Tensor:
    """Integral of |grad|^2 of the bilinear interpolant, exact: (N, C, H, W) -> (N,)."""
    right, down = values.diff(dim=3), values.diff(dim=2)
    along_x = _mean_square(right[..., :-1, :], right[..., 1:, :])
    along_y = _mean_square(down[..., :-1], down[..., 1:])
    return (along_x + along_y).sum((1, 2, 3))


def commutation(images: Tensor, field: Tensor, weight: Tensor) -> Commutation:
    """Bound A on the pixels: images (N, C, H, W), field (N, H, W, 2), weight (out, C, kh, kw).

    Exact, not up to a discretization: on pixels W and L_u are what a network and `warp` do.
    ValueError for a kernel with an even side.
    """
    _check_kernel(weight)
    rows, columns = (side // 2 for side in weight.shape[2:])
    inner = field[:, rows : field.shape[1] - rows, columns : field.shape[2] - columns]
    moved = F.conv2d(warp(images, field), weight)  # (N, out, H-2r, W-2r)
    filtered = F.conv2d(images, weight)
    difference = (moved - warp(filtered, inner)).norm(dim=1)
    outside = ~_within(inner)
    spread = _weighted_spread(field, weight).masked_fill(outside, 0).amax((1, 2))
    largest, planes = lipschitz(images), field.permute(0, 3, 1, 2)
    return Commutation(
        commutator=difference.masked_fill(outside, 0).amax((1, 2)),
        by_differences=spread * largest,
        by_gradient=lipschitz(planes) * first_moment(weight) * largest,
    )


def stability(images: Tensor, field: Tensor, weight: Tensor, per_pixel: int) -> Stability:
    """Bound B, its integrals taken on a lattice `per_pixel` times finer than the images.

    images     (N, C, H, W)
    field      (N, (H-1) per_pixel + 1, (W-1) per_pixel + 1, 2): displacements at the points of
               that lattice, in pixels
    weight     (out, C, kh, kw)

    A bound is infinite where Lip(u) >= 1: the deformation may fold. ValueError for a kernel with
    an even side, or displacements that leave no interior.
    """
    _check_kernel(weight)
    reach = max(side // 2 for side in weight.shape[2:])
    margin = math.ceil((reach + float(field.abs().max())) * per_pixel)
    least = min(field.shape[1:3])
    require(2 * margin < least - 1, "field", "small enough to leave an interior", field.abs().max())
    inside = slice(margin, -margin)

    def norm(values: Tensor) -> Tensor:
        density = values[..., inside, inside].square().sum(1)
        step = 1 / per_pixel
        return torch.trapezoid(torch.trapezoid(density, dx=step), dx=step).sqrt()

    points = _lattice(field) / per_pixel  # (h, w, 2), in pixels
    filtered = F.conv2d(images, weight)  # its first pixel is that of the image at (rows, columns)
    corner = points.new_tensor([weight.shape[3] // 2, weight.shape[2] // 2])
    both = _dilated(_sample(images, points + field), weight, per_pixel)  # W L_u x
    after = _sample(filtered, points + field - corner)  # L_u W x
    before = _sample(filtered, (points - corner).expand_as(field))  # W x

    gradient = lipschitz(field.permute(0, 3, 1, 2)) * per_pixel
    displacement = field.norm(dim=-1).amax((1, 2))
    dilation = (1 - gradient).clamp(min=0).reciprocal()  # 1 / (1 - Lip(u)), or infinity
    response = gradient_energy(filtered).sqrt()
    commutator_bound = gradient * first_moment(weight) * gradient_energy(images).sqrt()
    centred = images - images.mean((2, 3), keepdim=True)
    return Stability(
        gradient=gradient,
        displacement=displacement,
        commutator=norm(both - after),
        commutator_bound=dilation * commutator_bound,
        transport=norm(after - before),
        transport_bound=displacement * _mean_dilation(gradient) * response,
        change=norm(both - before),
        change_bound=dilation * (commutator_bound + displacement * response),
        response_gradient=response,
        response_gradient_bound=edge_variation(weight).norm() * centred.flatten(1).norm(dim=1),
    )


def tightness(found: Commutation | Stability) -> dict[str, Tensor]:
    """{bound: what it bounds, as a fraction of it}, (N,) each: 1 is tight, above 1 is a violation.

    Zero where a bound is infinite, and NaN where both are zero.
    """
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    if isinstance(found, Commutation):
        bounds = dict.fromkeys(("by_differences", "by_gradient"), "commutator")
    else:
        bounds = {name: name.removesuffix("_bound") for name in values if name.endswith("_bound")}
    return {bound: values[bounded] / values[bound] for bound, bounded in bounds.items()}


def _mean_dilation(gradient: Tensor) -> Tensor:
    """The mean of 1 / (1 - t g) over t from 0 to 1, -log(1 - g) / g: between 1 and 1 / (1 - g)."""
    mean = -torch.log1p(-gradient.clamp(max=1)) / gradient
    return torch.where(gradient > 0, mean, 1)


def _spectral_norm(along_x: Tensor, along_y: Tensor) -> Tensor:
    """Largest singular value of the matrices (C, 2) with these columns: (N, C, ...) -> (N, ...)."""
    xx, yy = along_x.square().sum(1), along_y.square().sum(1)
    xy = (along_x * along_y).sum(1)
    return ((xx + yy + torch.hypot(xx - yy, 2 * xy)) / 2).sqrt()


def _mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Integral of |(1 - t) a + t b|^2 over t from 0 to 1."""
    return (a.square() + a * b + b.square()) / 3


def _weighted_spread(field: Tensor, weight: Tensor) -> Tensor:
    """sum_k |W_k| |u(p+k) - u(p)|: (N, H, W, 2) -> (N, H-2r, W-2r)."""
    norms = tap_norms(weight)
    kh, kw = norms.shape
    height, width = field.shape[1] - kh + 1, field.shape[2] - kw + 1
    middle = field[:, kh // 2 : kh // 2 + height, kw // 2 : kw // 2 + width]
    total = torch.zeros_like(middle[..., 0])
    for row in range(kh):
        for column in range(kw):
            other = field[:, row : row + height, column : column + width]
            total += norms[row, column] * (other - middle).norm(dim=-1)
    return total


def _within(field: Tensor) -> Tensor:
    """Whether each point of a lattice is displaced to within it: (N, h, w, 2) -> bool (N, h, w)."""
    targets = _lattice(field) + field
    last = targets.new_tensor([field.shape[2] - 1, field.shape[1] - 1])
    return ((targets >= 0) & (targets <= last)).all(-1)


def _lattice(field: Tensor) -> Tensor:
    """Its own points, (h, w, 2), as (x, y)."""
    y, x = (torch.arange(side, dtype=field.dtype) for side in field.shape[1:3])
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _sample(values: Tensor, points: Tensor) -> Tensor:
    """Bilinear interpolants (N, C, H, W) at points (N, h, w, 2) in pixels -> (N, C, h, w)."""
    last = points.new_tensor([values.shape[3] - 1, values.shape[2] - 1])
    return F.grid_sample(values, 2 * points / last - 1, padding_mode="border", align_corners=True)


def _dilated(values: Tensor, weight: Tensor, per_pixel: int) -> Tensor:
    """W on a finer lattice, (N, C, h, w) -> (N, out, h, w), with taps whole pixels apart."""
    reach = [side // 2 * per_pixel for side in weight.shape[2:]]
    return F.conv2d(values, weight, padding=reach, dilation=per_pixel)


def _check_kernel(weight: Tensor) -> None:
    odd = weight.ndim == 4 and all(side % 2 for side in weight.shape[2:])
    require(odd, "weight", "(out, in, kh, kw) with odd sides", tuple(weight.shape))
