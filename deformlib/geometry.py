"""The shape of a deformation: how steep its field is, whether it folds, how much of it is affine (Section 1).

A field (N, H, W, 2) displaces pixel p to p + field(p), in pixels. Its derivative is taken at the centre of each
cell of 2x2 pixels, where differences are exact for affine fields and second order for others.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deformlib.warping import Deformation, ThinPlateSpline


def jacobian(field: Tensor) -> Tensor:
    """Derivative of the displacement in every cell: (N, H, W, 2) -> (N, H-1, W-1, 2, 2), last (component, along)."""
    along_x, along_y = field.diff(dim=2), field.diff(dim=1)
    along_x = (along_x[:, 1:] + along_x[:, :-1]) / 2  # (N, H-1, W-1, 2)
    along_y = (along_y[:, :, 1:] + along_y[:, :, :-1]) / 2
    return torch.stack([along_x, along_y], dim=-1)


def gradient_norm(field: Tensor) -> Tensor:
    """The paper's sup norm of the gradient: the largest spectral norm of the derivative, (N, H, W, 2) -> (N,).

    It is the most that two neighbouring points move apart or together, as a share of their distance. Below 1 the
    deformation cannot fold.
    """
    (a, b), (c, d) = jacobian(field).permute(3, 4, 0, 1, 2)  # each (N, H-1, W-1)
    # Of a 2x2 matrix: the mean of its two ways of scaling plus half their difference.
    norm = (torch.hypot(a + d, c - b) + torch.hypot(a - d, b + c)) / 2
    return norm.amax((1, 2))


def folds(field: Tensor) -> Tensor:
    """Whether a cell is turned over or flattened, det(1 + derivative) <= 0 anywhere: (N, H, W, 2) -> bool (N,)."""
    (a, b), (c, d) = jacobian(field).permute(3, 4, 0, 1, 2)
    return ((1 + a) * (1 + d) - b * c <= 0).any(2).any(1)


def affine_share(field: Tensor) -> Tensor:
    """Share of the squared displacement that the best affine map explains: (N, H, W, 2) -> (N,), from 0 to 1.

    Least squares over all pixels; the affine map may shift, rotate, scale and shear. A zero field has share nan.
    """
    x, y = torch.meshgrid(
        *(
            torch.linspace(-1, 1, n, dtype=field.dtype, device=field.device)
            for n in (field.shape[2], field.shape[1])
        ),
        indexing="xy",
    )
    basis = torch.stack([torch.ones_like(x), x, y]).flatten(
        1
    )  # (3, H*W), orthogonal on a full grid
    basis = basis / basis.norm(dim=1, keepdim=True)
    explained = (basis @ field.flatten(1, 2)).square()  # (3, H*W) x (N, H*W, 2) -> (N, 3, 2)
    return explained.sum((1, 2)) / field.square().sum((1, 2, 3))


def largest_gradient(spline: ThinPlateSpline, max_displacement: float) -> float:
    """The C of the paper's condition: the largest `gradient_norm` that any displacement of the control points by
    up to `max_displacement` along each axis can give, in the worst of 45 directions.

    The derivative in direction w is sum_k c_k (g_k . w), g_k being control point k's own; each c_k lies in a square,
    so its length is at most max_displacement * sqrt(2) * sum_k |g_k . w|, reached when every c_k is in a corner.
    """
    own = spline.basis.T.unflatten(1, spline.size).unsqueeze(-1)  # (K, H, W, 1)
    gradients = jacobian(own).flatten(1, 3)  # (K, cells, 2)
    turn = torch.arange(45, dtype=own.dtype, device=own.device) * math.pi / 45
    directions = torch.stack([turn.cos(), turn.sin()])  # (2, 45)
    steepest = max(float((gradients @ w).abs().sum(0).max()) for w in directions.T)
    return math.sqrt(2) * max_displacement * steepest


def shapes(
    deformation: Deformation,
    size: Sequence[int],
    n: int,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """`gradient_norm`, `folds` and `affine_share` of n random deformations of images of size (H, W): each (n,)."""
    spline = deformation.spline(size, dtype=torch.float64)
    fields = [
        spline.field(control) for control in deformation.sample(n, generator=generator).split(16)
    ]
    return {
        measure.__name__: torch.cat([measure(field) for field in fields])
        for measure in (gradient_norm, folds, affine_share)
    }
