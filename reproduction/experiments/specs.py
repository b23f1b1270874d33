"""What a run is: frozen values, and an identity that never changes.

A spec says everything that a result depends on, and nothing about where or how it is computed. Its identity is
the first 12 hex digits of the sha256 of its canonical JSON, over all fields but those that are None. So a field
that is added later defaults to None, means "as before", and leaves every earlier identity as it was.
"""

import hashlib
import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar

import cattrs
import rfc8785

from deformlib.validation import check_known, is_real, is_whole, require, unwrap

OPTIMIZERS = ("sgd", "adamw")  # made in `training`


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: by default SGD with Nesterov momentum, the learning rate rising and falling linearly.

    `warmup` is the share of the steps over which the rate rises from 0 to `learning_rate`. `crop` is the largest
    random shift in pixels. `pixels` is "unit" ([0, 1], not centred) or "standardized" (per-channel mean and std).
    `optimizer` is one of OPTIMIZERS; None, as before there were others, is "sgd". `schedule` is "constant" for a rate that
    stays where it is after the warm-up; None is the one that falls. `norm_scale` False leaves batch norm's scale at 1, as in
    Sonnet 1, where it has none; None trains it.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    flip: bool = False
    crop: int = 0
    warmup: float = 0.2
    pixels: str = "unit"
    optimizer: str | None = None
    schedule: str | None = None
    norm_scale: bool | None = None

    def __post_init__(self) -> None:
        unwrap(self)
        for name in ("epochs", "batch_size"):
            require(is_whole(value := getattr(self, name), 1), name, "an integer >= 1", value)
        for name in ("learning_rate", "weight_decay"):
            require(
                is_real(value := getattr(self, name)) and 0 <= value < math.inf,
                name,
                "a finite number >= 0",
                repr(value),
            )
        for name in ("momentum", "label_smoothing", "warmup"):
            require(
                is_real(value := getattr(self, name)) and 0 <= value <= 1,
                name,
                "a number in [0, 1]",
                repr(value),
            )
        require(isinstance(self.flip, bool), "flip", "True or False", repr(self.flip))
        require(is_whole(self.crop, 0), "crop", "an integer >= 0, in pixels", self.crop)
        check_known("pixels", self.pixels, ("unit", "standardized"))
        if self.optimizer is not None:
            check_known("optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule is not None:
            check_known("schedule", self.schedule, ("constant",))
        require(
            self.norm_scale in (None, False), "norm_scale", "False or None", repr(self.norm_scale)
        )

    def steps_per_epoch(self, examples: int) -> int:
        """Full batches in an epoch. ValueError if there is not even one."""
        require(
            examples >= self.batch_size,
            "batch_size",
            f"at most the number of examples, {examples}",
            self.batch_size,
        )
        return examples // self.batch_size

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step of 0..steps-1."""
        rise = max(1.0, self.warmup * steps)
        fall = 1.0 if self.schedule == "constant" else (steps - step) / max(1.0, steps - rise)
        return self.learning_rate * min((step + 1) / rise, fall)


# The least of every count and every seed in a spec; two images are the fewest that have a distance between them.
LEAST = {
    "seed": 0,
    "label_seed": 1,
    "draws": 2,
    "images": 2,
    "calibration": 0,
    "probes": 1,
    "examples": 1,
    "classes": 1,
    "size": 1,
    "sets": 2,
    "cutoff": 2,
    "max_shift": 1,
}
POSITIVE = ("width", "strength", "displacement")


class _Checked:
    """A spec whose numbers are in range: ValueError that names the one that is not."""

    def __post_init__(self) -> None:
        unwrap(self)
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if name in LEAST:
                require(
                    is_whole(value, LEAST[name]), name, f"an integer >= {LEAST[name]}", repr(value)
                )
            elif name in POSITIVE:
                require(
                    is_real(value) and 0 < value < math.inf,
                    name,
                    "a finite number > 0",
                    repr(value),
                )
            elif name == "smoothing":
                require(
                    is_real(value) and 0 <= value < math.inf,
                    name,
                    "a finite number >= 0, in pixels",
                    repr(value),
                )


@dataclass(frozen=True)
class Training(_Checked):
    """One network trained from its initialization and measured along the way (Figures 3, 5, 6, 7).

    `data` names a set of `reproduction.experiments.data`, `architecture` a family of `deformlib.models`, `task` an entry of
    `reproduction.experiments.tasks`, `protocol` one of `reproduction.experiments.protocol`. `examples` keeps a fixed random subset of that many
    training images, `classes` the first so many of its classes (for templates: so many templates). `label_seed`
    draws random labels, random images or templates, None the first time: the same for all variants and seeds that share it. `strength` is
    that of the deformations that make a class out of a template (Figure 5), in pixels. `data_id` is the identity of the
    decoded images that it must be trained on (`reproduction.experiments.data.identity`); None takes what is at hand, as all runs did while
    CIFAR-10 was a JPEG mirror.
    """

    kind: ClassVar[str] = "training"

    data: str
    downsampling: str
    seed: int
    recipe: Recipe
    protocol: str
    architecture: str = "cifar10_vgg"
    width: float = 1.0
    task: str = "real"
    examples: int | None = None
    label_seed: int | None = None
    size: int | None = None
    classes: int | None = None
    strength: float | None = None
    data_id: str | None = None

    @property
    def slug(self) -> str:
        """For people: what the run is, in the name of its record."""
        task = "" if self.task == "real" else f"-{self.task}"
        task += "" if self.examples is None or self.task != "real" else "-subset"
        task += "" if self.strength is None else f"-{self.strength:g}"
        return f"{self.data}{task}-{self.downsampling}-{self.seed}"


@dataclass(frozen=True)
class Initialization(_Checked):
    """One network at its initialization, measured on images of `data` (Figures 3a and 4).

    `images` photographs are measured, and batch norm statistics are calibrated on `calibration` others. `smoothing`
    is the standard deviation, in pixels, of the Gaussian that its filters are convolved with (`models.initialize`).
    `sets` of so many photographs are measured in all, if one is not enough, each with deformations of its own.
    """

    kind: ClassVar[str] = "initialization"

    data: str
    downsampling: str
    seed: int
    images: int
    calibration: int
    architecture: str = "imagenet_vgg"
    width: float = 1.0
    size: int | None = None
    smoothing: float | None = None
    sets: int | None = None

    @property
    def slug(self) -> str:
        smoothing = "" if self.smoothing is None else f"-smoothed-{self.smoothing:g}"
        return f"{self.data}-initial{smoothing}-{self.downsampling}-{self.seed}"


@dataclass(frozen=True)
class Resampling(_Checked):
    """The smoothness of an architecture's filter banks at initialization, each drawn `draws` times (footnote 1)."""

    kind: ClassVar[str] = "resampling"

    architecture: str
    draws: int
    seed: int

    @property
    def slug(self) -> str:
        return f"initial-smoothness-{self.architecture}-{self.seed}"


class _OnANetwork(_Checked):
    """A run on the network of another: data, variant and seed are those of that one."""

    @property
    def data(self) -> str:
        return network_of(self).data

    @property
    def downsampling(self) -> str:
        return network_of(self).downsampling

    @property
    def seed(self) -> int:
        return network_of(self).seed


@dataclass(frozen=True)
class Intervention(_OnANetwork):
    """What a trained network loses without the positions that one of its layers sees (Section 4.4).

    `training` is the run whose kept weights are changed, layer by layer, each change of `reproduction.experiments.interventions` in
    turn. Accuracy is measured on `images` test images, batch norm statistics are computed anew on `calibration` others.
    """

    kind: ClassVar[str] = "intervention"

    training: Training
    images: int
    calibration: int

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-positions"


@dataclass(frozen=True)
class Comparison(_OnANetwork):
    """A trained network, and what it was before its training, by the measures of others (`deformlib.other_measures`).

    `training` is the run whose kept weights are measured. Relative stability is taken on `images` test images, to
    diffeomorphisms that move a pixel by `displacement` pixels, with `cutoff` frequencies along a side; shift consistency
    on `probes` test images, moved by up to `max_shift` pixels.
    """

    kind: ClassVar[str] = "comparison"

    training: Training
    images: int
    probes: int
    displacement: float = 1.0
    cutoff: int = 3
    max_shift: int = 2

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-peers"


@dataclass(frozen=True)
class Variation(_OnANetwork):
    """One network measured under other choices than the book's, which the paper leaves open.

    `network` is a training, whose kept weights are measured and the network as it was before, or an initialization.
    `choices` names an entry of `reproduction.experiments.multiverse.MULTIVERSES`: what is varied, and how.
    """

    kind: ClassVar[str] = "variation"

    network: Training | Initialization
    choices: str

    @property
    def slug(self) -> str:
        return f"{self.network.slug}-{self.choices}"


Spec = Training | Initialization | Resampling | Intervention | Comparison | Variation
KINDS: dict[str, type] = {
    spec.kind: spec
    for spec in (Training, Initialization, Resampling, Intervention, Comparison, Variation)
}


def network_of(spec: Spec) -> Spec:
    """The run whose network a spec works on: its own, but for those that look at another's."""
    return getattr(spec, "training", getattr(spec, "network", spec))


def to_dict(spec: Spec) -> dict[str, Any]:
    """The spec as plain JSON values, its kind first, without the fields that are None."""
    return {"kind": spec.kind, **_without_none(cattrs.unstructure(spec))}


def from_dict(fields: dict[str, Any]) -> Spec:
    """The spec that `to_dict` wrote. ValueError for an unknown kind or field, or a value of the wrong type."""
    fields = dict(fields)
    kind = fields.pop("kind", None)
    check_known("kind", kind, KINDS)
    try:
        return _converter().structure(fields, KINDS[kind])
    except Exception as error:
        raise ValueError(
            f"not a {kind} spec: {'; '.join(cattrs.transform_error(error, format_exception=_said))}"
        ) from error


def identity(spec: Spec) -> str:
    """12 hex digits that stand for the spec: of the sha256 of its canonical JSON (RFC 8785: 1 and 1.0 are alike)."""
    return hashlib.sha256(rfc8785.dumps(to_dict(spec))).hexdigest()[:12]


def file_name(spec: Spec) -> str:
    """What its files are called, without a suffix."""
    return f"{spec.slug}-{identity(spec)}"


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if value is not None
    }


def _said(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, ValueError) else cattrs.v.format_exception(error, kind)


def _exactly(value: Any, kind: type) -> Any:
    """No conversion but an integer to a float: cattrs alone would read 2.5 epochs as 2, and flip="no" as true."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if type(value) is not kind and not (kind is float and numeric):
        raise ValueError(f"must be {kind.__name__}, got {value!r}")
    return kind(value)


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _exactly)
    return converter
