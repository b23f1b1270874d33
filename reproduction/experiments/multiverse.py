"""One network measured under other choices, which the paper leaves open: one at a time and crossed.

A combination says for every choice which option is taken. Nothing here trains: a network is
measured before its training and after it, and whatever concerns only the images, their deformations
and the measure can be chosen anew. The first option of every choice is the book's own, and gives
the numbers of `protocol`.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib import models
from deformlib.representations import evaluating, visit
from deformlib.seeding import stream
from deformlib.warping import PADDING_MODES, Deformation, ThinPlateSpline, warp
from reproduction.experiments import data, protocol, tasks
from reproduction.experiments.interventions import changed
from reproduction.experiments.records import Measured, VariationRecord
from reproduction.experiments.specs import Training, Variation
from reproduction.experiments.tasks import scale

Combination = Mapping[str, str]  # choice -> option


@dataclass(frozen=True)
class Choice:
    """Something to be chosen.

    options  {name: in words}
    trained  whether it can be made of a trained network: one trained on other pixels is another
    """

    label: str
    options: Mapping[str, str]
    trained: bool = True


CHOICES: dict[str, Choice] = {
    "pixels": Choice(
        "pixel values",
        {
            "unit": "in [0, 1]",
            "signed": "in [-1, 1]",
            "centred": "less the channels' means",
            "standardized": "less mean, over deviation, by channel",
            "image": "less mean, over deviation, by image",
            "grey": "in [0, 1], without colour",
        },
        trained=False,
    ),
    "statistics": Choice(
        "batch norm statistics",
        {
            "running": "running",
            "calibrated": "of training images",
            "local": "of the batch, clean and deformed apart",
            "together": "of the batch, clean and deformed together",
            "sonnet": "of the batch, epsilon 0.001",
        },
    ),
    "representation": Choice(
        "in the block after", {"relu": "ReLU", "norm": "batch norm", "conv": "convolution"}
    ),
    "border": Choice(
        "outside the image", {"border": "its edge", "zeros": "black", "reflection": "reflected"}
    ),
    "grid": Choice("control grid", {"edge": "to the edge", "inside": "half a cell inside"}),
    "sources": Choice(
        "sources of control points", {"free": "anywhere", "clipped": "inside the image"}
    ),
    "map": Choice("control points move", {"backward": "what is looked up", "forward": "the image"}),
    "deformations": Choice("deformations", {"each": "one an image", "shared": "one for all"}),
    "displacement": Choice(
        "largest displacement",
        {"1": "as stated", "0.875": "x 0.875", "0.75": "x 0.75", "0.6": "x 0.6", "0.5": "x 0.5"},
    ),
    "resize": Choice(
        "photographs",
        {
            "crop": "resized and cropped",
            "bicubic": "the same, bicubic",
            "nearest": "the same, nearest pixel",
            "squash": "squashed",
            "centre": "cut out",
        },
    ),
    "split": Choice("images", {"test": "test", "train": "training"}),
    "images": Choice("number of images", {n: n for n in ("32", "64", "128", "256", "512")}),
    "average": Choice("over images", {"mean": "mean", "median": "median"}),
    "pairs": Choice("over pairs", {"median": "median", "mean": "mean"}),
    "draw": Choice(
        "draw of images and deformations", {str(k): f"number {k + 1}" for k in range(16)}
    ),
}


@dataclass(frozen=True)
class Multiverse:
    """Which options are tried. Frozen once a record rests on it: change it under another name.

    alone        {choice: options, the book's first}, each tried with all others at the book's; a
                 choice that is not here is never varied
    crossed      {choice: options}, tried in all combinations; those that cost a measurement first
    layers       so many of a network's layers from the input on, or all
    calibration  training images whose statistics are the option "calibrated"
    """

    alone: Mapping[str, tuple[str, ...]]
    crossed: Mapping[str, tuple[str, ...]]
    layers: int | None = None
    calibration: int = 2048

    @property
    def book(self) -> dict[str, str]:
        """The combination that the book rests on."""
        first = {name: next(iter(choice.options)) for name, choice in CHOICES.items()}
        return first | {name: options[0] for name, options in self.alone.items()}

    def variations(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Choice, option and combination, for every option but the book's."""
        for name, options in self.alone.items():
            for option in options[1:]:
                yield name, option, self.book | {name: option}

    def combinations(self, trained: bool) -> Iterator[dict[str, str]]:
        """Every combination of the crossed choices; for a trained network, of those left open."""
        names = [name for name in self.crossed if CHOICES[name].trained or not trained]
        for options in itertools.product(*(self.crossed[name] for name in names)):
            yield self.book | dict(zip(names, options, strict=True))


GEOMETRY = {
    "border": PADDING_MODES,
    "grid": ("edge", "inside"),
    "sources": ("free", "clipped"),
    "map": ("backward", "forward"),
    "deformations": ("each", "shared"),
}
AVERAGING = {"average": ("mean", "median"), "pairs": ("median", "mean")}
NETWORK = {
    "pixels": ("unit", "signed", "centred", "standardized", "image"),
    "statistics": ("running", "calibrated", "local", "together", "sonnet"),
    "representation": ("relu", "norm", "conv"),
}
CROSSED = {
    "grid": ("edge", "inside"),
    "pixels": ("unit", "standardized", "image"),
    "statistics": ("running", "calibrated", "local"),
    "representation": ("relu", "norm", "conv"),
    **AVERAGING,
}
MULTIVERSES: dict[str, Multiverse] = {
    "cifar10-choices-1": Multiverse(
        {
            **NETWORK,
            **GEOMETRY,
            "displacement": ("1", "0.5"),
            "split": ("test", "train"),
            "images": ("128", "32", "512"),
            **AVERAGING,
            "draw": ("0", "1", "2"),
        },
        CROSSED,
    ),
    # The input of a network is the same in all of them, so one stands for all.
    "input-choices-1": Multiverse(
        {
            "resize": ("crop", "bicubic", "nearest", "squash", "centre"),
            **GEOMETRY,
            "displacement": ("1", "0.875", "0.75", "0.6", "0.5"),
            "images": ("128", "32", "64", "256", "512"),
            "pixels": ("unit", "signed", "centred", "standardized", "image", "grey"),
            **AVERAGING,
            "draw": tuple(map(str, range(4))),
        },
        {
            "resize": ("crop", "squash"),
            "deformations": ("each", "shared"),
            "grid": ("edge", "inside"),
            "sources": ("free", "clipped"),
            "displacement": ("1", "0.5"),
            "pixels": ("unit", "centred", "image"),
            **AVERAGING,
        },
        layers=1,
    ),
    # One deformation for all images is one draw, so it takes many to say what it comes to.
    "shared-draws-1": Multiverse(
        {
            "deformations": ("each", "shared"),
            "draw": tuple(map(str, range(16))),
            "images": ("32", "64"),
        },
        {"draw": tuple(map(str, range(16))), "deformations": ("each", "shared")},
        layers=1,
    ),
    "quick-choices-1": Multiverse(
        {
            **NETWORK,
            "pixels": ("unit", "standardized"),
            "statistics": ("running", "calibrated", "local"),
            "grid": ("edge", "inside"),
            "sources": ("free", "clipped"),
            "images": ("64", "32"),
            **AVERAGING,
        },
        {
            "pixels": ("unit", "standardized"),
            "statistics": ("running", "calibrated"),
            "representation": ("relu", "norm"),
        },
        calibration=256,
    ),
    "quick-input-choices-1": Multiverse(
        {
            **GEOMETRY,
            "displacement": ("1", "0.5"),
            "pixels": ("unit", "image", "grey"),
            **AVERAGING,
            "images": ("64", "32"),
        },
        {
            "grid": ("edge", "inside"),
            "sources": ("free", "clipped"),
            "pixels": ("unit", "image"),
            **AVERAGING,
        },
        layers=1,
    ),
    "quick-shared-draws-1": Multiverse(
        {"deformations": ("each", "shared"), "draw": ("0", "1", "2", "3"), "images": ("32",)},
        {"draw": ("0", "1", "2", "3"), "deformations": ("each", "shared")},
        layers=1,
    ),
}


# Deform


def inverse(field: Tensor) -> Tensor:
    """The backward field of the map that moves what is at p to p + field(p): (N, H, W, 2) pixels.

    v(p) = -field(p + v(p)) is iterated from -field. Each step gains a factor of the field's
    steepest gradient, which must be below 1 (no folds); beyond the image the field is as at its
    edge.
    """
    planar = field.permute(0, 3, 1, 2)  # (N, 2, H, W)
    found = -field
    for _ in range(30):
        found = -warp(planar, found).permute(0, 2, 3, 1)
    return found


def clipped(spline: ThinPlateSpline, control: Tensor) -> Tensor:
    """Displacements (N, K, 2) in pixels, shortened so that every source lies inside the image."""
    height, width = spline.size
    source = (spline.points + control).clamp(min=0)
    corner = source.new_tensor([width - 1, height - 1])
    return source.minimum(corner) - spline.points


def deformed(
    images: Tensor, deformation: Deformation, choice: Combination, generator: torch.Generator
) -> Tensor:
    """`images`, (N, C, H, W), under deformations drawn and applied as `choice` says."""
    rows = int(deformation.grid)  # the paper's grids are square
    inset = {"edge": 0.0, "inside": 1 / (2 * rows)}[choice["grid"]]
    spline = ThinPlateSpline(images.shape[-2:], rows, inset=inset)
    control = deformation.sample(len(images), generator=generator) * float(choice["displacement"])
    if choice["deformations"] == "shared":
        control = control[:1]
    if choice["sources"] == "clipped":
        control = clipped(spline, control)
    if choice["map"] == "forward":
        return warp(images, inverse(spline.field(control)), choice["border"])
    return spline.warp(images, control, choice["border"])


# Represent


def scaled(images: Tensor, reference: Tensor, option: str) -> Tensor:
    """`images` in [0, 1], (N, C, H, W), as a network sees them. Statistics by channel are of
    `reference`, those by image of each image itself."""
    channel, image = (0, 2, 3), (1, 2, 3)
    if option == "signed":
        return 2 * images - 1
    if option == "centred":
        return images - reference.mean(channel, keepdim=True)
    if option == "standardized":
        centred = images - reference.mean(channel, keepdim=True)
        return centred / reference.std(channel, keepdim=True)
    if option == "image":
        return (images - images.mean(image, keepdim=True)) / images.std(image, keepdim=True)
    if option == "grey":
        return images.mean(1, keepdim=True).expand_as(images)
    return images


class LocalNorm(nn.Module):
    """Batch norm by the statistics of the batch, each of `parts` equal parts by its own."""

    def __init__(self, norm: nn.BatchNorm2d, parts: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.parts, self.epsilon = parts, epsilon

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._normalized(part) for part in x.chunk(self.parts)])

    def _normalized(self, x: Tensor) -> Tensor:
        options = {"weight": self.weight, "bias": self.bias, "eps": self.epsilon}
        return F.batch_norm(x, running_mean=None, running_var=None, training=True, **options)


