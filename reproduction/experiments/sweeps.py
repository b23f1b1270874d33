"""The missing records of a study, made by processes of this machine.

The store is the scheduler: a sweep submits the specs that have no record to anything with the
`submit` of `concurrent.futures`.
"""

import os
import threading
import time
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from deformlib.named_objects import named_object
from reproduction.experiments import runs
from reproduction.experiments.checks import check
from reproduction.experiments.hardware import (
    check_hardware,
    cores,
    keep_freed_memory,
    threads_for,
)
from reproduction.experiments.progress import progress_of
from reproduction.experiments.specs import Spec
from reproduction.experiments.store import Store


def make(
    missing: Sequence[Spec],
    store: Store,
    workers: int | None = None,
    keep: Container[Spec] = (),
    source: str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    wait: bool = False,
) -> list[Spec]:
    """Run what is missing in processes of this machine, with bars; returns what failed.

    keep                     specs whose final weights are kept (`studies.keeping`)
    source                   for `local`
    device, precision, wait  for `runs.execute`

    One failure does not stop the others. KeyboardInterrupt does, and a later call goes on from each
    run's last epoch. ValueError and PermissionError, as by `runs.execute`, before any process.
    """
    if not missing:
        return []
    for spec in missing:
        check(spec)
    check_hardware(device, precision)
    runs.check_folders(store, weights=any(spec in keep for spec in missing))
    workers = min(workers or cores(), len(missing))
    how = {"device": device, "precision": precision, "wait": wait}
    with local(workers, source) as executor, _bars() as progress:
        futures: dict[Spec, Future] = {}
        for kept in (True, False):
            chosen = [spec for spec in missing if (spec in keep) == kept]
            threads = threads_for(workers)
            futures |= sweep(chosen, store, executor, weights=kept, threads=threads, **how)
        try:
            _watch(futures, progress)
        except KeyboardInterrupt:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        failed = [spec for spec, future in futures.items() if future.exception()]
        for spec in failed:
            failure = (f"{spec.slug} failed:", "red")
            why = reason(futures[spec].exception())
            progress.console.print(Text.assemble(failure, " ", why), soft_wrap=True)
    return failed


def reason(error: BaseException | None) -> str:
    """Why a run failed, in words."""
    if isinstance(error, BrokenExecutor):  # all runs in progress go with the worker
        return "a worker process was killed (out of memory?); the same command goes on"
    return f"{type(error).__name__}: {error}"


def _bars() -> Progress:
    """A bar per run and one over all; names are no markup."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        speed_estimate_period=600,
        disable="TQDM_DISABLE" in os.environ,  # in a chapter: papermill has a bar
    )


def _watch(futures: dict[Spec, Future], progress: Progress) -> None:
    """Draw the bars until all is done."""
    overall = progress.add_task(f"{len(futures)} runs", total=len(futures))
    bars: dict[Spec, Any] = {}
    while not all(future.done() for future in futures.values()):
        _draw(futures, bars, progress, overall)
        time.sleep(0.5)
    _draw(futures, bars, progress, overall)


def _draw(
    futures: dict[Spec, Future], bars: dict[Spec, Any], progress: Progress, all_: Any
) -> None:
    total = 0.0
    for spec, future in futures.items():
        fraction = 1.0 if future.done() else progress_of(spec) or 0.0
        total += fraction
        if future.running() and spec not in bars:
            bars[spec] = progress.add_task(f"  {spec.slug}", total=1.0)
        if spec in bars:
            progress.update(bars[spec], completed=fraction, visible=not future.done())
    progress.update(all_, completed=total)


def sweep(
    missing: Iterable[Spec], store: Store, executor: Executor, **how: Any
) -> dict[Spec, Future]:
    """Submit every spec to `executor`: {spec: future of nothing}.

    The records are in `store` when the futures are done. `how` is for `runs.execute`.
    """
    return {spec: executor.submit(_execute_quietly, spec, store, how) for spec in missing}


def local(workers: int, source: str | None = None) -> ProcessPoolExecutor:
    """Processes on this machine. `source` is what each one reads first, a study of the reader's own
    ("FILE.py:STUDY"), whose file may add to the tables."""
    keep_freed_memory()
    # A server imports PyTorch once for all pools of this process: 5 s of a core.
    context = get_context("forkserver")
    context.set_forkserver_preload([runs.__name__])
    return ProcessPoolExecutor(workers, context, _begin, (dict(os.environ), source))


def _begin(environment: dict[str, str], source: str | None) -> None:
    os.environ.clear()  # it has that of the moment when the first pool was made
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if source:
        named_object(source)


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers to stop: they would train on, unseen, and hold the
    locks of their runs."""
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _execute_quietly(spec: Spec, store: Store, how: dict[str, Any]) -> None:
    # Bars of several processes in one terminal would overwrite each other.
    os.environ["TQDM_DISABLE"] = "1"
    runs.execute(spec, store, **how)
