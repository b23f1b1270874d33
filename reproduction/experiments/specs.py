"""What a run is: frozen values, and an identity that never changes.

A spec says everything that a result depends on, and nothing about where or how it is computed. Its
identity is the first 12 hex digits of the sha256 of its canonical JSON, over all fields but those
that are None. So a field that is added later defaults to None, means "as before", and leaves every
earlier identity as it was.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, get_args

import cattrs
import rfc8785

from deformlib.validation import check_known, unwrap
from reproduction.experiments.field_checks import (
    check_each_positive,
    check_integers,
    check_not_negative,
    check_positive,
)
from reproduction.experiments.recipes import Recipe


@dataclass(frozen=True)
class Training:
    """One network trained from its initialization and measured along the way (Figures 3, 5, 6, 7).

    data        a set of `reproduction.experiments.data`; architecture, a family of
                `deformlib.models`; task and protocol, entries of the modules of these names
    examples    train on a fixed random subset of so many images
    classes     train on the first so many classes (for templates: so many templates)
    label_seed  draw of random labels, random images or templates, the same for all variants and
                seeds that share it; None is the first draw
    strength    of the deformations that make a class out of a template (Figure 5), in pixels
    data_id     identity of the decoded images that it must be trained on (`data.identity`); None
                takes what is at hand, as all runs did while CIFAR-10 was a JPEG mirror
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

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, seed=0, examples=1, label_seed=1, size=1, classes=1)
        check_positive(self, "width", "strength")

    @property
    def slug(self) -> str:
        """For people: what the run is, in the name of its record."""
        task = "" if self.task == "real" else f"-{self.task}"
        if self.task == "real" and self.examples is not None:
            task = "-subset"
        if self.strength is not None:
            task += f"-{self.strength:g}"
        return f"{self.data}{task}-{self.downsampling}-{self.seed}"


@dataclass(frozen=True)
class Initialization:
    """One network at its initialization, measured on images of `data` (Figures 3a and 4).

    images       photographs that are measured
    calibration  others, on which batch norm statistics are calibrated
    smoothing    standard deviation of the Gaussian that its filters are convolved with, in pixels
    sets         so many times `images` are measured in all, each set under its own deformations
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

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, seed=0, images=2, calibration=0, size=1, sets=2)
        check_positive(self, "width")
        check_not_negative(self, "smoothing", unit=", in pixels")

    @property
    def slug(self) -> str:
        smoothing = "" if self.smoothing is None else f"-smoothed-{self.smoothing:g}"
        return f"{self.data}-initial{smoothing}-{self.downsampling}-{self.seed}"


@dataclass(frozen=True)
class Resampling:
    """Smoothness of an architecture's filters at initialization, each layer's drawn `draws` times
    (footnote 1)."""

    kind: ClassVar[str] = "resampling"

    architecture: str
    draws: int
    seed: int

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, draws=2, seed=0)

    @property
    def slug(self) -> str:
        return f"initial-smoothness-{self.architecture}-{self.seed}"


class _OnANetwork:
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

    training     the run whose kept weights are changed, layer by layer
    images       test images on which accuracy is measured
    calibration  others, on which batch norm statistics are computed anew
    """

    kind: ClassVar[str] = "intervention"

    training: Training
    images: int
    calibration: int

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, images=2, calibration=0)

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-positions"


@dataclass(frozen=True)
class Comparison(_OnANetwork):
    """A network before and after training, by the measures of `deformlib.other_measures`.

    training      the run whose kept weights are measured
    images        test images on which relative stability is measured
    probes        test images on which shift consistency is measured
    displacement  mean length of a diffeomorphism's displacements, in pixels
    cutoff        frequencies of a diffeomorphism along a side
    max_shift     largest shift, in pixels
    """

    kind: ClassVar[str] = "comparison"

    training: Training
    images: int
    probes: int
    displacement: float = 1.0
    cutoff: int = 3
    max_shift: int = 2

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, images=2, probes=1, cutoff=2, max_shift=1)
        check_positive(self, "displacement")

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-peers"


@dataclass(frozen=True)
class Variation(_OnANetwork):
    """One network measured under other choices than the book's, which the paper leaves open.

    network  a training, measured before it and by its kept weights, or an initialization
    choices  an entry of `multiverse.MULTIVERSES`: what is varied, and how
    """

    kind: ClassVar[str] = "variation"

    network: Training | Initialization
    choices: str

    @property
    def slug(self) -> str:
        return f"{self.network.slug}-{self.choices}"


@dataclass(frozen=True)
class Matching(_OnANetwork):
    """Sensitivity of a network whose weights are replaced in all ways of `matching.REPLACEMENTS`.

    training     the run whose kept weights are taken
    images       test images on which sensitivity is measured
    calibration  its training images, on which batch norm statistics are computed anew
    """

    kind: ClassVar[str] = "matching"

    training: Training
    images: int
    calibration: int

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, images=2, calibration=1)

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-matching"


