"""A network trained and measured along the way. A run that was killed goes on from its last epoch,
and ends with the same record."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from reproduction.experiments import data, tasks
from reproduction.experiments.hardware import Hardware
from reproduction.experiments.networks import build
from reproduction.experiments.progress import Progress
from reproduction.experiments.protocol import PROTOCOLS, Instrument, banks_of, layers_of
from reproduction.experiments.records import (
    Checkpoint,
    Epoch,
    TrainingRecord,
    from_json,
    to_json,
)
from reproduction.experiments.specs import Training
from reproduction.experiments.store import load_tensors, save_tensors
from reproduction.experiments.training import State, train


@dataclass
class TrainingRun:
    """A training in progress: everything that is saved at an epoch's end and found again.

    folder   of the cache
    data     identity of what it is trained on
    seconds  that it took so far, by activity
    """

    folder: Path
    state: State
    data: str
    on: Hardware
    checkpoints: list[Checkpoint] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "measuring": 0.0})
    clock: float = field(default_factory=time.monotonic)

    @property
    def file(self) -> Path:
        return self.folder / "state.safetensors"

    def save(self) -> None:
        notes = {
            "step": self.state.step,
            "checkpoints": to_json(self.checkpoints),
            "epochs": to_json(self.epochs),
            "seconds": self.seconds,
            "data": self.data,
            "on": self.on,
        }
        save_tensors(self.file, self.state.tensors(), notes)

    def resume(self) -> None:
        """Go on from the file, if there is one. ValueError if it is damaged, or of a run on other
        images or other hardware."""
        if not self.file.exists():
            return
        tensors, notes = load_tensors(self.file)
        self._check_same(notes["data"], Hardware(*notes["on"]))
        self.state.restore(tensors, notes["step"])
        self.checkpoints = from_json(notes["checkpoints"], list[Checkpoint])
        self.epochs = from_json(notes["epochs"], list[Epoch])
        self.seconds = notes["seconds"]

    def lap(self, activity: str) -> None:
        """Count the time since the last call as that of an activity."""
        now = time.monotonic()
        self.seconds[activity] += now - self.clock
        self.clock = now

    def _check_same(self, data: str, on: Hardware) -> None:
        if data != self.data:
            raise ValueError(
                f"{self.file} is of a run on other images ({data}, now {self.data}): "
                "read those again, or delete it to start anew"
            )
        if on != self.on:
            raise ValueError(
                f"{self.file} is of a run on {on.device} in {on.precision} "
                f"(now {self.on.device}, {self.on.precision}): ask for --device {on.device} "
                f"--precision {on.precision}, or delete it to start anew"
            )


def execute_training(
    spec: Training, folder: Path, progress: Progress, on: Hardware
) -> tuple[TrainingRecord, dict, dict[str, Tensor]]:
    """Measurements, provenance and final weights of a training, which resumes from `folder`."""
    task = tasks.load(spec).to(on.device)
    check_data(spec, task.identity)
    recipe, protocol = spec.recipe, PROTOCOLS[spec.protocol]
    per_epoch = recipe.steps_per_epoch(len(task.images))
    steps = per_epoch * recipe.epochs
    full = protocol.checkpoints(steps)
    instrument = Instrument(task, spec, protocol)
    model = build(spec, len(task.classes), task.images.shape[1]).to(on.device)
    initial = {name: weight.clone() for name, weight in banks_of(model).items()}
    run = TrainingRun(folder, State.start(model, recipe), task.identity, on)
    run.resume()

    def at_checkpoint(step: int) -> None:
        run.lap("training")
        measured = instrument.light(model, initial, step, step / per_epoch)
        if full[step]:
            measured = replace(measured, full=instrument.full(model, last=step == steps))
        run.checkpoints.append(measured)
        save_tensors(folder / "weights" / f"{step}.safetensors", model.state_dict())
        run.lap("measuring")

    def after_epoch(epoch: Epoch) -> None:
        run.lap("training")
        run.epochs.append(epoch)
        run.save()

    train(
        run.state,
        task,
        recipe,
        spec.seed,
        checkpoints=full,
        at_checkpoint=at_checkpoint,
        after_epoch=after_epoch,
        after_step=lambda step: progress(step / steps),
        precision=on.precision,
    )
    run.lap("training")
    record = TrainingRecord(
        **layers_of(model),
        steps=steps,
        examples=len(task.images),
        epochs=run.epochs,
        checkpoints=run.checkpoints,
    )
    seconds = {activity: round(value, 1) for activity, value in run.seconds.items()}
    return record, {"data": task.identity, "seconds": seconds}, model.state_dict()


def check_data(spec: Training, identity: str) -> None:
    """ValueError unless these are the images that the spec must be trained on."""
    if spec.data_id not in (None, identity):
        wanted = f"{spec.data} must be the images of identity {spec.data_id}"
        raise ValueError(f"{wanted}, got {identity}: from {data.origin(spec.data)}")
