"""What is measured of a network while it is alive: the frozen measurement sets behind every record.

A number is cheap, a second training is not, so everything that a later question may need is taken. The images and
their deformations are the same for all variants, seeds and checkpoints of a data set: their random streams do not
depend on a run's seed. Measured in float32. A light measurement is taken at every checkpoint, a full one at some.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib import metrics
from deformlib.filters import filters_of, normalized_total_variation
from deformlib.models import READOUT
from deformlib.representations import evaluating, visit
from deformlib.seeding import noise_as_large, stream
from deformlib.warping import Deformation, deform, warp
from reproduction.experiments import data
from reproduction.experiments.specs import Training
from reproduction.experiments.tasks import Task, scale

Numbers = dict[str, Any]
CHUNK = 256  # images in a forward pass


@dataclass(frozen=True)
class Protocol:
    """How much is measured. A protocol is frozen once a record rests on it: change it under another name.

    images       in a set (the paper's 128), `sets` of them from the test and as many from the training images
    strengths    multiples of the paper's deformation strength, besides 1
    light, full  numbers of checkpoints; those with a full measurement also have a light one
    calibration  training images on which batch norm statistics are computed anew
    probes       test images, clean and deformed, for accuracy and flips, and training images for the loss;
                 at the end, `final` of each
    """

    images: int = 128
    sets: int = 4
    strengths: tuple[float, ...] = (0.25, 0.5, 2.0)
    light: int = 16
    full: int = 5
    calibration: int = 2048
    probes: int = 512
    final: int = 10_000

    def checkpoints(self, steps: int) -> dict[int, bool]:
        """Step -> whether it is a full one: 0, then logarithmically from 1 to `steps`; full at 0 and late."""
        exponents = [k / (self.light - 2) for k in range(self.light - 1)]
        spaced = [0, *(round(steps**exponent) for exponent in exponents)]
        late = (self.light - 1) - self.light // 2
        full = {
            0,
            *(self.light - 1 - round(late * k / (self.full - 1.5)) for k in range(self.full - 1)),
        }
        return {step: step in {spaced[k] for k in full} for step in spaced}


PROTOCOLS: dict[str, Protocol] = {
    "protocol-1": Protocol(),
    # 19 layers at 64x64 cost six times as much to measure as 13 at 32x32, and take more room in a record.
    "imagenet-1": Protocol(sets=2, light=8, full=3, calibration=1024, final=2500),
    "templates-1": Protocol(sets=1, strengths=(), light=8, full=2, calibration=1024, final=1000),
    "quick-2": Protocol(
        images=64,
        sets=1,
        strengths=(0.5, 2.0),
        light=4,
        full=2,
        calibration=256,
        probes=128,
        final=512,
    ),
    # Its study has many short runs, in which the other would take longer than the training.
    "quick-templates-1": Protocol(
        images=32, sets=1, strengths=(), light=4, full=2, calibration=128, probes=128, final=256
    ),
}


def deformation_of(data: str, side: int) -> Deformation:
    """The paper's deformation for a data set: ImageNet's in proportion to the image's side (10 px at 224)."""
    if data in ("imagenet", "tiny-imagenet"):
        return Deformation(
            Deformation.IMAGENET.grid, Deformation.IMAGENET.max_displacement * side / 224
        )
    return Deformation.CIFAR10


class Instrument:
    """The images, their deformations and the protocol, ready to measure networks of one task.

    Made from the task and spec of a run; `light(...)` and `full(...)` give plain JSON values.
    """

    def __init__(self, task: Task, spec: Training, protocol: Protocol) -> None:
        self.protocol, self.task, self.pixels = protocol, task, spec.recipe.pixels
        self.deformation = deformation_of(spec.data, task.images.shape[-1])
        if task.vary:  # the examples that training sees, one draw of them
            task = self.task = replace(
                task, images=task.vary(task.images, stream(0, "measured examples")), vary=None
            )
        images = {"test": task.test_images, "train": task.images}
        orders = {split: self._order(len(images[split]), split) for split in images}
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}  # condition -> clean, deformed
        for split in images:
            for k in range(protocol.sets):
                chosen = orders[split][k * protocol.images : (k + 1) * protocol.images]
                self.pairs[f"{split}-{k}"] = self._deformed(images[split][chosen], f"{split}-{k}")
        chosen = orders["test"][: protocol.images]
        for strength in protocol.strengths:
            self.pairs[f"strength-{strength:g}"] = self._deformed(
                images["test"][chosen], "test-0", strength
            )
        self.pairs["one-pixel-shift"] = self._shifted(images["test"][chosen])
        clean, deformed = self.pairs["test-0"]
        self.pairs["noise"] = (
            clean,
            clean + noise_as_large(deformed - clean, stream(0, "measurement noise")),
        )
        count = min(protocol.calibration, len(task.images))
        self.calibration = task.images[
            orders["train"][: count - count % CHUNK if count > CHUNK else count]
        ]  # full chunks
        self.orders = orders

    def light(self, model: nn.Module, initial: dict[str, Tensor]) -> Numbers:
        """Sensitivity of every layer, before the ReLU too, with running and with calibrated batch norm statistics;
        smoothness of every filter bank and of its change from `initial`; loss, accuracy and flips."""
        with evaluating(model), torch.no_grad():
            pair, names = self.pairs["test-0"], layers_of(model)
            after = names["layers"]
            sensitivity, before_relu = _profiles(model, *pair, [after, names["before_relu"]])
            fresh = calibrated(model, scale(self.calibration, self.pixels))
            return {
                "sensitivity": sensitivity,
                "before_relu": before_relu,
                "calibrated": _profiles(fresh, *pair, [after])[0],
                "smoothness": smoothness_of(model, initial),
                "probe": self._probe(model, self.protocol.probes),
            }

    def full(self, model: nn.Module, last: bool) -> Numbers:
        """Sensitivity under every condition, the taps' second moments, and at the end accuracies on more images."""
        with evaluating(model), torch.no_grad():
            layers = layers_of(model)["layers"]
            conditions = {
                name: _profiles(model, *pair, [layers], BRIEF)[0]
                for name, pair in self.pairs.items()
            }
            final = {"probe": self._probe(model, self.protocol.final)} if last else {}
            return {"conditions": conditions, "taps": _taps(model), **final}

    def _order(self, n: int, split: str) -> Tensor:
        needed = max(self.protocol.sets * self.protocol.images, self.protocol.probes)
        if n < needed:
            raise ValueError(f"the protocol needs at least {needed} {split} images, got {n}")
        return measured_order(n, split)

    def _deformed(self, images: Tensor, name: str, strength: float = 1.0) -> tuple[Tensor, Tensor]:
        clean = scale(images, "unit")
        return scale(clean, self.pixels), scale(
            deformed_as(clean, self.deformation, name, strength), self.pixels
        )

    def _shifted(self, images: Tensor) -> tuple[Tensor, Tensor]:
        directions = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        chosen = directions[
            torch.randint(4, (len(images),), generator=stream(0, "measurement shift"))
        ]
        clean = scale(images, "unit")
        field = (
            chosen[:, None, None, :].expand(-1, *clean.shape[-2:], -1).to(clean.device)
        )  # (N, H, W, 2)
        return scale(clean, self.pixels), scale(warp(clean, field), self.pixels)

    def _probe(self, model: nn.Module, count: int) -> Numbers:
        images = self.task.test_images[self.orders["test"][:count]]
        labels = self.task.test_labels[self.orders["test"][:count]]
        deformed = deform(
            scale(images, "unit"), self.deformation, generator=stream(0, "measurement probes")
        )
        clean_guess = logits(model, images, self.pixels).argmax(1)
        deformed_guess = logits(model, deformed, self.pixels).argmax(1)
        train = self.orders["train"][:count]
        train_logits = logits(model, self.task.images[train], self.pixels)
        return {
            "test_images": len(images),
            "test_accuracy": fraction(clean_guess == labels),
            "deformed_accuracy": fraction(deformed_guess == labels),
            "flip_rate": fraction(clean_guess != deformed_guess),
            "train_images": len(train),
            "train_accuracy": fraction(train_logits.argmax(1) == self.task.labels[train]),
            "train_loss": float(F.cross_entropy(train_logits, self.task.labels[train])),
        }


