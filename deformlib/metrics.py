"""How far a deformation moves a representation (Section 2.1), and how smooth filters are (Section 4.1).

>>> images = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
>>> sensitivity(torch.nn.Flatten(), images, images.flip(0))["input"] > 0.5
True
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from deformlib.representations import named_layers, visit

BLOCK_VALUES = 2**18  # values reduced at a time: they stay in the processor's cache
KEPT_BYTES = 2 * 2**30  # clean representations kept at once when `sensitivity` goes through images in batches


@dataclass(frozen=True)
class Distance:
    """A distance that is a function of the squared Euclidean one between vectors divided by their `length`."""

    length: Callable[[Tensor], Tensor]  # (N, D) -> (N, 1)
    of_square: Callable[[Tensor], Tensor]  # elementwise


def _root(square: Tensor) -> Tensor:
    positive = square > 0  # the gradient at 0 is 0, not infinite
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


def _norm(x: Tensor) -> Tensor:
    # By blocks, because one sum over millions of float32 loses digits.
    return _root(sum(_upcast(block).square().sum(1, keepdim=True) for block in _columns(x)))


# |a/|a| - b/|b||^2 / 2 equals 1 - cos(a, b) and keeps its digits when a and b are close.
DISTANCES: dict[str, Distance] = {
    "cosine": Distance(_norm, lambda square: square / 2),
    "euclidean": Distance(lambda x: _upcast(x.new_ones(len(x), 1)), _root),
}


def paired_distances(a: Tensor, b: Tensor, distance: str = "cosine") -> Tensor:
    """Distance of each row of `a` from the same row of `b`: (N, ...), (N, ...) -> (N,).

    A zero vector has cosine distance 1 from any other, 0 from another zero. Computed in float32, or float64 if the
    inputs are; differentiable. ValueError names an input that is empty, not floating or not finite, a `b` unlike
    `a` in shape, dtype or device, an unknown distance.
    """
    _check_pair(("a", a), ("b", b), distance)
    return _paired(_rows(torch.cat([a, b])), DISTANCES[distance])


def pairwise_distances(x: Tensor, distance: str = "cosine") -> Tensor:
    """Distances of all pairs of rows, in the order of `scipy.spatial.distance.pdist`: (N, ...) -> (N(N-1)/2,).

    Precision and errors as for `paired_distances`; N at least 2.
    """
    _check_vectors("x", x, distance, least=2)
    return _pairwise(_rows(x), DISTANCES[distance])


def median(values: Tensor) -> Tensor:
    """Scalar; the mean of the middle two for an even count, as `numpy.median`."""
    return (torch.median(values) - torch.median(-values)) / 2  # torch.median takes the lower of the middle two


def normalized_distance(clean: Tensor, deformed: Tensor, distance: str = "cosine") -> Tensor:
    """Mean distance of deformed from clean over the median of all pairs of clean: (N, ...), (N, ...) -> scalar.

    Section 2.1's normalized cosine distance, averaged over images. Errors as for `paired_distances`; also a
    ValueError if there are fewer than two images or the median is zero.
    """
    _check_pair(("clean", clean), ("deformed", deformed), distance, least=2)
    return _ratio(*_mean_and_median(_rows(torch.cat([clean, deformed])), DISTANCES[distance]))


def distances(
    model: nn.Module, clean: Tensor, deformed: Tensor, layers: Iterable[str] | None = None, distance: str = "cosine"
) -> dict[str, Tensor]:
    """{layer: (N,)}: how far the deformation moves each image's representation, not normalized.

    Clean and deformed images, (N, ...) each, go through as one batch, in eval mode with every submodule's own mode
    restored. Differentiable in images and parameters. Layers as in `visit`; errors as there and for
    `paired_distances`.
    """
    _check_pair(("clean", clean), ("deformed", deformed), distance)
    batch = torch.cat([clean, deformed])
    with _eval_mode(model):
        return visit(model, batch, layers, lambda r: _paired(_rows(r, len(batch)), DISTANCES[distance]))


@torch.no_grad()
def sensitivity(
    model: nn.Module,
    clean: Tensor,
    deformed: Tensor,
    layers: Iterable[str] | None = None,
    distance: str = "cosine",
    batch_size: int | None = None,
) -> dict[str, float]:
    """{layer: sensitivity to deformation}: `normalized_distance` of the representations (Section 2.1, Figure 3).

    Clean and deformed images, (N, ...) each with N at least 2, go through as one batch, or `batch_size` of each at
    a time with the same result. The pairs need all clean representations of a layer, so these are then kept, for
    as many layers as fit in `KEPT_BYTES`; further layers cost further passes. Mode, layers and errors as for
    `distances`; also a ValueError that names a layer where the median distance between clean images is zero.
    """
    _check_pair(("clean", clean), ("deformed", deformed), distance, least=2)
    if batch_size is not None and (not isinstance(batch_size, Integral) or batch_size < 1):
        raise ValueError(f"batch_size must be an integer >= 1, or None for one batch, got {batch_size!r}")
    with _eval_mode(model):
        if batch_size is None or batch_size >= len(clean):
            batch = torch.cat([clean, deformed])
            parts = visit(model, batch, layers, lambda r: _mean_and_median(_rows(r, len(batch)), DISTANCES[distance]))
        else:
            parts = _by_batches(model, clean, deformed, layers, DISTANCES[distance], batch_size)
    return {layer: _ratio(mean, middle, f"layer {layer!r}: ").item() for layer, (mean, middle) in parts.items()}


def normalized_total_variation(weight: Tensor, average: str = "bank") -> Tensor:
    """Roughness of filters, TV(W) / |W|_1 (Section 4.1): (out, in, kh, kw) -> scalar.

    "bank" is as printed: variations summed over all kernels, over magnitudes summed over all kernels. "kernel" is
    the mean over kernels of their own ratio, which gives the 1.870 of footnote 1 (and "bank" 1.857); kernels that
    are zero have none and are left out. ValueError names a weight of wrong rank, dtype or value, an all-zero one,
    an unknown average.
    """
    _check_known("average", average, AVERAGES)
    _check_vectors("weight", weight)
    if weight.ndim != 4 or not weight.any():
        raise ValueError(f"weight must be (out, in, kh, kw) and not all zero, got shape {tuple(weight.shape)}")
    weight = _upcast(weight)
    down, right = weight.diff(dim=2), weight.diff(dim=3)
    variation = down.abs().sum((2, 3)) + right.abs().sum((2, 3))  # (out, in)
    return AVERAGES[average](variation, weight.abs().sum((2, 3)))


AVERAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bank": lambda variation, size: variation.sum() / size.sum(),
    "kernel": lambda variation, size: (variation[size > 0] / size[size > 0]).mean(),
}


@torch.no_grad()
def smoothness(model: nn.Module, average: str = "bank") -> dict[str, float]:
    """{module name: normalized total variation} of every Conv2d whose kernel sides are both at least 3 (Figure 6).

    Names as in `model.named_modules()`. ValueError as for `normalized_total_variation`, naming the module.
    """
    convs = {name: m for name, m in named_layers(model).items() if isinstance(m, nn.Conv2d) and min(m.kernel_size) > 2}
    _check_known("average", average, AVERAGES)
    roughness = {}
    for name, conv in convs.items():
        try:
            roughness[name] = normalized_total_variation(conv.weight, average).item()
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
    return roughness


def _mean_and_median(rows: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    """Clean above deformed, (2N, D) -> mean distance between the halves, median over the pairs of clean."""
    return _paired(rows, distance).mean(), median(_pairwise(rows[: len(rows) // 2], distance))


def _paired(rows: Tensor, distance: Distance) -> Tensor:
    """Clean above deformed, (2N, D) -> (N,)."""
    halves = (block.chunk(2) for block in _embedded(rows, distance))
    return distance.of_square(sum((a - b).square().sum(1) for a, b in halves))


def _pairwise(rows: Tensor, distance: Distance) -> Tensor:
    """(N, D) -> (N(N-1)/2,) through one Gram matrix: |x - y|^2 = |x|^2 + |y|^2 - 2xy."""
    with torch.autocast(rows.device.type, enabled=False):
        gram = sum(_centred_gram(block) for block in _embedded(rows, distance))
    i, j = torch.triu_indices(len(rows), len(rows), offset=1, device=rows.device)
    scale = gram.diagonal()[i] + gram.diagonal()[j]
    square = (scale - 2 * gram[i, j]).clamp(min=0)
    # Rows that are close to each other and far from the mean lose their digits all the same: take differences.
    lost = square < 1e4 * torch.finfo(gram.dtype).eps * scale
    if lost.any():
        square = torch.pdist(torch.cat([*_embedded(rows, distance)], 1)).square()
    return distance.of_square(square)


def _centred_gram(x: Tensor) -> Tensor:
    centred = x - x.mean(0)  # what all rows share would cost the digits of their differences
    return centred @ centred.mT  # (N, d) x (d, N) -> (N, N)


def _embedded(rows: Tensor, distance: Distance) -> Iterator[Tensor]:
    """Rows divided by their length, (N, D) -> blocks (N, d), and one coordinate in which only zero rows are 1:
    so they are at squared distance 2 from unit vectors and 0 from each other."""
    length = distance.length(rows)
    zero = length == 0
    for block in _columns(rows):
        yield _upcast(block) / length.masked_fill(zero, 1)
    yield zero.to(length.dtype)


def _columns(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(max(256, BLOCK_VALUES // len(rows)), dim=1)


def _by_batches(
    model: nn.Module,
    clean: Tensor,
    deformed: Tensor,
    layers: Iterable[str] | None,
    distance: Distance,
    batch_size: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    def move_and_keep(r: Tensor) -> tuple[Tensor, Tensor]:
        return _paired(_rows(r, len(batch)), distance), r[: len(r) // 2].clone()

    sizes = visit(model, clean[:1], layers, lambda r: r.numel() * max(4, r.element_size()))
    parts = {}
    for group in _groups(sizes, KEPT_BYTES // len(clean)):
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in group}
        for images in zip(clean.split(batch_size), deformed.split(batch_size), strict=True):
            batch = torch.cat(images)
            for layer, both in visit(model, batch, group, move_and_keep).items():
                seen.setdefault(layer, []).append(both)
        for layer in group:
            moved, kept = map(torch.cat, zip(*seen.pop(layer), strict=True))
            parts[layer] = moved.mean(), median(_pairwise(_rows(kept), distance))
    return parts


def _groups(sizes: dict[str, int], budget: int) -> Iterator[list[str]]:
    """Consecutive layers whose sizes add up to at most `budget`, or single ones."""
    group: list[str] = []
    for layer, size in sizes.items():
        if group and sum(sizes[other] for other in group) + size > budget:
            yield group
            group = []
        group.append(layer)
    yield group


def _rows(x: Tensor, count: int | None = None) -> Tensor:
    if count is not None and x.shape[:1] != (count,):
        raise ValueError(f"a representation must be (N, ...) with N = {count} images, got {tuple(x.shape)}")
    order = sorted(range(1, x.ndim), key=lambda dim: -x.stride(dim))  # as in memory: no copy, channels-last included
    return x.permute(0, *order).reshape(len(x), -1)  # (N, ...) -> (N, D)


def _upcast(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _ratio(mean: Tensor, middle: Tensor, where: str = "") -> Tensor:
    ratio = mean / middle
    if not ratio.isfinite():
        raise ValueError(
            f"{where}the median pairwise distance between clean images must be finite and > 0, got {middle.item()} "
            f"(the mean distance to deformed ones is {mean.item()}): are they, or their representations, constant?"
        )
    return ratio


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False  # not model.eval(), which some modules override with side effects
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _check_pair(a: tuple[str, Tensor], b: tuple[str, Tensor], distance: str, least: int = 1) -> None:
    (name, x), (other, y) = a, b
    _check_vectors(name, x, distance, least)
    _check_vectors(other, y, distance, least)
    kinds = [(tuple(z.shape), z.dtype, str(z.device)) for z in (x, y)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{other} must have the shape, dtype and device of {name}, {kinds[0]}, got {kinds[1]}")


def _check_vectors(name: str, x: Tensor, distance: str = "cosine", least: int = 1) -> None:
    _check_known("distance", distance, DISTANCES)
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim < 2 or len(x) < least or not x.numel():
        raise ValueError(f"{name} must be (N, ...), N at least {least} and none of it empty, got {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError(f"{name} must be finite, got {int((~x.isfinite()).sum())} NaN or infinite values")


def _check_known(argument: str, value: str, table: dict[str, object]) -> None:
    if value not in table:
        raise ValueError(f"{argument} must be one of {', '.join(table)}, got {value!r}")
