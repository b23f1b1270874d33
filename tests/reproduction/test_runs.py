"""A run that is killed, whenever it is, ends with the record of one that was not."""

import dataclasses
import functools
import json
import math
import multiprocessing
import os
import platform
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

from deformlib.models import DOWNSAMPLINGS
from reproduction.experiments import (
    hardware,
    networks,
    photos,
    progress,
    protocol,
    provenance,
    runs,
    specs,
    store,
    sweeps,
    tasks,
    training,
    training_runs,
)
from reproduction.experiments.hardware import Hardware
from reproduction.experiments.protocol import PROTOCOLS, Protocol
from reproduction.experiments.records import (
    Checkpoint,
    InitializationRecord,
    TrainingRecord,
    from_json,
)
from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Recipe,
    Training,
    Variation,
)
from reproduction.experiments.store import Record, Store, load_tensors
from reproduction.experiments.training_runs import TrainingRun

TINY = Protocol(
    images=8, sets=1, strengths=(0.5,), light=5, full=2, calibration=16, probes=16, final=32
)
RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.05, flip=True, crop=2)
SPEC = Training("photos", "strided-relu", 1, RECIPE, "tiny", width=0.05, examples=64)
OTHER = dataclasses.replace(SPEC, seed=2, downsampling="max-pool")
ADAMW = dataclasses.replace(SPEC, recipe=dataclasses.replace(RECIPE, optimizer="adamw"))


def measured(steps: int) -> TrainingRecord:
    """Measurements of nothing, told apart by a number."""
    return TrainingRecord([], [], [], steps, 64, [], [])


# ---- In a process of its own, with one thread and the images loaded, whose children are cheap to
# start and to kill.


def prepare() -> None:
    PROTOCOLS["tiny"] = TINY
    torch.set_num_threads(1)
    photos.views = functools.cache(photos.views)
    for split in photos.COUNTS:
        photos.views(split)
    training.State.start(
        networks.build(SPEC, 10, 3), RECIPE
    )  # PyTorch imports much with its first optimizer


