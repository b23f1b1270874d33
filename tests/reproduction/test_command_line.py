"""The commands as a user types them: what they print, what they leave, how they fail."""

import dataclasses
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner

import deformlib
from deformlib.__main__ import app, repeat_options
from reproduction.analysis import evidence
from reproduction.experiments import runs, specs, studies, sweeps
from reproduction.experiments import status as progress
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
        {"examples": 50_000},
        {"commit": "abc", "seconds": {"training": seconds - 100, "measuring": 100.0}},
    )


def begin(spec: specs.Spec, fraction: float) -> Path:
    """Leave what a run that has done `share` leaves in the cache; its lock."""
    folder = runs.cache_root() / "runs" / f"{spec.slug}-{specs.identity(spec)}"
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"done": fraction}))
    return folder / "lock"


# help


@pytest.mark.parametrize("command", ["", "status", "run", "book", "deform"])
def test_help_teaches_by_example_without_importing_what_is_slow(command: str):
    code = f"""
import runpy, sys
sys.argv[1:] = {[command, "--help"] if command else []}
try: runpy.run_module("deformlib", run_name="__main__", alter_sys=True)
except SystemExit as end: assert not end.code
print({{"torch", "numpy", "datasets", "matplotlib", "pandas", "papermill", "PIL"}} & {{*sys.modules}})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("set()\n")
    assert not command or f"Example: python -m deformlib {command} " in " ".join(
        result.stdout.split()
    )


def test_help_is_what_no_command_prints():
    assert all(f" {name} " in call() for name in ("status", "run", "book", "deform"))


def test_bad_input_is_one_line_for_the_shell_too():
    result = subprocess.run(
        [sys.executable, "-m", "deformlib", "status", "nope"], capture_output=True, text=True
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
    # Six of 1.5 times as many epochs: 1.5 * 500 + 100 seconds each. A fifth of the images, 20 epochs: 250 + 100 seconds.
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
    rows = [progress.standing(spec, store) for spec in FULL]
    assert progress.price(rows, store) is None, (
        "how many images the set has, this record does not tell"
    )
    assert progress.price([], store) is None
    store.save(record(dataclasses.replace(FULL[0], seed=9), 900))
    assert progress.price(rows, store) == 900


def test_times_are_those_of_this_machine_if_there_are_any(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "name_of", lambda device: {"cpu": "ours"}[device])
    monkeypatch.setattr(runs, "default_device", lambda: "cpu")
    for spec, seconds, device in zip(FULL, (900, 20, 30), ("ours", "fast", "fast")):
        made = record(spec, seconds)
        store.save(dataclasses.replace(made, provenance=made.provenance | {"device": device}))
    rows = [progress.standing(spec, store) for spec in FULL]
    assert progress.price(rows, store) == 900 and progress.price(rows[1:], store) == 25
    monkeypatch.setattr(runs, "name_of", lambda device: {"cpu": "ours", "cuda": "fast"}[device])
    monkeypatch.setattr(runs, "default_device", lambda: "cuda")
    assert progress.price(rows, store) == 25
    untrained = studies.study("imagenet-init").specs("full")[:2]
    for spec, seconds, device in zip(untrained, (60, 10), ("ours", "another")):
        store.save(
            Record(
                spec, {"measured": 1}, {"seconds": {"measuring": float(seconds)}, "device": device}
            )
        )
    assert progress.price([progress.standing(spec, store) for spec in untrained], store) == 60, (
        "these are measured on the CPU"
    )


def test_what_cannot_go_on_is_not_half_done(store: Store):
    spec = studies.study("imagenet-init").specs("full")[0]
    lock = begin(spec, 0.5)
    assert progress.standing(spec, store).state == "missing"
    with FileLock(lock):
        assert progress.standing(spec, store).state == "missing, running 50%"


def test_status_fits_80_columns(store: Store):
    begin(FULL[2], 0.25)
    for args in ([], ["cifar10"], ["cifar10-augmented"]):
        result = CliRunner().invoke(app, ["status", *args], env={"COLUMNS": "80"})
        assert (
            "…" not in result.output
            and max(map(len, result.output.split("Times")[0].splitlines())) <= 80
        )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40.4, "40 s"), (480, "8 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_are_words(seconds: float, words: str):
    assert duration(seconds) == words


# run


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[specs.Spec]:
    """Runs take place in threads and take no time; the specs that were run, those of seed 4 fail."""
    done = []
    monkeypatch.setenv("TQDM_DISABLE", "1")  # set by the runs, here in our own process

    def execute(spec, store, folder, progress, on):
        done.append(spec)
        if spec.seed == 4:
            raise RuntimeError("no luck")
        return {"steps": 1}, {"seconds": {"training": 1.0}}, {"w": torch.ones(2)}

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
        "run", "cifar10", "--seeds", 0, "--seeds", 1, "--variants", "max-pool", "--variants", "strided"
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
    monkeypatch.setattr(runs, "default_device", lambda: "cpu")
    call("run", "cifar10", "--seeds", "0")
    assert given == [dict(device="cpu", precision="bfloat16"), dict(device="cpu", precision=None)]


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
    (["deform", "in.png", "out.png", "--seed", str(2**63)], "'--seed': must be at most 9223372036854775807, got"),
    (["deform", "in.png", "out.png", "--grid", "1"], "'--grid': must be 2 or more, got 1"),
    (["measure", "m:f", "--images", "x", "--batch-size", "0"], "'--batch-size': must be 1 or more, got 0"),
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


@pytest.mark.parametrize(("args", "same"), [
    ("x --seeds 0 1 --workers 2", "x --seeds 0 --seeds 1 --workers 2"),
    ("x --seeds 0 1 --variants a b --seeds 2", "x --seeds 0 --seeds 1 --variants a --variants b --seeds 2"),
    ("x --seeds 0 --seeds 1", "x --seeds 0 --seeds 1"),
    ("--force x --variants a b", "--force x --variants a --variants b"),
    ("--workers 2 x y", "--workers 2 x y"),
    ("--variants a b --workers 2 y", "--variants a --variants b --workers 2 y"),
    ("--seeds", "--seeds"),
])  # fmt: skip
def test_an_option_takes_all_words_up_to_the_next(args: str, same: str):
    assert repeat_options(args.split(), {"--seeds", "--variants"}) == same.split()


@pytest.mark.parametrize(
    "args",
    ["--variants max-pool strided cifar10", "--seeds 0 1 cifar10", "--workers 2 --seeds 0 cifar10"],
)
def test_a_study_after_several_values_is_told_to_come_first(
    args: str, store: Store, executed: list
):
    line = complaint("run", *args.split())
    assert "put STUDY first: --" in line and "--workers" not in line and not executed
    usage = next(line.lower() for line in call("run", "--help").splitlines() if "Usage" in line)
    assert usage.index("study") < usage.index("[options]")


# deform

RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def reference(
    pixels: np.ndarray, grid: int = 5, displacement: float | None = None, seed: int = 0
) -> np.ndarray:
    """Pixels (H, W, C) deformed by the library, in one piece."""
    deformation = deformlib.Deformation(
        grid, 10 / 224 * min(pixels.shape[:2]) if displacement is None else displacement
    )
    images = torch.from_numpy(pixels.astype(np.float64)).permute(2, 0, 1)[None]
    return (
        deformlib.deform(images, deformation, generator=torch.Generator().manual_seed(seed))[0]
        .permute(1, 2, 0)
        .numpy()
    )


def near(path: Path, expected: np.ndarray, off: float = 0.51) -> bool:
    """Whether a file holds the expected values, rounded; float32 coordinates may turn a rounding."""
    found = np.asarray(Image.open(path)).astype(float).reshape(expected.shape)
    return bool(np.abs(found - expected).max() <= off)


@pytest.mark.parametrize(("size", "options"), [
    ((50, 70), {}), ((70, 50), {"seed": 3}), ((2, 9), {"grid": 2}), ((257, 257), {"seed": 385}),
    ((600, 40), {"max-displacement": 0}), ((600, 90), {"grid": 3, "max-displacement": 300.0, "seed": 1}),
])  # fmt: skip
def test_deform_is_the_library_on_a_photograph(
    size: tuple[int, int], options: dict, tmp_path: Path
):
    pixels = noise(*size, 3)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    output = call(
        "deform",
        tmp_path / "in.png",
        tmp_path / "out.png",
        *[w for k, v in options.items() for w in (f"--{k}", v)],
    )
    displacement = options.get("max-displacement")
    assert near(
        tmp_path / "out.png",
        reference(pixels, options.get("grid", 5), displacement, options.get("seed", 0)),
        0.6,
    )
    shown = 10 / 224 * min(size) if displacement is None else displacement
    assert (
        f"{shown:.4g} px" in output
        and f"seed {options.get('seed', 0)}" in output
        and f"{size[1]}x{size[0]}" in output
    )


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "YCbCr", "P", "I;16", "I;16B", "I", "F"])
def test_deform_reads_every_mode(mode: str, tmp_path: Path):
    peak = {"I;16": 65535, "I;16B": 65535, "I": 1 << 30}.get(mode, 255)
    if mode in ("I;16", "I;16B", "I", "F"):
        kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
        photo = Image.frombytes(
            mode, (40, 30), RNG.integers(0, peak, (30, 40)).astype(kind).tobytes()
        )
    else:
        photo = Image.fromarray(noise(30, 40, 3)).convert(mode)
    photo.save(tmp_path / "in.tif")
    photo = Image.open(tmp_path / "in.tif")
    call("deform", tmp_path / "in.tif", tmp_path / "out.tif")
    plain = {"1": "L", "P": "RGB", "YCbCr": "RGB"}.get(
        mode, mode.removesuffix("B") if mode == "I;16B" else mode
    )
    saved = Image.open(tmp_path / "out.tif")
    assert saved.mode == plain and saved.size == photo.size
    source = (
        np.asarray(photo if mode == "I;16B" else photo.convert(plain))
        .astype(float)
        .reshape(30, 40, -1)
    )
    assert near(tmp_path / "out.tif", reference(source), 0.51 if peak < 65535 else 1.0)


def test_deform_keeps_transparency_and_its_colours_do_not_bleed(tmp_path: Path):
    pixels = np.concatenate([noise(40, 50, 3) | 128, 255 * noise(40, 50, 1).clip(0, 1)], 2)
    pixels[:, :25] = 0  # transparent black
    Image.fromarray(pixels).save(tmp_path / "in.png")
    call("deform", tmp_path / "in.png", tmp_path / "out.png")
    out = np.asarray(Image.open(tmp_path / "out.png"))
    assert near(tmp_path / "out.png", np.dstack([out[..., :3], reference(pixels)[..., 3]]))
    assert out[..., :3][out[..., 3] > 0].min() >= 128
    assert "JPEG cannot hold RGBA" in call("deform", tmp_path / "in.png", tmp_path / "out.jpg")
    flat = Image.open(tmp_path / "out.jpg")
    assert flat.mode == "RGB" and np.asarray(flat)[:, :10].min() > 230  # on white


@pytest.mark.parametrize(("mode", "suffix", "saved"), [
    ("LA", ".png", "LA"), ("LA", ".jpg", "L"), ("PA", ".png", "RGBA"), ("I;16", ".jpg", "L"), ("I;16", ".png", "I;16"),
    ("CMYK", ".png", "RGB"), ("CMYK", ".jpg", "CMYK"), ("RGBA", ".webp", "RGBA"), ("RGB", ".JPEG", "RGB"),
])  # fmt: skip
def test_deform_keeps_what_the_format_can_hold(mode: str, suffix: str, saved: str, tmp_path: Path):
    photo = (
        Image.new(mode, (20, 20), 60000)
        if mode == "I;16"
        else Image.fromarray(noise(20, 20, 3)).convert("L" if mode == "LA" else "RGB").convert(mode)
    )
    if mode in ("LA", "RGBA"):
        photo.putalpha(128)
    photo.save(tmp_path / "in.tif")
    call("deform", tmp_path / "in.tif", tmp_path / f"out{suffix}")
    out = Image.open(tmp_path / f"out{suffix}")
    assert out.mode == saved
    assert (mode, saved) != ("I;16", "L") or out.getpixel((5, 5)) == 60000 // 257


def test_deform_turns_a_photograph_upright_and_keeps_its_profile(tmp_path: Path):
    pixels = noise(30, 50, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned
    Image.fromarray(pixels).save(
        tmp_path / "in.png", exif=exif, icc_profile=b"profile", dpi=(300, 300)
    )
    call("deform", tmp_path / "in.png", tmp_path / "out.png")
    out = Image.open(tmp_path / "out.png")
    assert (
        out.size == (30, 50)
        and out.getexif().get(0x0112, 1) == 1
        and out.info["icc_profile"] == b"profile"
    )
    assert near(tmp_path / "out.png", reference(np.rot90(pixels, -1).copy()), 0.6)


def test_deform_overwrites_only_when_told(tmp_path: Path):
    Image.fromarray(noise(20, 20, 3)).save(path := tmp_path / "in.png")
    before = path.read_bytes()
    assert "--force" in complaint("deform", path, path) and path.read_bytes() == before
    call("deform", path, path, "--force")
    assert path.read_bytes() != before and [file.name for file in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize(("image", "out", "words"), [
    ("none.png", "out.png", "there is no file"), ("text.png", "out.png", "text.png is not an image"),
    ("cut.png", "out.png", "cut.png is not an image"), (".", "out.png", "is not an image"),
    ("in.png", "none/out.png", "there is no folder"), ("in.png", "out.xyz", "suffix"), ("in.png", "out", "suffix"),
    ("in.png", "out.psd", "suffix"), ("thin.png", "out.png", "at least 2x2 pixels, got 1x9"), ("float.tif", "out.png", "mode F as PNG"),
])  # fmt: skip
def test_deform_says_in_one_line_what_is_wrong(image: str, out: str, words: str, tmp_path: Path):
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "in.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "in.png").read_bytes()[:300])
    Image.new("L", (1, 9)).save(tmp_path / "thin.png")
    Image.new("F", (9, 9)).save(tmp_path / "float.tif")
    files = {*tmp_path.iterdir()}
    assert words in complaint("deform", tmp_path / image, tmp_path / out)
    assert {*tmp_path.iterdir()} == files


@pytest.mark.parametrize("displacement", ["-1", "nan", "inf"])
def test_deform_refuses_an_impossible_displacement(displacement: str, tmp_path: Path):
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "in.png")
    assert "max_displacement must be a number >= 0 and < 1e30, in pixels" in complaint(
        "deform", tmp_path / "in.png", tmp_path / "out.png", f"--max-displacement={displacement}"
    )
