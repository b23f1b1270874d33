"""How far a deformation moves a representation (Section 2.1)."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from deformlib.representations import Unfit, evaluating, measuring, patterns_of, visit
from deformlib.validation import check_batch_size, check_known, check_pair
from deformlib.vector_distances import DISTANCES, Distance, median, paired, pairwise, power_of_two

Result = TypeVar("Result")
KEPT_BYTES = 2 * 2**30  # clean representations that `sensitivity` keeps at once between batches


@dataclass(frozen=True)
class Statistics:
    """Of one layer: distances of deformed from clean images, and those of all pairs of clean ones
    ("pairs_"), computed in `dtype`. Scalars in float64."""

    dtype: torch.dtype
    mean: Tensor
    median: Tensor
    mean_square: Tensor
    pairs_mean: Tensor
    pairs_median: Tensor
    pairs_mean_square: Tensor

    @property
    def normalized(self) -> Tensor:
        """The paper's quantity, mean / pairs_median; NaN where that is zero."""
        return torch.where(self.pairs_median == 0, torch.nan, self.mean / self.pairs_median)


def statistics(clean: Tensor, deformed: Tensor, distance: str = "cosine") -> Statistics:
    """Of representations (N, ...), N at least 2. Errors as for `paired_distances`."""
    _check(clean, deformed, distance, least=2)
    return _statistics(clean, deformed, DISTANCES[distance])


def normalized_distance(clean: Tensor, deformed: Tensor, distance: str = "cosine") -> Tensor:
    """The paper's normalized distance (Section 2.1): mean distance of deformed from clean over the
    median of all pairs of clean, (N, ...), (N, ...) -> scalar. Differentiable. Errors as for
    `paired_distances`; also a ValueError if N is below 2 or the median zero."""
    return _normalized(statistics(clean, deformed, distance), DISTANCES[distance])


def distances(
    model: nn.Module,
    clean: Tensor,
    deformed: Tensor,
    layers: Iterable[str] | None = None,
    distance: str = "cosine",
) -> dict[str, Tensor]:
    """{layer: (N,)}: how far the deformation moves each image's representation, not normalized.
    Clean and deformed images, (N, ...) each, go through as one batch, in eval mode with every
    submodule's own mode restored. Differentiable in images and parameters. Layers as in `visit`,
    with the images along the first axis; errors as there and for `paired_distances`.
    """
    _check(clean, deformed, distance)
    moved = partial(paired, distance=DISTANCES[distance])
    with evaluating(model):
        versions, layers = (clean, deformed), patterns_of(layers)
        return visit_versions(model, versions, layers, lambda a, b: finite(moved(a, b)))


@torch.no_grad()
def sensitivity(
    model: nn.Module,
    clean: Tensor,
    deformed: Tensor,
    layers: Iterable[str] | None = None,
    distance: str = "cosine",
    batch_size: int | None = None,
) -> dict[str, float]:
    """{layer: sensitivity to deformation}, `normalized_distance` of representations (Figure 3).
    Clean and deformed images, (N, ...) each with N at least 2, go through as one batch, or
    `batch_size` of each at a time with the same result: clean representations are then kept, for as
    many layers as fit in `KEPT_BYTES`, and further layers cost further passes. Mode, layers and
    errors as for `distances`; a layer where the median distance between clean images is zero is
    left out with a warning, or a ValueError if it was asked for.
    """
    _check(clean, deformed, distance, least=2)
    check_batch_size(batch_size)
    layers = patterns_of(layers)
    measure = DISTANCES[distance]
    with evaluating(model):
        if batch_size is None or batch_size >= len(clean):
            measured = partial(_statistics, distance=measure)
            parts = visit_versions(model, (clean, deformed), layers, measured)
        else:
            parts = _by_batches(model, clean, deformed, layers, measure, int(batch_size))
    values = {}
    for layer, found in parts.items():
        with measuring(layer, layers):
            values[layer] = _normalized(found, measure).item()
    return values