@dataclass(frozen=True)
class Smoothing(_OnANetwork):
    """A trained network with its filters smoothed by a Gaussian, and with as large a random change.

    training     the run whose kept weights are taken
    images       test images on which sensitivity is measured
    probes       test images on which accuracy is measured
    calibration  its training images, on which batch norm statistics are computed anew
    sigmas       standard deviations of the Gaussian, in pixels
    """

    kind: ClassVar[str] = "smoothing"

    training: Training
    images: int
    probes: int
    calibration: int
    sigmas: tuple[float, ...] = (0.25, 0.35, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, images=2, probes=1, calibration=1)
        check_each_positive(self, "sigmas")

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-smoothing"


@dataclass(frozen=True)
class Worst(_OnANetwork):
    """The worst deformations of test images, for a network before and after its training.

    training     the run whose kept weights are taken
    images       test images
    steps, restarts   of the search: so many ascents of so many steps for each layer
    layers       at which it is searched; all if None
    others       (variant, seed) of networks that were trained by the same recipe and whose weights
                 are kept, on which what is found is tried
    calibration  other test images, on which batch norm statistics are computed anew: with these the
                 untrained network is searched a second time, unless None
    """

    kind: ClassVar[str] = "worst"

    training: Training
    images: int
    steps: int
    restarts: int
    layers: tuple[str, ...] | None = None
    others: tuple[tuple[str, int], ...] | None = None
    calibration: int | None = None

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, images=2, steps=0, restarts=1, calibration=1)

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-worst"


@dataclass(frozen=True)
class WorstPretrained:
    """The same for a network that others trained on ImageNet.

    network  an entry of `pretrained.PRETRAINED`
    seed     of the same architecture before training
    data     test images, `size` pixels wide
    """

    kind: ClassVar[str] = "worst-pretrained"

    network: str
    seed: int
    images: int
    steps: int
    restarts: int
    layers: tuple[str, ...] | None = None
    data: str = "imagenet"
    size: int = 224

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, seed=0, images=2, steps=0, restarts=1, size=1)

    @property
    def downsampling(self) -> str:
        return self.network

    @property
    def slug(self) -> str:
        return f"{self.data}-{self.network}-{self.seed}-worst"


@dataclass(frozen=True)
class Theory(_OnANetwork):
    """Bounds and predictions on a trained network and on what it was before its training.

    training     the run whose kept weights are measured
    images       test images that sensitivity is measured and predicted on, the protocols' own
    smoothings   the network before training with smoothed filters (Figure 4), in pixels
    """

    kind: ClassVar[str] = "theory"

    training: Training
    images: int = 128
    smoothings: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        unwrap(self)
        check_integers(self, images=2)
        check_each_positive(self, "smoothings")

    @property
    def slug(self) -> str:
        return f"{self.training.slug}-theory"


Spec = (
    Training
    | Initialization
    | Resampling
    | Intervention
    | Comparison
    | Variation
    | Matching
    | Smoothing
    | Worst
    | WorstPretrained
    | Theory
)
KINDS: dict[str, type] = {spec.kind: spec for spec in get_args(Spec)}


def network_of(spec: Any) -> Any:
    """The run whose network a spec works on: its own, or that of the run it looks at."""
    if isinstance(spec, Variation):
        return spec.network
    return getattr(spec, "training", spec)


def to_dict(spec: Spec) -> dict[str, Any]:
    """The spec as plain JSON values, its kind first, without the fields that are None."""
    return {"kind": spec.kind, **_without_none(cattrs.unstructure(spec))}


def from_dict(fields: dict[str, Any]) -> Spec:
    """The spec that `to_dict` wrote. ValueError for an unknown kind, field or type of value."""
    fields = dict(fields)
    kind = fields.pop("kind", None)
    check_known("kind", kind, KINDS)
    try:
        return _converter().structure(fields, KINDS[kind])
    except Exception as error:
        reasons = cattrs.transform_error(error, format_exception=_reason)
        raise ValueError(f"not a {kind} spec: {'; '.join(reasons)}") from error


def identity(spec: Spec) -> str:
    """12 hex digits: of the sha256 of its canonical JSON (RFC 8785, where 1 and 1.0 are alike)."""
    return hashlib.sha256(rfc8785.dumps(to_dict(spec))).hexdigest()[:12]


def file_name(spec: Spec) -> str:
    """Name of its files, without a suffix. A variant may be called "lp[/2]", a file may not."""
    return f"{spec.slug.replace('/', '-')}-{identity(spec)}"


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if value is not None
    }


def _reason(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, ValueError) else cattrs.v.format_exception(error, kind)


def _exactly(value: Any, kind: type) -> Any:
    """No conversion but of an integer to a float: cattrs alone reads 2.5 epochs as 2."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if type(value) is kind or (kind is float and is_number):
        return kind(value)
    raise ValueError(f"must be {kind.__name__}, got {value!r}")


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _exactly)
    return converter
