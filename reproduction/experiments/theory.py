"""The theory of smooth filters, tried on networks: bounds, and predictions of sensitivity."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from deformlib import Deformation, initialize, normalized_total_variation, smoothness
from deformlib.metrics import evaluating
from deformlib.models import VGG
from deformlib.seeding import stream
from reproduction.experiments import bounds, protocol, spectra
from reproduction.experiments.records import (
    BoundsTried,
    FirstFilters,
    PredictedLayer,
    TheoryRecord,
)
from reproduction.experiments.specs import Theory
from reproduction.experiments.tasks import scale

STRENGTHS = (0.125, 0.25, 0.5, 1.0, 2.0)  # times the paper's displacements
PER_PIXEL = 4  # points of bound B's integrals along a pixel
BOUNDED = 32  # images on which the bounds are tried; integrals on the finer lattice are dear


def measure_theory(
    spec: Theory, networks: Mapping[str, VGG], progress: Callable[[float], None]
) -> tuple[TheoryRecord, str]:
    """The record's measurements, and the identity of the images. `networks` are "before", "after".

    About 50 s for each network on one core.
    """
    count = {"images": spec.images}
    [(images, _)], identity = protocol.test_images(spec.data, spec.training.size, count)
    clean = scale(images, spec.training.recipe.pixels)
    networks = {**networks, **smoothed(networks["before"], spec.smoothings, spec.seed)}
    predicted: dict[str, list[PredictedLayer]] = {}
    for done, (name, network) in enumerate(networks.items(), 1):
        predicted[name] = predictions(network, clean, spec.data)
        progress(done / len(networks))
    first = {name: protocol.banks_of(network)["conv1_1"] for name, network in networks.items()}
    return TheoryRecord(
        networks=predicted,
        smoothness={name: smoothness(network) for name, network in networks.items()},
        filters={name: describe(weight) for name, weight in first.items()},
        bounds=list(try_bounds(first, scale(images[:BOUNDED], "unit"), spec.data)),
    ), identity


def predictions(network: VGG, clean: Tensor, data: str) -> list[PredictedLayer]:
    """Every layer measured and predicted, under the deformations of all other measurements."""
    deformation = protocol.deformation_of(data, clean.shape[-1])
    field, pixel = measured_fields(deformation, clean)
    with evaluating(network):
        return spectra.layers(network, clean, field, deformation, pixel)


def measured_fields(deformation: Deformation, images: Tensor) -> tuple[Tensor, Tensor]:
    """The fields of the protocols' first set of images, (N, H, W, 2), and a pixel of each, (N,)."""
    control = deformation.sample(len(images), generator=stream(0, "measurement test-0"))
    field = deformation.spline(images.shape[2:]).field(control)
    pixels = images.shape[2] * images.shape[3]
    pixel = torch.randint(pixels, (len(images),), generator=stream(0, "theory shift"))
    return field, pixel


def smoothed(before: VGG, smoothings: tuple[float, ...], seed: int) -> dict[str, VGG]:
    """{"smoothed-SIGMA": the network before training with its filters smoothed}, as in Figure 4."""
    found = {}
    for sigma in smoothings:
        network = VGG(_blocks(before), before.downsampling, len(before.head.weight))
        generator = stream(seed, "initialization")
        found[f"smoothed-{sigma:g}"] = initialize(network, generator=generator, smoothing=sigma)
    return found


def describe(weight: Tensor) -> FirstFilters:
    """What the bounds know of a first layer's filters, (out, in, kh, kw)."""
    weight = weight.double()
    total = bounds.tap_norms(weight).sum()
    return FirstFilters(
        first_moment=float(bounds.first_moment(weight) / total),
        edge_variation=(bounds.edge_variation(weight) / total).tolist(),
        smoothness=normalized_total_variation(weight).item(),
    )


def try_bounds(filters: Mapping[str, Tensor], images: Tensor, data: str) -> Iterator[BoundsTried]:
    """Both bounds on images (N, C, H, W) in [0, 1], for each of the filters and each strength."""
    images = images.double()
    deformation = protocol.deformation_of(data, images.shape[-1])
    control = deformation.sample(len(images), generator=stream(0, "measurement test-0")).double()
    sides = [(side - 1) * PER_PIXEL + 1 for side in images.shape[2:]]
    pixels = deformation.spline(images.shape[2:], dtype=torch.float64).field(control)
    points = deformation.spline(sides, dtype=torch.float64).field(control)
    for name, weight in filters.items():
        for strength in STRENGTHS:
            at_pixels = bounds.commutation(images, strength * pixels, weight.double())
            between = bounds.stability(images, strength * points, weight.double(), PER_PIXEL)
            found = bounds.tightness(at_pixels) | bounds.tightness(between)
            yield BoundsTried(
                filters=name,
                strength=strength,
                gradient=float(between.gradient.median()),
                folding=protocol.fraction(between.gradient >= 1),
                tightness={bound: float(values.median()) for bound, values in found.items()},
                largest={bound: float(values.max()) for bound, values in found.items()},
            )


def _blocks(network: VGG) -> list[tuple[int, int]]:
    """(convolutions, channels) of each block of a network, at its own width."""
    blocks: dict[str, list[int]] = {}
    for name, weight in protocol.banks_of(network).items():
        blocks.setdefault(name.partition("_")[0], []).append(len(weight))
    return [(len(channels), channels[0]) for channels in blocks.values()]
