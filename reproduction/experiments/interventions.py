"""What a trained network loses when one of its layers no longer knows where things are (Section 4.4).

"Perhaps in the upper layers precise relative position is less important": take it away, and count what is still
right. Two ways of taking it away, and each with batch norm statistics as trained and computed anew, because a network
that was changed sees activations of another size, which alone can ruin it.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from deformlib import models
from deformlib.seeding import stream
from reproduction.experiments import protocol
from reproduction.experiments.specs import Intervention
from reproduction.experiments.tasks import scale


class Shuffle(nn.Module):
    """The positions of each feature map in random order, the same for all channels of an image: (N, C, H, W).

    `purpose` names the stream of permutations, which begins anew with every batch.
    """

    def __init__(self, purpose: str) -> None:
        super().__init__()
        self.purpose = purpose

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        order = torch.rand(n, height * width, generator=stream(0, self.purpose)).argsort(
            1
        )  # (N, H * W)
        return x.flatten(2).gather(2, order[:, None].expand(-1, channels, -1)).view(x.shape)


def shuffled(name: str, layer: nn.Module) -> nn.Module:
    """The layer with the positions of its input shuffled: neither near nor far is known to it."""
    return nn.Sequential(Shuffle(f"positions {name}"), layer)


@torch.no_grad()
def averaged(name: str, layer: nn.Module) -> nn.Module:
    """The layer with each kernel replaced by its mean over the taps: it knows what is near, but not on which side."""
    layer = copy.deepcopy(layer)
    layer.conv.weight.copy_(
        layer.conv.weight.mean((2, 3), keepdim=True)
    )  # (out, in, 1, 1) -> (out, in, kh, kw)
    return layer


INTERVENTIONS: dict[str, Callable[[str, nn.Module], nn.Module]] = {
    "shuffled": shuffled,
    "averaged": averaged,
}


def changed(
    model: nn.Module, layers: Iterable[str], change: Callable[[str, nn.Module], nn.Module]
) -> nn.Module:
    """A copy of `model` in which each of `layers`, names of its children, is replaced by what `change` makes of it."""
    model = copy.deepcopy(model)
    for name in layers:
        setattr(model, name, change(name, getattr(model, name)))
    return model


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of `images`, (N, C, H, W) as the model sees them, that it labels right, in eval mode."""
    return protocol.fraction(
        protocol.logits(model.eval(), images, "unit").argmax(1) == labels
    )  # "unit" is as they are


def measure(
    spec: Intervention, model: models.VGG, progress: Callable[[float], None]
) -> tuple[dict[str, Any], str]:
    """Accuracies of a trained network and of its changed copies: a record's measurements, and the images' identity.

    {intervention: {statistics: {scope: one per filter bank}}}: batch norm statistics "running" as trained or
    "calibrated" anew; the change made in this layer "alone", or in this one and all those above it ("upward").
    """
    parts, identity = protocol.test_images(
        spec.data, spec.training.size, {"images": spec.images, "calibration": spec.calibration}
    )
    seen, others = (scale(images, spec.training.recipe.pixels) for images, _ in parts)
    right = parts[0][1]
    banks = list(protocol.banks_of(model))
    found: dict[str, Any] = {
        name: {statistics: {"alone": [], "upward": []} for statistics in ("running", "calibrated")}
        for name in INTERVENTIONS
    }
    done = 0
    for name, change in INTERVENTIONS.items():
        for k, bank in enumerate(banks):
            for scope, layers in (("alone", [bank]), ("upward", banks[k:])):
                other = changed(model, layers, change)
                found[name]["running"][scope].append(accuracy(other, seen, right))
                found[name]["calibrated"][scope].append(
                    accuracy(protocol.calibrated(other, others), seen, right)
                )
                progress((done := done + 1) / (2 * len(INTERVENTIONS) * len(banks)))
    whole = {
        "running": accuracy(model, seen, right),
        "calibrated": accuracy(protocol.calibrated(model, others), seen, right),
    }
    return {
        "banks": banks,
        "images": len(seen),
        "classes": model.head.out_features,
        "accuracy": whole,
        **found,
    }, identity