def child(root: Path, before: Callable[[], None] = lambda: None) -> int:
    """The process id of a child that executes SPEC in `root`."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.environ["DEFORMLIB_CACHE"] = str(root / "cache")
        before()
        runs.execute(SPEC, Store(root / "results"), weights=True)
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def watch(notice: Callable[[str], None]) -> None:
    """Call `notice` with the name of every event of this process: of steps, measurements and files.

    In a run each name comes once, and in every run they come in the same order. A run that is
    killed at one and resumed begins again somewhere before it, so of any rising series of events it
    can be killed at each.
    """
    step = 0

    def watched_step(state: training.State, *args) -> torch.Tensor:
        nonlocal step
        notice(f"step {state.step} begins")
        result = take_step(state, *args)
        step = state.step
        notice(f"step {step - 1} ends")
        return result

    def measuring(measure: Callable) -> Callable:
        @functools.wraps(measure)
        def watched(*args, **kwargs):
            notice(f"{measure.__name__} measurement at {step} begins")
            result = measure(*args, **kwargs)
            notice(f"{measure.__name__} measurement at {step} ends")
            return result

        return watched

    def watched_write(path: Path, write: Callable[[Path], None]) -> None:
        if path.name == "progress.json":  # written as time passes
            return write_whole(path, write)
        name = f"state at {step}" if path.name == "state.safetensors" else "/".join(path.parts[-2:])

        def half_by_half(draft: Path) -> None:
            notice(f"{name} begins")
            write(draft)
            whole = draft.read_bytes()
            draft.write_bytes(whole[: len(whole) // 2])
            notice(f"{name} half written")
            draft.write_bytes(whole)
            notice(f"{name} written")

        write_whole(path, half_by_half)
        notice(f"{name} renamed")

    take_step, write_whole = training._step, store.write_whole
    training._step = watched_step
    protocol.Instrument.light = measuring(protocol.Instrument.light)
    protocol.Instrument.full = measuring(protocol.Instrument.full)
    store.write_whole = progress.write_whole = watched_write


def uninterrupted(root: Path) -> int:
    """Execute SPEC, and list its events in a file."""

    def notice(name: str) -> None:
        with (root / "events").open("a") as file:
            print(name, file=file)

    return ended(child(root, lambda: watch(notice)))


def killed_at(root: Path, events: list[str]) -> list[int]:
    """How each attempt ended: those that killed themselves at one event each, and the last."""

    def killer(event: str) -> Callable[[str], None]:
        return lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == event else None

    return [ended(child(root, functools.partial(watch, killer(event)))) for event in [*events, ""]]


def killed_from_outside_after(root: Path, events: list[str]) -> list[int]:
    """As `killed_at`, but by us, milliseconds after the event, while the process goes on."""
    rng, codes = random.Random(0), []

    def teller(event: str, pipe: int) -> Callable[[str], None]:
        left = math.inf

        def notice(name: str) -> None:
            nonlocal left
            left -= 1
            if name == event:
                os.write(pipe, b".")
                left = 2
            while left < 0:  # two events later it waits for us, however slow the machine
                signal.pause()

        return notice

    for event in events:
        told, pipe = os.pipe()
        pid = child(root, functools.partial(watch, teller(event, pipe)))
        os.close(pipe)
        os.read(told, 1)  # returns as well if the child has ended
        os.close(told)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        codes.append(ended(pid))
    return [*codes, ended(child(root))]


def second_process(root: Path) -> dict[str, object]:
    """What happens to those that come during a run, here stopped at step five, and after it."""
    os.environ["DEFORMLIB_CACHE"] = str(root / "cache")
    found = {"never begun": progress.is_running(SPEC), "no progress": progress.progress_of(SPEC)}

    def stop_in_the_middle() -> None:
        step = training._step

        def stopping(state, *args):
            if state.step == 5:
                os.kill(os.getpid(), signal.SIGSTOP)
            return step(state, *args)

        training._step = stopping

    pid = child(root, stop_in_the_middle)
    os.waitpid(pid, os.WUNTRACED)
    found |= {"running": progress.is_running(SPEC), "progress": progress.progress_of(SPEC)}
    try:
        runs.execute(SPEC, Store(root / "results"))
    except Timeout as error:
        found["second"] = str(error)
    os.kill(pid, signal.SIGCONT)
    found |= {"first": ended(pid), "still running": progress.is_running(SPEC)}
    runs.EXECUTE.clear()  # now nothing can be executed any more
    found["read"] = runs.execute(SPEC, Store(root / "results")).spec == SPEC
    return found


# ---- The tests.


@pytest.fixture(scope="module")
def elsewhere():
    """One process for the tests above: prepared once, and nothing of it comes back but results."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=prepare
    ) as executor:
        yield lambda function, *args: executor.submit(function, *args).result(timeout=1800)