def visit_versions(
    model: nn.Module,
    versions: Sequence[Tensor],
    layers: list[str] | None,
    fn: Callable[..., Result],
    probe: bool = True,
) -> dict[str, Result]:
    """One pass over versions of the same images, (N, ...) each: {layer: fn(that of each version)}.
    A second over one or two images (unless not `probe`) tells whether the first axis is
    that of the images, or only as long: 256 patches beside 2 x 128 images."""
    count = len(versions) * len(versions[0])

    def reduce(r: Tensor) -> Result:
        if r.layout != torch.strided or r.is_quantized or r.is_complex():
            raise Unfit(f"a representation must be dense real numbers, got {r.dtype}, {r.layout}")
        if r.shape[:1] != (count,):
            expected = f"(N, ...) with N = {len(versions)} x {len(versions[0])} images"
            raise Unfit(f"a representation must be {expected}, got {tuple(r.shape)}")
        if r.requires_grad and torch.is_grad_enabled():
            r = r.clone()  # before a later module changes it in place
        return fn(*r.chunk(len(versions)))

    together = torch.cat(tuple(versions))
    results = visit(model, together, layers, reduce)
    few = 2 if count > 2 else 1
    for layer, length in (_first_axes(model, together[:few], layers) if probe else {}).items():
        if layer in results and length != few:
            del results[layer]
            with measuring(layer, layers):
                rule = "a representation must be (N, ...) with N images"
                raise Unfit(f"{rule}, and its first axis stays {count} with fewer")
    return results


def _first_axes(model: nn.Module, few: Tensor, layers: list[str] | None) -> dict[str, int]:
    """{layer: length of its first axis}; none if the network takes no other number of images."""
    devices = [few.device] if few.is_cuda else []
    with torch.no_grad(), warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices):
        try:
            return visit(model, few, layers, lambda r: len(r) if r.ndim else 0)
        except RuntimeError:
            return {}


def finite(distances: Tensor) -> Tensor:
    """The same, or Unfit: what is not finite has distances that are not."""
    if not distances.isfinite().all():
        raise Unfit("it has NaN or infinite values, or distances too large for its type")
    return distances


def _statistics(clean: Tensor, deformed: Tensor, distance: Distance) -> Statistics:
    return _summary(finite(paired(clean, deformed, distance)), pairwise(clean, distance))


def _summary(moved: Tensor, pairs: Tensor) -> Statistics:
    # Sums and squares of very large or small distances leave float32: divide by a power of two.
    power = power_of_two(torch.maximum(moved.detach().max(), pairs.detach().max()))
    moved, pairs, scale = moved / power, pairs / power, power.double()
    return Statistics(
        dtype=moved.dtype,
        mean=moved.mean() * scale,
        median=median(moved) * scale,
        mean_square=moved.square().mean() * scale**2,
        pairs_mean=pairs.mean() * scale,
        pairs_median=median(pairs) * scale,
        pairs_mean_square=pairs.square().mean() * scale**2,
    )


def _normalized(found: Statistics, distance: Distance) -> Tensor:
    zero = bool(found.pairs_median <= distance.negligible(found.dtype))
    if zero or not found.normalized.isfinite():
        kind = Unfit if zero else ValueError
        raise kind(
            "the median pairwise distance between clean images must be finite and > 0, got "
            f"{found.pairs_median.item()}: are they constant, or multiples of each other?"
        )
    return found.normalized.to(found.dtype)


def _by_batches(
    model: nn.Module,
    clean: Tensor,
    deformed: Tensor,
    layers: list[str] | None,
    distance: Distance,
    batch_size: int,
) -> dict[str, Statistics]:
    def move_and_keep(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return paired(a, b, distance), a.clone()

    batches = list(zip(clean.split(batch_size), deformed.split(batch_size), strict=True))
    sizes = visit_versions(model, batches[0], layers, lambda a, b: a[0].numel() * a.element_size())
    groups: list[list[str]] = []
    left = -1
    for layer, size in sizes.items():  # layers that fit in the budget together, or single ones
        if size > left:
            groups.append([])
            left = KEPT_BYTES // len(clean)
        groups[-1].append(layer)
        left -= size
    parts = {}
    for group in groups:
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in group}
        for versions in batches:
            passed = visit_versions(model, versions, group, move_and_keep, probe=False)
            for layer in seen.keys() & passed.keys():  # "relu" asks for "relu#2", too
                seen[layer].append(passed[layer])
        for layer in group:
            moved, kept = map(torch.cat, zip(*seen.pop(layer), strict=True))
            with measuring(layer, layers):
                parts[layer] = _summary(finite(moved), pairwise(kept, distance))
    return parts


def _check(clean: Tensor, deformed: Tensor, distance: str, least: int = 1) -> None:
    check_known("distance", distance, DISTANCES)
    check_pair(("clean", clean), ("deformed", deformed), least)
