"""The commands as a user types them: what they print, what they leave, how they fail."""

import dataclasses
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner

from deformlib.models import DOWNSAMPLINGS
from reproduction.__main__ import app
from reproduction.analysis import evidence
from reproduction.experiments import hardware, runs, specs, status, studies, sweeps
from reproduction.experiments.progress import folder_of, lock_of
from reproduction.experiments.records import InitializationRecord, TrainingRecord
from reproduction.experiments.status import duration
from reproduction.experiments.store import Record, Store

FULL = studies.study("cifar10").specs("full")


def call(*args: object, code: int = 0) -> str:
    """What a command prints, stdout and stderr; one line where it is the input that is bad."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "120"})
    assert result.exit_code == code, result.output
    return result.output


def complaint(*args: object) -> str:
    """The one line about bad input."""
    [line] = call(*args, code=2).splitlines()
    return line


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Full mode's records, none yet, and the cache of runs in progress."""
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "results")
    return Store(tmp_path / "results")


def record(spec: specs.Spec, seconds: float = 500) -> Record:
    return Record(
        spec,
        TrainingRecord([], [], [], 1, 50_000, [], []),
        {"commit": "abc", "seconds": {"training": seconds - 100, "measuring": 100.0}},
    )


def begin(spec: specs.Spec, fraction: float) -> Path:
    """Leave what a run that has done `fraction` leaves in the cache; its lock."""
    folder_of(spec).mkdir(parents=True)
    (folder_of(spec) / "progress.json").write_text(json.dumps({"done": fraction}))
    return lock_of(spec)


# help


