"""A network before and after its training, by the measures of others.

Relative stability is measured where the paper's own measure is: at the same layers, on the same
images. Diffeomorphisms, noise and shifts are the same for all networks.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from deformlib import models
from deformlib.other_measures import relative_stability, shift_consistency
from deformlib.seeding import stream
from reproduction.experiments import protocol
from reproduction.experiments.records import BeforeAndAfter, ComparisonRecord, Relative
from reproduction.experiments.specs import Comparison
from reproduction.experiments.tasks import scale


def measure_comparison(
    spec: Comparison, networks: Mapping[str, models.VGG], progress: Callable[[float], None]
) -> tuple[ComparisonRecord, str]:
    """A record's measurements of the networks "before" and "after" training, and the images'
    identity. Consistency is of the trained one: untrained, a network's class means nothing."""
    images, identity = _images(spec)
    layers = protocol.layers_of(networks["after"])["layers"]
    total = len(networks) * spec.images + spec.probes
    stability = {}
    for number, (when, network) in enumerate(networks.items(), 1):
        stability[when] = _stability(network, images[: spec.images], layers, spec)
        progress(number * spec.images / total)

    def done(probes: int) -> None:
        progress((len(networks) * spec.images + probes) / total)

    probes = images[: spec.probes]
    consistency = consistent(networks["after"], probes, spec.max_shift, done)
    return ComparisonRecord(layers, BeforeAndAfter(**stability), consistency), identity


def _images(spec: Comparison) -> tuple[Tensor, str]:
    """The test images of both measures, which begin at the same one, and their identity."""
    name = "images" if spec.images >= spec.probes else "probes"
    count = {name: max(spec.images, spec.probes)}
    [(images, _)], identity = protocol.test_images(spec.data, spec.training.size, count)
    return scale(images, spec.training.recipe.pixels), identity


def _stability(
    network: models.VGG, images: Tensor, layers: list[str], spec: Comparison
) -> Relative:
    """One number per layer."""
    found = relative_stability(
        network,
        images,
        layers,
        spec.displacement,
        spec.cutoff,
        generator=stream(0, "peers, relative stability"),
    )
    rows = [found[name] for name in layers]
    return Relative(
        deformation=[row.deformation for row in rows],
        noise=[row.noise for row in rows],
        ratio=[row.ratio for row in rows],
    )


def consistent(
    model: models.VGG, images: Tensor, max_shift: int, progress: Callable[[int], None]
) -> float:
    """`shift_consistency` of many images, batch by batch; `progress` is told how many are done."""
    generator = stream(0, "peers, shifts")
    agreed, done = 0.0, 0
    for batch in images.split(protocol.FORWARD_BATCH):
        agreed += len(batch) * shift_consistency(model, batch, max_shift, generator=generator)
        done += len(batch)
        progress(done)
    return agreed / done
