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
    Theory,
    Training,
    Variation,
    Worst,
    WorstPretrained,
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


@dataclass(frozen=True)
class Budget:
    """Passes of each image through the network up to each target; `draws` are the random ones."""

    forward: int
    backward: int
    draws: int


@dataclass(frozen=True)
class Maxima:
    """Distances over layers, means over images divided by the median over pairs of clean ones.

    random         mean of all draws: the paper's sensitivity
    random_best    of each image's best draw
    worst          of the worst deformation found
    half_steps, half_restarts   of the ascents alone with half the steps, half the restarts
    ascent         of the ascents alone, all of them
    beaten         fraction of the images on which the ascents alone are above the best draw
    at_bound       fraction of the displacements that are as large as they may be
    pairs_median   what all these were divided by
    """

    random: Values
    random_best: Values
    worst: Values
    ascent: Values
    half_steps: Values
    half_restarts: Values
    beaten: Values
    at_bound: Values
    pairs_median: Values


@dataclass(frozen=True)
class Predictions:
    """Fractions of the images, under deformations found for each target.

    A deformation against the class leaves an image that was wrong before wrong. `random_best` is
    that of the draws which is worst for the class.
    """

    clean_accuracy: float
    random_accuracy: float
    random_flips: float
    random_best_accuracy: float
    random_best_flips: float
    accuracy: Values
    flips: Values


@dataclass(frozen=True)
class Carried:
    """What was found for each target, on one network: rows targets, columns layers.

    distances   relative to the mean of random draws there
    flips       of each target, a fraction; None where there are no classes
    """

    distances: list[Values]
    flips: Values | None = None


@dataclass(frozen=True)
class OfNetwork:
    """Of one network; `carried` by the network that its deformations were tried on."""

    targets: list[str]
    maxima: Maxima
    carried: dict[str, Carried]
    predictions: Predictions | None = None


@dataclass(frozen=True)
class WorstRecord:
    """`numbers` are those of `layers` in the network, 0 the image."""

    layers: list[str]
    numbers: list[int]
    images: int
    budget: Budget
    networks: dict[str, OfNetwork]


@dataclass(frozen=True)
class PredictedLayer:
    """A layer's sensitivity and its predictions.

    name         of the layer, or "NAME.norm" for what its ReLU receives
    measured     mean distance over the mean of all pairs, squared "euclidean" and "cosine"
    paper        mean cosine distance over the median of all pairs: the paper's sensitivity
    shifted      as `paper`, of images that are shifted, each by the displacement that one of its
                 pixels had in the deformation: the same displacements without their gradient
    filtered     {distance: predictions}: spectrum of the layer's input times its linear part
    unfiltered   predictions for "cosine": spectrum of the layer's input alone
    own          predictions for "cosine": spectrum of what the layer returns
    dense        predictions for "cosine": the same, at every pixel; nothing is aliased
    to_median    mean over median of all cosine distances: it makes a prediction one of `paper`
    """

    name: str
    measured: dict[str, float]
    paper: float
    shifted: float
    filtered: dict[str, dict[str, float]]
    unfiltered: dict[str, float]
    own: dict[str, float]
    dense: dict[str, float]
    to_median: float


@dataclass(frozen=True)
class BoundsTried:
    """The two bounds on the filters of one first layer, under fields of one strength.

    filters       "before", "after" or "smoothed-SIGMA"
    strength      times the paper's displacements
    gradient      Lipschitz constant of the field, the median over images, and `folding`, the
                  fraction of images whose field has 1 or more, where bound B says nothing
    tightness     {bound: the median over images of what it bounds as a fraction of it}
    largest       {bound: the largest}: above 1 the bound would be violated
    """

    filters: str
    strength: float
    gradient: float
    folding: float
    tightness: dict[str, float]
    largest: dict[str, float]


@dataclass(frozen=True)
class FirstFilters:
    """What the bounds know of the filters of one first layer.

    first_moment     M1 over sum_k |W_k|, in pixels
    edge_variation   V over sum_k |W_k|, in the right and the down direction
    smoothness       the paper's normalized total variation
    """

    first_moment: float
    edge_variation: list[float]
    smoothness: float


@dataclass(frozen=True)
class TheoryRecord:
    """Networks by name: "before", "after", "smoothed-SIGMA".

    networks     every layer, measured and predicted
    smoothness   {network: {convolution: normalized total variation}}
    filters      of each network's first layer
    bounds       on the filters of each network's first layer, under fields of each strength
    """

    networks: dict[str, list[PredictedLayer]]
    smoothness: dict[str, dict[str, float]]
    filters: dict[str, FirstFilters]
    bounds: list[BoundsTried]


Measurements = (
    TrainingRecord
    | InitializationRecord
    | ResamplingRecord
    | InterventionRecord
    | ComparisonRecord
    | VariationRecord
    | MatchingRecord
    | SmoothingRecord
    | WorstRecord
    | TheoryRecord
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
    Worst: WorstRecord,
    WorstPretrained: WorstRecord,
    Theory: TheoryRecord,
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
    for kind in (Distances, Full, Checkpoint, Carried, OfNetwork):
        converter.register_unstructure_hook(kind, _without_none)
    converter.register_unstructure_hook(InitialCheckpoint, _smoothness_last)
    return converter
