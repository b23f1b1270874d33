"""Made-up records: what a test does not give has a neutral value or is NaN."""

from collections.abc import Sequence

import numpy as np

from reproduction.experiments.records import (
    Checkpoint,
    Distances,
    Full,
    Probe,
    Profile,
    Smoothness,
    TrainingRecord,
)
from reproduction.experiments.specs import Spec
from reproduction.experiments.store import Record

Numbers = Sequence[float] | np.ndarray


def distances(normalized: Numbers, **others: Numbers) -> Distances:
    lists = {name: list(values) for name, values in ({"mean": normalized} | others).items()}
    return Distances(normalized=list(normalized), **lists)


def profile(cosine: Numbers | Distances, euclidean: Numbers | Distances | None = None) -> Profile:
    both = (cosine, cosine if euclidean is None else euclidean)
    return Profile(*(each if isinstance(each, Distances) else distances(each) for each in both))


def smoothness(kernel: Numbers, **others: Numbers) -> Smoothness:
    nothing = [np.nan] * len(kernel)
    lists = {name: list(values) for name, values in ({"kernel": kernel} | others).items()}
    return Smoothness(**dict.fromkeys(Smoothness.__dataclass_fields__, nothing) | lists)


def probe(**fields: float) -> Probe:
    nothing = {"test_images": 256, "train_images": 256, "train_loss": 1.0}
    nothing |= dict.fromkeys(("test_accuracy", "deformed_accuracy", "train_accuracy"), 0.5)
    return Probe(**{"flip_rate": 0.2, **nothing, **fields})


def checkpoint(
    sensitivity: Numbers | Profile = (), kernel: Numbers | Smoothness = (), **fields: object
) -> Checkpoint:
    """`conditions`, or a `full_probe`, make it a full one."""
    full = {name: fields.pop(name, None) for name in ("conditions", "full_probe")}
    if any(full.values()):
        fields["full"] = Full(full["conditions"] or {}, probe=full["full_probe"])
    return Checkpoint(
        **{
            "step": 0,
            "epoch": 0.0,
            "sensitivity": sensitivity
            if isinstance(sensitivity, Profile)
            else profile(sensitivity),
            "smoothness": kernel if isinstance(kernel, Smoothness) else smoothness(kernel),
            **fields,
        }
    )


def training(
    spec: Spec,
    checkpoints: Sequence[Checkpoint],
    layers: Sequence[str] = (),
    banks: Sequence[str] = (),
    before_relu: Sequence[str] = (),
    **provenance: object,
) -> Record:
    names = {"layers": list(layers), "banks": list(banks), "before_relu": list(before_relu)}
    whole = TrainingRecord(**names, steps=1, examples=1, epochs=[], checkpoints=list(checkpoints))
    return Record(spec, whole, provenance)
