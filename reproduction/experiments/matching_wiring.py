"""Temporary: enters `Matching` and `Smoothing` into the tables of specs, records and runs.

Each assignment below belongs into the table that it changes, and the studies into STUDIES; then
this module goes. Until then the studies are known as those of a reader, "MODULE:STUDY".
"""

from reproduction.experiments import imposed, matching, records, runs, specs, studies
from reproduction.experiments.imposed import Smoothing, SmoothingRecord
from reproduction.experiments.matching import Matching, MatchingRecord
from reproduction.experiments.runs import Progress, execute_measurement
from reproduction.experiments.specs import Spec
from reproduction.experiments.store import Store
from reproduction.experiments.studies import Study


def _matching(study: str, mode: str, seed: int) -> list[Spec]:
    images, calibration = {"full": (128, 2048), "quick": (64, 256)}[mode]
    trainings = studies.study(study).specs(mode, [seed])
    return [Matching(training, images, calibration) for training in trainings]  # type: ignore


def _smoothing(mode: str, seed: int) -> list[Spec]:
    images, probes, calibration = {"full": (128, 2000, 2048), "quick": (64, 256, 256)}[mode]
    trainings = studies.study("cifar10").specs(mode, [seed])
    return [Smoothing(training, images, probes, calibration) for training in trainings]  # type: ignore


# "cifar10-matching", "cifar10-random-labels-matching", "cifar10-smoothing": seeds are those whose
# weights the studies of the trainings keep.
MATCHING = Study(
    "is smoothness sufficient, is it necessary? weights given other second moments",
    lambda mode, seed: _matching("cifar10", mode, seed),
    {"full": (0, 1), "quick": (0, 1)},
)
RANDOM_LABELS_MATCHING = Study(
    "the same of networks that learned random labels",
    lambda mode, seed: _matching("cifar10-random-labels", mode, seed),
    {"full": (0,), "quick": (0,)},
)
SMOOTHING = Study(
    "trained filters smoothed, and changed as much at random",
    _smoothing,
    {"full": (0, 1), "quick": (0,)},
)


def _measure_matching(spec: Matching, store: Store, progress: Progress) -> tuple[dict, str]:
    return matching.measure(spec, runs._networks(spec, store), progress)  # type: ignore


def _measure_smoothing(spec: Smoothing, store: Store, progress: Progress) -> tuple[dict, str]:
    return imposed.measure(spec, runs._networks(spec, store), progress)  # type: ignore


specs.KINDS |= {Matching.kind: Matching, Smoothing.kind: Smoothing}
records.RECORDS |= {Matching: MatchingRecord, Smoothing: SmoothingRecord}
runs.MEASURE |= {Matching: _measure_matching, Smoothing: _measure_smoothing}
runs.EXECUTE |= dict.fromkeys((Matching, Smoothing), execute_measurement)
