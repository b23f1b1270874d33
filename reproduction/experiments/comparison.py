"""A trained network, and what it was before its training, by the measures of others.

Relative stability is measured where the paper's own measure is: at the same layers, on the same images. Diffeomorphisms,
noise and shifts are the same for all networks.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from deformlib import models
from deformlib.other_measures import RelativeStability, relative_stability, shift_consistency
from deformlib.seeding import stream
from reproduction.experiments import protocol
from reproduction.experiments.specs import Comparison
from reproduction.experiments.tasks import scale


def measure(
    spec: Comparison, networks: Mapping[str, models.VGG], progress: Callable[[float], None]
) -> tuple[dict[str, Any], str]:
    """A record's measurements, and the images' identity. `networks` are {"before": before training, "after": trained}.

    {"layers": names, "relative_stability": {when: {factor: one per layer}}, "shift_consistency": a share}; the class
    that a network gives an image before its training is nobody's guess, so consistency is of the trained one only.
    """
    more = max(
        ("images", "probes"), key=lambda name: getattr(spec, name)
    )  # the fewer are among them
    [(images, _)], identity = protocol.test_images(
        spec.data, spec.training.size, {more: getattr(spec, more)}
    )
    seen = scale(images, spec.training.recipe.pixels)
    layers = protocol.layers_of(networks["after"])["layers"]
    total, stability = len(networks) * spec.images + spec.probes, {}
    for done, (when, network) in enumerate(networks.items(), 1):
        found = relative_stability(
            network,
            seen[: spec.images],
            layers,
            spec.displacement,
            spec.cutoff,
            generator=stream(0, "peers, relative stability"),
        )
        stability[when] = {
            factor: [getattr(found[name], factor) for name in layers]
            for factor in RelativeStability._fields
        }
        progress(done * spec.images / total)
    consistency = consistent(
        networks["after"],
        seen[: spec.probes],
        spec.max_shift,
        lambda n: progress((total - spec.probes + n) / total),
    )
    return {
        "layers": layers,
        "relative_stability": stability,
        "shift_consistency": consistency,
    }, identity


def consistent(
    model: models.VGG, images: Tensor, max_shift: int, progress: Callable[[int], None]
) -> float:
    """`shift_consistency` of many images, in chunks; `progress` is called with the number that is done."""
    generator, agreed, done = stream(0, "peers, shifts"), 0.0, 0
    for chunk in images.split(protocol.CHUNK):
        agreed += len(chunk) * shift_consistency(model, chunk, max_shift, generator=generator)
        progress(done := done + len(chunk))
    return agreed / done