def measured_order(n: int, split: str) -> Tensor:
    """The order, (n,), in which all measurements take the images of a split."""
    return torch.randperm(n, generator=stream(0, f"measured {split} images"))


def deformed_as(
    clean: Tensor, deformation: Deformation, name: str, strength: float = 1.0
) -> Tensor:
    """Images (N, C, H, W) in [0, 1] under the deformations that all networks of a data set are measured with, `strength`
    times as strong; `name` is that of the set of images, "test-0"."""
    control = deformation.sample(
        len(clean), generator=stream(0, f"measurement {name}"), device=clean.device
    )
    return deformation.spline(clean.shape[-2:], device=clean.device).warp(clean, control * strength)


def test_images(
    name: str, size: int | None, parts: Mapping[str, int]
) -> tuple[list[tuple[Tensor, Tensor]], str]:
    """(images, labels) for each of `parts`, {name of an argument: how many}, from the test images in the order that all
    measurements take, and the identity of the whole set. ValueError that names the arguments if there are too few."""
    images, labels, _ = data.load(name, "test", size=size)
    counts = list(parts.values())
    if len(images) < sum(counts):
        raise ValueError(
            f"{' + '.join(parts)} must be at most {len(images)} for {name}, got {sum(counts)}"
        )
    order = measured_order(len(images), "test")[: sum(counts)]
    return [(images[part], labels[part]) for part in order.split(counts)], data.identity(
        images, labels
    )


def layers_of(model: nn.Module) -> dict[str, list[str]]:
    """The names behind a record's lists: representations after the ReLU (then the pooled and the logits), those
    before it, and filter banks."""
    modules = dict(model.named_modules())
    return {
        "layers": [*model.layers, *READOUT],
        "before_relu": [f"{name}.norm" for name in model.layers if f"{name}.norm" in modules],
        "banks": list(banks_of(model)),
    }


