"""Filters: how smooth they are (Section 4.1), and each as a less smooth one, smoothed (Section 4).

A kernel w = g * s with the smoothing s (a full convolution: sides add up) lies in the span of the
shifts of s. The nearest kernel of this form is a projection; how much does it leave out?
"""

from collections.abc import Callable, Iterable
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib.representations import Unfit, evaluating, measuring, named_layers
from deformlib.validation import check_known, check_vectors, require
from deformlib.vector_distances import power_of_two

AVERAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bank": lambda variation, size: variation.sum() / size.sum(),
    "kernel": lambda variation, size: (variation[size > 0] / size[size > 0]).mean(),
}


def is_filter(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether the paper counts a module's kernels as filters: a convolution of at least 3x3."""
    return isinstance(module, nn.Conv2d) and min(module.kernel_size) >= 3


def filters_of(model: nn.Module, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
    """{module name: weight (out, in, kh, kw)} of all filters, or of those among `layers` as in
    `visit`. In eval mode, or reading a weight that is computed (spectral_norm) changes it."""
    modules = named_layers(model, layers)
    return {name: module.weight for name, module in modules.items() if is_filter(module)}


def normalized_total_variation(weight: Tensor, average: str = "bank") -> Tensor:
    """Roughness of filters, TV(W) / |W|_1 (Section 4.1): (out, in, kh, kw) -> scalar.
    "bank" is as printed: variations summed over all kernels, over magnitudes summed over all.
    "kernel" is the mean of the kernels' own ratios but for zero ones, which gives the 1.870 of
    footnote 1 (and "bank" 1.857). ValueError for a weight of another rank or dtype, not finite or
    all zero, or an unknown average.
    """
    check_known("average", average, AVERAGES)
    _check_nonzero(weight)
    return AVERAGES[average](*variation_and_size(_scaled(weight, each=average == "kernel")))


@torch.no_grad()
def smoothness(
    model: nn.Module, average: str = "bank", layers: Iterable[str] | None = None
) -> dict[str, float]:
    """{module name: normalized total variation} of `filters_of` the model (Figure 6). Errors as
    there; a module of all zero weights is left out with a warning unless asked for by name."""
    check_known("average", average, AVERAGES)
    values = {}
    with evaluating(model):
        for name, weight in filters_of(model, layers).items():
            with measuring(name, layers):
                values[name] = normalized_total_variation(weight, average).item()
    return values


def kernels_by_variation(weight: Tensor, quantiles: Iterable[float]) -> tuple[Tensor, Tensor]:
    """Kernels from smooth to rough, without zero ones: (out, in, kh, kw) -> (Q, kh, kw), and their
    own ratios (Q,). A quantile is the fraction of kernels, in [0, 1], that are smoother. Errors as
    for `normalized_total_variation`."""
    quantiles = list(quantiles)
    valid = bool(quantiles) and min(quantiles) >= 0 and max(quantiles) <= 1
    require(valid, "quantiles", "one or more numbers in [0, 1]", quantiles)
    _check_nonzero(weight)
    variation, size = (x.flatten() for x in variation_and_size(_scaled(weight, each=True)))
    kernels, ratios = weight.flatten(0, 1)[size > 0], (variation / size)[size > 0]
    order = ratios.argsort(stable=True)
    chosen = order[[round(quantile * (len(order) - 1)) for quantile in quantiles]]
    return kernels[chosen], ratios[chosen]


def variation_and_size(weight: Tensor) -> tuple[Tensor, Tensor]:
    """TV and L1 norm of each kernel: (out, in, kh, kw) -> (out, in), (out, in)."""
    down, right = weight.diff(dim=2), weight.diff(dim=3)
    return down.abs().sum((2, 3)) + right.abs().sum((2, 3)), weight.abs().sum((2, 3))


def gaussian(sigma: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """(3, 3), sampled at whole pixels and normalized to sum 1; `sigma` in pixels."""
    at = torch.tensor([-1, 0, 1], dtype=torch.float64)
    line = torch.softmax(-((at / sigma) ** 2) / 2, 0).to(dtype)
    return torch.outer(line, line)


def smoothed(weight: Tensor, sigma: float) -> Tensor:
    """Kernels convolved with the Gaussian, zero beyond their edge: (out, in, kh, kw), the same."""
    kernel = gaussian(sigma, weight.dtype).to(weight.device)
    planes = weight.flatten(0, 1)[:, None]  # (out, in, kh, kw) -> (out * in, 1, kh, kw)
    return F.conv2d(planes, kernel[None, None], padding=1).reshape(weight.shape)


# "A smoothing operation similar to average pooling or smoothing with a Gaussian kernel": the first
# leaves a 2x2 filter of a 3x3 one, the second a single tap.
SMOOTHINGS: dict[str, Tensor] = {
    "2x2 box": torch.full((2, 2), 0.25, dtype=torch.float64),
    "Gaussian": gaussian(1.0),
}


def shifts(smoothing: Tensor, size: tuple[int, int] = (3, 3)) -> Tensor:
    """The matrix of g -> g * smoothing, one shift of the smoothing a column: (p, q) filters to
    (kh, kw) kernels, as (kh * kw, p * q). ValueError unless the smoothing fits into the kernel."""
    (rows, columns), (kh, kw) = smoothing.shape, size
    p, q = kh - rows + 1, kw - columns + 1
    require(p >= 1 and q >= 1, "smoothing", f"at most {kh}x{kw}", f"{rows}x{columns}")
    single = torch.eye(p * q, dtype=torch.float64).view(-1, 1, p, q)  # filters of one tap each
    return F.conv_transpose2d(single, smoothing.double()[None, None]).flatten(1).T


def remainder(weight: Tensor, smoothing: Tensor) -> Tensor:
    """The less smooth filter g whose convolution with `smoothing` comes nearest to each kernel, by
    least squares: (out, in, kh, kw), (r, c) -> (out, in, kh - r + 1, kw - c + 1), in float64.
    ValueError for a weight of wrong rank, dtype or value, or a smoothing larger than a kernel."""
    _check(weight)
    kh, kw = weight.shape[2:]
    inverse = torch.linalg.pinv(shifts(smoothing, (kh, kw)))  # (p * q, kh * kw)
    sides = kh - smoothing.shape[0] + 1, kw - smoothing.shape[1] + 1
    return (weight.double().flatten(2) @ inverse.T).unflatten(2, sides)


def explained(weight: Tensor, smoothing: Tensor) -> Tensor:
    """Fraction of each kernel's energy that g * smoothing can explain: (out, in, kh, kw), (r, c) ->
    (out, in), in [0, 1]. NaN for a kernel that is zero. Errors as for `remainder`."""
    _check(weight)
    weight = _scaled(weight.double(), each=True)
    kh, kw = weight.shape[2:]
    matrix = shifts(smoothing, (kh, kw))
    nearest = remainder(weight, smoothing).flatten(2) @ matrix.T  # (out, in, kh * kw)
    return nearest.square().sum(2) / weight.square().sum((2, 3))


def relative_norm(weight: Tensor, smoothing: Tensor) -> Tensor:
    """Norm of the less smooth filter over that of the kernel, for a smoothing of sum 1: the
    "similar norm" of Section 4. (out, in, kh, kw), (r, c) -> (out, in), as `explained`."""
    _check(weight)
    weight = _scaled(weight.double(), each=True)
    return remainder(weight, smoothing).norm(dim=(2, 3)) / weight.norm(dim=(2, 3))


def expected_fraction(smoothing: Tensor) -> float:
    """The mean of `explained` for 3x3 kernels of independent weights from one symmetric
    distribution: dimensions of the span over taps."""
    return shifts(smoothing, (3, 3)).shape[1] / 9


def _scaled(weight: Tensor, each: bool) -> Tensor:
    """In float32 at least, divided by one power of two, or one for `each` kernel, which no ratio
    depends on: sums and squares then stay within range."""
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    sizes = weight.detach().abs()
    return weight / power_of_two(sizes.amax((2, 3), keepdim=True) if each else sizes.max())


def _check(weight: Tensor) -> None:
    check_vectors("weight", weight)
    require(weight.ndim == 4, "weight", "(out, in, kh, kw)", tuple(weight.shape))


def _check_nonzero(weight: Tensor) -> None:
    _check(weight)
    if not weight.any():
        raise Unfit(f"weight must not be all zero, got {tuple(weight.shape)} zeros")
