"""Sensitivity predicted from clean images and filters alone: no deformed image, no free parameter.

Where a representation moves with the image and is stationary, its mean squared change over the
mean squared distance between images is

    integral of d(w) S(w) / integral of S(w),

with S the spectrum of differences between the representations of two images, for a linear layer
|w^|^2 times that of its input, and d(w) the fraction of a wave that displacements u move:

    small     E|u|^2 |w|^2 / 4             q of the chapter: to first order in u
    any       1 - E cos(w . u)             q': any u, images continued between pixels without loss
    bilinear  E|B(w, u) - 1|^2 / 2         q'': any u, interpolated as `deformlib.warp` does

E is over the random control displacements and over all pixels. Frequencies are in radians per
pixel. What the three leave out is the field's gradient (bound A of `bounds`), the image's edge, and
whatever makes a representation other than stationary.
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib import Deformation, visit, warp
from deformlib.metrics import evaluating
from deformlib.models import VGG, Subsample
from deformlib.vector_distances import median, paired_distances, pairwise_distances
from reproduction.experiments.records import PredictedLayer

DRAWS = 512  # of control displacements, for the mean over fields in "bilinear" alone
Fractions = dict[str, float]  # {one of MOVED: a prediction}


def mean_square_displacement(deformation: Deformation, size: Sequence[int]) -> float:
    """E|u|^2 over deformations and pixels of an image of `size` (H, W), in pixels^2."""
    basis = deformation.spline(size, dtype=torch.float64).basis  # (H*W, K)
    variance = deformation.max_displacement**2 / 3  # of a control displacement along one axis
    return float(2 * variance * basis.square().sum(1).mean())


def small(deformation: Deformation, size: Sequence[int]) -> Tensor:
    """d(w) to first order in the displacement, at the frequencies of `spectrum`: (H, W)."""
    down, right = (_frequencies(side) for side in size)
    square = down[:, None].square() + right.square()
    return mean_square_displacement(deformation, size) / 4 * square


def any_size(deformation: Deformation, size: Sequence[int]) -> Tensor:
    """d(w) = 1 - E cos(w . u), at the frequencies of `spectrum`: (H, W)."""
    down, right = (_expected_wave(deformation, size, _frequencies(side)) for side in size)
    return 1 - down @ right.T / down.shape[1]


def bilinear(deformation: Deformation, size: Sequence[int]) -> Tensor:
    """d(w) = E|B(w, u) - 1|^2 / 2, at the frequencies of `spectrum`: (H, W).

    B(w, u) is what bilinear interpolation at distance u makes of a wave that is 1 there.
    """
    rows, columns = (_interpolated(deformation, size, _frequencies(side)) for side in size)
    pixels = size[0] * size[1]
    energy = rows[0] @ columns[0].T / pixels
    overlap = rows[1] @ columns[1].T / pixels
    return (energy - 2 * overlap + 1) / 2


MOVED: dict[str, Callable[[Deformation, Sequence[int]], Tensor]] = {
    "small": small,
    "any": any_size,
    "bilinear": bilinear,
}


def spectrum(values: Tensor) -> Tensor:
    """Spectrum of differences between images: values (N, C, H, W) -> (H, W).

    Mean over all pairs of images of the energy of their difference in each wave, summed over
    channels. Waves are cosines of 0, 1/2, 1, 3/2, ... periods in the image, those of the image
    continued by reflection: a Fourier transform would see a jump at its edge, which is energy at
    high frequencies that no deformation moves.
    """
    centred = values - values.mean(0)
    down, right = (_cosines(side).to(values) for side in values.shape[2:])
    waves = down @ centred @ right.T  # (H, H) x (N, C, H, W) x (W, W)
    energy = waves.square_().sum((0, 1), dtype=torch.float64)
    return 2 * energy / (len(values) - 1)


def moved_fraction(power: Tensor, moved: Tensor) -> float:
    """integral of d S / integral of S; `power` (h, w) may be of a coarser lattice than `moved`.

    A lattice of every s-th pixel of an image has the image's lowest frequencies.
    """
    return float((moved[: power.shape[0], : power.shape[1]] * power).sum() / power.sum())


def linear_part(module: nn.Module, values: Tensor) -> Tensor:
    """What a layer's linear maps make of values (N, C, h, w), at every position.

    Convolutions, batch norm's scale and averages, in the order of the module, beyond the edge the
    values reflected. What is not linear is left out, and so are strides: among stationary values
    every position is like the others.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            values = F.conv2d(_reflected(values, part.kernel_size), part.weight)
        elif isinstance(part, nn.BatchNorm2d):
            values = values * norm_scale(part)[:, None, None]
        elif isinstance(part, nn.AvgPool2d):
            values = F.avg_pool2d(_reflected(values, (2, 2)), 2, stride=1)
    return values


