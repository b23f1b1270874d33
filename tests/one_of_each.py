"""One small run of every kind, as a study: its records lie in tests/records, made by

DEFORMLIB_STORE=tests/records \\
python -m reproduction run tests/one_of_each.py:STUDY --mode quick --workers 2
"""

from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Matching,
    Recipe,
    Resampling,
    Smoothing,
    Spec,
    Theory,
    Training,
    Variation,
    Worst,
)
from reproduction.experiments.studies import Study


def _make(mode: str, seed: int) -> list[Spec]:
    training = Training(
        "photos", "max-pool", seed, Recipe(1, 64, 0.02), "quick-2", width=0.25, examples=512
    )
    initial = Initialization(
        "photos", "max-pool", seed, images=16, calibration=16, width=1 / 16, size=64
    )
    return [
        training,
        Intervention(training, images=128, calibration=128),
        Comparison(training, 64, 128),
        initial,
        Variation(initial, "quick-shared-draws-1"),
        Resampling("cifar10_vgg", 20, seed),
        Matching(training, images=8, calibration=16),
        Smoothing(training, images=8, probes=128, calibration=16, sigmas=(0.5,)),
        # No steps: the sign of a gradient near zero is another on another processor.
        Worst(training, images=8, steps=0, restarts=1, layers=("input", "down4"), calibration=16),
        Theory(training, images=8, smoothings=(1.0,)),
    ]


STUDY = Study(
    "a run of every kind", _make, {"full": (0,), "quick": (0,)}, weights=(0,), variant="kind"
)