def calibrated(model: nn.Module, images: Tensor, chunk_size: int = CHUNK) -> nn.Module:
    """A copy of `model` whose batch norm statistics are the averages over `images` (N, C, H, W), in eval mode; averages
    of those of chunks of `chunk_size`, which must all be full.

    At initialization this separates what batch norm's centring does from what training does.
    """
    if len(images) > chunk_size and len(images) % chunk_size:
        raise ValueError(
            f"images must be at most {chunk_size} or a multiple of it, got {len(images)}"
        )
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the passes below
    with torch.no_grad():
        for chunk in images.split(chunk_size):
            model(_channels_last(chunk))
    return model.eval()


STATISTICS = (
    "mean",
    "median",
    "mean_square",
    "pairs_median",
    "pairs_mean",
    "pairs_mean_square",
    "normalized",
)
# What is kept of each distance; squares are the two factors of relative stability (Petrini et al. 2021).
WHOLE = dict.fromkeys(("cosine", "euclidean"), ("mean", "pairs_median", "pairs_mean", "normalized"))
BRIEF = {
    "cosine": ("mean", "normalized"),
    "euclidean": ("mean", "normalized", "mean_square", "pairs_mean_square"),
}


def _profiles(
    model: nn.Module,
    clean: Tensor,
    deformed: Tensor,
    groups: list[list[str]],
    keep: dict[str, tuple[str, ...]] = WHOLE,
) -> list[Numbers]:
    """{distance: {statistic: one number per layer}} for each group of layers, all in one forward pass."""
    both = _channels_last(torch.cat([clean, deformed]))
    reduced = visit(
        model, both, sum(groups, []), lambda r: {d: statistics(*r.chunk(2), d) for d in keep}
    )
    return [
        {d: {name: [reduced[layer][d][name] for layer in layers] for name in keep[d]} for d in keep}
        for layers in groups
    ]


def statistics(clean: Tensor, deformed: Tensor, distance: str) -> dict[str, float]:
    """`metrics.statistics` of representations (N, ...) each, by their names in records."""
    found = metrics.statistics(clean, deformed, distance)
    return {name: float(getattr(found, name)) for name in STATISTICS}


def banks_of(model: nn.Module) -> dict[str, Tensor]:
    """Weights (out, in, 3, 3) of the convolutions that the paper counts as filters."""
    return {name.removesuffix(".conv"): w.detach() for name, w in filters_of(model).items()}


def smoothness_of(model: nn.Module, initial: dict[str, Tensor]) -> Numbers:
    """Lists over filter banks: normalized total variation by both averages, with zeros around each kernel, and of the change
    since the weights `initial`, {bank: (out, in, 3, 3)}; norm of the change relative to theirs; norm."""
    rows = []
    for name, weight in banks_of(model).items():
        change = weight - initial[name]
        moved = bool(change.any())
        rows.append(
            {
                "kernel": _variation(weight, "kernel"),
                "bank": _variation(weight, "bank"),
                # The theory of Section 4 needs the filter's edge, which the formula as printed leaves out.
                "zero_extended": _variation(F.pad(weight, [1, 1, 1, 1]), "bank"),
                "change_kernel": _variation(change, "kernel") if moved else math.nan,
                "change_bank": _variation(change, "bank") if moved else math.nan,
                "change_norm": float(change.norm() / initial[name].norm()),
                "norm": float(weight.norm()),
            }
        )
    return {name: [row[name] for row in rows] for name in rows[0]}


def _variation(weight: Tensor, average: str) -> float:
    kept = weight.flatten(0, 1)[:, None]  # (out * in, 1, kh, kw)
    kept = kept[kept.flatten(1).any(1)]  # a filter that is zero everywhere has no smoothness
    return float(normalized_total_variation(kept, average)) if len(kept) else math.nan


def _taps(model: nn.Module) -> Numbers:
    """Per bank: the means of the nine taps over all kernels, and their second moments E[w_i w_j], i <= j."""
    rows = []
    for weight in banks_of(model).values():
        taps = weight.flatten(0, 1).flatten(1)  # (out * in, 9)
        moments = taps.T @ taps / len(taps)
        i, j = torch.triu_indices(*moments.shape)
        rows.append({"mean": taps.mean(0).tolist(), "second_moments": moments[i, j].tolist()})
    return {name: [row[name] for row in rows] for name in rows[0]}


def logits(model: nn.Module, images: Tensor, pixels: str) -> Tensor:
    """(N, classes) of images, (N, C, H, W) that are scaled as `tasks.scale` does, in chunks."""
    return torch.cat([model(_channels_last(scale(chunk, pixels))) for chunk in images.split(CHUNK)])


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def fraction(hits: Tensor) -> float:
    """Of a Boolean tensor, how much is true."""
    return float(hits.double().mean())