@pytest.mark.parametrize("command", ["", "status", "run", "book"])
def test_help_teaches_by_example_without_importing_what_is_slow(command: str):
    code = f"""
import runpy, sys
sys.argv[1:] = {[command, "--help"] if command else []}
try: runpy.run_module("reproduction", run_name="__main__", alter_sys=True)
except SystemExit as end: assert not end.code
slow = {{"torch", "numpy", "datasets", "matplotlib", "pandas", "papermill", "PIL"}}
print(slow & {{*sys.modules}})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("set()\n")
    assert not command or f"Example: python -m reproduction {command} " in " ".join(
        result.stdout.split()
    )


def test_help_is_what_no_command_prints():
    assert all(f" {name} " in call() for name in ("status", "run", "book"))


def test_bad_input_is_one_line_for_the_shell_too():
    result = subprocess.run(
        [sys.executable, "-m", "reproduction", "status", "nope"], capture_output=True, text=True
    )
    assert result.returncode == 2 and not result.stdout and len(result.stderr.splitlines()) == 1


# status


def test_status_tells_made_damaged_running_stopped_and_missing_apart(store: Store):
    store.save(record(FULL[0]))
    store.path(FULL[1]).write_text('{"id": "')
    with FileLock(begin(FULL[2], 0.25)):
        begin(FULL[3], 0.5)
        output = call("status", "cifar10")
    lines = {
        line.split()[0]: " ".join(line.split()[1:]) for line in output.splitlines() if line.strip()
    }
    assert lines[FULL[0].slug] == f"{specs.identity(FULL[0])} made at abc 8 min"
    assert lines[FULL[1].slug].endswith("damaged -")
    assert lines[FULL[2].slug].endswith("missing, running 25% 6 min")
    assert lines[FULL[3].slug].endswith("missing, stopped at 50% 4 min")
    assert lines[FULL[4].slug].endswith("missing 8 min")
    assert (
        "1 of 28 made, 1 damaged, 26 missing (1 running); the missing would take: 3 h 30 min"
        in output
    )
    assert f"Damaged: {store.path(FULL[1])} is not a whole record" in output


def test_status_of_all_studies_counts_and_borrows_times_from_the_same_data(store: Store):
    assert call("status").count("unknown") == len(studies.STUDIES)
    for spec, seconds in zip(FULL[:3], (300, 600, 3000), strict=True):
        store.save(record(spec, seconds))
    lines = [line for line in call("status").splitlines() if "missing" in line]
    assert "3 of 28 made, 25 missing" in lines[1] and lines[1].split()[-4:] == [
        "4",
        "h",
        "10",
        "min",
    ]
    # Six of 1.5 times as many epochs: 1.5 * 500 + 100 seconds each. A fifth of the images, 20
    # epochs: 250 + 100 seconds.
    assert "0 of 6 made, 6 missing" in lines[2] and lines[2].split()[-4:] == ["1", "h", "25", "min"]
    assert "0 of 28 made, 28 missing" in lines[4] and lines[4].split()[-4:] == [
        "2",
        "h",
        "43",
        "min",
    ]


def test_status_of_quick_mode_has_other_runs_in_another_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_STORE", str(tmp_path / "quick"))
    quick = studies.study("cifar10").specs("quick")
    Store(tmp_path / "quick").save(record(quick[0], 60))
    output = call("status", "cifar10", "--mode", "quick")
    missing = len(quick) - 1
    assert (
        "photos-" in output
        and f"1 of {len(quick)} made, {missing} missing; the missing would take: {missing} min"
        in output
    )
    assert "0 of 28 made" in call("status", "cifar10")


def test_a_whole_set_is_not_priced_by_its_parts(store: Store):
    few = studies.study("cifar10-subset").specs("full")[0]
    store.save(record(few))
    rows = [status.standing(spec, store) for spec in FULL]
    assert status.price(rows, store) is None, (
        "how many images the set has, this record does not tell"
    )
    assert status.price([], store) is None
    store.save(record(dataclasses.replace(FULL[0], seed=9), 900))
    assert status.price(rows, store) == 900


def test_times_are_those_of_this_machine_if_there_are_any(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(status, "name_of", lambda device: {"cpu": "ours"}[device])
    monkeypatch.setattr(status, "default_device", lambda: "cpu")
    for spec, seconds, device in zip(FULL, (900, 20, 30), ("ours", "fast", "fast")):
        made = record(spec, seconds)
        store.save(dataclasses.replace(made, provenance=made.provenance | {"device": device}))
    rows = [status.standing(spec, store) for spec in FULL]
    assert status.price(rows, store) == 900 and status.price(rows[1:], store) == 25
    monkeypatch.setattr(status, "name_of", lambda device: {"cpu": "ours", "cuda": "fast"}[device])
    monkeypatch.setattr(status, "default_device", lambda: "cuda")
    assert status.price(rows, store) == 25
    untrained = studies.study("imagenet-init").specs("full")[:2]
    for spec, seconds, device in zip(untrained, (60, 10), ("ours", "another")):
        store.save(
            Record(
                spec,
                InitializationRecord([], [], 1, []),
                {"seconds": {"measuring": float(seconds)}, "device": device},
            )
        )
    assert status.price([status.standing(spec, store) for spec in untrained], store) == 60, (
        "these are measured on the CPU"
    )


def test_what_cannot_go_on_is_not_half_done(store: Store):
    spec = studies.study("imagenet-init").specs("full")[0]
    lock = begin(spec, 0.5)
    assert status.standing(spec, store).state == "missing"
    with FileLock(lock):
        assert status.standing(spec, store).state == "missing, running 50%"


def test_status_fits_80_columns(store: Store):
    begin(FULL[2], 0.25)
    for args in ([], ["cifar10"], ["cifar10-augmented"]):
        result = CliRunner().invoke(app, ["status", *args], env={"COLUMNS": "80"})
        assert (
            "…" not in result.output
            and max(map(len, result.output.split("Times")[0].splitlines())) <= 80
        )


def test_a_lock_that_cannot_be_tried_is_a_run_in_progress(store: Store):
    """As another user's, which may be neither read nor written; here it is a folder."""
    begin(FULL[0], 0.5).mkdir()
    output = call("status", "cifar10")
    assert "missing, running 50%" in output and "27 missing" not in output
    assert "0 of 28 made, 28 missing (1 running)" in output


def test_a_record_that_cannot_be_read_is_shown_as_damaged(store: Store):
    store.path(FULL[0]).mkdir(parents=True)
    output = call("status", "cifar10")
    assert "1 damaged" in output and f"Is a directory: '{store.path(FULL[0])}'" in output
    assert "1 damaged" in call("status")


