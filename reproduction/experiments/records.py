"""What a record holds, declared: one dataclass for each kind of run, read from JSON and written to it by cattrs.

Lists run over layers, or over the filters of a layer's convolution, in the order of the names beside them. A number that
is not there (the smoothness of a change that is zero) is null in JSON and NaN here. A field that is None was not
measured, and is left out of the file.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Resampling,
    Training,
    Variation,
)

Values = list[float]


@dataclass(frozen=True)
class Distances:
    """Distances at every layer: of deformed from clean images, and between pairs of clean ones.

    mean, mean_square                over images
    pairs_median, pairs_mean, ...    over all pairs of clean images
    normalized                       mean over pairs_median (Section 2.1)
    """

    mean: Values
    normalized: Values
    pairs_median: Values | None = None
    pairs_mean: Values | None = None
    mean_square: Values | None = None
    pairs_mean_square: Values | None = None


@dataclass(frozen=True)
class Profile:
    """The same by two distances; the Euclidean one is not squared."""

    cosine: Distances
    euclidean: Distances


@dataclass(frozen=True)
class Smoothness:
    """Normalized total variation of every layer's filters (Section 4.1), one number for each convolution.

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
    """Per convolution: the means of the nine taps over kernels, and the upper triangle of their second moments."""

    mean: list[Values]
    second_moments: list[Values]


@dataclass(frozen=True)
class Full:
    """What a full checkpoint adds: sensitivity to other images and deformations, taps, accuracies on more images."""

    conditions: dict[str, Profile]
    taps: Taps | None = None
    probe: Probe | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A network after `step` steps. `calibrated` is with batch norm statistics computed anew."""

    step: int
    epoch: float
    sensitivity: Profile
    smoothness: Smoothness
    before_relu: Profile | None = None
    calibrated: Profile | None = None
    probe: Probe | None = None
    full: Full | None = None

    @property
    def best_probe(self) -> Probe:
        """The probe on the most images that it was taken on. ValueError if there is none."""
        found = self.full.probe if self.full and self.full.probe else self.probe
        if found is None:
            raise ValueError("no accuracies were measured of a network that was not trained")
        return found


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
    checkpoints: list[Checkpoint]


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
    """Sensitivities under the book's choices, under each other option alone, and under crossed ones."""

    layers: list[str]
    book: Measured
    alone: dict[str, dict[str, Measured]]
    crossed: dict[str, list[Values]]


Measurements = (
    TrainingRecord
    | InitializationRecord
    | ResamplingRecord
    | InterventionRecord
    | ComparisonRecord
    | VariationRecord
)
RECORDS: dict[type, type] = {
    Training: TrainingRecord,
    Initialization: InitializationRecord,
    Resampling: ResamplingRecord,
    Intervention: InterventionRecord,
    Comparison: ComparisonRecord,
    Variation: VariationRecord,
}


def measurements_from(fields: dict[str, Any], spec: type) -> Any:
    """Typed measurements of a record of this kind of spec. ValueError for a field that is missing, unknown or malformed."""
    try:
        return _converter().structure(fields, RECORDS[spec])
    except Exception as error:
        raise ValueError("; ".join(cattrs.transform_error(error))) from error


def to_json(measurements: Measurements) -> dict[str, Any]:
    """Plain JSON values, without the fields that are None."""
    return _converter().unstructure(measurements)


def _number(value: Any, kind: type) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number or null, got {value!r}")
    return float(value)


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(float, _number)
    for kind in (Distances, Full, Checkpoint):
        defaults = {name: override(omit_if_default=True) for name in kind.__dataclass_fields__}
        converter.register_unstructure_hook(kind, make_dict_unstructure_fn(kind, converter, **defaults))
    return converter