def norm_scale(norm: nn.BatchNorm2d) -> Tensor:
    """What batch norm in eval mode multiplies each channel with, (C,)."""
    assert norm.running_var is not None  # the networks here keep running statistics
    return norm.weight.detach() / (norm.running_var + norm.eps).sqrt()


def dense(model: VGG) -> VGG:
    """The same network at every pixel: nothing is subsampled, later taps lie further apart.

    A representation of every s-th pixel of `model` is every s-th pixel of this one's. Here a
    layer is a function of the image that moves with it by any whole pixel, so its spectrum shows
    at their own frequencies what subsampling folds onto lower ones.
    """
    model = copy.deepcopy(model)
    step = 1  # pixels between neighbours in the network's own lattice
    for name in model.layers[1:]:
        setattr(model, name, _at_every_pixel(model.get_submodule(name), step))
        if name.startswith("down"):
            step *= 2
    return model


@torch.no_grad()
def layers(
    model: VGG, clean: Tensor, field: Tensor, deformation: Deformation, pixel: Tensor
) -> list[PredictedLayer]:
    """Every layer of `model`, and what its ReLU receives, measured and predicted; the image first.

    clean        (N, C, H, W) as the model takes them
    field        (N, H, W, 2) displacements drawn from `deformation`; no prediction sees them
    pixel        (N,) which pixel's displacement, row by row, shifts the whole image
    """
    moved = {name: table(deformation, clean.shape[2:]) for name, table in MOVED.items()}
    names = _measured_names(model)
    one = field.flatten(1, 2)[torch.arange(len(field)), pixel]  # (N, 2)
    shift = one[:, None, None].expand_as(field)
    versions = torch.cat([clean, warp(clean, field), warp(clean, shift)])
    with evaluating(model):
        kept = visit(model, versions, names, lambda values: values.clone().chunk(3))
        whole = dense(model)
    with evaluating(whole):
        powers = visit(whole, clean, names, _unit_spectrum)
    found = []
    for name in names:
        owner = name.removesuffix(".norm")
        previous = model.layers[max(0, model.layers.index(owner) - 1)]
        module = nn.Identity() if owner == "input" else model.get_submodule(owner)
        received = kept[previous][0]
        found.append(_layer(name, kept[name], received, module, powers[name], moved))
    return found


def _layer(
    name: str,
    versions: Sequence[Tensor],
    received: Tensor,
    module: nn.Module,
    dense_power: Tensor,
    moved: dict[str, Tensor],
) -> PredictedLayer:
    clean, deformed, shifted = versions
    pairs = pairwise_distances(clean)
    between = pairwise_distances(clean, "euclidean").square().mean()
    square = paired_distances(clean, deformed, "euclidean").square().mean()
    change = paired_distances(clean, deformed).mean()
    length = _length(clean)
    response = linear_part(module, received)
    filtered = {"euclidean": spectrum(response), "cosine": spectrum(response / length)}
    return PredictedLayer(
        name=name,
        measured={"euclidean": float(square / between), "cosine": float(change / pairs.mean())},
        paper=float(change / median(pairs)),
        shifted=float(paired_distances(clean, shifted).mean() / median(pairs)),
        filtered={distance: _fractions(power, moved) for distance, power in filtered.items()},
        unfiltered=_fractions(_unit_spectrum(received), moved),
        own=_fractions(_unit_spectrum(clean), moved),
        dense=_fractions(dense_power, moved),
        to_median=float(pairs.mean() / median(pairs)),
    )


def _measured_names(model: VGG) -> list[str]:
    """Of all layers in order, each with batch norm after what its ReLU receives."""
    modules = dict(model.named_modules())
    names = []
    for name in model.layers:
        if f"{name}.norm" in modules:
            names.append(f"{name}.norm")
        names.append(name)
    return names


def _fractions(power: Tensor, moved: dict[str, Tensor]) -> Fractions:
    return {name: moved_fraction(power, table) for name, table in moved.items()}


def _unit_spectrum(values: Tensor) -> Tensor:
    """Spectrum of differences between values of length 1, as the cosine distance compares them."""
    return spectrum(values / _length(values))


