"""Networks at initialization on photographs of full size, and their filters drawn anew.

At 224x224 the first layers of 256 images take 3 GB each. So a network advances layer by layer, in
batches of images, and a layer's output takes the place of its input where it has the same shape.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from scipy import integrate, stats
from torch import Tensor, nn

from deformlib import models
from deformlib.filters import AVERAGES, variation_and_size
from deformlib.seeding import stream
from reproduction.experiments import protocol
from reproduction.experiments.records import (
    Draws,
    Full,
    InitialCheckpoint,
    InitializationRecord,
    ResamplingRecord,
)
from reproduction.experiments.specs import Initialization, Resampling
from reproduction.experiments.tasks import scale

LAYER_BATCH = 8  # images of 224x224 that go through a layer at once; runs of 256 took 5.5 to 6.6 GB
CALIBRATION_BATCH = 16  # images whose batch norm statistics are taken at once, and then averaged
Progress = Callable[[float], None]
T = TypeVar("T")


def measure_initialization(
    spec: Initialization, model: models.VGG, progress: Progress
) -> tuple[InitializationRecord, str]:
    """A record's measurements with one checkpoint, and the identity of the images.

    Sensitivity of every layer: with batch norm as initialized, with calibrated statistics, and to
    further sets of images; and smoothness of the filters.
    """
    further = (spec.sets or 1) - 1
    counts = {"images": spec.images, "calibration": spec.calibration}
    if further:
        counts["sets"] = further * spec.images
    parts, identity = protocol.test_images(spec.data, spec.size, counts)
    images, others, *more = [images for images, _ in parts]
    names = protocol.layers_of(model)
    passes = 1 + bool(spec.calibration) + further
    tick = _ticker(len(names["layers"]) * passes, progress)

    def measured(network: models.VGG, images: Tensor, name: str) -> list[protocol.Statistics]:
        both = _clean_and_deformed(images, spec.data, name)
        return [tick(protocol.statistics_of_both(r)) for r in advance(network, both)]

    first = measured(model.eval(), images, "test-0")
    calibrated, full = None, None
    if spec.calibration:
        fresh = protocol.calibrated(model, scale(others, "unit"), CALIBRATION_BATCH)
        calibrated = protocol.profile_of(measured(fresh, images, "test-0"), protocol.WHOLE)
    if further:
        conditions = {"test-0": first}
        for k, photographs in enumerate(more[0].split(spec.images), 1):
            conditions[f"test-{k}"] = measured(model, photographs, f"test-{k}")
        profiles = {
            name: protocol.profile_of(found, protocol.BRIEF) for name, found in conditions.items()
        }
        full = Full(profiles)
    checkpoint = InitialCheckpoint(
        step=0,
        epoch=0.0,
        sensitivity=protocol.profile_of(first, protocol.WHOLE),
        calibrated=calibrated,
        smoothness=protocol.smoothness_of(model, protocol.banks_of(model)),
        full=full,
    )
    record = InitializationRecord(names["layers"], names["banks"], len(images), [checkpoint])
    return record, identity


def _ticker(total: int, progress: Progress) -> Callable[[T], T]:
    """Gives back what it is given, and tells `progress` how many of `total` calls there were."""
    calls = itertools.count(1)

    def tick(value: T) -> T:
        progress(next(calls) / total)
        return value

    return tick


def _clean_and_deformed(images: Tensor, data: str, pair: str) -> Tensor:
    """(2N, C, H, W) of images (N, C, H, W), deformed as this pair is in the protocols."""
    clean = scale(images, "unit")
    deformation = protocol.deformation_of(data, clean.shape[-1])
    deformed = protocol.deformed_as(clean, deformation, pair)
    return torch.cat([clean, deformed]).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def advance(model: models.VGG, x: Tensor) -> Iterator[Tensor]:
    """The representations of `model.layers`, the pooled one and the logits, one after the other.

    `x`, (N, C, H, W), is the first. Each one is gone once the next is asked for.
    """
    yield x
    for name in (*model.layers[1:], *models.READOUT):
        x = _through(model.get_submodule(name), x)
        yield x


def _through(module: nn.Module, x: Tensor) -> Tensor:
    """A layer's output, batch by batch, in the place of its input where it has the same shape."""
    out = None
    for start in range(0, len(x), LAYER_BATCH):
        part = module(x[start : start + LAYER_BATCH])
        if out is None:
            out = x if part.shape[1:] == x.shape[1:] else _empty(len(x), part)
        out[start : start + LAYER_BATCH] = part
    return x if out is None else out


def _empty(n: int, part: Tensor) -> Tensor:
    layout = torch.channels_last if part.ndim == 4 else torch.contiguous_format
    return torch.empty((n, *part.shape[1:]), memory_format=layout)


@torch.no_grad()
def measure_resampling(spec: Resampling, model: models.VGG, progress: Progress) -> ResamplingRecord:
    """Mean and deviation over draws of each layer's smoothness, by both averages.

    A layer with as many kernels as an earlier one has the same distribution, and is left out.
    """
    shapes: dict[int, tuple[str, torch.Size]] = {}  # kernels -> first layer, shape of its weight
    for name, weight in protocol.banks_of(model).items():
        shapes.setdefault(weight.shape[:2].numel(), (name, weight.shape))
    sizes = sorted(shapes)
    total, done = spec.draws * sum(sizes), 0
    found = {average: Draws([], [], []) for average in AVERAGES}
    for kernels in sizes:
        name, shape = shapes[kernels]
        values = {average: torch.empty(spec.draws) for average in AVERAGES}
        for draw, weight in enumerate(_drawn(shape, spec, name)):
            parts = variation_and_size(weight)
            for average, reduce in AVERAGES.items():
                values[average][draw] = reduce(*parts)
            done += kernels
            progress(done / total)
        for average, drawn in values.items():
            found[average].mean.append(drawn.double().mean().item())
            found[average].deviation.append(drawn.double().std().item())
            found[average].draws.append(spec.draws)
    return ResamplingRecord([shapes[kernels][0] for kernels in sizes], **found)


def _drawn(shape: torch.Size, spec: Resampling, name: str) -> Iterator[Tensor]:
    """Weights of a layer at initialization but for their scale, which smoothness does not have.

    A normal truncated at two standard deviations, 12 times as fast as nn.init.trunc_normal_.
    """
    generator = stream(spec.seed, f"resampling {name}")
    edge = math.erf(2 / math.sqrt(2))
    weight = torch.empty(shape)
    for _ in range(spec.draws):
        yield weight.uniform_(-edge, edge, generator=generator).erfinv_()


def expected_variation(cutoff: float = 2.0) -> float:
    """Normalized total variation of many independent normal weights, truncated at `cutoff` standard
    deviations: 12 E|X - Y| / (9 E|X|) for 3x3 kernels, TV over L1 norm as printed (Section 4.1).

    1.857 for the paper's initialization (footnote 2); 4 sqrt(2) / 3 = 1.886 without truncation.
    """
    weight = stats.truncnorm(-cutoff, cutoff)
    spread, _ = integrate.quad(lambda x: weight.cdf(x) * weight.sf(x), -cutoff, cutoff)
    half, _ = integrate.quad(lambda x: x * weight.pdf(x), 0, cutoff)
    return 12 / 9 * (2 * spread) / (2 * half)  # E|X - Y| = 2 spread, E|X| = 2 half