@pytest.mark.parametrize("name", ["lp[/2]", "[red]layer", "[bold]x[/bold]", "[/]"])
def test_foreign_names_are_no_markup(
    name: str, store: Store, executed: list, monkeypatch: pytest.MonkeyPatch
):
    """A study of the reader's own, with a layer and a purpose that look like rich's markup."""
    monkeypatch.setitem(DOWNSAMPLINGS, name, DOWNSAMPLINGS["max-pool"])
    made = [dataclasses.replace(FULL[0], downsampling=name, seed=seed) for seed in (3, 4)]
    made = [dataclasses.replace(spec, data="photos") for spec in made]
    own = studies.Study(f"what {name} does", lambda mode, seed: made, {"full": (0,)})
    monkeypatch.setitem(studies.STUDIES, f"own {name}", own)
    monkeypatch.delenv("TQDM_DISABLE")  # with bars
    output = call("run", f"own {name}", code=1)
    assert f"photos-{name}-4 failed: RuntimeError: no luck {name}" in output
    assert f"made photos-{name.replace('/', '-')}-3-" in output
    output = call("status", f"own {name}")
    assert f"photos-{name}-3 " in output and f"photos-{name}-4 " in output
    output = call("status")
    assert f"own {name} " in output and f"what {name} does" in output


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40.4, "40 s"), (480, "8 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_are_words(seconds: float, words: str):
    assert duration(seconds) == words


# run


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[specs.Spec]:
    """The specs that were run: in threads, in no time, and those of seed 4 failed."""
    done = []
    monkeypatch.setenv("TQDM_DISABLE", "1")  # set by the runs, here in our own process

    def execute(spec, store, folder, progress, on):
        done.append(spec)
        if spec.seed == 4:
            raise RuntimeError(f"no luck {spec.downsampling}")
        return record(spec).measurements, {"seconds": {"training": 1.0}}, {"w": torch.ones(2)}

    monkeypatch.setitem(runs.EXECUTE, specs.Training, execute)
    monkeypatch.setattr(sweeps, "local", ThreadPoolExecutor)
    monkeypatch.setattr(sweeps, "threads_for", lambda workers: None)
    monkeypatch.setattr(sweeps.time, "sleep", lambda seconds: None)
    return done


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data" / "cifar10"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}-0.parquet").touch()
    monkeypatch.setenv("DEFORMLIB_DATA", str(tmp_path / "data"))
    return folder


def test_run_makes_what_is_missing_and_nothing_twice(store: Store, executed: list, data: Path):
    store.save(record(FULL[1]))
    output = call(
        "run", "cifar10", "--seeds", 0, 1, "--variants", "max-pool", "strided", "--workers", 2
    )
    wanted = [
        spec
        for spec in FULL
        if spec.seed in (0, 1) and spec.downsampling in ("max-pool", "strided")
    ]
    assert set(executed) == set(wanted) - {FULL[1]} and all(spec in store for spec in wanted)
    assert (
        "1 of 4 made, 3 missing; 3 to make now" in output and f"cifar10 comes from {data}" in output
    )
    assert {line for line in output.splitlines() if line.startswith("made")} == {
        f"made {store.path(spec).name}" for spec in wanted if spec != FULL[1]
    }
    assert store.weights_path(wanted[1]).exists()  # the study keeps those of seeds 0 and 1
    executed.clear()
    assert "0 to make now" in call(
        "run",
        "cifar10",
        "--seeds",
        0,
        "--seeds",
        1,
        "--variants",
        "max-pool",
        "--variants",
        "strided",
    )
    assert not executed


def test_run_fails_if_a_run_fails_and_makes_the_others(store: Store, executed: list, data: Path):
    output = call("run", "cifar10", "--seeds", 3, 4, "--variants", "max-pool", code=1)
    assert "cifar10-max-pool-4 failed" in output and "made cifar10-max-pool-3-" in output
    assert "made cifar10-max-pool-4" not in output


def test_run_leaves_alone_what_another_process_runs_and_what_is_damaged(
    store: Store, executed: list, data: Path
):
    store.folder.mkdir()
    store.path(FULL[0]).write_text("{")
    with FileLock(begin(FULL[1], 0.1)):
        output = call("run", "cifar10", "--seeds", 0, code=1)
    assert (
        set(executed) == set(FULL[2:6])
        and "1 damaged, 5 missing (1 running); 4 to make now" in output
    )
    assert f"Damaged: {store.path(FULL[0])}" in output and store.path(FULL[0]).read_text() == "{"