@pytest.fixture(scope="module")
def reference(elsewhere, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reference")
    assert elsewhere(uninterrupted, root) == 0
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    return tmp_path / "cache"


def without_provenance(root: Path) -> str:
    [record] = (root / "results").glob("*.json")
    fields = json.loads(record.read_text())
    assert fields.pop("provenance")
    return json.dumps(fields)


def assert_same(root: Path, reference: Path) -> None:
    assert without_provenance(root) == without_provenance(reference)
    for folder in ("results/weights", f"cache/runs/{SPEC.slug}-{specs.identity(SPEC)}/weights"):
        files = sorted(path.name for path in (reference / folder).glob("*.safetensors"))
        assert files == sorted(path.name for path in (root / folder).glob("*.safetensors"))
        for name in files:
            assert (root / folder / name).read_bytes() == (
                reference / folder / name
            ).read_bytes(), name


@pytest.fixture(scope="module")
def events(reference: Path) -> list[str]:
    """Every event of a run, in order."""
    names = (reference / "events").read_text().splitlines()
    assert len(names) == len(set(names)) > 50
    return names


KILLED = -signal.SIGKILL


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_events_and_resumed(
    seed: int, elsewhere, reference: Path, events: list[str], tmp_path: Path
):
    chosen = sorted(random.Random(seed).sample(range(len(events)), 4))
    assert elsewhere(killed_at, tmp_path, [events[number] for number in chosen]) == [KILLED] * 4 + [
        0
    ]
    assert_same(tmp_path, reference)


def test_killed_in_the_middle_of_every_file_and_resumed(
    elsewhere, reference: Path, events: list[str], tmp_path: Path
):
    halves = [name for name in events if name.endswith("half written")]
    assert [name.startswith("state") for name in halves].count(True) == 3  # one an epoch
    assert ".json" in halves[-1] and "results/" in halves[-1]  # the record
    assert elsewhere(killed_at, tmp_path, halves) == [KILLED] * len(halves) + [0]
    assert_same(tmp_path, reference)


def test_killed_from_outside_and_resumed(
    elsewhere, reference: Path, events: list[str], tmp_path: Path
):
    chosen = [
        name
        for name in events
        if name == "step 1 begins"
        or (name.startswith(("state", "results")) and name.endswith("begins"))
    ]
    assert len(chosen) == 5 and ".json" in chosen[-1]
    assert elsewhere(killed_from_outside_after, tmp_path, chosen) == [KILLED] * 5 + [0]
    assert_same(tmp_path, reference)


def test_a_record_holds_what_was_measured(reference: Path):
    record = Store(reference / "results").load(SPEC)
    found = record.measurements
    assert found.steps == 12 and found.examples == 64 and len(found.epochs) == 3
    schedule = TINY.checkpoints(12)
    assert [entry.step for entry in found.checkpoints] == list(schedule)
    epochs = [entry.epoch for entry in found.checkpoints]
    assert epochs == pytest.approx([step / 4 for step in schedule], rel=1e-5)
    full = {entry.step: entry.full for entry in found.checkpoints if entry.full}
    assert list(full) == [step for step in schedule if schedule[step]]
    assert [bool(each.probe) for each in full.values()] == [False, True]
    first, second, *_ = found.checkpoints
    assert first.smoothness.change_norm == [0.0] * 8 < second.smoothness.change_norm
    assert len(found.layers) == 15 and len(found.banks) == 8 and len(found.before_relu) == 12
    assert {
        "data",
        "seconds",
        "commit",
        "versions",
        "device",
        "threads",
        "peak_memory_mb",
    } <= record.provenance.keys()
    assert (
        record.provenance["seconds"].keys() == {"training", "measuring"}
        and 20 < record.provenance["peak_memory_mb"] < 20_000
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's peak cannot begin anew")
def test_peak_memory_is_that_of_the_run_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(runs.EXECUTE, Training, lambda *_: (measured(1), {}, {}))
    memory = bytearray(b"x") * 2**30  # as an earlier run of this process might have taken
    del memory
    first = hardware.peak_memory("cpu")["peak_memory_mb"]
    now = runs.execute(SPEC, Store(tmp_path)).provenance["peak_memory_mb"]
    assert first > 1000 and now < first - 900


def test_a_precision_is_that_of_the_training_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    given = []
    monkeypatch.setattr(
        training_runs, "train", lambda *args, precision, **_: given.append(precision)
    )
    monkeypatch.setattr(hardware, "fast_bfloat16", lambda: False)
    for precision, said in (
        (None, "float32"),
        ("float32", "float32"),
        ("bfloat16", "bfloat16 autocast"),
    ):
        made = runs.execute(SPEC, Store(tmp_path / str(precision)), precision=precision)
        assert (
            made.provenance["training_precision"] == said
            and made.provenance["device"] == hardware.processor()
        )
    assert given == ["float32", "float32", "bfloat16"]
    with pytest.raises(
        ValueError, match="precision must be one of float32, bfloat16, got 'tensorfloat32'"
    ):
        runs.execute(OTHER, Store(tmp_path), precision="tensorfloat32")


def test_a_run_goes_on_only_where_and_as_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))

    def stop(fraction: float) -> None:
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.execute(SPEC, Store(tmp_path), precision="bfloat16", progress=stop)
    with pytest.raises(
        ValueError,
        match=r"in bfloat16 \(now cpu, float32\): ask for --device cpu --precision bfloat16",
    ):
        runs.execute(SPEC, Store(tmp_path), precision="float32")
    assert (
        runs.execute(SPEC, Store(tmp_path), precision="bfloat16").provenance["training_precision"]
        == "bfloat16 autocast"
    )