def _length(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _frequencies(n: int) -> Tensor:
    """Of the waves of `spectrum` along a side of n pixels, radians per pixel: (n,)."""
    return math.pi * torch.arange(n, dtype=torch.float64) / n


def _cosines(n: int) -> Tensor:
    """The waves themselves, orthonormal rows: (n, n). The discrete cosine transform DCT-II."""
    middles = torch.arange(n, dtype=torch.float64) + 0.5
    waves = (_frequencies(n)[:, None] * middles).cos()
    return waves / waves.norm(dim=1, keepdim=True)


def _reflected(values: Tensor, kernel: Sequence[int]) -> Tensor:
    """Values with as many more pixels around them as a kernel of at most 3x3 reaches over."""
    kh, kw = kernel
    padding = ((kw - 1) // 2, kw // 2, (kh - 1) // 2, kh // 2)
    return F.pad(values, padding, mode="replicate")  # by one pixel, the reflection at the edge


def _expected_wave(deformation: Deformation, size: Sequence[int], at: Tensor) -> Tensor:
    """E exp(i w u) at each pixel, u along one axis: frequencies (F,) -> real (F, H*W).

    u = sum_k b_k c_k with c_k uniform in [-m, m], so it is the product of sin(w b_k m) / (w b_k m).
    """
    reach = deformation.spline(size, dtype=torch.float64).basis * deformation.max_displacement
    return torch.sinc(at[:, None, None] * reach / math.pi).prod(-1)  # (F, H*W, K) -> (F, H*W)


def _interpolated(
    deformation: Deformation, size: Sequence[int], at: Tensor
) -> tuple[Tensor, Tensor]:
    """E|B|^2 and E B along one axis, at frequencies (F,): (F, H*W) each.

    B(w, u) = sum_n hat(u - n) exp(i w n), hat the triangle of linear interpolation, and with f the
    part of u after the point |B|^2 = 1 - 2 f (1 - f) (1 - cos w).
    """
    u = _spread_evenly(deformation, size)  # (DRAWS, H*W)
    part = u - u.floor()
    furthest = math.ceil(float(u.abs().max()))
    wave = torch.zeros(len(at), u.shape[1], dtype=torch.float64)
    for n in range(-furthest, furthest + 1):
        hat = (1 - (u - n).abs()).clamp(min=0).mean(0)  # (H*W,)
        wave += (at * n).cos()[:, None] * hat
    loss = 2 * (1 - at.cos())[:, None] * (part * (1 - part)).mean(0)
    return 1 - loss, wave


def _spread_evenly(deformation: Deformation, size: Sequence[int]) -> Tensor:
    """Displacements of every pixel along one axis, (DRAWS, H*W), for evenly spread controls.

    Two axes are independent and alike. The series in characteristic functions that would do
    without draws cancels badly where displacements are small.
    """
    basis = deformation.spline(size, dtype=torch.float64).basis  # (H*W, K)
    unit = torch.quasirandom.SobolEngine(basis.shape[1]).draw(DRAWS, dtype=torch.float64)
    return (2 * unit - 1) * deformation.max_displacement @ basis.T


def _at_every_pixel(module: nn.Module, step: int) -> nn.Module:
    """A layer without strides, its taps `step` apart; convolutions are changed in place.

    What has a stride gets more rows and columns first, so that it returns as many as it receives.
    Its own lattice never reaches them.
    """
    if isinstance(module, nn.Conv2d):
        if module.stride != (1, 1):
            module.register_forward_pre_hook(lambda _, args: _repeat(args[0], 0, step))
        rows, columns = (step * int(side) for side in module.padding)
        module.padding = (rows, columns)
        module.stride, module.dilation = (1, 1), (step, step)
        return module
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        largest = isinstance(module, nn.MaxPool2d)
        pool = nn.MaxPool2d(2, 1, dilation=step) if largest else _MeanOfFour(step)
        return pool if module.stride == 1 else nn.Sequential(_Repeat(0, step), pool)
    if isinstance(module, nn.ReplicationPad2d):
        return _Repeat(step, step)
    if isinstance(module, Subsample):
        return nn.Identity()
    for name, child in module.named_children():
        setattr(module, name, _at_every_pixel(child, step))
    return module


def _repeat(x: Tensor, before: int, after: int) -> Tensor:
    """The first rows and columns once more before them, the last once more after them."""
    for dim in (2, 3):
        first, last = x.narrow(dim, 0, before), x.narrow(dim, x.shape[dim] - after, after)
        x = torch.cat([first, x, last], dim)
    return x


class _Repeat(nn.Module):
    """`_repeat` as a layer: replication padding, for a lattice of every so many pixels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return _repeat(x, self.before, self.after)


class _MeanOfFour(nn.Module):
    """Mean of four pixels, `step` apart: (N, C, H, W) -> (N, C, H - step, W - step)."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        rows = x[..., : -self.step, :] + x[..., self.step :, :]
        return (rows[..., : -self.step] + rows[..., self.step :]) / 4
