"""What is on disk is whole: renamed when written, never overwritten, refused when damaged."""

import dataclasses
import json
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deformlib.files import write_whole
from reproduction.experiments import specs, store
from reproduction.experiments.records import Epoch, TrainingRecord
from reproduction.experiments.specs import Recipe, Training
from reproduction.experiments.store import (
    Record,
    Store,
    check_writable,
    load_tensors,
    read,
    rounded,
    save_tensors,
)

SPEC = Training(
    "photos",
    "strided",
    1,
    Recipe(epochs=6, batch_size=64, learning_rate=0.05),
    "quick-2",
    width=0.25,
)
OTHER = Training(
    "photos",
    "strided",
    2,
    Recipe(epochs=6, batch_size=64, learning_rate=0.05),
    "quick-2",
    width=0.25,
)
MEASURED = TrainingRecord(
    layers=["input"],
    before_relu=[],
    banks=[],
    steps=1,
    examples=64,
    epochs=[Epoch(1 / 3, math.nan), Epoch(2 / 3, -math.inf)],
    checkpoints=[],
)
RECORD = Record(SPEC, MEASURED, {"commit": "abc"})


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_a_record_comes_back_rounded(folder: Store):
    assert SPEC not in folder
    path = folder.save(RECORD)
    assert (
        path == folder.path(SPEC) == folder.folder / f"photos-strided-1-{specs.identity(SPEC)}.json"
    )
    assert SPEC in folder and OTHER not in folder
    found = folder.load(SPEC)
    assert found.spec == SPEC and found.provenance == {"commit": "abc"}
    first, second = found.measurements.epochs
    assert (first.loss, second.loss) == (0.333333, 0.666667)
    assert math.isnan(first.accuracy) and math.isnan(second.accuracy)
    others = dataclasses.replace(found.measurements, epochs=MEASURED.epochs)
    assert others == MEASURED
    values = json.loads(path.read_text())["measurements"]
    assert values["epochs"][0] == {"loss": 0.333333, "accuracy": None}
    assert read(path).measurements.layers == ["input"] and read(path).spec == SPEC
    assert [item.name for item in folder.folder.iterdir()] == [path.name]


def test_a_file_says_what_it_is(folder: Store):
    fields = json.loads(folder.save(RECORD).read_text())
    assert list(fields) == ["id", "spec", "measurements", "provenance"]
    assert fields["id"] == specs.identity(SPEC) and fields["spec"] == specs.to_dict(SPEC)


def test_a_slug_names_the_task():
    random = Training("cifar10", "strided", 2, SPEC.recipe, "protocol-1", task="random-labels")
    assert random.slug == "cifar10-random-labels-strided-2" and SPEC.slug == "photos-strided-1"


@pytest.mark.parametrize(
    "value, expected",
    [
        (123456789.0, 123457000.0),
        (0.0001234565, 0.000123457),
        (-1.0000004, -1.0),
        (1e-30, 1e-30),
        (0.0, 0.0),
        (math.nan, None),
        (math.inf, None),
        (1234567, 1234567),
        (True, True),
        (None, None),
        ("0.123456789", "0.123456789"),
        (np.float64(2 / 3), 0.666667),
        ((1 / 3, [1 / 3]), [0.333333, [0.333333]]),
        ({"a": {"b": 1 / 3}}, {"a": {"b": 0.333333}}),
    ],
)
def test_six_significant_digits(value, expected):
    found = rounded(value)
    assert found == expected and type(found) is type(expected)


def test_a_record_is_never_overwritten(folder: Store):
    path = folder.save(RECORD)
    for text in (path.read_text(), "damaged"):
        path.write_text(text)
        with pytest.raises(FileExistsError, match=path.name):
            folder.save(RECORD)
        assert path.read_text() == text


def test_no_record_is_another_error_than_a_damaged_one(folder: Store):
    with pytest.raises(FileNotFoundError, match=folder.path(SPEC).name):
        folder.load(SPEC)