def test_nothing_is_measured_in_tensorfloat32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever PyTorch was told before: its default lets a GPU round factors of convolutions."""
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    before, seen = torch.get_float32_matmul_precision(), []

    def flags() -> None:
        seen.append(
            (
                torch.backends.cudnn.allow_tf32,
                torch.backends.cudnn.deterministic,
                torch.get_float32_matmul_precision(),
            )
        )

    def light(self: object, model: object, initial: object, step: int, epoch: float) -> Checkpoint:
        flags()
        return Checkpoint(step=step, epoch=epoch, sensitivity=None, smoothness=None)

    torch.set_float32_matmul_precision("high")
    try:
        monkeypatch.setattr(protocol.Instrument, "light", light)
        monkeypatch.setattr(protocol.Instrument, "full", lambda *_, last: flags())
        monkeypatch.setattr(Store, "load", lambda *_: None)  # of measurements of nothing
        runs.execute(SPEC, Store(tmp_path))
        torch.backends.cudnn.allow_tf32 = True
        nothing = InitializationRecord([], [], 16, [])
        monkeypatch.setitem(
            runs.MEASUREMENTS, Initialization, lambda *_: (flags() or nothing, None)
        )
        runs.execute(
            Initialization(
                "photos", "max-pool", 0, images=16, calibration=16, width=1 / 16, size=64
            ),
            Store(tmp_path),
        )
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(seen) > 2 and set(seen) == {(False, True, "highest")}


def test_weights_are_those_of_the_last_checkpoint(reference: Path):
    folder = reference / "cache" / "runs" / f"{SPEC.slug}-{specs.identity(SPEC)}"
    assert {path.stem for path in (folder / "weights").iterdir()} == {
        str(step) for step in TINY.checkpoints(12)
    }
    last, _ = load_tensors(folder / "weights" / "12.safetensors")
    kept, _ = load_tensors(Store(reference / "results").weights_path(SPEC))
    assert all(
        torch.equal(kept[name], value.bfloat16() if value.is_floating_point() else value)
        for name, value in last.items()
    )
    model = networks.build(SPEC, 10, 3)
    first, _ = load_tensors(folder / "weights" / "0.safetensors")
    assert all(torch.equal(first[name], value) for name, value in model.state_dict().items())
    assert not torch.equal(first["head.weight"], last["head.weight"])


def test_nothing_is_left_of_a_run_but_its_weights(reference: Path):
    folder = reference / "cache" / "runs" / f"{SPEC.slug}-{specs.identity(SPEC)}"
    assert {path.name for path in folder.iterdir()} <= {"weights", "lock"}
    assert {path.suffix for path in (reference / "results").iterdir()} == {".json", ""}


def test_a_second_process_is_turned_away(elsewhere, reference: Path, tmp_path: Path):
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=prepare
    ) as executor:
        found = executor.submit(second_process, tmp_path).result(timeout=1800)
    assert not found["never begun"] and found["no progress"] is None
    assert found["running"] and 0 < found["progress"] < 0.5
    assert "lock" in found["second"]
    assert found["first"] == 0 and not found["still running"] and found["read"]
    assert_same(tmp_path, reference)


def test_what_a_kill_left_beside_a_finished_record_is_removed(reference: Path, cache: Path):
    folder = cache / "runs" / f"{SPEC.slug}-{specs.identity(SPEC)}"
    folder.mkdir(parents=True)
    for name in ("state.safetensors", "progress.json"):
        (folder / name).write_text("left")
    assert runs.execute(SPEC, Store(reference / "results")).spec == SPEC
    assert {path.name for path in folder.iterdir()} <= {"lock"}


def test_a_damaged_state_names_its_file(cache: Path, tmp_path: Path):
    file = cache / "runs" / f"{SPEC.slug}-{specs.identity(SPEC)}" / "state.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"{file} is damaged .*delete it"):
        runs.execute(SPEC, Store(tmp_path / "results"))


@pytest.mark.parametrize(
    "field, known",
    [
        ("architecture", "cifar10_vgg, imagenet_vgg"),
        ("downsampling", "subsample, max-pool"),
        ("protocol", "protocol-1, imagenet-1"),
        ("task", "real, random-labels"),
        ("data", "photos, cifar10, mnist"),
    ],
)
def test_an_unknown_name_is_refused_before_any_work(
    field: str, known: str, cache: Path, tmp_path: Path
):
    spec = dataclasses.replace(SPEC, **{field: "nothing"})
    with pytest.raises(ValueError, match=f"{field} must be one of {known}.*, got 'nothing'"):
        runs.execute(spec, Store(tmp_path / "results"))
    assert not cache.exists() and not (tmp_path / "results").exists()


PLAIN = dataclasses.replace(SPEC, protocol="quick-2")


@pytest.mark.parametrize(
    "spec, message",
    [
        (
            dataclasses.replace(PLAIN, strength=1.0),
            "strength must be None unless the task is one of templates, got 1.0",
        ),
        (
            dataclasses.replace(PLAIN, label_seed=1),
            "label_seed must be None for the task real, .*got 1",
        ),
        (
            dataclasses.replace(PLAIN, task="templates", classes=4),
            "strength must be > 0, in pixels, for templates, got None",
        ),
        (
            dataclasses.replace(PLAIN, task="templates-in-noise", strength=1.0),
            "classes must be an integer >= 2 for templates, got None",
        ),
        (
            Intervention(dataclasses.replace(PLAIN, classes=5), 20, 16),
            "training must be of all classes",
        ),
        (
            Comparison(dataclasses.replace(PLAIN, task="templates", strength=1.0, classes=4), 8, 8),
            "training must be of all classes",
        ),
        (
            Variation(
                dataclasses.replace(
                    PLAIN, recipe=dataclasses.replace(RECIPE, pixels="standardized")
                ),
                "quick-choices-1",
            ),
            r"network must be trained on pixels in \[0, 1\]",
        ),
        (Intervention(PLAIN, 20, 0), "calibration must be 1 to 256 or a multiple of 256, got 0"),
        (Intervention(PLAIN, 20, 300), "calibration must be .*got 300"),
        (
            Initialization("photos", "max-pool", 0, 8, 20, size=32),
            "calibration must be 0 to 16 or a multiple of 16, got 20",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(
    spec: specs.Spec, message: str, cache: Path, tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        runs.execute(spec, Store(tmp_path / "results"))
    assert not cache.exists() and not (tmp_path / "results").exists()


def test_the_order_of_examples_is_that_of_the_seed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seeds = []

    def batches(task: object, recipe: Recipe, seed: int, epoch: int) -> None:
        seeds.append(seed)
        raise InterruptedError

    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setattr(training, "batches", batches)
    for seed in (1, 4):
        with pytest.raises(InterruptedError):
            runs.execute(dataclasses.replace(SPEC, seed=seed), Store(tmp_path / "results"))
    assert seeds == [1, 4]


def test_a_run_is_not_resumed_on_other_images(tmp_path: Path):
    def begun(data: str) -> TrainingRun:
        state = training.State.start(networks.build(SPEC, 10, 3), RECIPE)
        return TrainingRun(tmp_path, state, data, Hardware())

    first = begun("abc")
    first.state.step = 8
    first.save()
    again, other = begun("abc"), begun("abd")
    again.resume()
    assert (again.state.step, again.data) == (8, "abc")
    with pytest.raises(
        ValueError, match=f"{first.file} is of a run on other images .abc, now abd.*or delete it"
    ):
        other.resume()


STATES = Path(__file__).parents[1] / "records" / "states"


@pytest.mark.parametrize("spec", [SPEC, ADAMW], ids=["sgd", "adamw"])
def test_a_state_that_an_earlier_version_left_goes_on(spec: Training, tmp_path: Path):
    """The files were written after two epochs, by the version before measurements were typed."""
    file = STATES / f"{spec.recipe.optimizer or 'sgd'}.safetensors"
    saved, notes = load_tensors(file)
    shutil.copy(file, tmp_path / "state.safetensors")
    state = training.State.start(networks.build(spec, 10, 3), spec.recipe)
    run = TrainingRun(tmp_path, state, notes["data"], Hardware(*notes["on"]))
    run.resume()
    assert state.step == 8 and len(run.epochs) == 2
    assert [each.step for each in run.checkpoints] == [0, 1, 2, 5]
    assert run.checkpoints == from_json(notes["checkpoints"], list[Checkpoint])
    tensors = state.tensors()
    assert tensors.keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in tensors.items())
    run.save()
    again, written = load_tensors(tmp_path / "state.safetensors")
    assert json.dumps(written) == json.dumps(notes)
    assert all(torch.equal(value, saved[name]) for name, value in again.items())


def test_a_run_on_other_data_than_the_spec_names_is_refused_before_training(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training_runs, "train", lambda *_, **__: 1 / 0)
    at_hand = tasks.load(SPEC).identity
    spec = dataclasses.replace(SPEC, data_id="0123456789ab")
    message = f"photos must be the images of identity 0123456789ab, got {at_hand}: from photographs"
    with pytest.raises(ValueError, match=message):
        runs.execute(spec, Store(tmp_path / "results"))
    with pytest.raises(ZeroDivisionError):
        runs.execute(dataclasses.replace(SPEC, data_id=at_hand), Store(tmp_path / "results"))


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_a_store_that_cannot_be_written_is_noticed_before_any_work(
    place: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(runs.EXECUTE, Training, lambda *_: 1 / 0)
    monkeypatch.setattr(sweeps, "local", lambda *_: 1 / 0)
    (tmp_path / "file").touch()
    results = Store(tmp_path / place)
    with pytest.raises(PermissionError, match=f"records cannot be written to {results.folder}"):
        runs.execute(SPEC, results)
    with pytest.raises(PermissionError, match=f"records cannot be written to {results.folder}"):
        sweeps.make([SPEC], results, workers=1)


def test_weights_that_cannot_be_written_are_noticed_before_any_work(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(runs.EXECUTE, Training, lambda *_: (measured(1), {}, {}))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "weights").touch()
    results = Store(tmp_path / "results")
    with pytest.raises(PermissionError, match=r"weights cannot be written to .*weights"):
        runs.execute(SPEC, results, weights=True)
    assert SPEC not in results and runs.execute(SPEC, results).measurements == measured(1)


def test_a_cache_that_cannot_be_written_is_named_at_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(runs.EXECUTE, Training, lambda *_: 1 / 0)
    cache.touch()
    with pytest.raises(
        PermissionError, match=rf"DEFORMLIB_CACHE\) cannot be written to {cache} \("
    ):
        runs.execute(SPEC, Store(tmp_path / "results"))


def test_a_record_is_read_from_a_store_that_cannot_be_written(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = Store(tmp_path / "results")
    results.save(Record(SPEC, measured(1), {}))
    monkeypatch.setattr(runs, "check_writable", lambda *_: 1 / 0)
    assert runs.execute(SPEC, results).measurements == measured(1)


def test_a_lock_that_cannot_be_tried_counts_as_held(cache: Path):
    """As another user's, which may be neither read nor written."""
    lock = progress.lock_of(SPEC)
    lock.mkdir(parents=True)
    assert progress.is_running(SPEC)
    (progress.folder_of(SPEC) / "progress.json").mkdir()
    assert progress.progress_of(SPEC) is None


