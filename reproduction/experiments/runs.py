"""A spec executed once into a record. A run that was killed goes on from its last epoch and ends with the same record."""

import functools
import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from deformlib import models
from deformlib.files import write_whole
from deformlib.seeding import stream
from deformlib.validation import check_known, require
from reproduction.experiments import (
    comparison,
    data,
    initialization,
    interventions,
    multiverse,
    specs,
    tasks,
)
from reproduction.experiments.protocol import CHUNK, PROTOCOLS, Instrument, banks_of, layers_of
from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Resampling,
    Spec,
    Training,
    Variation,
)
from reproduction.experiments.store import (
    ROOT,
    Record,
    Store,
    cache_root,
    load_tensors,
    save_tensors,
)
from reproduction.experiments.training import State, fastest, precisions, train

Progress = Callable[[float], None]  # the share of a run that is done


class Hardware(NamedTuple):
    """On what a network is trained and measured, and in which precision trained; measured in float32 always."""

    device: str = "cpu"
    precision: str = "float32"


Executed = tuple[
    dict[str, Any], dict[str, Any], dict[str, Tensor]
]  # measurements, provenance, final weights


def build(spec: Training | Initialization, classes: int, in_channels: int) -> models.VGG:
    """The network of a spec at initialization: one seed, the same filters and head in every variant."""
    model = models.VGG(
        models.BLOCKS[spec.architecture], spec.downsampling, classes, in_channels, spec.width
    )
    smoothing = getattr(spec, "smoothing", None) or 0.0
    return models.initialize(
        model, generator=stream(spec.seed, "initialization"), smoothing=smoothing
    )


def restore(spec: Training, tensors: dict[str, Tensor]) -> models.VGG:
    """The network of a spec with weights that were kept, in eval mode; copied into float32."""
    model = build(spec, *sides(tensors))
    model.load_state_dict(tensors)
    return model.eval()


def sides(tensors: dict[str, Tensor]) -> tuple[int, int]:
    """(classes, input channels) of a network, from its weights."""
    return len(tensors["head.weight"]), tensors["conv1_1.conv.weight"].shape[1]


def check(spec: Spec) -> None:
    """ValueError, before any work, if `spec` names something that does not exist or asks for what cannot be measured."""
    if isinstance(spec, Variation):
        check_known("choices", spec.choices, multiverse.MULTIVERSES)
    network = specs.network_of(spec)
    if isinstance(network, Training):
        of_templates, drawn = "templates" in network.task, network.task != "real"
        require(
            of_templates or network.strength is None,
            "strength",
            "None unless the task is one of templates",
            network.strength,
        )
        require(
            drawn or network.label_seed is None,
            "label_seed",
            "None for the task real, which draws nothing",
            network.label_seed,
        )
        whole = network.classes is None and not of_templates
        require(
            whole or not isinstance(spec, Intervention | Comparison),
            "training",
            "of all classes of its data set, whose test images it is measured on",
            network.slug,
        )
        require(
            network.recipe.pixels == "unit" or not isinstance(spec, Variation),
            "network",
            "trained on pixels in [0, 1]",
            network.slug,
        )
    if isinstance(spec, Intervention | Initialization):
        least, chunk = (
            (1, CHUNK) if isinstance(spec, Intervention) else (0, initialization.CALIBRATION)
        )
        full = spec.calibration <= chunk or spec.calibration % chunk == 0
        require(
            spec.calibration >= least and full,
            "calibration",
            f"{least} to {chunk} or a multiple of {chunk}",
            spec.calibration,
        )
    spec = network
    tables = {
        "data": data.DATASETS,
        "architecture": models.BLOCKS,
        "downsampling": models.DOWNSAMPLINGS,
        "protocol": PROTOCOLS,
        "task": tasks.TASKS,
    }
    for name, table in tables.items():
        if hasattr(spec, name):
            check_known(name, getattr(spec, name), table)


@dataclass
class _Run:
    """A training in progress: everything that a checkpoint saves and a resumed run finds again."""

    folder: Path  # of the cache
    state: State
    data: str  # the identity of what it is trained on
    on: Hardware = Hardware()
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "measuring": 0.0})

    @property
    def file(self) -> Path:
        return self.folder / "state.safetensors"

    def save(self) -> None:
        notes = {
            "step": self.state.step,
            "checkpoints": self.checkpoints,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "data": self.data,
            "on": self.on,
        }
        save_tensors(self.file, self.state.tensors(), notes)

    def resume(self) -> None:
        if not self.file.exists():
            return
        saved, notes = load_tensors(self.file)
        if notes.setdefault("data", self.data) != self.data:
            raise ValueError(
                f"{self.file} is of a run on other images ({notes['data']}, now {self.data}): read those again, or delete it to start anew"
            )
        if (begun := Hardware(*notes.pop("on", self.on))) != self.on:
            raise ValueError(
                f"{self.file} is of a run on {begun.device} in {begun.precision} (now {self.on.device}, {self.on.precision}): "
                f"ask for --device {begun.device} --precision {begun.precision}, or delete it to start anew"
            )
        for name, tensor in self.state.tensors().items():
            tensor.data.copy_(saved[name])
        self.state.step = notes.pop("step")
        self.__dict__.update(notes)


