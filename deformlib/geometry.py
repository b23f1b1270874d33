"""The shape of a deformation (Section 1): how steep it is, whether it folds, how affine it is.

A field (N, H, W, 2) displaces pixel p to p + field(p), in pixels. Its derivative is taken at the
centre of each cell of 2x2 pixels.
"""

import torch
from torch import Tensor

from deformlib.warping import unit_lattice


def jacobian(field: Tensor) -> Tensor:
    """(N, H, W, 2) -> (N, H-1, W-1, 2, 2), the last two (component, along)."""
    along_x, along_y = field.diff(dim=2), field.diff(dim=1)
    along_x = (along_x[:, 1:] + along_x[:, :-1]) / 2  # (N, H-1, W-1, 2)
    along_y = (along_y[:, :, 1:] + along_y[:, :, :-1]) / 2
    return torch.stack([along_x, along_y], dim=-1)


def gradient_norm(field: Tensor) -> Tensor:
    """The paper's sup norm of the gradient: (N, H, W, 2) -> (N,). The most that two neighbouring
    points move apart or together, as a fraction of their distance; below 1 nothing folds."""
    (a, b), (c, d) = jacobian(field).permute(3, 4, 0, 1, 2)  # each (N, H-1, W-1)
    # Of a 2x2 matrix: the mean of its two ways of scaling plus half their difference.
    norm = (torch.hypot(a + d, c - b) + torch.hypot(a - d, b + c)) / 2
    return norm.amax((1, 2))


def folds(field: Tensor) -> Tensor:
    """Whether a cell is turned over or flattened (determinant <= 0): (N, H, W, 2) -> bool (N,)."""
    (a, b), (c, d) = jacobian(field.double()).permute(3, 4, 0, 1, 2)
    return ((1 + a) * (1 + d) - b * c <= 0).any(2).any(1)


def affine_fraction(field: Tensor) -> Tensor:
    """Fraction of the squared displacement that the best affine map explains, by least squares over
    all pixels: (N, H, W, 2) -> (N,). NaN for a zero field."""
    x, y = unit_lattice(field.shape[1:3]).to(field)
    basis = torch.stack([torch.ones_like(x), x, y])  # (3, H*W), orthogonal on a full grid
    basis = basis / basis.norm(dim=1, keepdim=True)
    explained = (basis @ field.flatten(1, 2)).square()  # (3, H*W) x (N, H*W, 2) -> (N, 3, 2)
    return explained.sum((1, 2)) / field.square().sum((1, 2, 3))