def test_a_damaged_record_names_its_file(folder: Store):
    path = folder.save(RECORD)
    whole = path.read_text()
    fields = json.loads(whole)
    damaged = [whole[:cut] for cut in (0, 1, len(whole) // 2, len(whole) - 2)]
    damaged += [
        "null",
        "[]",
        '"text"',
        "\x00",
        whole.replace('"strided"', '"stride"'),
        whole.replace(fields["id"], "0" * 12),
    ]
    damaged += [
        json.dumps({name: value for name, value in fields.items() if name != left_out})
        for left_out in fields
    ]
    damaged += [json.dumps({**fields, "measurements": nothing}) for nothing in (None, {}, [])]
    damaged += [
        json.dumps({**fields, "spec": spec})
        for spec in (None, 5, [], {}, "text", {**fields["spec"], "more": 1})
    ]
    for text in damaged:
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{path} is not a whole record .*delete it"):
            folder.load(SPEC)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=f"{path} is not a whole record"):
        read(path)


def test_a_record_of_another_spec_is_refused(folder: Store):
    folder.save(Record(OTHER, RECORD.measurements, {})).rename(folder.path(SPEC))
    with pytest.raises(ValueError, match=f"{folder.path(SPEC)}.*another"):
        folder.load(SPEC)
    assert read(folder.path(SPEC)).spec == OTHER


def test_what_is_not_json_leaves_no_file(folder: Store):
    with pytest.raises(TypeError):
        folder.save(Record(SPEC, MEASURED, {"values": torch.ones(2)}))
    with pytest.raises(ValueError):
        folder.save(Record(SPEC, MEASURED, {"seconds": math.nan}))
    assert not folder.folder.exists() or not list(folder.folder.iterdir())


class TestWriteWhole:
    def test_the_file_appears_when_it_is_on_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path, events = tmp_path / "deep" / "file", []

        def fsync(descriptor: int) -> None:
            assert os.pread(descriptor, 10, 0) == b"new" and not path.exists()
            events.append("fsync")

        monkeypatch.setattr(os, "fsync", fsync)
        write_whole(path, lambda draft: draft.write_text("new"))
        assert path.read_text() == "new" and events == ["fsync"]
        assert list(path.parent.iterdir()) == [path]

    def test_a_writer_that_fails_leaves_the_old(self, tmp_path: Path):
        path = tmp_path / "file"
        path.write_text("old")

        def fail(draft: Path) -> None:
            draft.write_text("half")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            write_whole(path, fail)
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("old", [None, "old"])
    def test_a_writer_killed_midway_leaves_the_old(self, old: str | None, tmp_path: Path):
        path = tmp_path / "file"
        if old:
            path.write_text(old)

        def half_of_it(draft: Path) -> None:
            draft.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

        if (child := os.fork()) == 0:
            write_whole(path, half_of_it)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert path.read_text() == old if old else not path.exists()
        write_whole(path, lambda draft: draft.write_text("new"))
        assert path.read_text() == "new"
        [draft] = {*tmp_path.iterdir()} - {path}  # young: for all we know its writer is alive
        hour_ago = time.time() - 3601
        os.utime(draft, (hour_ago, hour_ago))
        write_whole(tmp_path / "other", lambda draft: draft.write_text("other"))
        assert {*tmp_path.iterdir()} == {path, tmp_path / "other"}

    def test_what_is_no_draft_stays_however_old(self, tmp_path: Path):
        others = {
            tmp_path / name
            for name in (
                ".file.bak",
                ".gitignore",
                "file",
                f"file.{'0' * 32}",
                f".file.{'g' * 32}",
                f".file.{'0' * 31}",
            )
        }
        for file in others:
            file.touch()
            os.utime(file, (0, 0))
        write_whole(tmp_path / "file", lambda draft: draft.write_text("new"))
        assert {*tmp_path.iterdir()} == others

    def test_a_reader_has_the_old_or_the_new(self, tmp_path: Path):
        path = tmp_path / "file"
        path.write_text("old and long")
        with path.open() as reading:
            write_whole(path, lambda draft: draft.write_text("new"))
            assert reading.read() == "old and long" and path.read_text() == "new"

    def test_two_writers_do_not_share_a_draft(self, tmp_path: Path):
        path, drafts = tmp_path / "file", []

        def write(draft: Path) -> None:
            drafts.append(draft)
            draft.write_text(str(len(drafts)))
            if len(drafts) == 1:
                write_whole(path, write)

        write_whole(path, write)
        assert (
            len(set(drafts)) == 2 and path.read_text() == "1" and list(tmp_path.iterdir()) == [path]
        )


TENSORS = {
    "channels last": torch.rand(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(torch.rand(3)),
    "count": torch.tensor(7),
    "half": torch.rand(3).bfloat16(),
}
NOTES = {"step": 3, "epochs": [{"loss": 0.1 + 0.2, "nothing": math.nan}]}


def test_tensors_come_back_to_the_bit_with_their_notes(tmp_path: Path):
    save_tensors(tmp_path / "a" / "state.safetensors", TENSORS, NOTES)
    found, notes = load_tensors(tmp_path / "a" / "state.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(
        torch.equal(found[name], value) and found[name].dtype == value.dtype
        for name, value in TENSORS.items()
    )
    assert (
        notes["step"] == 3
        and notes["epochs"][0]["loss"] == 0.1 + 0.2
        and math.isnan(notes["epochs"][0]["nothing"])
    )


def test_damaged_tensors_name_their_file(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(FileNotFoundError):
        load_tensors(path)
    save_tensors(path, TENSORS, NOTES)
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[: len(whole) // 2], whole[:-1], b"\x00" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{path} is damaged .*delete it"):
            load_tensors(path)


def test_final_weights_are_kept_in_half_the_bytes(folder: Store):
    folder.save_weights(SPEC, {"weight": torch.rand(5), "count": torch.tensor(7)})
    path = folder.weights_path(SPEC)
    assert (
        path == folder.folder / "weights" / f"photos-strided-1-{specs.identity(SPEC)}.safetensors"
    )
    found, _ = load_tensors(path)
    assert (
        found["weight"].dtype == torch.bfloat16
        and found["count"].dtype == torch.int64
        and found["count"] == 7
    )
    assert SPEC not in folder, "weights are no record"


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFORMLIB_CACHE", "~/elsewhere")
    assert store.cache_root() == Path.home() / "elsewhere"
    monkeypatch.setenv("DEFORMLIB_CACHE", "")
    assert store.cache_root() == Path.home() / ".cache" / "deformlib"
    assert Path(__file__).parents[2] / "book" / "results" == store.RESULTS


def test_a_variant_with_a_slash_in_its_name_has_its_record_in_the_folder(folder: Store):
    spec = dataclasses.replace(SPEC, downsampling="lp[/2]")
    path = folder.save(Record(spec, MEASURED, {}))
    assert path.parent == folder.folder and folder.load(spec).spec == spec


@pytest.mark.parametrize("place", ["/proc", "file", "file/inside"])
def test_a_folder_that_cannot_be_written_to_is_named(place: str, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match=f"records cannot be written to .*{place} \\(.+\\)"):
        check_writable(tmp_path / place, "records")


def test_a_folder_that_can_be_written_to_is_left_empty(tmp_path: Path):
    check_writable(tmp_path / "deep" / "folder", "records")
    assert not list((tmp_path / "deep" / "folder").iterdir())