def test_one_seed_gives_all_variants_the_same_filters_and_head():
    first, *others = [
        networks.build(dataclasses.replace(SPEC, downsampling=variant), 10, 3).state_dict()
        for variant in DOWNSAMPLINGS
    ]
    shared = [name for name in first if name.endswith("conv.weight") or name.startswith("head")]
    assert len(shared) == 10
    assert all(torch.equal(other[name], first[name]) for other in others for name in shared)
    another = networks.build(dataclasses.replace(SPEC, seed=5), 10, 3).state_dict()
    assert not torch.equal(another["conv1_1.conv.weight"], first["conv1_1.conv.weight"])


class TestExecute:
    """With a made-up kind of work in place of training."""

    @pytest.fixture
    def executed(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[Training]:
        done: list[Training] = []
        monkeypatch.setitem(
            runs.EXECUTE,
            Training,
            lambda spec, store, folder, progress, on: self.work(done, spec, progress),
        )
        return done

    @staticmethod
    def work(
        done: list[Training], spec: Training, progress: runs.Progress
    ) -> tuple[dict, dict, dict]:
        done.append(spec)
        progress(0.5)
        if spec.seed == 13:
            raise FloatingPointError("training diverged")
        return measured(5), {"data": "abc"}, {"weight": torch.ones(2)}

    def test_once(self, executed: list, tmp_path: Path):
        results, fractions = Store(tmp_path / "results"), []
        record = runs.execute(SPEC, results, progress=fractions.append)
        assert record == results.load(SPEC) == runs.execute(SPEC, results)
        assert executed == [SPEC] and fractions == [0.5]
        assert record.measurements == measured(5) and record.provenance["data"] == "abc"
        assert not results.weights_path(SPEC).exists() and progress.progress_of(SPEC) is None

    def test_a_damaged_record_is_neither_used_nor_overwritten(self, executed: list, tmp_path: Path):
        results = Store(tmp_path / "results")
        path = results.save(Record(SPEC, measured(1), {}))
        path.write_text("damaged")
        with pytest.raises(ValueError, match=path.name):
            runs.execute(SPEC, results)
        assert path.read_text() == "damaged" and not executed

    def test_a_failed_run_leaves_no_record_and_can_be_tried_again(
        self, executed: list, tmp_path: Path
    ):
        results, unlucky = Store(tmp_path / "results"), dataclasses.replace(SPEC, seed=13)
        for attempt in (1, 2):
            with pytest.raises(FloatingPointError):
                runs.execute(unlucky, results)
            assert (
                len(executed) == attempt
                and unlucky not in results
                and not progress.is_running(unlucky)
            )
        assert progress.progress_of(unlucky) == 0.5

    def test_a_sweep_through_any_executor(self, executed: list, tmp_path: Path):
        results = Store(tmp_path / "results")
        with ThreadPoolExecutor(1) as executor:
            futures = sweeps.sweep(
                [SPEC, dataclasses.replace(SPEC, seed=13), OTHER], results, executor, weights=True
            )
        assert list(futures) == [SPEC, dataclasses.replace(SPEC, seed=13), OTHER]
        assert [future.exception() is None for future in futures.values()] == [True, False, True]
        assert SPEC in results and OTHER in results and results.weights_path(OTHER).exists()
        assert all(
            future.result() is None for future in futures.values() if not future.exception()
        ), "records come from the store"

    def test_a_sweep_submits_what_it_is_given_and_no_more(self, executed: list, tmp_path: Path):
        class Fake:
            def __init__(self) -> None:
                self.submitted: list = []

            def submit(self, function, *args) -> Future:
                self.submitted.append(args[0])
                return Future()

        fake = Fake()
        futures = sweeps.sweep([OTHER, SPEC], Store(tmp_path), fake)
        assert list(futures) == fake.submitted == [OTHER, SPEC] and not executed

    def test_the_commit_is_that_of_the_beginning(
        self, executed: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        commits = functools.cache(lambda: "after" if executed else "before")
        for module in (runs, provenance):
            monkeypatch.setattr(module, "commit", commits)
        assert runs.execute(SPEC, Store(tmp_path / "results")).provenance["commit"] == "before"

    def test_of_two_machines_the_slower_one_leaves_record_and_weights_alone(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        results = Store(tmp_path / "results")

        def overtaken(*_: object) -> tuple[dict, dict, dict]:
            results.save_weights(SPEC, {"weight": torch.ones(2)})
            results.save(Record(SPEC, measured(1), {}))
            return measured(2), {}, {"weight": torch.zeros(2)}

        monkeypatch.setitem(runs.EXECUTE, Training, overtaken)
        with pytest.raises(FileExistsError):
            runs.execute(SPEC, results, weights=True)
        assert results.load(SPEC).measurements == measured(1) and load_tensors(
            results.weights_path(SPEC)
        )[0]["weight"].tolist() == [1, 1]

    def test_two_at_once(self, executed: list, cache: Path, tmp_path: Path):
        folder = cache / "runs" / f"{SPEC.slug}-{specs.identity(SPEC)}"
        folder.mkdir(parents=True)
        with FileLock(folder / "lock"), pytest.raises(Timeout):
            runs.execute(SPEC, Store(tmp_path / "results"))
        assert not executed

    def test_two_at_once_of_which_one_waits(self, executed: list, cache: Path, tmp_path: Path):
        folder, results = (
            cache / "runs" / f"{SPEC.slug}-{specs.identity(SPEC)}",
            Store(tmp_path / "results"),
        )
        folder.mkdir(parents=True)
        with ThreadPoolExecutor(1) as executor:
            with FileLock(folder / "lock", thread_local=False):
                waiting = executor.submit(runs.execute, SPEC, results, wait=True)
                with pytest.raises(TimeoutError):
                    waiting.result(timeout=2)  # it would have given up after one
                results.save(Record(SPEC, measured(1), {}))
            assert waiting.result(timeout=60).measurements == measured(1)
        assert not executed


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        os,
        "sched_getaffinity",
        lambda process: {0, 2, 5, 6, 7} if process == 0 else set(),
        raising=False,
    )
    assert hardware.cores() == 5 and [
        hardware.threads_for(workers) for workers in (1, 2, 5, 6)
    ] == [
        5,
        2,
        1,
        1,
    ]


def test_threads_are_shared_out():
    cores = hardware.cores()
    assert (
        hardware.threads_for(1) == cores
        and hardware.threads_for(cores) == 1
        and hardware.threads_for(10 * cores) == 1
    )


def test_cores_are_those_of_the_machine_where_the_system_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS has none
    assert hardware.cores() == os.cpu_count()


def test_progress_is_what_a_run_last_wrote(cache: Path):
    file = cache / "runs" / f"{SPEC.slug}-{specs.identity(SPEC)}" / "progress.json"
    assert progress.progress_of(SPEC) is None
    file.parent.mkdir(parents=True)
    for text, expected in (('{"done":0.25}', 0.25), ("", None), ("{}", None)):
        file.write_text(text)
        assert progress.progress_of(SPEC) == expected


def sleepy_parent(pids) -> None:
    executor = sweeps.local(1)
    pids.put(executor.submit(os.getpid).result())
    executor.submit(time.sleep, 600).result()


def test_workers_end_with_the_process_that_started_them():
    context = multiprocessing.get_context("spawn")
    pids = context.SimpleQueue()
    parent = context.Process(target=sleepy_parent, args=(pids,))
    parent.start()
    worker = pids.get()
    parent.kill()
    parent.join()
    for _ in range(200):
        if not alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker of a killed process went on")


def page_faults(times: int, size: int) -> int:
    """Pages that the system gave while tensors of `size` bytes were made and dropped in turn."""
    torch.ones(size, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(size, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_worker_keeps_the_memory_that_it_frees(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    with sweeps.local(1) as executor:
        assert (
            executor.submit(page_faults, 10, 2**26).result() < 2**14
        )  # pages of 4 KiB: one tensor of the ten


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
