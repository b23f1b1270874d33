"""The missing records of a study, made by processes of this machine.

The store is the scheduler: a sweep submits the specs that have no record to anything with the `submit` of
`concurrent.futures`.
"""

import os
import threading
import time
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from deformlib.named_objects import named_object
from reproduction.experiments import runs
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
    """Run what is missing in processes of this machine, with a bar per run and one over all; returns what failed.

    Final weights are kept of the specs in `keep` (`studies.keeping`); `source` is for `local`, `device`, `precision` and
    `wait` for `runs.execute`. One failure does not stop the others; KeyboardInterrupt does, and a later call goes on
    from each run's last epoch.
    """
    if not missing:
        return []
    for spec in missing:
        runs.check(spec)
    runs.check_hardware(device, precision)
    workers = min(workers or cores(), len(missing))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    quiet = "TQDM_DISABLE" in os.environ  # in a chapter: papermill has a bar
    with (
        local(workers, source) as executor,
        Progress(*columns, speed_estimate_period=600, disable=quiet) as progress,
    ):
        futures = {}
        for kept in (True, False):
            chosen = [spec for spec in missing if (spec in keep) == kept]
            futures |= sweep(
                chosen,
                store,
                executor,
                weights=kept,
                threads=threads_for(workers),
                device=device,
                precision=precision,
                wait=wait,
            )
        overall = progress.add_task(f"{len(missing)} runs", total=len(missing))
        bars: dict[Spec, int] = {}
        try:
            while not all(future.done() for future in futures.values()):
                _draw(futures, bars, progress, overall)
                time.sleep(0.5)
        except KeyboardInterrupt:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        _draw(futures, bars, progress, overall)
        failed = {
            spec: future.exception() for spec, future in futures.items() if future.exception()
        }
        for spec, error in failed.items():
            lost = isinstance(
                error, BrokenExecutor
            )  # with one worker goes the pool, and with it all runs in progress
            why = (
                "a worker process was killed (out of memory?); the same command goes on"
                if lost
                else f"{type(error).__name__}: {error}"
            )
            progress.console.print(f"[red]{spec.slug} failed:[/red] {why}")
    return list(failed)


def _draw(futures: dict, bars: dict[Spec, int], progress: Progress, overall: int) -> None:
    fractions = {
        spec: 1.0 if future.done() else runs.progress_of(spec) or 0.0
        for spec, future in futures.items()
    }
    progress.update(overall, completed=sum(fractions.values()))
    for spec, future in futures.items():
        if future.running() and spec not in bars:
            bars[spec] = progress.add_task(f"  {spec.slug}", total=1.0)
        if spec in bars:
            progress.update(bars[spec], completed=fractions[spec], visible=not future.done())


def sweep(
    missing: Iterable[Spec],
    store: Store,
    executor: Executor,
    *,
    weights: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    precision: str | None = None,
    wait: bool = False,
) -> dict[Spec, Future]:
    """Submit every spec to `executor`: {spec: future of nothing}. The records are in `store` when the futures are done. The
    keywords are those of `runs.execute`."""
    how = dict(weights=weights, threads=threads, device=device, precision=precision, wait=wait)
    return {spec: executor.submit(_execute_quietly, spec, store, how) for spec in missing}


# A training step frees much memory and asks for it again, which glibc gives back to the system and takes anew, page by page
# (15,000 faults a step). Told to keep it, and to use large pages, a step of the CIFAR-10 network took 336 ms of processor time
# in place of 459, with the same bits (batch of 64, one thread, AVX2, the other core training too). What has a gigabyte or more,
# as layers of 224x224 have, is given back: a network of Figure 3a took 5.8 GB in place of 6.1.
ALLOCATOR = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864:glibc.malloc.hugetlb=1"


def local(workers: int, source: str | None = None) -> ProcessPoolExecutor:
    """Processes on this machine, each with its share of the cores; `source` is what each one reads first, a study of
    the reader's own ("FILE.py:STUDY"), whose file may add to the tables."""
    os.environ.setdefault("GLIBC_TUNABLES", ALLOCATOR)  # read when a process starts
    context = get_context(
        "forkserver"
    )  # imports PyTorch once for all pools of this process, 5 s of a core
    context.set_forkserver_preload([runs.__name__])
    return ProcessPoolExecutor(workers, context, _begin, (dict(os.environ), source))


def _begin(environment: dict[str, str], source: str | None) -> None:
    os.environ.clear()  # it has that of the moment when the first pool was made
    os.environ.update(environment)
    # A killed parent cannot tell its workers to stop: they would train on, unseen, and hold the locks of their runs.
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
    if source:
        named_object(source)


def cores() -> int:
    """The cores that this process may use; where the system does not tell, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(workers: int) -> int:
    """Threads of each of `workers` processes: the cores that this process may use, shared out, at least 1."""
    return max(1, cores() // workers)


def _execute_quietly(spec: Spec, store: Store, how: dict[str, Any]) -> None:
    os.environ["TQDM_DISABLE"] = (
        "1"  # bars of several processes in one terminal would overwrite each other
    )
    runs.execute(spec, store, **how)
