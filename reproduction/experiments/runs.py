"""A spec executed once into a record."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from deformlib import models
from reproduction.experiments.checks import check
from reproduction.experiments.comparison import measure_comparison
from reproduction.experiments.hardware import (
    Hardware,
    be_exact,
    check_hardware,
    fastest,
    forget_peak_memory,
)
from reproduction.experiments.imposed import measure_smoothing
from reproduction.experiments.initialization import measure_initialization, measure_resampling
from reproduction.experiments.interventions import measure_intervention
from reproduction.experiments.matching import measure_matching
from reproduction.experiments.multiverse import measure_variation
from reproduction.experiments.networks import (
    at_initialization,
    before_and_after,
    kept_weights,
    restore,
    trained_by_others,
    with_others,
)
from reproduction.experiments.progress import Progress, Reporter, folder_of, lock_of
from reproduction.experiments.provenance import commit, provenance
from reproduction.experiments.records import Measurements
from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Matching,
    Resampling,
    Smoothing,
    Spec,
    Theory,
    Training,
    Variation,
    Worst,
    WorstPretrained,
)
from reproduction.experiments.store import Record, Store, cache_root, check_writable
from reproduction.experiments.theory import measure_theory
from reproduction.experiments.training_runs import execute_training
from reproduction.experiments.worst import measure_worst, measure_worst_pretrained

Executed = tuple[Measurements, dict[str, Any], dict[str, Tensor]]
Measured = tuple[Measurements, str | None]  # and the identity of the images, if there are any


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

    weights    keep the final weights beside the record
    threads    of PyTorch in this process; left as they are when None
    device     on which networks are trained, "cpu" or "cuda"; what trains none runs on the CPU
    precision  of the training, one of `hardware.precisions(device)`; None is the fastest
    wait       for another process that is running this spec, to have its record
    progress   called with the fraction that is done

    ValueError for a spec that names something unknown, and for a device that is not there.
    PermissionError where nothing can be written. filelock.Timeout if another process is running
    this spec, unless told to wait.
    """
    check(spec)
    check_hardware(device, precision)
    if spec not in store:
        check_folders(store, weights)
    on = Hardware()
    if isinstance(spec, Training):
        on = Hardware(device, precision or fastest(device))
    if threads:
        torch.set_num_threads(threads)
    folder = folder_of(spec)
    folder.mkdir(parents=True, exist_ok=True)
    # Not 0 seconds: `is_running` holds the lock for an instant.
    with FileLock(lock_of(spec), timeout=-1 if wait else 1):
        report = Reporter(folder / "progress.json", progress)
        if spec not in store:
            _make(spec, store, weights, folder, report, on)
        (folder / "state.safetensors").unlink(missing_ok=True)
        report.done()
    return store.load(spec)


def check_folders(store: Store, weights: bool) -> None:
    """PermissionError, before any work, where its results could not be written."""
    check_writable(cache_root(), "what a run in progress needs (DEFORMLIB_CACHE)")
    check_writable(store.folder, "records")
    if weights:
        check_writable(store.weights_folder, "weights")


def _make(
    spec: Spec, store: Store, weights: bool, folder: Path, report: Progress, on: Hardware
) -> None:
    commit()  # now: by the end of a long run the checkout may be at another one
    forget_peak_memory(on.device)
    be_exact()
    measurements, made, tensors = EXECUTE[type(spec)](spec, store, folder, report, on)
    # Another machine with another cache may have been faster.
    if weights and tensors and spec not in store:
        store.save_weights(spec, tensors)
    store.save(Record(spec, measurements, {**made, **provenance(on)}))


def _train(
    spec: Training, store: Store, folder: Path, progress: Progress, on: Hardware
) -> Executed:
    return execute_training(spec, folder, progress, on)


def _measure(spec: Spec, store: Store, folder: Path, progress: Progress, on: Hardware) -> Executed:
    """Run and time a measurement; CPU only."""
    start = time.monotonic()
    measurements, identity = MEASUREMENTS[type(spec)](spec, store, progress)
    data = {} if identity is None else {"data": identity}
    seconds = {"measuring": round(time.monotonic() - start, 1)}
    return measurements, {**data, "seconds": seconds}, {}


def _initialization(spec: Initialization, store: Store, progress: Progress) -> Measured:
    return measure_initialization(spec, at_initialization(spec), progress)


def _resampling(spec: Resampling, store: Store, progress: Progress) -> Measured:
    model = models.VGG(models.BLOCKS[spec.architecture], "max-pool")
    return measure_resampling(spec, model, progress), None


def _intervention(spec: Intervention, store: Store, progress: Progress) -> Measured:
    model = restore(spec.training, kept_weights(spec, store))
    return measure_intervention(spec, model, progress)


def _comparison(spec: Comparison, store: Store, progress: Progress) -> Measured:
    return measure_comparison(spec, before_and_after(spec, store), progress)


def _variation(spec: Variation, store: Store, progress: Progress) -> Measured:
    return measure_variation(spec, before_and_after(spec, store), progress)


def _matching(spec: Matching, store: Store, progress: Progress) -> Measured:
    return measure_matching(spec, before_and_after(spec, store), progress)


def _smoothing(spec: Smoothing, store: Store, progress: Progress) -> Measured:
    return measure_smoothing(spec, before_and_after(spec, store), progress)


def _worst(spec: Worst, store: Store, progress: Progress) -> Measured:
    return measure_worst(spec, with_others(spec, store), progress)


def _worst_pretrained(spec: WorstPretrained, store: Store, progress: Progress) -> Measured:
    return measure_worst_pretrained(spec, trained_by_others(spec), progress)


def _theory(spec: Theory, store: Store, progress: Progress) -> Measured:
    return measure_theory(spec, before_and_after(spec, store), progress)


MEASUREMENTS: dict[type, Callable[[Any, Store, Progress], Measured]] = {
    Initialization: _initialization,
    Resampling: _resampling,
    Intervention: _intervention,
    Comparison: _comparison,
    Variation: _variation,
    Matching: _matching,
    Smoothing: _smoothing,
    Worst: _worst,
    WorstPretrained: _worst_pretrained,
    Theory: _theory,
}
EXECUTE: dict[type, Callable[[Any, Store, Path, Progress, Hardware], Executed]] = {
    Training: _train,
    **dict.fromkeys(MEASUREMENTS, _measure),
}
