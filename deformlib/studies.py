"""Which specs stand behind each figure, in full and in quick mode.

A study is one entry of STUDIES: a chapter names it and a mode, and does not know where the records come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .models import DOWNSAMPLINGS
from .specs import Spec, Training
from .training import Recipe

MODES = ("full", "quick")
ARMS = tuple(DOWNSAMPLINGS)


@dataclass(frozen=True)
class Study:
    """What a study is for, its specs for given seeds by mode, the seeds of each mode, and those whose final weights
    are kept beside the records."""

    purpose: str
    make: Callable[[str, int], list[Spec]]  # mode, seed -> specs
    seeds: dict[str, Sequence[int]]
    weights: Sequence[int] = field(default=())

    def specs(self, mode: str, seeds: Sequence[int] | None = None) -> list[Spec]:
        """The specs of a mode, seed by seed, so that every arm has one before any has two."""
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        return [spec for seed in (self.seeds[mode] if seeds is None else seeds) for spec in self.make(mode, seed)]


# No augmentation, no weight decay: real and random labels, and the paper's figures, share it.
PLAIN = Recipe(epochs=8, batch_size=64, learning_rate=0.05)
# Tuned for accuracy: it checks that the training engine is sound.
AUGMENTED = Recipe(
    epochs=12,
    batch_size=128,
    learning_rate=0.2,
    weight_decay=5e-4,
    label_smoothing=0.1,
    flip=True,
    crop=4,
    pixels="standardized",
)
QUICK = Recipe(epochs=5, batch_size=64, learning_rate=0.05)


def _cifar10(mode: str, seed: int) -> list[Spec]:
    return [_training(mode, seed, arm, PLAIN) for arm in ARMS]


def _cifar10_augmented(mode: str, seed: int) -> list[Spec]:
    return [_training(mode, seed, arm, AUGMENTED) for arm in ("max-pool", "average-pool", "strided-relu")]


def _training(mode: str, seed: int, arm: str, recipe: Recipe, **fields) -> Training:
    if mode == "quick":
        return Training("photos", arm, seed, QUICK, "quick-1", width=0.25, **fields)
    return Training("cifar10", arm, seed, recipe, "protocol-1", **fields)


STUDIES: dict[str, Study] = {
    "cifar10": Study(
        "Figures 3c, 3d and 6b: five ways of downsampling, before and after training",
        _cifar10,
        {"full": range(5), "quick": range(2)},
        weights=(0, 1),
    ),
    "cifar10-augmented": Study(
        "is it the recipe? augmentation, weight decay, label smoothing",
        _cifar10_augmented,
        {"full": range(2), "quick": range(1)},
    ),
}


def study(name: str) -> Study:
    """A study by name. ValueError that lists the known ones."""
    if name not in STUDIES:
        raise ValueError(f"study must be one of {', '.join(STUDIES)}, got {name!r}")
    return STUDIES[name]
