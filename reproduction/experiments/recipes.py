"""How a network is trained, as a frozen value. `training` follows it."""

from dataclasses import dataclass

from deformlib.validation import require, unwrap
from reproduction.experiments.field_checks import (
    check_fractions,
    check_integers,
    check_not_negative,
    check_one_of,
)

OPTIMIZERS = ("sgd", "adamw")
PIXELS = ("unit", "standardized")
SCHEDULES = ("constant",)


@dataclass(frozen=True)
class Recipe:
    """By default SGD with Nesterov momentum; the rate rises linearly and falls linearly to 0.

    warmup      fraction of the steps over which the rate rises from 0 to `learning_rate`
    flip, crop  augmentation: mirror images left-right, shift them by up to `crop` pixels
    pixels      "unit" ([0, 1], not centred) or "standardized" (per-channel mean and deviation)
    optimizer   one of OPTIMIZERS; None is "sgd"
    schedule    "constant" keeps the rate after the warm-up; with None it falls
    norm_scale  False leaves batch norm's scale at 1, as in Sonnet 1, which has none; None trains it
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
        check_integers(self, epochs=1, batch_size=1, crop=0)
        check_not_negative(self, "learning_rate", "weight_decay")
        check_fractions(self, "momentum", "label_smoothing", "warmup")
        require(isinstance(self.flip, bool), "flip", "True or False", repr(self.flip))
        check_one_of(self, "pixels", PIXELS)
        check_one_of(self, "optimizer", OPTIMIZERS)
        check_one_of(self, "schedule", SCHEDULES)
        scale = self.norm_scale
        require(scale is None or scale is False, "norm_scale", "False or None", repr(scale))

    def steps_per_epoch(self, examples: int) -> int:
        """Full batches in an epoch. ValueError if there is not even one."""
        most = f"at most the number of examples, {examples}"
        require(examples >= self.batch_size, "batch_size", most, self.batch_size)
        return examples // self.batch_size

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step of 0..steps-1."""
        rise = max(1.0, self.warmup * steps)
        rising = (step + 1) / rise
        falling = (steps - step) / max(1.0, steps - rise)
        limit = 1.0 if self.schedule == "constant" else falling
        return self.learning_rate * min(rising, limit)
