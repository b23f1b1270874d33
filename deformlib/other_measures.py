"""What others measure: relative stability to diffeomorphisms, and consistency under shifts."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deformlib.metrics import finite, visit_versions
from deformlib.representations import Unfit, evaluating, measuring, patterns_of, visit
from deformlib.seeding import device_of, noise_as_large
from deformlib.validation import check_batch_size, check_vectors, is_real, is_whole, require
from deformlib.warping import warp


def diffeomorphisms(
    n: int,
    size: Sequence[int],
    displacement: float = 1.0,
    cutoff: int = 3,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random fields of maximum entropy, (n, H, W, 2) in pixels (Petrini et al. 2021, Section 2).

    Each component is a sum over i, j >= 1 with i^2 + j^2 < (cutoff + 1/2)^2 of
    C_ij sin(i pi x) sin(j pi y), x and y from 0 to 1 over the image, C_ij normal with variance
    T / (i^2 + j^2). The temperature T is that of the typical `displacement` in pixels,
    delta = side / 2 sqrt(pi T ln(cutoff)), side the root of H * W.
    Drawn on the generator's device and moved to the CPU. ValueError names an argument out of range.
    """
    require(is_whole(n, 1), "n", "an integer >= 1", n)
    require(len(size) == 2 and min(size) >= 2, "size", "(H, W), at least 2 each", tuple(size))
    valid = is_real(displacement) and 0 < displacement < math.inf
    require(valid, "displacement", "a finite number > 0, in pixels", displacement)
    require(is_whole(cutoff, 2), "cutoff", "an integer >= 2", cutoff)
    height, width = size
    i = torch.arange(1.0, cutoff + 1, device="cpu")
    square = i[:, None] ** 2 + i**2  # (i, j)
    root = torch.where(square < (cutoff + 0.5) ** 2, 1 / square.sqrt(), 0)
    shape, origin = (n, 2, cutoff, cutoff), device_of(generator)
    coefficients = torch.randn(shape, generator=generator, device=origin).cpu() * root
    across = torch.sin(math.pi * i[:, None] * torch.linspace(0, 1, width, device="cpu"))
    down = torch.sin(math.pi * i[:, None] * torch.linspace(0, 1, height, device="cpu"))
    field = torch.einsum("ncij,ix,jy->nyxc", coefficients, across, down)  # (n, H, W, 2)
    return field * (2 * displacement / math.sqrt(math.pi * math.log(cutoff)))


class RelativeStability(NamedTuple):
    """`ratio` = `deformation` / `noise` (R = D / G): below 1, stabler to deformation than noise."""

    deformation: float
    noise: float
    ratio: float


@torch.no_grad()
def relative_stability(
    model: nn.Module,
    images: Tensor,
    layers: Iterable[str] | None = None,
    displacement: float = 1.0,
    cutoff: int = 3,
    batch_size: int | None = None,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, RelativeStability]:
    """{layer: relative stability} of Petrini et al. 2021: images (N, C, H, W) with N at least 2.
    D is the mean over images of |f(tau x) - f(x)|^2 over the mean over pairs of |f(x) - f(z)|^2,
    tau one of `diffeomorphisms` for each image; G the same with, in place of tau x, x plus Gaussian
    noise of the norm of tau x - x (theirs, as far as we know, has the mean norm for all images).
    `batch_size`, layers and errors as for `sensitivity`.
    """
    check_vectors("images", images, least=2)
    require(images.ndim == 4, "images", "(N, C, H, W)", tuple(images.shape))
    check_batch_size(batch_size)
    layers = patterns_of(layers)
    n, size = len(images), images.shape[2:]
    field = diffeomorphisms(n, size, displacement, cutoff, generator=generator)
    deformed = warp(images, field.to(images.device))
    noisy = images + noise_as_large(deformed - images, generator)
    step = batch_size or len(images)
    batches = zip(*(x.split(step) for x in (images, deformed, noisy)), strict=True)
    totals: dict[str, _Sums] = {}
    with evaluating(model):
        for versions in batches:
            passed = visit_versions(model, versions, layers, _sums, probe=not totals)
            for layer, sums in passed.items():
                totals[layer] = _together(totals[layer], sums) if layer in totals else sums
    found = {}
    for layer, total in totals.items():
        if total.images < len(images):  # not measurable in one of the batches, as a warning said
            continue
        with measuring(layer, layers):
            # The mean over pairs of |x - z|^2 is twice the variance, summed over coordinates.
            spread = 2 * total.scatter / (total.images - 1)
            if not spread:
                raise Unfit("all images have the same representation")
            d, g = (changed / total.images / spread for changed in (total.deformation, total.noise))
            found[layer] = RelativeStability(d, g, d / g if g else math.nan)
    return found


