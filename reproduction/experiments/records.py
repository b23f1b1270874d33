"""What a record holds: a dataclass for each kind of run, to and from JSON by cattrs.

Lists run over layers, or over the filters of a layer's convolution, in the order of the names
beside them. A number that is not there (the smoothness of a change that is zero) is null in JSON
and NaN here. A field that is None was not measured, and is left out of the file. Fields stand in
the order of the file, so that a record made again is the same file.
"""

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar

import cattrs

from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Matching,
    Resampling,
    Smoothing,
    Training,
    Variation,
)

Values = list[float]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Distances at every layer: of deformed from clean images, and between pairs of clean ones.

    mean, mean_square                over images
    pairs_median, pairs_mean, ...    over all pairs of clean images
    normalized                       mean over pairs_median (Section 2.1)
    """

    mean: Values
    pairs_median: Values | None = None
    pairs_mean: Values | None = None
    normalized: Values
    mean_square: Values | None = None
    pairs_mean_square: Values | None = None


@dataclass(frozen=True)
class Profile:
    """The same by two distances; the Euclidean one is not squared."""

    cosine: Distances
    euclidean: Distances


@dataclass(frozen=True)
class Smoothness:
    """Normalized total variation of filters (Section 4.1), one number for each convolution.

    kernel, bank     by the two averages of `deformlib.filters`
    zero_extended    "bank" with a border of zeros around each kernel
    change_*         of the change since initialization, NaN where there is none
    change_norm      norm of that change over the norm at initialization
    """

    kernel: Values
    bank: Values
    zero_extended: Values
    change_kernel: Values
    change_bank: Values
    change_norm: Values
    norm: Values


@dataclass(frozen=True)
class Probe:
    """Accuracies, flips and loss, and on how many images each was taken; fractions, not percent."""

    test_images: int
    test_accuracy: float
    deformed_accuracy: float
    flip_rate: float
    train_images: int
    train_accuracy: float
    train_loss: float


@dataclass(frozen=True)
class Taps:
    """Of each convolution's nine taps: means over kernels, upper triangle of second moments."""

    mean: list[Values]
    second_moments: list[Values]


@dataclass(frozen=True)
class Full:
    """What a full checkpoint adds: sensitivity under other conditions (images, deformations), taps,
    accuracies on more images."""

    conditions: dict[str, Profile]
    taps: Taps | None = None
    probe: Probe | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network after `step` steps. `calibrated` is with batch norm statistics computed anew."""

    step: int
    epoch: float
    sensitivity: Profile
    before_relu: Profile | None = None
    calibrated: Profile | None = None
    smoothness: Smoothness
    probe: Probe | None = None
    full: Full | None = None

    @property
    def best_probe(self) -> Probe:
        """The probe on the most images that it was taken on. ValueError if there is none."""
        found = self.full.probe if self.full and self.full.probe else self.probe
        if found is None:
            raise ValueError("no accuracies were measured of a network that was not trained")
        return found


@dataclass(frozen=True, kw_only=True)
class InitialCheckpoint(Checkpoint):
    """A network that is not trained. In its file smoothness comes last."""


@dataclass(frozen=True)
class Epoch:
    """Mean over the steps of an epoch, in training mode."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainingRecord:
    layers: list[str]
    before_relu: list[str]
    banks: list[str]
    steps: int
    examples: int
    epochs: list[Epoch]
    checkpoints: list[Checkpoint]


@dataclass(frozen=True)
class InitializationRecord:
    layers: list[str]
    banks: list[str]
    examples: int
    checkpoints: list[InitialCheckpoint]


@dataclass(frozen=True)
class Draws:
    """Over draws of the filters; one number for each distinct size."""

    mean: Values
    deviation: Values
    draws: list[int]


@dataclass(frozen=True)
class ResamplingRecord:
    banks: list[str]
    bank: Draws
    kernel: Draws


@dataclass(frozen=True)
class Scopes:
    """Accuracy with one layer changed alone, and with it and all above it."""

    alone: Values
    upward: Values


@dataclass(frozen=True)
class ByStatistics:
    """With running batch norm statistics, and with ones computed anew."""

    running: Scopes
    calibrated: Scopes


