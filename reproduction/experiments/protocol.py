"""What is measured of a network while it is alive: the frozen measurement sets behind every record.

A number is cheap, a second training is not, so everything that a later question may need is taken.
The images and their deformations are the same for all variants, seeds and checkpoints of a data
set: their random streams do not depend on a run's seed. Measured in float32. A light measurement is
taken at every checkpoint, a full one at some.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib import metrics
from deformlib.filters import filters_of, normalized_total_variation
from deformlib.models import READOUT
from deformlib.representations import evaluating, visit
from deformlib.seeding import noise_as_large, stream
from deformlib.validation import require
from deformlib.warping import Deformation, deform, warp
from reproduction.experiments import data
from reproduction.experiments.records import (
    Checkpoint,
    Distances,
    Full,
    Probe,
    Profile,
    Smoothness,
    Taps,
)
from reproduction.experiments.specs import Training
from reproduction.experiments.tasks import Task, scale

FORWARD_BATCH = 256  # images in a forward pass
Statistics = dict[str, dict[str, float]]  # of one layer: distance -> statistic -> number
Pair = tuple[Tensor, Tensor]  # clean and deformed images, (N, C, H, W) each


@dataclass(frozen=True)
class Protocol:
    """How much is measured. Frozen once a record rests on it: change it under another name.

    images       in a set (the paper's 128)
    sets         of test images, and as many of training images
    strengths    multiples of the paper's deformation strength, besides 1
    light, full  numbers of checkpoints; those with a full measurement also have a light one
    calibration  training images on which batch norm statistics are computed anew
    probes       test images, clean and deformed, for accuracy and flips, and training images for
                 the loss; at the end, `final` of each
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
        """{step: whether it is a full one}: 0, then from 1 to `steps` logarithmically."""
        exponents = [k / (self.light - 2) for k in range(self.light - 1)]
        light = [0, *(round(steps**exponent) for exponent in exponents)]
        last = self.light - 1
        late = last - self.light // 2
        chosen = [last - round(late * k / (self.full - 1.5)) for k in range(self.full - 1)]
        full = {light[k] for k in (0, *chosen)}
        return {step: step in full for step in light}


PROTOCOLS: dict[str, Protocol] = {
    "protocol-1": Protocol(),
    # 19 layers at 64x64 cost six times as much to measure as 13 at 32x32.
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
    """The paper's deformation for a data set: ImageNet's in proportion to the image (10 px at
    224)."""
    if data in ("imagenet", "tiny-imagenet"):
        largest = Deformation.IMAGENET.max_displacement * side / 224
        return Deformation(Deformation.IMAGENET.grid, largest)
    return Deformation.CIFAR10


class Instrument:
    """The images of one task, their deformations and the protocol, ready to measure its networks.

    pairs        {condition: clean and deformed images as a network sees them}
    orders       {split: the order in which its images are taken}
    calibration  training images on which batch norm statistics are computed anew
    """

    def __init__(self, task: Task, spec: Training, protocol: Protocol) -> None:
        self.protocol = protocol
        self.task = _as_training_sees_it(task)
        self.pixels = spec.recipe.pixels
        self.deformation = deformation_of(spec.data, task.images.shape[-1])
        images = {"test": self.task.test_images, "train": self.task.images}
        self.orders = {split: self._order(len(all_), split) for split, all_ in images.items()}
        self.pairs = self._make_pairs(images)
        count = min(protocol.calibration, len(self.task.images))
        if count > FORWARD_BATCH:
            count -= count % FORWARD_BATCH  # full batches
        self.calibration = self.task.images[self.orders["train"][:count]]

    def light(
        self, model: nn.Module, initial: dict[str, Tensor], step: int, epoch: float
    ) -> Checkpoint:
        """Sensitivity with running and with calibrated batch norm statistics, and before the ReLU;
        smoothness of filters and of their change from `initial`; loss, accuracy and flips."""
        names = layers_of(model)
        after, before = names["layers"], names["before_relu"]
        pair = self.pairs["test-0"]
        with evaluating(model), torch.no_grad():
            sensitivity, before_relu = _profiles(model, pair, [after, before])
            fresh = calibrated(model, scale(self.calibration, self.pixels))
            return Checkpoint(
                step=step,
                epoch=epoch,
                sensitivity=sensitivity,
                before_relu=before_relu,
                calibrated=_profiles(fresh, pair, [after])[0],
                smoothness=smoothness_of(model, initial),
                probe=self._probe(model, self.protocol.probes),
            )

    def full(self, model: nn.Module, last: bool) -> Full:
        """Sensitivity under every condition and the taps' second moments; of the last checkpoint
        also accuracies on more images."""
        layers = layers_of(model)["layers"]
        with evaluating(model), torch.no_grad():
            conditions = {
                name: _profiles(model, pair, [layers], BRIEF)[0]
                for name, pair in self.pairs.items()
            }
            probe = self._probe(model, self.protocol.final) if last else None
            return Full(conditions, _taps(model), probe)

    def _order(self, n: int, split: str) -> Tensor:
        needed = max(self.protocol.sets * self.protocol.images, self.protocol.probes)
        if n < needed:
            raise ValueError(f"the protocol needs at least {needed} {split} images, got {n}")
        return measured_order(n, split)

    def _make_pairs(self, images: Mapping[str, Tensor]) -> dict[str, Pair]:
        count = self.protocol.images
        first = images["test"][self.orders["test"][:count]]
        pairs = {}
        for split, all_ in images.items():
            for k in range(self.protocol.sets):
                chosen = self.orders[split][k * count : (k + 1) * count]
                pairs[f"{split}-{k}"] = self._deformed(all_[chosen], f"{split}-{k}")
        for strength in self.protocol.strengths:
            pairs[f"strength-{strength:g}"] = self._deformed(first, "test-0", strength)
        pairs["one-pixel-shift"] = self._shifted(first)
        pairs["noise"] = _in_noise(pairs["test-0"])
        return pairs

    def _deformed(self, images: Tensor, name: str, strength: float = 1.0) -> Pair:
        clean = scale(images, "unit")
        deformed = deformed_as(clean, self.deformation, name, strength)
        return scale(clean, self.pixels), scale(deformed, self.pixels)

    def _shifted(self, images: Tensor) -> Pair:
        clean = scale(images, "unit")
        directions = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        drawn = torch.randint(4, (len(images),), generator=stream(0, "measurement shift"))
        chosen = directions[drawn].to(clean.device)  # (N, 2)
        field = chosen[:, None, None, :].expand(-1, *clean.shape[-2:], -1)  # (N, H, W, 2)
        return scale(clean, self.pixels), scale(warp(clean, field), self.pixels)

    def _probe(self, model: nn.Module, count: int) -> Probe:
        test = self.orders["test"][:count]
        images, labels = self.task.test_images[test], self.task.test_labels[test]
        train = self.orders["train"][:count]
        train_images, train_labels = self.task.images[train], self.task.labels[train]
        generator = stream(0, "measurement probes")
        deformed = deform(scale(images, "unit"), self.deformation, generator=generator)
        guess = logits(model, images, self.pixels).argmax(1)
        deformed_guess = logits(model, deformed, self.pixels).argmax(1)
        train_logits = logits(model, train_images, self.pixels)
        return Probe(
            test_images=len(images),
            test_accuracy=fraction(guess == labels),
            deformed_accuracy=fraction(deformed_guess == labels),
            flip_rate=fraction(guess != deformed_guess),
            train_images=len(train),
            train_accuracy=fraction(train_logits.argmax(1) == train_labels),
            train_loss=float(F.cross_entropy(train_logits, train_labels)),
        )


def _as_training_sees_it(task: Task) -> Task:
    """One draw of the examples, of a task that makes them anew at every use."""
    if task.vary is None:
        return task
    images = task.vary(task.images, stream(0, "measured examples"))
    return replace(task, images=images, vary=None)


def _in_noise(pair: Pair) -> Pair:
    """Clean images, and the same in noise as large as their deformation."""
    clean, deformed = pair
    noise = noise_as_large(deformed - clean, stream(0, "measurement noise"))
    return clean, clean + noise


def measured_order(n: int, split: str) -> Tensor:
    """The order, (n,), in which all measurements take the images of a split."""
    return torch.randperm(n, generator=stream(0, f"measured {split} images"))


def deformed_as(
    clean: Tensor, deformation: Deformation, name: str, strength: float = 1.0
) -> Tensor:
    """Images (N, C, H, W) in [0, 1] under the deformations that all networks of a data set are
    measured with, `strength` times as strong. `name` is that of the set of images, "test-0"."""
    generator = stream(0, f"measurement {name}")
    control = deformation.sample(len(clean), generator=generator, device=clean.device)
    spline = deformation.spline(clean.shape[-2:], device=clean.device)
    return spline.warp(clean, control * strength)


def test_images(
    name: str, size: int | None, parts: Mapping[str, int]
) -> tuple[list[tuple[Tensor, Tensor]], str]:
    """(images, labels) for each of `parts`, {name of an argument: how many}, and the identity of
    all test images, from which they are taken in the order that all measurements take.

    ValueError that names the arguments if there are too few images.
    """
    images, labels, _ = data.load(name, "test", size=size)
    counts = list(parts.values())
    most = f"at most {len(images)} for {name}"
    require(sum(counts) <= len(images), " + ".join(parts), most, sum(counts))
    order = measured_order(len(images), "test")[: sum(counts)]
    chosen = [(images[part], labels[part]) for part in order.split(counts)]
    return chosen, data.identity(images, labels)


def layers_of(model: nn.Module) -> dict[str, list[str]]:
    """The names behind a record's lists: "layers" (representations after the ReLU, the pooled one,
    the logits), "before_relu" and "banks" (of filters)."""
    modules = dict(model.named_modules())
    return {
        "layers": [*model.layers, *READOUT],
        "before_relu": [f"{name}.norm" for name in model.layers if f"{name}.norm" in modules],
        "banks": list(banks_of(model)),
    }


def calibrated(model: nn.Module, images: Tensor, batch_size: int = FORWARD_BATCH) -> nn.Module:
    """A copy of `model` in eval mode, with the batch norm statistics of `images` (N, C, H, W).

    They are averages of the statistics of full batches: a short last one would weigh too much. At
    initialization this separates what batch norm's centring does from what training does.
    """
    full = len(images) <= batch_size or len(images) % batch_size == 0
    require(full, "images", f"at most {batch_size} or a multiple of it", len(images))
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the passes below
    with torch.no_grad():
        for batch in images.split(batch_size):
            model(_channels_last(batch))
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
Kept = Mapping[str, Sequence[str]]  # distance -> statistics
# Squares are the two factors of relative stability (Petrini et al. 2021).
WHOLE: Kept = {
    "cosine": ("mean", "pairs_median", "pairs_mean", "normalized"),
    "euclidean": ("mean", "pairs_median", "pairs_mean", "normalized"),
}
BRIEF: Kept = {
    "cosine": ("mean", "normalized"),
    "euclidean": ("mean", "normalized", "mean_square", "pairs_mean_square"),
}


def _profiles(
    model: nn.Module, pair: Pair, groups: list[list[str]], kept: Kept = WHOLE
) -> list[Profile]:
    """A profile of each group of layers, all in one forward pass."""
    both = _channels_last(torch.cat(pair))
    layers = [layer for group in groups for layer in group]
    found = visit(model, both, layers, statistics_of_both)
    return [profile_of([found[layer] for layer in group], kept) for group in groups]


def statistics_of_both(r: Tensor) -> Statistics:
    """Of representations (2N, ...), the clean ones first."""
    clean, deformed = r.chunk(2)
    return {distance: statistics(clean, deformed, distance) for distance in WHOLE}


def profile_of(layers: Iterable[Statistics], kept: Kept) -> Profile:
    """The statistics that are kept of each distance, one number per layer."""
    rows = list(layers)
    found = {}
    for distance, names in kept.items():
        lists = {name: [row[distance][name] for row in rows] for name in names}
        found[distance] = Distances(**lists)
    return Profile(**found)


def statistics(clean: Tensor, deformed: Tensor, distance: str) -> dict[str, float]:
    """`metrics.statistics` of representations (N, ...) each, by their names in records."""
    found = metrics.statistics(clean, deformed, distance)
    return {name: float(getattr(found, name)) for name in STATISTICS}


def banks_of(model: nn.Module) -> dict[str, Tensor]:
    """Weights (out, in, 3, 3) of the convolutions that the paper counts as filters."""
    return {name.removesuffix(".conv"): w.detach() for name, w in filters_of(model).items()}


def smoothness_of(model: nn.Module, initial: dict[str, Tensor]) -> Smoothness:
    """Smoothness of all filters, and of their change since the weights `initial`, {name of the
    layer: (out, in, 3, 3)}."""
    rows = []
    for name, weight in banks_of(model).items():
        change = weight - initial[name]
        moved = bool(change.any())
        rows.append(
            {
                "kernel": _variation(weight, "kernel"),
                "bank": _variation(weight, "bank"),
                # The theory of Section 4 needs the filter's edge, which the formula as printed
                # leaves out.
                "zero_extended": _variation(F.pad(weight, [1, 1, 1, 1]), "bank"),
                "change_kernel": _variation(change, "kernel") if moved else math.nan,
                "change_bank": _variation(change, "bank") if moved else math.nan,
                "change_norm": float(change.norm() / initial[name].norm()),
                "norm": float(weight.norm()),
            }
        )
    return Smoothness(**{name: [row[name] for row in rows] for name in rows[0]})


def _variation(weight: Tensor, average: str) -> float:
    kept = weight.flatten(0, 1)[:, None]  # (out * in, 1, kh, kw)
    kept = kept[kept.flatten(1).any(1)]  # a filter that is zero everywhere has no smoothness
    return float(normalized_total_variation(kept, average)) if len(kept) else math.nan


def _taps(model: nn.Module) -> Taps:
    """Means of the nine taps over all kernels, and their second moments E[w_i w_j], i <= j."""
    means, second_moments = [], []
    for weight in banks_of(model).values():
        taps = weight.flatten(0, 1).flatten(1)  # (out * in, 9)
        moments = taps.T @ taps / len(taps)
        i, j = torch.triu_indices(*moments.shape)
        means.append(taps.mean(0).tolist())
        second_moments.append(moments[i, j].tolist())
    return Taps(means, second_moments)


def logits(model: nn.Module, images: Tensor, pixels: str) -> Tensor:
    """(N, classes) of images (N, C, H, W), scaled as `tasks.scale` does, batch by batch."""
    batches = images.split(FORWARD_BATCH)
    return torch.cat([model(_channels_last(scale(batch, pixels))) for batch in batches])


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def fraction(hits: Tensor) -> float:
    """How much of a Boolean tensor is true."""
    return float(hits.double().mean())
