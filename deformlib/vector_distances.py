"""Distances between vectors, one image's representation each, that keep their digits."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deformlib.validation import check_known, check_pair, check_vectors

ROUNDING = 1000  # rounding error of a norm, in units of eps (400 observed)
CPU_BLOCK = 2**18  # values reduced at a time, which stay in the cache
GPU_BLOCK = 2**26  # as many as fill a GPU


@dataclass(frozen=True)
class Distance:
    """A function of the squared distance between vectors, divided by their norms if `relative`."""

    relative: bool
    of_square: Callable[[Tensor], Tensor]  # elementwise

    def negligible(self, dtype: torch.dtype) -> float:
        """The largest distance between rows that may be rounding alone, computed in `dtype`."""
        rounding = max(4 * torch.finfo(dtype).eps, ROUNDING * torch.finfo(torch.float64).eps)
        return rounding**2 if self.relative else 0.0


def _root(square: Tensor) -> Tensor:
    positive = square > 0  # the gradient at 0 is 0, not infinite
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


# |a/|a| - b/|b||^2 / 2 equals 1 - cos(a, b) and keeps its digits when a and b are close.
DISTANCES: dict[str, Distance] = {
    "cosine": Distance(True, lambda square: square / 2),
    "euclidean": Distance(False, _root),
}


def paired_distances(a: Tensor, b: Tensor, distance: str = "cosine") -> Tensor:
    """Distance of each row of `a` from the same row of `b`: (N, ...), (N, ...) -> (N,).
    A zero vector has cosine distance 1 from any other, 0 from another zero. Computed in float32, or
    float64 if the inputs are, whatever their scale; differentiable. ValueError for an input that is
    empty, not floating or not finite, inputs unlike each other, or an unknown distance.
    """
    check_known("distance", distance, DISTANCES)
    check_pair(("a", a), ("b", b))
    return paired(a, b, DISTANCES[distance])


def pairwise_distances(x: Tensor, distance: str = "cosine") -> Tensor:
    """Distances of all pairs of rows, as `scipy.spatial.distance.pdist`: (N, ...) -> (N(N-1)/2,),
    N at least 2. Precision and errors as for `paired_distances`."""
    check_known("distance", distance, DISTANCES)
    check_vectors("x", x, least=2)
    return pairwise(x, DISTANCES[distance])


def median(values: Tensor) -> Tensor:
    """Scalar; the mean of the middle two for an even count, as `numpy.median`."""
    lower, upper = torch.median(values), -torch.median(-values)  # torch takes the lower of the two
    return (lower + upper) / 2


def paired(a: Tensor, b: Tensor, distance: Distance) -> Tensor:
    """`paired_distances` of checked input."""
    a, b = _rows(a, a.stride()), _rows(b, a.stride())  # (N, D)
    square = _paired_squares(a, b, distance)
    if distance.relative or not (far := _far(square.sqrt())).any():
        return distance.of_square(square)
    # Squares that float32 cannot hold: these rows again in float64, and without them the others,
    # because infinite values would make NaN of gradients.
    a, b, far_a, far_b = (*(x.masked_fill(far[:, None], 0) for x in (a, b)), a[far], b[far])
    near = distance.of_square(_paired_squares(a, b, distance))
    exact = distance.of_square(_paired_squares(far_a, far_b, distance, torch.float64))
    return near.index_put((far,), exact.to(near.dtype))


def _paired_squares(
    a: Tensor, b: Tensor, distance: Distance, dtype: torch.dtype | None = None
) -> Tensor:
    length, xs = _embedded(a, distance, dtype)
    other, ys = _embedded(b, distance, dtype)
    ratio = length / other
    moves = []
    for x, y in zip(xs, ys, strict=True):
        # x / length - y / other = (x - ratio y) / length, which reads each value once.
        moves.append(torch.linalg.vector_norm(torch.addcmul(x, ratio, y, value=-1), dim=1))
    return (torch.stack(moves, 1) / length).square().sum(1)  # (N, blocks) -> (N,)


def pairwise(x: Tensor, distance: Distance) -> Tensor:
    """`pairwise_distances` of checked input."""
    rows = _rows(x, x.stride())  # (N, D)
    values, spread = _pairwise(rows, distance)
    if not distance.relative and _far(spread.sqrt()).any():  # squares that float32 cannot hold
        return _pairwise(rows, distance, torch.float64)[0].to(values.dtype)
    return values


def _pairwise(
    rows: Tensor, distance: Distance, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Distances (N(N-1)/2,), through one Gram matrix: |x - y|^2 = |x|^2 + |y|^2 - 2xy; and each
    row's squared distance from the mean of all, (N,)."""
    length, blocks = _embedded(rows, distance, dtype)
    with torch.autocast(rows.device.type, enabled=False):
        gram = sum(_centred_gram(block, length) for block in blocks) / length / length.mT  # (N, N)
    spread = gram.diagonal()
    i, j = torch.triu_indices(len(rows), len(rows), offset=1, device=rows.device)
    scale = spread[i] + spread[j]
    square = scale - 2 * gram[i, j]
    values = distance.of_square(square)
    # Rows close to each other and far from the mean lose their digits: take differences.
    eps = torch.finfo(gram.dtype).eps
    floor = (ROUNDING * eps) ** 2 if distance.relative else 0
    lost = square < (1e4 * eps * scale).clamp(min=floor)
    if lost.any():
        some = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)  # rows of these pairs
        some[i[lost]] = some[j[lost]] = True
        length, blocks = _embedded(rows[some], distance, torch.float64)
        exact = torch.stack([torch.pdist(block / length).square() for block in blocks]).sum(0)
        values = values.masked_scatter(
            some[i] & some[j], distance.of_square(exact).to(values.dtype)
        )
    return values, spread


