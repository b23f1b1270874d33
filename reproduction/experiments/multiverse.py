"""One network measured under other choices: what the paper leaves open, varied one at a time and crossed.

A combination says for every choice which option is taken. Nothing here trains: a network is measured before its
training and after it, and whatever concerns only the images, their deformations and the measure can be chosen anew.
The first option of every choice is the book's own, and gives the numbers of `reproduction.experiments.protocol`.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib import models
from deformlib.metrics import evaluating
from deformlib.representations import visit
from deformlib.seeding import stream
from deformlib.warping import PADDING_MODES, Deformation, ThinPlateSpline, warp
from reproduction.experiments import data, protocol, tasks
from reproduction.experiments.interventions import changed
from reproduction.experiments.specs import Training, Variation
from reproduction.experiments.tasks import scale

Combination = Mapping[str, str]  # choice -> option


@dataclass(frozen=True)
class Choice:
    """Something to be chosen, and its options: name -> in words. A network that was trained on other `pixels` is
    another network, so such a choice is made before training only (`trained` false)."""

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
    """Which options are tried: of each choice of `alone` with all others at the book's; all combinations of `crossed`.
    Frozen once a record rests on it: change it under another name.

    alone        {choice: options, the book's first}; a choice that is not here is never varied
    crossed      {choice: options}, those that cost a measurement first
    layers       so many of a network's layers from the input on, or all
    calibration  training images whose statistics are the option "calibrated"
    """

    alone: Mapping[str, tuple[str, ...]]
    crossed: Mapping[str, tuple[str, ...]]
    layers: int | None = None
    calibration: int = 2048

    def __post_init__(self) -> None:
        for name, options in (*self.alone.items(), *self.crossed.items()):
            if name not in CHOICES:
                raise ValueError(f"choices must be among {', '.join(CHOICES)}, got {name!r}")
            if unknown := set(options) - CHOICES[name].options.keys():
                raise ValueError(
                    f"options of {name} must be among {', '.join(CHOICES[name].options)}, got {', '.join(sorted(unknown))}"
                )
        if not self.crossed.keys() <= self.alone.keys():
            raise ValueError(
                f"crossed choices must be varied alone too, got {', '.join(self.crossed.keys() - self.alone.keys())}"
            )

    @property
    def book(self) -> dict[str, str]:
        """The combination that the book rests on."""
        return {name: next(iter(choice.options)) for name, choice in CHOICES.items()} | {
            name: options[0] for name, options in self.alone.items()
        }

    def variations(self) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Choice, option and combination, for every option but the book's."""
        for name, options in self.alone.items():
            for option in options[1:]:
                yield name, option, self.book | {name: option}

    def combinations(self, trained: bool) -> Iterator[dict[str, str]]:
        """Every combination of the crossed choices: of a trained network those that it leaves open."""
        open_ = {
            name: options
            for name, options in self.crossed.items()
            if CHOICES[name].trained or not trained
        }
        for options in product(*open_.values()):
            yield self.book | dict(zip(open_, options, strict=True))


GEOMETRY = {
    "border": PADDING_MODES,
    "grid": ("edge", "inside"),
    "sources": ("free", "clipped"),
    "map": ("backward", "forward"),
    "deformations": ("each", "shared"),
}
MEASURE = {"average": ("mean", "median"), "pairs": ("median", "mean")}
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
    **MEASURE,
}
MULTIVERSES: dict[str, Multiverse] = {
    "cifar10-choices-1": Multiverse(
        {
            **NETWORK,
            **GEOMETRY,
            "displacement": ("1", "0.5"),
            "split": ("test", "train"),
            "images": ("128", "32", "512"),
            **MEASURE,
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
            **MEASURE,
            "draw": tuple(map(str, range(4))),
        },
        {
            "resize": ("crop", "squash"),
            "deformations": ("each", "shared"),
            "grid": ("edge", "inside"),
            "sources": ("free", "clipped"),
            "displacement": ("1", "0.5"),
            "pixels": ("unit", "centred", "image"),
            **MEASURE,
        },
        layers=1,
    ),
    # One deformation for all images is one draw of a deformation, so it takes many to say what it comes to.
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
            **MEASURE,
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
            **MEASURE,
            "images": ("64", "32"),
        },
        {
            "grid": ("edge", "inside"),
            "sources": ("free", "clipped"),
            "pixels": ("unit", "image"),
            **MEASURE,
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
    """The backward field of the map that moves what is at p to p + field(p): (N, H, W, 2) in pixels, likewise.

    v(p) = -field(p + v(p)) is iterated from -field. Each step gains a factor of the field's steepest gradient, which
    must be below 1 (no folds); beyond the image the field is taken as at its edge.
    """
    planar, found = field.permute(0, 3, 1, 2), -field  # (N, 2, H, W)
    for _ in range(30):
        found = -warp(planar, found).permute(0, 2, 3, 1)
    return found


def clipped(spline: ThinPlateSpline, control: Tensor) -> Tensor:
    """Displacements (N, K, 2) in pixels, shortened so that no control point's source lies outside the image."""
    height, width = spline.size
    source = (spline.points + control).clamp(min=0)
    return source.minimum(source.new_tensor([width - 1, height - 1])) - spline.points


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
    """`images` in [0, 1], (N, C, H, W), as a network sees them; means and deviations by channel are of `reference`."""
    if option in ("centred", "standardized"):
        mean, std = reference.mean((0, 2, 3), keepdim=True), reference.std((0, 2, 3), keepdim=True)
        return (images - mean) / (std if option == "standardized" else 1)
    if option == "image":  # by their own mean and deviation
        return (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True)
    if option == "grey":
        return images.mean(1, keepdim=True).expand_as(images)
    return 2 * images - 1 if option == "signed" else images


class LocalNorm(nn.Module):
    """Batch norm by the statistics of the batch at hand, each of its `parts` equal parts by its own."""

    def __init__(self, norm: nn.BatchNorm2d, parts: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias, self.parts, self.epsilon = norm.weight, norm.bias, parts, epsilon

    def forward(self, x: Tensor) -> Tensor:
        part = partial(
            F.batch_norm,
            running_mean=None,
            running_var=None,
            weight=self.weight,
            bias=self.bias,
            training=True,
        )
        return torch.cat([part(each, eps=self.epsilon) for each in x.chunk(self.parts)])


def local(model: nn.Module, images: Tensor, parts: int = 2, epsilon: float = 1e-5) -> nn.Module:
    """A copy of `model` whose batch norm uses the batch at hand: clean and deformed images apart, or as one part."""
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    owners = dict.fromkeys(name.rpartition(".")[0] for name in norms)
    return changed(
        model,
        owners,
        lambda name, layer: changed(
            layer, ["norm"], lambda _, norm: LocalNorm(norm, parts, epsilon)
        ),
    )


# Sonnet's batch norm has an epsilon of 0.001 and no scale. A scale that a network has learned is part of its weights
# and stays; before training it is 1.
STATISTICS: dict[str, Callable[[nn.Module, Tensor], nn.Module]] = {
    "running": lambda model, images: model,
    "calibrated": protocol.calibrated,
    "local": local,
    "together": partial(local, parts=1),
    "sonnet": partial(local, epsilon=1e-3),
}


# Measure


class Workbench:
    """The images and networks of one spec, made ready as a combination says. What was just made is kept.

    networks  {"before": the network at initialization, "after": trained}, or the first alone
    """

    IMAGES = ("resize", "split", "images", "draw")
    PAIR = (*IMAGES, "grid", "displacement", "sources", "map", "deformations", "border")
    SEEN = (*PAIR, "pixels", "statistics")

    def __init__(self, spec: Variation, networks: Mapping[str, models.VGG]) -> None:
        self.spec, self.multiverse = spec.network, MULTIVERSES[spec.choices]
        self.layers = networks["before"].layers[: self.multiverse.layers]
        self.networks = {
            when: nn.Sequential(
                OrderedDict((name, each.get_submodule(name)) for name in self.layers[1:])
            ).eval()
            for when, each in networks.items()
        }
        self._split = lru_cache(2)(self._load)
        self._pair = lru_cache(1)(self._make_pair)
        self._network = lru_cache(None)(self._make_network)
        self._pass = lru_cache(None)(self._profile)
        self.identity = ""

    def sensitivity(self, when: str, choice: Combination) -> list[float]:
        """Of every layer of the network "before" or "after" training, under one combination."""
        inside = choice["representation"] != "relu"
        seen = self._pass(when, inside, *(choice[name] for name in self.SEEN))
        found = []
        for name in self.layers:
            at = f"{name}.{choice['representation']}"
            values = seen.get(
                at, seen[name]
            )  # a layer without the part, and the ReLU's: as it leaves the layer
            pairs = values[f"pairs_{choice['pairs']}"]
            found.append(values[choice["average"]] / pairs if pairs else math.nan)
        return found

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
        known, n, k = self._split(resize)[split], int(images), int(draw)
        if len(known) < (k + 1) * n:
            raise ValueError(
                f"draw {k} of {n} images needs {(k + 1) * n} {split} images of {self.spec.data}, got {len(known)}"
            )
        order = protocol.measured_order(len(known), split)
        return scale(known[order[k * n : (k + 1) * n]], "unit")

    def _make_pair(self, *options: str) -> tuple[Tensor, Tensor]:
        choice = dict(zip(self.PAIR, options, strict=True))
        clean = self._chosen(*(choice[name] for name in self.IMAGES))
        deformation = protocol.deformation_of(self.spec.data, clean.shape[-1])
        generator = stream(0, f"measurement {choice['split']}-{choice['draw']}")
        return clean, deformed(clean, deformation, choice, generator)

    def _make_network(self, when: str, statistics: str, pixels: str) -> nn.Module:
        return STATISTICS[statistics](
            self.networks[when], self._others(pixels) if statistics == "calibrated" else None
        )

    def _others(self, pixels: str) -> Tensor:
        """The images that statistics are calibrated on."""
        images = self._split(self.multiverse.book["resize"])["train"]
        order = protocol.measured_order(len(images), "train")
        images = scale(images[order[: self.multiverse.calibration]], "unit")
        return scaled(images, images, pixels)

    @torch.no_grad()
    def _profile(self, when: str, inside: bool, *options: str) -> dict[str, dict[str, float]]:
        """{layer: what `protocol.statistics` gives}, in one forward pass; `inside` conv blocks also "layer.norm" and "layer.conv"."""
        *pair, pixels, statistics = options
        clean, moved = self._pair(*pair)
        model = self._network(when, statistics, pixels)
        both = torch.cat([scaled(clean, clean, pixels), scaled(moved, clean, pixels)])
        known = dict(model.named_modules())
        parts = [
            f"{name}.{part}"
            for name in self.layers
            for part in ("norm", "conv")
            if f"{name}.{part}" in known
        ]
        names = [*self.layers, *(parts if inside else ())]
        with evaluating(model):
            return visit(
                model,
                both.contiguous(memory_format=torch.channels_last),
                names,
                lambda r: protocol.statistics(*r.chunk(2), "cosine"),
            )


def measure(
    spec: Variation, networks: Mapping[str, models.VGG], progress: Callable[[float], None]
) -> tuple[dict[str, Any], str]:
    """A record's measurements, and the images' identity. Every list has one sensitivity per layer.

    {"layers": names, "book": {when: list}, "alone": {choice: {option: {when: list}}},
    "crossed": {when: one list per combination, in the order of `Multiverse.combinations`}}

    when  "before" training or "after"; with "after" also "calibrated", which is before training with calibrated
          statistics, whatever the combination says of them: the second baseline of `reproduction.analysis.claims`
    """
    multiverse, bench = MULTIVERSES[spec.choices], Workbench(spec, networks)
    variations = list(multiverse.variations())
    combinations = {
        when: list(multiverse.combinations(trained=when == "after")) for when in networks
    }
    total, done = 1 + len(variations) + sum(map(len, combinations.values())), 0

    def count() -> None:
        nonlocal done
        progress((done := done + 1) / total)

    def states(choice: Combination, whens: Mapping[str, Any]) -> dict[str, list[float]]:
        found = {when: bench.sensitivity(when, choice) for when in whens}
        if "after" in whens:
            found["calibrated"] = bench.sensitivity(
                "before", {**choice, "statistics": "calibrated"}
            )
        count()
        return found

    book = states(multiverse.book, networks)
    alone: dict[str, dict[str, dict[str, list[float]]]] = {name: {} for name in multiverse.alone}
    for name, option, choice in variations:
        alone[name][option] = states(
            choice, networks if CHOICES[name].trained else {"before": None}
        )
    crossed: dict[str, list[list[float]]] = {when: [] for when in networks}
    for when, choices in combinations.items():
        for choice in choices:
            crossed[when].append(bench.sensitivity(when, choice))
            count()
    return {
        "layers": list(bench.layers),
        "book": book,
        "alone": alone,
        "crossed": crossed,
    }, bench.identity