def test_run_in_quick_mode_needs_no_data(
    store: Store, executed: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_STORE", str(tmp_path / "quick"))
    monkeypatch.delenv("DEFORMLIB_DATA", raising=False)
    output = call("run", "cifar10", "--mode", "quick", "--seeds", 0)
    assert "photos comes from photographs inside scikit-image" in output and len(executed) == 5
    assert len(list((tmp_path / "quick").glob("photos-*.json"))) == 5


@pytest.mark.parametrize("variable", ["DEFORMLIB_STORE", "DEFORMLIB_CACHE"])
def test_run_where_nothing_can_be_written_says_so_before_any_process(
    variable: str, store: Store, executed: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_STORE", str(tmp_path / "quick"))
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    (tmp_path / "file").touch()
    *_, line = call("run", "cifar10", "--mode", "quick", code=2).splitlines()
    assert f"cannot be written to {tmp_path / 'file'}" in line and not executed
    assert (variable == "DEFORMLIB_CACHE") == ("DEFORMLIB_CACHE" in line)


def test_run_without_data_says_so_before_any_process(
    store: Store, executed: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_DATA", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *args, **named: 1 / 0)
    *_, line = call("run", "cifar10", code=2).splitlines()
    assert (
        str(tmp_path / "cifar10") in line and "DEFORMLIB_DATA" in line and "uoft-cs/cifar10" in line
    )
    assert not executed


@pytest.mark.parametrize(
    "options, message",
    [
        (["--device", "tpu"], "device must be cpu.*got 'tpu'"),
        (
            ["--device", "cpu", "--precision", "half"],
            "precision must be one of float32, bfloat16, got 'half'",
        ),
        (
            ["--device", "cpu", "--precision", "tensorfloat32"],
            "precision must be one of float32, bfloat16, got 'tensorfloat32'",
        ),
    ],
)
def test_run_on_what_is_not_there_says_so_before_any_work(
    options: list[str], message: str, store: Store, executed: list, data: Path
):
    assert re.search(message, call("run", "cifar10", *options, code=2)) and not executed


def test_run_trains_where_and_how_it_was_asked_to(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
):
    given = []
    monkeypatch.setattr(sweeps, "make", lambda *_, **how: given.append(how) or [])
    call("run", "cifar10", "--seeds", "0", "--device", "cpu", "--precision", "bfloat16")
    monkeypatch.setattr(hardware, "default_device", lambda: "cpu")
    call("run", "cifar10", "--seeds", "0")
    assert given == [
        {"device": "cpu", "precision": "bfloat16"},
        {"device": "cpu", "precision": None},
    ]


def test_run_stopped_by_the_user_says_how_to_go_on(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*args, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "make", stop)
    assert "the same command goes on" in call("run", "cifar10", code=130)


@pytest.mark.parametrize(("args", "words"), [
    (["run", "cifar10", "--seeds", "3", "--seeds", "-1"], "'--seeds': must be 0 or more, got -1"),
    (["run", "cifar10", "--workers", "0"], "'--workers': must be 1 or more, got 0"),
])  # fmt: skip
def test_a_number_out_of_range_is_named_with_its_option(args: list[str], words: str):
    assert words in call(*args, code=2)


@pytest.mark.parametrize(("args", "words"), [
    (["status", "nope"], ["cifar10, cifar10-augmented", "'nope'"]),
    (["run", "nope"], ["cifar10, cifar10-augmented", "'nope'"]),
    (["run", "cifar10", "--variants", "max-pool", "nope"], ["average-pool", "got nope"]),
    (["run", "cifar10-augmented", "--variants", "strided"], ["strided-relu", "got strided"]),
    (["run", "mnist-templates", "--variants", "1.0", "4", "5"], ["among 1, 2, 3, 4, got 5"]),
])  # fmt: skip
def test_bad_input_is_one_line_that_lists_what_is_known(
    args: list[str], words: list[str], store: Store
):
    line = complaint(*args)
    assert line.startswith("Error: ") and all(word in line for word in words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--variants max-pool strided cifar10", "Missing argument"),
        ("--seeds 0 1 cifar10", "'--seeds': "),
        ("--workers 2 --seeds 0 cifar10", "'--seeds': "),
    ],
)
def test_a_study_after_several_values_is_told_to_come_first(
    args: str, words: str, store: Store, executed: list
):
    output = call("run", *args.split(), code=2)
    usage = next(line.lower() for line in output.splitlines() if "usage" in line.lower())
    assert words in output and usage.index("study") < usage.index("[options]") and not executed
