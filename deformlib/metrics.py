"""How far a deformation moves a representation (Section 2.1), and how smooth filters are (Section 4.1).

>>> images = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
>>> sensitivity(torch.nn.Flatten(), images, images.flip(0))["input"] > 0.5
True
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from deformlib.representations import (
    Unfit,
    check_model,
    fitting,
    named,
    named_layers,
    patterns_of,
    visit,
)
from deformlib.validation import check_batch_size, check_known, require
from deformlib.vector_distances import (
    DISTANCES,
    Distance,
    check_pair,
    check_vectors,
    median,
    negligible,
    paired,
    pairwise,
)

Result = TypeVar("Result")
KEPT_BYTES = (
    2 * 2**30
)  # clean representations kept at once when `sensitivity` goes through images in batches


def normalized_distance(clean: Tensor, deformed: Tensor, distance: str = "cosine") -> Tensor:
    """Mean distance of deformed from clean over the median of all pairs of clean: (N, ...), (N, ...) -> scalar.

    Section 2.1's normalized cosine distance, averaged over images. Errors as for `vectors.paired_distances`; also a
    ValueError if there are fewer than two images or the median is zero.
    """
    _check(clean, deformed, distance, least=2)
    return _ratio(*_mean_and_median(clean, deformed, DISTANCES[distance]), DISTANCES[distance])


def distances(
    model: nn.Module,
    clean: Tensor,
    deformed: Tensor,
    layers: Iterable[str] | None = None,
    distance: str = "cosine",
) -> dict[str, Tensor]:
    """{layer: (N,)}: how far the deformation moves each image's representation, not normalized.

    Clean and deformed images, (N, ...) each, go through as one batch, in eval mode with every submodule's own mode
    restored. Differentiable in images and parameters. Layers as in `visit`, and a representation must have the images
    along its first axis; errors as there and for `vectors.paired_distances`.
    """
    _check(clean, deformed, distance)
    layers = patterns_of(layers)
    with evaluating(model):
        return visit_versions(
            model, (clean, deformed), layers, lambda a, b: finite(paired(a, b, DISTANCES[distance]))
        )


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
    a time with the same result (unless a layer mixes images, as batch norm without running statistics does). The
    pairs need all clean representations of a layer, so these are then kept, for as many layers as fit in
    `KEPT_BYTES`; further layers cost further passes. Mode, layers and errors as for `distances`; a layer where the
    median distance between clean images is zero is as one without representation: left out with a warning by default,
    a ValueError if it was asked for.
    """
    _check(clean, deformed, distance, least=2)
    check_batch_size(batch_size)
    layers = patterns_of(layers)
    measure = DISTANCES[distance]
    with evaluating(model):
        if batch_size is None or batch_size >= len(clean):
            parts = visit_versions(
                model, (clean, deformed), layers, lambda a, b: _mean_and_median(a, b, measure)
            )
        else:
            parts = _by_batches(model, clean, deformed, layers, measure, batch_size)
    found = {}
    for layer, (mean, middle) in parts.items():
        with fitting(layer, layers):
            found[layer] = _ratio(mean, middle, measure, f"layer {layer!r}: ").item()
    return found


def normalized_total_variation(weight: Tensor, average: str = "bank") -> Tensor:
    """Roughness of filters, TV(W) / |W|_1 (Section 4.1): (out, in, kh, kw) -> scalar.

    "bank" is as printed: variations summed over all kernels, over magnitudes summed over all kernels. "kernel" is
    the mean over kernels of their own ratio, which gives the 1.870 of footnote 1 (and "bank" 1.857); kernels that
    are zero have none and are left out. ValueError names a weight of wrong rank, dtype or value, an all-zero one,
    an unknown average.
    """
    check_known("average", average, AVERAGES)
    _check_bank(weight)
    return AVERAGES[average](*variation_and_size(weight))


def kernels_by_variation(weight: Tensor, quantiles: Iterable[float]) -> tuple[Tensor, Tensor]:
    """Kernels of a filter bank from smooth to rough: (out, in, kh, kw) -> (Q, kh, kw), and their own ratios (Q,).

    A quantile is a share of the bank's kernels, in [0, 1], that are smoother; kernels that are zero are left out.
    ValueError for another quantile, or a weight as in `normalized_total_variation`.
    """
    quantiles = list(quantiles)
    require(
        bool(quantiles) and all(0 <= quantile <= 1 for quantile in quantiles),
        "quantiles",
        "one or more numbers in [0, 1]",
        quantiles,
    )
    _check_bank(weight)
    variation, size = (values.flatten() for values in variation_and_size(weight))
    kernels, ratios = weight.flatten(0, 1)[size > 0], (variation / size)[size > 0]
    order = ratios.argsort(stable=True)
    chosen = order[[round(quantile * (len(order) - 1)) for quantile in quantiles]]
    return kernels[chosen], ratios[chosen]


def variation_and_size(weight: Tensor) -> tuple[Tensor, Tensor]:
    """TV and L1 norm of each kernel: (out, in, kh, kw) -> (out, in), (out, in)."""
    weight = weight if weight.dtype == torch.float64 else weight.float()
    down, right = weight.diff(dim=2), weight.diff(dim=3)
    return down.abs().sum((2, 3)) + right.abs().sum((2, 3)), weight.abs().sum((2, 3))


def _check_bank(weight: Tensor) -> None:
    check_vectors("weight", weight)
    require(weight.ndim == 4, "weight", "(out, in, kh, kw)", tuple(weight.shape))
    if not weight.any():
        raise Unfit(
            f"weight must not be all zero, got {tuple(weight.shape)} zeros, whose variation has no scale"
        )


AVERAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bank": lambda variation, size: variation.sum() / size.sum(),
    "kernel": lambda variation, size: (variation[size > 0] / size[size > 0]).mean(),
}


@torch.no_grad()
def smoothness(
    model: nn.Module, average: str = "bank", layers: Iterable[str] | None = None
) -> dict[str, float]:
    """{module name: normalized total variation} of every Conv2d whose kernel sides are both at least 3 (Figure 6).

    All, or those among `layers`, names or patterns as in `visit`. ValueError as for `normalized_total_variation`,
    naming the module; if all are asked for, one whose weights are all zero is left out with a warning.
    """
    check_known("average", average, AVERAGES)
    roughness = {}
    with evaluating(
        model
    ):  # reading a weight that is computed may change what it is computed from (spectral_norm)
        for name, conv in named_layers(model, layers).items():
            if isinstance(conv, nn.Conv2d) and min(conv.kernel_size) >= 3:
                with fitting(name, layers):
                    roughness[name] = named(
                        name,
                        lambda weight: normalized_total_variation(weight, average).item(),
                        conv.weight,
                    )
    return roughness


def visit_versions(
    model: nn.Module,
    versions: Sequence[Tensor],
    layers: list[str] | None,
    fn: Callable[..., Result],
    probe: bool = True,
) -> dict[str, Result]:
    """One pass over versions of the same images together, (N, ...) each; {layer: fn(that of each version)}. A second
    one over very few images, unless it is known already (not `probe`), tells whether a first axis is that of the images."""
    count = len(versions) * len(versions[0])

    def reduce(r: Tensor) -> Result:
        if r.is_nested or r.layout != torch.strided:
            raise Unfit(
                f"a representation must be a dense tensor, got {'a nested one' if r.is_nested else r.layout}"
            )
        r = r.dequantize() if r.is_quantized else r
        if r.shape[:1] != (count,):
            raise Unfit(
                f"a representation must be (N, ...) with N = {len(versions)} x {len(versions[0])} images, got {tuple(r.shape)}"
            )
        if r.is_complex():
            raise Unfit(f"a representation must be of real numbers, got {r.dtype}")
        kept = (
            r.clone() if r.requires_grad and torch.is_grad_enabled() else r
        )  # before a later module changes it in place
        return fn(*kept.chunk(len(versions)))

    results = visit(model, both := torch.cat(tuple(versions)), layers, reduce)
    others = _first_axes(model, both[: 2 if count > 2 else 1], layers) if probe else {}
    for layer, length in others.items():
        if layer in results and length != (2 if count > 2 else 1):
            del results[layer]
            with fitting(layer, layers):
                raise Unfit(
                    f"layer {layer!r}: a representation must be (N, ...) with N images, and its first axis stays {count} with fewer"
                )
    return results


def _first_axes(model: nn.Module, few: Tensor, layers: list[str] | None) -> dict[str, int]:
    """{layer: length of its representation's first axis}; of no layer if the network does not take so few images."""
    devices = [few.device] if few.is_cuda else []
    with torch.no_grad(), warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices):
        try:
            return visit(
                model, few, layers, lambda r: r.shape[0] if not r.is_nested and r.ndim else 0
            )
        except Exception:  # whatever a network raises that was made for one number of images
            return {}


def finite(distances: Tensor) -> Tensor:
    """The same, or Unfit: a representation that is not finite has distances that are not."""
    if not distances.isfinite().all():
        raise Unfit("it has NaN or infinite values, or values whose squares are")
    return distances


def _mean_and_median(clean: Tensor, deformed: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    return finite(paired(clean, deformed, distance)).mean(), median(pairwise(clean, distance))


def _by_batches(
    model: nn.Module,
    clean: Tensor,
    deformed: Tensor,
    layers: Iterable[str] | None,
    distance: Distance,
    batch_size: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    def move_and_keep(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return paired(a, b, distance), a.clone()

    batches = list(zip(clean.split(int(batch_size)), deformed.split(int(batch_size)), strict=True))
    sizes = visit_versions(model, batches[0], layers, lambda a, b: a[0].numel() * a.element_size())
    parts = {}
    for group in _groups(sizes, KEPT_BYTES // len(clean)):
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in group}
        for versions in batches:
            for layer, both in visit_versions(
                model, versions, group, move_and_keep, probe=False
            ).items():
                if layer in seen:  # a first execution's name asks for the later ones, too
                    seen[layer].append(both)
        for layer in group:
            moved, kept = map(torch.cat, zip(*seen.pop(layer), strict=True))
            with fitting(layer, layers):
                parts[layer] = named(layer, finite, moved).mean(), median(pairwise(kept, distance))
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


def _ratio(mean: Tensor, middle: Tensor, distance: Distance, where: str = "") -> Tensor:
    ratio, zero = mean / middle, bool(middle <= negligible(distance, middle.dtype))
    if zero or not ratio.isfinite():
        raise (Unfit if zero else ValueError)(
            f"{where}the median pairwise distance between clean images must be finite and > 0, got {middle.item()} "
            f"(the mean distance to deformed ones is {mean.item()}): are they, or their representations, constant, or "
            "multiples of each other?"
        )
    return ratio


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """All of `model` in eval mode for a while, then every submodule in the mode it was in."""
    check_model(model)
    modes = {
        module: module.training for module in model.modules() if hasattr(module, "training")
    }  # frozen TorchScript has none
    try:
        for module in modes:
            module.training = (
                False  # not model.eval(), which some modules override with side effects
            )
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _check(clean: Tensor, deformed: Tensor, distance: str, least: int = 1) -> None:
    check_known("distance", distance, DISTANCES)
    check_pair(("clean", clean), ("deformed", deformed), least)
