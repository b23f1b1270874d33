"""The theory of smooth filters, tried on networks: a spec, its record, how it is measured.

To be wired once `specs`, `records`, `runs` and `studies` can be edited:

    specs.KINDS["theory"] = Theory                      (Theory then inherits specs._OnANetwork)
    records: TheoryMeasurements is the record of Theory, as it stands
    runs.MEASURE[Theory] = lambda spec, store, progress: measure(
        spec, _networks(spec, store), progress)         (_networks as for a Comparison)
    studies.STUDIES["cifar10-theory"] = a Theory for each variant of "cifar10" at seed 0, with
        SMOOTHINGS for Max-pool and Strided-ReLU alone
    studies.STUDIES["cifar10-random-labels-theory"] = the same without smoothings
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deformlib import Deformation, initialize, normalized_total_variation, smoothness
from deformlib.metrics import evaluating
from deformlib.models import VGG
from deformlib.seeding import stream
from reproduction.experiments import bounds, protocol, spectra
from reproduction.experiments.specs import Training
from reproduction.experiments.tasks import scale

SMOOTHINGS = (0.3, 0.5, 0.7, 1.0)  # pixels; 0 is the network "before"
STRENGTHS = (0.125, 0.25, 0.5, 1.0, 2.0)  # times the paper's displacements
PER_PIXEL = 4  # points of bound B's integrals along a pixel
BOUNDED = 32  # images on which the bounds are tried; integrals on the finer lattice are dear


@dataclass(frozen=True)
class Theory:
    """Bounds and predictions on a trained network and on what it was before its training.

    training     the run whose kept weights are measured
    images       test images that sensitivity is measured and predicted on, the protocols' own
    smoothings   the network before training with smoothed filters (Figure 4), in pixels
    """

    kind: ClassVar[str] = "theory"

    training: Training
    images: int = 128
    smoothings: tuple[float, ...] = ()

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-theory"


@dataclass(frozen=True)
class BoundsTried:
    """The two bounds on the filters of one first layer, under fields of one strength.

    filters       "before", "after" or "smoothed-SIGMA"
    strength      times the paper's displacements
    gradient      Lipschitz constant of the field, the median over images, and `folding`, the
                  fraction of images whose field has 1 or more, where bound B says nothing
    tightness     {bound: the median over images of what it bounds as a fraction of it}
    largest       {bound: the largest}: above 1 the bound would be violated
    """

    filters: str
    strength: float
    gradient: float
    folding: float
    tightness: dict[str, float]
    largest: dict[str, float]


@dataclass(frozen=True)
class Filters:
    """What the bounds know of the filters of one first layer.

    first_moment     M1 over sum_k |W_k|, in pixels
    edge_variation   V over sum_k |W_k|, in the right and the down direction
    smoothness       the paper's normalized total variation
    """

    first_moment: float
    edge_variation: list[float]
    smoothness: float


@dataclass(frozen=True)
class TheoryMeasurements:
    """What a record of `Theory` holds; networks by name: "before", "after", "smoothed-SIGMA".

    networks     every layer, measured and predicted
    smoothness   {network: {convolution: normalized total variation}}
    filters      of each network's first layer
    bounds       on the filters of each network's first layer, under fields of each strength
    """

    networks: dict[str, list[spectra.Layer]]
    smoothness: dict[str, dict[str, float]]
    filters: dict[str, Filters]
    bounds: list[BoundsTried]


def measure(
    spec: Theory, networks: Mapping[str, VGG], progress: Callable[[float], None]
) -> tuple[TheoryMeasurements, str]:
    """The record's measurements, and the identity of the images. `networks` are "before", "after".

    About 50 s for each network on one core.
    """
    [(images, _)], identity = protocol.test_images(
        spec.training.data, None, {"images": spec.images}
    )
    clean = scale(images, spec.training.recipe.pixels)
    networks = {**networks, **smoothed(networks["before"], spec.smoothings, spec.training.seed)}
    predicted: dict[str, list[spectra.Layer]] = {}
    for done, (name, network) in enumerate(networks.items(), 1):
        predicted[name] = predictions(network, clean, spec.training.data)
        progress(done / len(networks))
    first = {name: protocol.banks_of(network)["conv1_1"] for name, network in networks.items()}
    return TheoryMeasurements(
        networks=predicted,
        smoothness={name: smoothness(network) for name, network in networks.items()},
        filters={name: describe(weight) for name, weight in first.items()},
        bounds=list(try_bounds(first, scale(images[:BOUNDED], "unit"), spec.training.data)),
    ), identity


def predictions(network: VGG, clean: Tensor, data: str) -> list[spectra.Layer]:
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


def describe(weight: Tensor) -> Filters:
    """What the bounds know of a first layer's filters, (out, in, kh, kw)."""
    weight = weight.double()
    total = bounds.tap_norms(weight).sum()
    return Filters(
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
