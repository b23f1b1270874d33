"""What the paper's deformations can do: how steep they may be, and how they are in the draws."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deformlib.geometry import affine_fraction, folds, gradient_norm, jacobian
from deformlib.warping import Deformation, ThinPlateSpline


def largest_gradient(spline: ThinPlateSpline, max_displacement: float) -> float:
    """The C of the paper's condition: the largest `gradient_norm` that displacements of the control
    points by up to `max_displacement` pixels along each axis can give, of 45 directions."""
    # The derivative in direction w is sum_k c_k (g_k . w), g_k being control point k's own; it is
    # longest, max_displacement * sqrt(2) * sum_k |g_k . w|, when every c_k is in a corner.
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
    """`gradient_norm`, `folds` and `affine_fraction` of n random deformations of images of size
    (H, W): each (n,)."""
    spline = deformation.spline(size, dtype=torch.float64)
    controls = deformation.sample(n, generator=generator).split(16)
    fields = [spline.field(control) for control in controls]
    measures = (gradient_norm, folds, affine_fraction)
    return {m.__name__: torch.cat([m(field) for field in fields]) for m in measures}
