"""What a trained network loses if one of its layers no longer knows where things are (Section 4.4).

"Perhaps in the upper layers precise relative position is less important": take it away, and count
what is still right. Two ways of taking it away, each with batch norm statistics as trained and
computed anew: a network that was changed sees activations of another size, which alone can ruin it.
"""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from deformlib import models
from deformlib.seeding import stream
from reproduction.experiments import protocol
from reproduction.experiments.records import (
    Accuracy,
    ByStatistics,
    InterventionRecord,
    Scopes,
)
from reproduction.experiments.specs import Intervention
from reproduction.experiments.tasks import scale


class Shuffle(nn.Module):
    """Feature maps (N, C, H, W) with their positions in random order, one for all channels.

    `purpose` names the stream of permutations, which begins anew with every batch.
    """

    def __init__(self, purpose: str) -> None:
        super().__init__()
        self.purpose = purpose

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        drawn = torch.rand(n, height * width, generator=stream(0, self.purpose))
        order = drawn.argsort(1)[:, None].expand(-1, channels, -1)  # (N, C, H * W)
        return x.flatten(2).gather(2, order).view(x.shape)


def shuffled(name: str, layer: nn.Module) -> nn.Module:
    """The layer with the positions of its input shuffled: neither near nor far is known to it."""
    return nn.Sequential(Shuffle(f"positions {name}"), layer)


@torch.no_grad()
def averaged(name: str, layer: nn.Module) -> nn.Module:
    """The layer with each kernel replaced by its mean over the taps: it knows what is near, but not
    on which side."""
    layer = copy.deepcopy(layer)
    weight = layer.conv.weight  # (out, in, kh, kw)
    weight.copy_(weight.mean((2, 3), keepdim=True))
    return layer


INTERVENTIONS: dict[str, Callable[[str, nn.Module], nn.Module]] = {
    "shuffled": shuffled,
    "averaged": averaged,
}


def changed(
    model: nn.Module, layers: Iterable[str], change: Callable[[str, nn.Module], nn.Module]
) -> nn.Module:
    """A copy of `model` in which `change` replaced each of `layers`, names of its children."""
    model = copy.deepcopy(model)
    for name in layers:
        setattr(model, name, change(name, getattr(model, name)))
    return model


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Fraction of `images` (N, C, H, W), scaled as the model sees them, that it labels right."""
    as_they_are = "unit"
    guesses = protocol.logits(model.eval(), images, as_they_are).argmax(1)
    return protocol.fraction(guesses == labels)


def measure_intervention(
    spec: Intervention, model: models.VGG, progress: Callable[[float], None]
) -> tuple[InterventionRecord, str]:
    """Accuracies of a trained network and of its changed copies, and the images' identity."""
    counts = {"images": spec.images, "calibration": spec.calibration}
    parts, identity = protocol.test_images(spec.data, spec.training.size, counts)
    (images, labels), (others, _) = parts
    pixels = spec.training.recipe.pixels
    seen, calibration = scale(images, pixels), scale(others, pixels)
    names = list(protocol.banks_of(model))

    def accuracies(network: nn.Module) -> Accuracy:
        fresh = protocol.calibrated(network, calibration)
        return Accuracy(accuracy(network, seen, labels), accuracy(fresh, seen, labels))

    measured = {}
    for number, (intervention, change) in enumerate(INTERVENTIONS.items()):
        alone, upward = [], []
        for k, name in enumerate(names):
            alone.append(accuracies(changed(model, [name], change)))
            upward.append(accuracies(changed(model, names[k:], change)))
            progress((number + (k + 1) / len(names)) / len(INTERVENTIONS))
        measured[intervention] = _by_statistics(alone, upward)
    record = InterventionRecord(
        banks=names,
        images=len(seen),
        classes=model.head.out_features,
        accuracy=accuracies(model),
        **measured,
    )
    return record, identity


def _by_statistics(alone: list[Accuracy], upward: list[Accuracy]) -> ByStatistics:
    running = Scopes([each.running for each in alone], [each.running for each in upward])
    calibrated = Scopes([each.calibrated for each in alone], [each.calibrated for each in upward])
    return ByStatistics(running, calibrated)
