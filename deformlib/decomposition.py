"""A smooth filter as a less smooth one followed by a smoothing: the informal argument of Section 4, measured.

A kernel that can be written so, w = g * s with the smoothing s (a full convolution: sides add up), lies in the span
of the shifts of s. So the nearest kernel of this form is a projection, and the question is how much it leaves out.

>>> box = SMOOTHINGS["2x2 box"]
>>> explained(torch.ones(1, 1, 3, 3), box).item() < 1  # w = g * s would be smaller at its corners
True
>>> expected_share(box)
0.4444444444444444
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from deformlib.validation import require
from deformlib.vector_distances import check_vectors


def gaussian(sigma: float) -> Tensor:
    """(3, 3), sampled at whole pixels and normalized to sum 1; `sigma`, its standard deviation, in pixels."""
    at = torch.tensor([-1, 0, 1], dtype=torch.float64)
    line = torch.softmax(-((at / sigma) ** 2) / 2, 0)
    return torch.outer(line, line)


# "A smoothing operation similar to average pooling or smoothing with a Gaussian kernel": the first leaves a 2x2 filter
# of a 3x3 one, the second a single tap.
SMOOTHINGS: dict[str, Tensor] = {
    "2x2 box": torch.full((2, 2), 0.25, dtype=torch.float64),
    "Gaussian": gaussian(1.0),
}


def shifts(smoothing: Tensor, size: tuple[int, int] = (3, 3)) -> Tensor:
    """The matrix of g -> g * smoothing, one shift of the smoothing a column: (p, q) filters to (kh, kw) kernels, as
    (kh * kw, p * q). ValueError unless the smoothing fits into the kernel."""
    (rows, columns), (kh, kw) = smoothing.shape, size
    p, q = kh - rows + 1, kw - columns + 1
    require(p >= 1 and q >= 1, "smoothing", f"at most {kh}x{kw}", f"{rows}x{columns}")
    single = torch.eye(p * q, dtype=torch.float64).view(-1, 1, p, q)  # filters of one tap each
    return F.conv_transpose2d(single, smoothing.double()[None, None]).flatten(1).T


def remainder(weight: Tensor, smoothing: Tensor) -> Tensor:
    """The less smooth filter g whose convolution with `smoothing` comes nearest to each kernel, by least squares:
    (out, in, kh, kw), (r, c) -> (out, in, kh - r + 1, kw - c + 1), in float64.

    ValueError for a weight of wrong rank, dtype or value, or a smoothing larger than its kernels.
    """
    _check(weight)
    matrix = shifts(smoothing, weight.shape[2:])
    p, q = (side - other + 1 for side, other in zip(weight.shape[2:], smoothing.shape))
    return (weight.double().flatten(2) @ torch.linalg.pinv(matrix).T).unflatten(2, (p, q))


def explained(weight: Tensor, smoothing: Tensor) -> Tensor:
    """Share of each kernel's energy that g * smoothing can explain: (out, in, kh, kw), (r, c) -> (out, in), in [0, 1].

    The kernel is zero outside its own square, so even a constant one is not explained whole. NaN for a kernel that is
    zero. Errors as for `remainder`.
    """
    nearest = (
        remainder(weight, smoothing).flatten(2) @ shifts(smoothing, weight.shape[2:]).T
    )  # (out, in, kh * kw)
    return nearest.square().sum(2) / weight.double().square().sum((2, 3))


def relative_norm(weight: Tensor, smoothing: Tensor) -> Tensor:
    """Norm of the less smooth filter over that of the kernel, for a smoothing of sum 1: the "similar norm" of Section 4.

    (out, in, kh, kw), (r, c) -> (out, in). NaN for a kernel that is zero. Errors as for `remainder`.
    """
    return remainder(weight, smoothing).norm(dim=(2, 3)) / weight.double().norm(dim=(2, 3))


def expected_share(smoothing: Tensor) -> float:
    """The mean of `explained` for 3x3 kernels of independent weights from one symmetric distribution: dimensions of the span over taps."""
    return shifts(smoothing, (3, 3)).shape[1] / 9


def _check(weight: Tensor) -> None:
    check_vectors("weight", weight)
    require(weight.ndim == 4, "weight", "(out, in, kh, kw)", f"shape {tuple(weight.shape)}")