class _Sums(NamedTuple):
    """Of a layer: its mean (D,), and sums of squared distances from it and by the changes."""

    images: int
    center: Tensor
    scatter: float
    deformation: float
    noise: float


def _sums(clean: Tensor, deformed: Tensor, noisy: Tensor) -> _Sums:
    clean, deformed, noisy = (part.flatten(1).double() for part in (clean, deformed, noisy))
    finite(torch.stack([part.square().sum() for part in (clean, deformed, noisy)]))
    apart = clean - clean[0]  # exactly zero where all are alike
    center = apart.mean(0)
    scatter, by_deformation, by_noise = (
        float(change.square().sum()) for change in (apart - center, deformed - clean, noisy - clean)
    )
    return _Sums(len(clean), clean[0] + center, scatter, by_deformation, by_noise)


def _together(a: _Sums, b: _Sums) -> _Sums:
    count, apart = a.images + b.images, b.center - a.center
    between = float(apart.square().sum()) * a.images * b.images / count
    center, scatter = a.center + apart * (b.images / count), a.scatter + b.scatter + between
    return _Sums(count, center, scatter, a.deformation + b.deformation, a.noise + b.noise)


@torch.no_grad()
def shift_consistency(
    model: nn.Module,
    images: Tensor,
    max_shift: int = 2,
    batch_size: int | None = None,
    *,
    generator: torch.Generator | None = None,
) -> float:
    """Fraction of images (N, C, H, W) that two random shifts leave in the same predicted class
    (Zhang 2019, Section 4.1): by whole pixels, uniform in -max_shift..max_shift along each axis;
    the border goes on outside. All images at once, or `batch_size` at a time with the same result.
    ValueError for images of another shape, a max_shift < 1, or a `model` that gives anything but
    finite (N, classes) of at least two classes.
    """
    require(is_whole(max_shift, 1), "max_shift", "an integer >= 1, in pixels", max_shift)
    check_vectors("images", images)
    require(images.ndim == 4, "images", "(N, C, H, W)", tuple(images.shape))
    check_batch_size(batch_size)
    span = (-max_shift, max_shift + 1, (2, len(images), 1, 1, 2))
    shifts = torch.randint(*span, generator=generator, device=device_of(generator)).to(images)
    fields = shifts.expand(-1, -1, *images.shape[2:], -1)  # (2, N, H, W, 2)
    step, agreed = batch_size or len(images), 0
    with evaluating(model):
        for chunk, *pair in zip(images.split(step), *(f.split(step) for f in fields), strict=True):
            first, second = (_classes(model, warp(chunk, field)) for field in pair)
            agreed += int((first == second).sum())
    return agreed / len(images)


def _classes(model: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = visit(model, images, ["output"])["output"]
    valid = logits.ndim == 2 and len(logits) == len(images) and logits.shape[1] >= 2
    rule = f"(N, classes) for N = {len(images)} images, with at least 2 classes"
    require(valid, "model's output", rule, tuple(logits.shape))
    require(bool(logits.isfinite().all()), "model's output", "finite", "NaN or infinite values")
    return logits.argmax(1)