@dataclass(frozen=True)
class Accuracy:
    running: float
    calibrated: float


@dataclass(frozen=True)
class InterventionRecord:
    banks: list[str]
    images: int
    classes: int
    accuracy: Accuracy
    shuffled: ByStatistics
    averaged: ByStatistics


@dataclass(frozen=True)
class Relative:
    """Relative stability and its two factors, one number a layer (Petrini et al. 2021)."""

    deformation: Values
    noise: Values
    ratio: Values


@dataclass(frozen=True)
class BeforeAndAfter:
    before: Relative
    after: Relative


@dataclass(frozen=True)
class ComparisonRecord:
    layers: list[str]
    relative_stability: BeforeAndAfter
    shift_consistency: float


Measured = dict[str, Values]  # "before", "after", "calibrated" -> sensitivity of every layer


@dataclass(frozen=True)
class VariationRecord:
    """Sensitivities under the book's choices, each other option alone, and crossed ones."""

    layers: list[str]
    book: Measured
    alone: dict[str, dict[str, Measured]]
    crossed: dict[str, list[Values]]


@dataclass(frozen=True)
class MatchingRecord:
    """Of the networks "before", "after" and those of `matching.REPLACEMENTS`, batch norm
    calibrated.

    sensitivity  {network: one number per layer}
    smoothness   {network: normalized total variation, the mean over kernels, per layer of filters}
    """

    layers: list[str]
    filters: list[str]
    sensitivity: dict[str, Values]
    smoothness: dict[str, Values]


@dataclass(frozen=True)
class Smoothed:
    """One network, batch norm calibrated: a number per layer, and one accuracy.

    turned  cosine of the angle between a filter and what it was, the mean over filters, per layer
    """

    sensitivity: Values
    smoothness: Values
    turned: Values
    accuracy: float


@dataclass(frozen=True)
class SmoothingRecord:
    """The trained network; for each sigma the smoothed one, and the one changed as much at
    random. `images` are those of accuracy."""

    layers: list[str]
    filters: list[str]
    images: int
    trained: Smoothed
    smoothed: list[Smoothed]
    random: list[Smoothed]


Measurements = (
    TrainingRecord
    | InitializationRecord
    | ResamplingRecord
    | InterventionRecord
    | ComparisonRecord
    | VariationRecord
    | MatchingRecord
    | SmoothingRecord
)
RECORDS: dict[type, type] = {
    Training: TrainingRecord,
    Initialization: InitializationRecord,
    Resampling: ResamplingRecord,
    Intervention: InterventionRecord,
    Comparison: ComparisonRecord,
    Variation: VariationRecord,
    Matching: MatchingRecord,
    Smoothing: SmoothingRecord,
}


def measurements_from(content: dict[str, Any], spec: type) -> Measurements:
    """Measurements of a record of this kind of spec, from their JSON values.

    ValueError for a field that is missing, unknown or malformed.
    """
    return from_json(content, RECORDS[spec])


def from_json(content: Any, kind: type[T]) -> T:
    """What `to_json` wrote of a dataclass of this module, or of a list of them."""
    try:
        return _converter().structure(content, kind)
    except Exception as error:
        raise ValueError("; ".join(cattrs.transform_error(error))) from error


def to_json(measured: Any) -> Any:
    """A dataclass of this module, or a list of them, as JSON values, NaN as it is; without the
    fields that are None."""
    return _converter().unstructure(measured)


def _number(value: Any, kind: type) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return float(value)


def _without_none(measured: Any) -> dict[str, Any]:
    """JSON values of a dataclass, in the order of its fields."""
    values = {field.name: getattr(measured, field.name) for field in fields(measured)}
    return {name: to_json(value) for name, value in values.items() if value is not None}


def _smoothness_last(checkpoint: InitialCheckpoint) -> dict[str, Any]:
    content = _without_none(checkpoint)
    content["smoothness"] = content.pop("smoothness")
    return content


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(float, _number)
    for kind in (Distances, Full, Checkpoint):
        converter.register_unstructure_hook(kind, _without_none)
    converter.register_unstructure_hook(InitialCheckpoint, _smoothness_last)
    return converter