def local(model: nn.Module, parts: int = 2, epsilon: float = 1e-5) -> nn.Module:
    """A copy of `model` whose batch norm uses the batch at hand: clean and deformed images apart,
    or as one part."""
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    owners = dict.fromkeys(name.rpartition(".")[0] for name in norms)

    def localized(_: str, layer: nn.Module) -> nn.Module:
        return changed(layer, ["norm"], lambda _, norm: LocalNorm(norm, parts, epsilon))

    return changed(model, owners, localized)


# Sonnet's batch norm has an epsilon of 0.001 and no scale. A scale that a network has learned is
# part of its weights and stays; before training it is 1.
LOCAL_NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "local": local,
    "together": partial(local, parts=1),
    "sonnet": partial(local, epsilon=1e-3),
}


# Measure


class Workbench:
    """The images and networks of one spec, made ready as a combination says. What was just made is
    kept.

    networks  {"before": the network at initialization, "after": trained}, or the first alone
    """

    IMAGES = ("resize", "split", "images", "draw")
    PAIR = (*IMAGES, "grid", "displacement", "sources", "map", "deformations", "border")
    SEEN = (*PAIR, "pixels", "statistics")

    def __init__(self, spec: Variation, networks: Mapping[str, models.VGG]) -> None:
        self.spec = spec.network
        self.multiverse = MULTIVERSES[spec.choices]
        self.layers = networks["before"].layers[: self.multiverse.layers]
        self.networks = {when: self._up_to_layers(each) for when, each in networks.items()}
        self.identity = ""
        self._split = lru_cache(2)(self._load)
        self._pair = lru_cache(1)(self._make_pair)
        self._network = lru_cache(None)(self._make_network)
        self._pass = lru_cache(None)(self._profile)

    def sensitivity(self, when: str, choice: Combination) -> list[float]:
        """Of every layer of the network "before" or "after" training, under one combination."""
        inside = choice["representation"] != "relu"
        seen = self._pass(when, inside, *(choice[name] for name in self.SEEN))
        found = []
        for name in self.layers:
            # A layer without this part is taken as it leaves the layer, as with the option "relu".
            values = seen.get(f"{name}.{choice['representation']}", seen[name])
            pairs = values[f"pairs_{choice['pairs']}"]
            found.append(values[choice["average"]] / pairs if pairs else math.nan)
        return found

    def _up_to_layers(self, network: models.VGG) -> nn.Module:
        """The part of a network that is measured, in eval mode."""
        stages = [(name, network.get_submodule(name)) for name in self.layers[1:]]
        return nn.Sequential(OrderedDict(stages)).eval()

    def _load(self, resize: str) -> dict[str, Tensor]:
        """{split: uint8 (N, C, H, W)}."""
        if isinstance(self.spec, Training):
            task = tasks.load(self.spec)
            self.identity = task.identity
            return {"test": task.test_images, "train": task.images}
        images, labels, _ = data.load(self.spec.data, "test", size=self.spec.size, resize=resize)
        self.identity = self.identity or data.identity(images, labels)
        return {"test": images}

    def _chosen(self, resize: str, split: str, images: str, draw: str) -> Tensor:
        """The images of a draw, as `protocol.Instrument` chooses its sets, in [0, 1]."""
        known = self._split(resize)[split]
        n, k = int(images), int(draw)
        if len(known) < (k + 1) * n:
            needed = f"draw {k} of {n} images needs {(k + 1) * n} {split} images"
            raise ValueError(f"{needed} of {self.spec.data}, got {len(known)}")
        order = protocol.measured_order(len(known), split)
        return scale(known[order[k * n : (k + 1) * n]], "unit")

    def _make_pair(self, *options: str) -> tuple[Tensor, Tensor]:
        choice = dict(zip(self.PAIR, options, strict=True))
        clean = self._chosen(*(choice[name] for name in self.IMAGES))
        deformation = protocol.deformation_of(self.spec.data, clean.shape[-1])
        generator = stream(0, f"measurement {choice['split']}-{choice['draw']}")
        return clean, deformed(clean, deformation, choice, generator)

    def _make_network(self, when: str, statistics: str, pixels: str) -> nn.Module:
        network = self.networks[when]
        if statistics == "running":
            return network
        if statistics == "calibrated":
            return protocol.calibrated(network, self._calibration(pixels))
        return LOCAL_NORMS[statistics](network)

    def _calibration(self, pixels: str) -> Tensor:
        """The images that statistics are calibrated on."""
        images = self._split(self.multiverse.book["resize"])["train"]
        order = protocol.measured_order(len(images), "train")
        chosen = scale(images[order[: self.multiverse.calibration]], "unit")
        return scaled(chosen, chosen, pixels)

    @torch.no_grad()
    def _profile(self, when: str, inside: bool, *options: str) -> dict[str, dict[str, float]]:
        """{layer: `protocol.statistics`}, in one forward pass; `inside` conv blocks also of
        "layer.norm" and "layer.conv"."""
        *pair, pixels, statistics = options
        clean, moved = self._pair(*pair)
        model = self._network(when, statistics, pixels)
        both = torch.cat([scaled(clean, clean, pixels), scaled(moved, clean, pixels)])
        both = both.contiguous(memory_format=torch.channels_last)
        names = [*self.layers, *(self._parts(model) if inside else ())]
        with evaluating(model):
            return visit(model, both, names, cosine_statistics)

    def _parts(self, model: nn.Module) -> list[str]:
        """The parts of conv blocks before the ReLU, by their names."""
        known = dict(model.named_modules())
        parts = [f"{name}.{part}" for name in self.layers for part in ("norm", "conv")]
        return [part for part in parts if part in known]