def power_of_two(sizes: Tensor) -> Tensor:
    """The power of two at or below each of `sizes` >= 0, and 1 for 0. Dividing by it is exact."""
    return torch.where(sizes > 0, sizes / (2 * torch.frexp(sizes).mantissa), 1)


def _centred_gram(block: Tensor, length: Tensor) -> Tensor:
    """Products of rows (N, d) about their mean, but for their length (N, 1): a common mean would
    cost the digits of their differences."""
    mean = length.reciprocal().mT @ block / len(block)  # (1, d)
    centred = torch.addmm(block, length, mean, alpha=-1)
    return centred @ centred.mT  # (N, d) x (d, N) -> (N, N)


def _embedded(
    rows: Tensor, distance: Distance, dtype: torch.dtype | None
) -> tuple[Tensor, Iterator[Tensor]]:
    """Length of each row (N, 1), and what to divide by it: rows (N, D) in blocks (N, d), and one
    coordinate in which only zero rows, whose length counts as 1, are 1: so they are at squared
    distance 2 from unit vectors and 0 from each other."""
    dtype = dtype or torch.promote_types(rows.dtype, torch.float32)
    if not distance.relative:
        length = rows.new_ones(len(rows), 1, dtype=dtype)
        return length, _blocks(rows, dtype, None, torch.zeros_like(length))
    length, power = _norm(_blocks(rows, dtype)), None
    far = _far(length)
    if far.any() and (far := far & rows.any(1, keepdim=True)).any():
        largest = torch.linalg.vector_norm(rows.detach(), torch.inf, dim=1, keepdim=True)
        power = torch.where(far, power_of_two(largest.to(dtype)), 1)  # other rows keep their bits
        length = _norm(_blocks(rows, dtype, power))
    zero = length == 0
    return length.masked_fill(zero, 1), _blocks(rows, dtype, power, zero.to(dtype))


def _blocks(
    rows: Tensor, dtype: torch.dtype, power: Tensor | None = None, last: Tensor | None = None
) -> Iterator[Tensor]:
    """Rows (N, D) divided by `power` (N, 1) as blocks (N, d) of `dtype`, and a `last` one."""
    size = max(256, (GPU_BLOCK if rows.is_cuda else CPU_BLOCK) // len(rows))
    for block in rows.split(size, dim=1):
        yield block.to(dtype) if power is None else block.to(dtype) / power
    if last is not None:
        yield last


def _norm(blocks: Iterator[Tensor]) -> Tensor:
    """(N, 1). By blocks, because one sum over millions of float32 loses digits."""
    norms = [torch.linalg.vector_norm(block, dim=1, keepdim=True) for block in blocks]
    return torch.linalg.vector_norm(torch.cat(norms, 1), dim=1, keepdim=True)


def _far(lengths: Tensor) -> Tensor:
    """Whether the square of a length, or of a difference beside it, may overflow or lose digits."""
    limits = torch.finfo(lengths.dtype)
    return (lengths < limits.tiny**0.5 / limits.eps**2) | ~(lengths < limits.max**0.5 / 16)


def _rows(x: Tensor, strides: Sequence[int]) -> Tensor:
    """(N, ...) -> (N, D) in the order of strides in memory: no copy of channels-last either."""
    order = sorted(range(1, x.ndim), key=lambda dim: -strides[dim])
    return x.permute(0, *order).reshape(len(x), -1)
