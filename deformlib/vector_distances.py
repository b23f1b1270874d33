"""Distances between vectors, one image's representation each, that keep their digits.

>>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
>>> pairwise_distances(x)
tensor([1.0000, 0.2929, 0.2929])
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from deformlib.validation import check_known

LENGTHS = 1000  # times the relative rounding of a value: that of a length, of many equal values (400 were seen of 3 million)
BLOCK_VALUES, OF_GPU = (
    2**18,
    2**26,
)  # reduced at a time: on a CPU they stay in its cache, a GPU is filled


@dataclass(frozen=True)
class Distance:
    """A distance that is a function of the squared Euclidean one between vectors divided by their `length`."""

    length: Callable[[Tensor], Tensor]  # (N, D) -> (N, 1)
    of_square: Callable[[Tensor], Tensor]  # elementwise
    relative: bool  # to the length, whose rounding then sets a limit to what can be told from zero


def _root(square: Tensor) -> Tensor:
    positive = square > 0  # the gradient at 0 is 0, not infinite
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


def _norm(rows: Tensor) -> Tensor:
    # By blocks, because one sum over millions of float32 loses digits.
    norms = [
        torch.linalg.vector_norm(_upcast(block), dim=1, keepdim=True) for block in _columns(rows)
    ]
    return torch.linalg.vector_norm(torch.cat(norms, 1), dim=1, keepdim=True)


def _one(rows: Tensor) -> Tensor:
    return _upcast(rows.new_ones(len(rows), 1))


# |a/|a| - b/|b||^2 / 2 equals 1 - cos(a, b) and keeps its digits when a and b are close.
DISTANCES: dict[str, Distance] = {
    "cosine": Distance(_norm, lambda square: square / 2, True),
    "euclidean": Distance(_one, _root, False),
}


def paired_distances(a: Tensor, b: Tensor, distance: str = "cosine") -> Tensor:
    """Distance of each row of `a` from the same row of `b`: (N, ...), (N, ...) -> (N,).

    A zero vector has cosine distance 1 from any other, 0 from another zero. Computed in float32, or float64 if the
    inputs are; differentiable. ValueError names an input that is empty, not floating or not finite, a `b` unlike
    `a` in shape, dtype or device, an unknown distance.
    """
    check_known("distance", distance, DISTANCES)
    check_pair(("a", a), ("b", b))
    return paired(a, b, DISTANCES[distance])


def pairwise_distances(x: Tensor, distance: str = "cosine") -> Tensor:
    """Distances of all pairs of rows, in the order of `scipy.spatial.distance.pdist`: (N, ...) -> (N(N-1)/2,).

    Precision and errors as for `paired_distances`; N at least 2.
    """
    check_known("distance", distance, DISTANCES)
    check_vectors("x", x, least=2)
    return pairwise(x, DISTANCES[distance])


def median(values: Tensor) -> Tensor:
    """Scalar; the mean of the middle two for an even count, as `numpy.median`."""
    return (
        torch.median(values) - torch.median(-values)
    ) / 2  # torch.median takes the lower of the middle two


def paired(a: Tensor, b: Tensor, distance: Distance) -> Tensor:
    """`paired_distances` of checked input."""
    order = _memory_order(a)
    (length, xs), (other, ys) = (_embedded(_rows(r, order), distance) for r in (a, b))
    ratio = (
        length / other
    )  # x / length - y / other = (x - ratio y) / length, which reads each value once
    moves = [
        torch.linalg.vector_norm(torch.addcmul(x, ratio, y, value=-1), dim=1)
        for x, y in zip(xs, ys, strict=True)
    ]
    return distance.of_square((torch.stack(moves, 1) / length).square().sum(1))


def pairwise(x: Tensor, distance: Distance) -> Tensor:
    """`pairwise_distances` of checked input, through one Gram matrix: |x - y|^2 = |x|^2 + |y|^2 - 2xy."""
    rows = _rows(x, _memory_order(x))
    length, blocks = _embedded(rows, distance)
    with torch.autocast(x.device.type, enabled=False):
        gram = sum(_centred_gram(block, length) for block in blocks) / length / length.mT
    i, j = torch.triu_indices(len(x), len(x), offset=1, device=x.device)
    scale = gram.diagonal()[i] + gram.diagonal()[j]
    square = scale - 2 * gram[i, j]
    # Rows that are close to each other and far from the mean lose their digits all the same: take differences.
    eps = torch.finfo(gram.dtype).eps
    lost = square < (1e4 * eps * scale).clamp(min=(LENGTHS * eps) ** 2 if distance.relative else 0)
    if lost.any():
        some = torch.zeros(len(x), dtype=torch.bool, device=x.device)  # the rows of these pairs
        some[i[lost]] = some[j[lost]] = True
        length, blocks = _embedded(rows[some].double(), distance)
        exact = sum(torch.pdist(block / length).square() for block in blocks)
        square = square.masked_scatter(some[i] & some[j], exact.to(square.dtype))
    return distance.of_square(square)


def negligible(distance: Distance, dtype: torch.dtype) -> float:
    """The largest distance between rows of a computing `dtype` that may be nothing but the rounding of their values."""
    rounding = max(4 * torch.finfo(dtype).eps, LENGTHS * torch.finfo(torch.float64).eps)
    return rounding**2 if distance.relative else 0.0


def _centred_gram(block: Tensor, length: Tensor) -> Tensor:
    """Products of rows (N, d), but for their length (N, 1), about the mean of all rows divided by their length."""
    mean = length.reciprocal().mT @ block / len(block)  # (1, d)
    centred = torch.addmm(
        block, length, mean, alpha=-1
    )  # what rows share would cost the digits of their differences
    return centred @ centred.mT  # (N, d) x (d, N) -> (N, N)


def _embedded(rows: Tensor, distance: Distance) -> tuple[Tensor, Iterator[Tensor]]:
    """Length of each row (N, 1), and what to divide by it: rows (N, D) in blocks (N, d), and one coordinate in which
    only zero rows, whose length counts as 1, are 1: so they are at squared distance 2 from unit vectors and 0 from
    each other."""
    length = distance.length(rows)
    zero = length == 0
    return length.masked_fill(zero, 1), chain(map(_upcast, _columns(rows)), [zero.to(length.dtype)])


def _columns(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(max(256, (OF_GPU if rows.is_cuda else BLOCK_VALUES) // len(rows)), dim=1)


def _memory_order(x: Tensor) -> list[int]:
    return sorted(range(1, x.ndim), key=lambda dim: -x.stride(dim))


def _rows(x: Tensor, order: list[int]) -> Tensor:
    return x.permute(0, *order).reshape(
        len(x), -1
    )  # (N, ...) -> (N, D), no copy of channels-last either


def _upcast(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def check_vectors(name: str, x: Tensor, least: int = 1) -> None:
    """ValueError that names `x` unless it is a floating-point (N, ...) of finite values with N at least `least`."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        hint, got = (
            (" (divide uint8 images by 255)", x.dtype)
            if isinstance(x, Tensor)
            else ("", type(x).__name__)
        )
        raise ValueError(f"{name} must be a floating-point tensor{hint}, got {got}")
    if x.is_meta:
        raise ValueError(f"{name} must hold values, got a tensor on the device meta")
    if x.ndim < 2 or len(x) < least or not x.numel():
        raise ValueError(
            f"{name} must be (N, ...), N at least {least} and none of it empty, got {tuple(x.shape)}"
        )
    # A sum is finite only if all its terms are, and costs no copy; only where it overflows all have to be looked at.
    if not x.detach().sum().isfinite() and not x.isfinite().all():
        raise ValueError(
            f"{name} must be finite, got {int((~x.isfinite()).sum())} NaN or infinite values"
        )


def check_pair(one: tuple[str, Tensor], two: tuple[str, Tensor], least: int = 1) -> None:
    (name, x), (other, y) = one, two
    check_vectors(name, x, least)
    if not isinstance(y, Tensor) or _kind(y) != _kind(x):
        got = _kind(y) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(
            f"{other} must have the shape, dtype and device of {name}, {_kind(x)}, got {got}"
        )
    check_vectors(other, y, least)


def _kind(x: Tensor) -> tuple[tuple[int, ...], torch.dtype, str]:
    return tuple(x.shape), x.dtype, str(x.device)