def cosine_statistics(r: Tensor) -> dict[str, float]:
    """Of representations (2N, ...), the clean ones first."""
    clean, moved = r.chunk(2)
    return protocol.statistics(clean, moved, "cosine")


def measure_variation(
    spec: Variation, networks: Mapping[str, models.VGG], progress: Callable[[float], None]
) -> tuple[VariationRecord, str]:
    """A record's measurements, and the images' identity. Crossed rows are in the order of
    `Multiverse.combinations`.

    With a network "after" training there is also "calibrated": before training, with calibrated
    statistics whatever the combination says of them, the second baseline of the claims.
    """
    multiverse, bench = MULTIVERSES[spec.choices], Workbench(spec, networks)
    variations = list(multiverse.variations())
    crossed = {when: list(multiverse.combinations(trained=when == "after")) for when in networks}
    total = 1 + len(variations) + sum(map(len, crossed.values()))
    calls = itertools.count(1)

    def measured(choice: Combination, whens: Iterable[str]) -> Measured:
        found = {when: bench.sensitivity(when, choice) for when in whens}
        if "after" in found:
            calibrated = {**choice, "statistics": "calibrated"}
            found["calibrated"] = bench.sensitivity("before", calibrated)
        progress(next(calls) / total)
        return found

    def row(when: str, choice: Combination) -> list[float]:
        found = bench.sensitivity(when, choice)
        progress(next(calls) / total)
        return found

    book = measured(multiverse.book, networks)
    alone: dict[str, dict[str, Measured]] = {name: {} for name in multiverse.alone}
    for name, option, choice in variations:
        whens = networks if CHOICES[name].trained else ("before",)
        alone[name][option] = measured(choice, whens)
    rows = {when: [row(when, choice) for choice in choices] for when, choices in crossed.items()}
    return VariationRecord(list(bench.layers), book, alone, rows), bench.identity