def execute_training(
    spec: Training, store: Store, folder: Path, progress: Progress, on: Hardware
) -> Executed:
    """Train and measure the network of `spec`: (measurements, provenance, final weights). Resumes from `folder`."""
    _be_exact()
    task = tasks.load(spec).to(on.device)
    if spec.data_id not in (None, task.identity):
        raise ValueError(
            f"{spec.data} must be the images of identity {spec.data_id}, got {task.identity}: from {data.origin(spec.data)}"
        )
    protocol, recipe = PROTOCOLS[spec.protocol], spec.recipe
    instrument = Instrument(task, spec, protocol)
    model = build(spec, len(task.classes), task.images.shape[1]).to(on.device)
    names = layers_of(model)
    initial = {name: weight.clone() for name, weight in banks_of(model).items()}
    run = _Run(folder, State.start(model, recipe), task.identity, on)
    run.resume()
    per_epoch = recipe.steps_per_epoch(len(task.images))
    steps = per_epoch * recipe.epochs
    schedule = protocol.checkpoints(steps)
    clock = time.monotonic()

    def lap(what: str) -> None:
        nonlocal clock
        now = time.monotonic()
        run.seconds[what] += now - clock
        clock = now

    def at_checkpoint(step: int) -> None:
        lap("training")
        entry = {"step": step, "epoch": step / per_epoch, **instrument.light(model, initial)}
        if schedule[step]:
            entry["full"] = instrument.full(model, last=step == steps)
        run.checkpoints.append(entry)
        save_tensors(folder / "weights" / f"{step}.safetensors", model.state_dict())
        lap("measuring")

    def after_epoch(epoch: int, summary: dict[str, float]) -> None:
        lap("training")
        run.epochs.append(summary)
        run.save()

    train(
        run.state,
        task,
        recipe,
        spec.seed,
        schedule,
        at_checkpoint,
        after_epoch,
        lambda step: progress(step / steps),
        on.precision,
    )
    lap("training")
    measurements = {
        **names,
        "steps": steps,
        "examples": len(task.images),
        "epochs": run.epochs,
        "checkpoints": run.checkpoints,
    }
    provenance = {
        "data": task.identity,
        "seconds": {k: round(v, 1) for k, v in run.seconds.items()},
    }
    return measurements, provenance, model.state_dict()


def execute_measurement(
    spec: Spec, store: Store, folder: Path, progress: Progress, on: Hardware
) -> Executed:
    """What trains nothing: the measurements of MEASURE, and how long they took, on the CPU always. FileNotFoundError if it
    needs weights of a trained network that `store` does not keep."""
    _be_exact()
    clock = time.monotonic()
    measurements, identity = MEASURE[type(spec)](spec, store, progress)
    data = {} if identity is None else {"data": identity}
    return measurements, {**data, "seconds": {"measuring": round(time.monotonic() - clock, 1)}}, {}


def _be_exact() -> None:
    """Convolutions and products in float32 as they are written, not in TensorFloat-32, and where PyTorch can the same bits
    every time (on a GPU it cannot with Blur-pool, whose edge has no such backward pass)."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True


def _networks(spec: Comparison | Variation, store: Store) -> dict[str, models.VGG]:
    """The network at initialization, and if it was trained, as `store` keeps it."""
    network = specs.network_of(spec)
    if isinstance(network, Initialization):
        return {"before": build(network, 1000, 3)}
    tensors = _kept_weights(spec, store)
    return {"before": build(network, *sides(tensors)), "after": restore(network, tensors)}


def _kept_weights(spec: Intervention | Comparison | Variation, store: Store) -> dict[str, Tensor]:
    """The weights that a measurement of a trained network starts from."""
    path = store.weights_path(network := specs.network_of(spec))
    if not path.exists():
        raise FileNotFoundError(
            f"{spec.slug} needs the weights of {network.slug}, and there is no {path}"
        )
    return load_tensors(path)[0]


# Spec, store and progress in; a record's measurements out, and the identity of the images if there are any.
MEASURE: dict[type, Callable[[Any, Store, Progress], tuple[dict[str, Any], str | None]]] = {
    Initialization: lambda spec, _, progress: initialization.measure(
        spec, build(spec, 1000, 3), progress
    ),
    Resampling: lambda spec, _, progress: (
        initialization.resample(
            spec, models.VGG(models.BLOCKS[spec.architecture], "max-pool"), progress
        ),
        None,
    ),
    Intervention: lambda spec, store, progress: interventions.measure(
        spec, restore(spec.training, _kept_weights(spec, store)), progress
    ),
    Comparison: lambda spec, store, progress: comparison.measure(
        spec, _networks(spec, store), progress
    ),
    Variation: lambda spec, store, progress: multiverse.measure(
        spec, _networks(spec, store), progress
    ),
}
EXECUTE: dict[type, Callable[[Any, Store, Path, Progress, Hardware], Executed]] = {
    Training: execute_training,
    **dict.fromkeys(MEASURE, execute_measurement),
}


def folder_of(spec: Spec) -> Path:
    """Where a run in progress keeps what it needs to go on."""
    return cache_root() / "runs" / specs.file_name(spec)


def execute(
    spec: Spec,
    store: Store,
    *,
    weights: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    precision: str | None = None,
    wait: bool = False,
    progress: Progress | None = None,
) -> Record:
    """The record of `spec`: read if it exists, otherwise made, saved and returned.

    weights   keep the final weights beside the record
    threads   of PyTorch in this process; left as they are when None
    device    on which networks are trained, "cpu" or "cuda"; what trains none is measured on the CPU
    precision one of training.precisions(device) for the training; None is training.fastest(device)
    wait      for another process that is running this spec, to have its record
    progress  called with the share that is done

    ValueError for a spec that names something unknown, and for a device that is not there; filelock.Timeout if another
    process is running this spec, unless told to wait.
    """
    check(spec)
    check_hardware(device, precision)
    on = (
        Hardware(device, precision or fastest(device)) if isinstance(spec, Training) else Hardware()
    )
    if threads:
        torch.set_num_threads(threads)
    folder = folder_of(spec)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(
        folder / "lock", timeout=-1 if wait else 1
    ):  # not 0: `is_running` holds it for an instant
        report = _Reporter(folder / "progress.json", progress)
        if spec not in store:
            _commit()  # now: by the end of a long run the checkout may be at another one
            _forget_peak(on)
            measurements, provenance, tensors = EXECUTE[type(spec)](spec, store, folder, report, on)
            if (
                weights and tensors and spec not in store
            ):  # another machine with another cache may have been faster
                store.save_weights(spec, tensors)
            store.save(Record(spec, measurements, {**provenance, **_provenance(on)}))
        (folder / "state.safetensors").unlink(missing_ok=True)
        report.done()
    return store.load(spec)


def check_hardware(device: str, precision: str | None) -> None:
    """ValueError unless networks can be trained on `device` in `precision`."""
    there = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    require(
        device in there,
        "device",
        " or ".join(there) + ("" if len(there) > 1 else " (PyTorch sees no CUDA device)"),
        repr(device),
    )
    if precision is not None:
        check_known("precision", precision, precisions(device))


def progress_of(spec: Spec) -> float | None:
    """The share of a run in progress (or interrupted) that is done, as its own process last wrote it; None if never begun."""
    file = folder_of(spec) / "progress.json"
    try:
        return json.loads(file.read_text())["done"]
    except (FileNotFoundError, ValueError, KeyError):
        return None


def is_running(spec: Spec) -> bool:
    """Whether a process on this machine is executing `spec` at this moment."""
    file = folder_of(spec) / "lock"
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True


class _Reporter:
    """Writes the share that is done to a file that `status` and a sweep's bars read, at most once a second."""

    def __init__(self, file: Path, also: Progress | None) -> None:
        self.file, self.also, self.last = file, also, 0.0

    def __call__(self, fraction: float) -> None:
        if self.also:
            self.also(fraction)
        if time.monotonic() - self.last >= 1:
            self.last = time.monotonic()
            write_whole(self.file, lambda file: file.write_text(json.dumps({"done": fraction})))

    def done(self) -> None:
        self.file.unlink(missing_ok=True)


def _provenance(on: Hardware) -> dict[str, Any]:
    """Where a record came from: commit, versions, machine, peak memory."""
    of_device = {}
    if on.device == "cuda":
        of_device = {"peak_device_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6)}
    packages = ("deformlib", "torch", "numpy", "datasets")
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return {
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in packages},
        },
        "device": name_of(on.device),
        "threads": torch.get_num_threads(),
        "training_precision": {"bfloat16": "bfloat16 autocast"}.get(on.precision, on.precision),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6),
        **of_device,
    }


def _version(package: str) -> str | None:
    """None where it runs from a checkout that was never installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)


def _forget_peak(on: Hardware) -> None:
    """Let this process's peak memory begin anew, where that is Linux's: one process makes several runs."""
    if on.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@functools.cache
def _commit() -> str | None:
    """The commit of the package's own checkout, "+" if it was changed since; None outside a checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "deformlib"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def default_device() -> str:
    """Where networks are trained if nobody says where: on a GPU if PyTorch sees one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def name_of(device: str) -> str:
    """What records call the GPU or the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else processor()


@functools.cache
def processor() -> str:
    """The processor by name, and the instructions that PyTorch uses of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
