"""`python -m reproduction book`: what it executes, what it builds, how it fails."""

import subprocess
from pathlib import Path

import pytest
from papermill.exceptions import PapermillExecutionError
from typer.testing import CliRunner

from reproduction.__main__ import app
from reproduction.pages import book

NAMES = [source.stem for source in book.sources()]
ONE, TWO = NAMES[:2]


def call(*args: object, code: int = 0) -> str:
    """What the command prints, stdout and stderr."""
    words = ["book", *map(str, args)]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    assert result.exit_code == code, result.output
    return result.output


def complaint(*args: object) -> str:
    """The one line about bad input."""
    [line] = call(*args, code=2).splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The arguments of what would be executed. All chapters lie there already, in both modes."""
    calls: list[tuple] = []
    monkeypatch.setattr(book, "execute", lambda *args: calls.append(args))
    monkeypatch.setattr(book, "lacking", lambda mode: [])
    return calls


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would build pages."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> subprocess.CompletedProcess:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(book.subprocess, "run", run)
    return commands


def test_all_chapters_are_executed_and_their_pages_made(executed: list, built: list):
    output = call()
    assert executed == [("full", book.BOOK, NAMES, {})]
    options = ["-W", "--keep-going", "--all", "--quiet", "--path-output", str(book.ROOT)]
    assert [command[1:] for command in built] == [["build", str(book.ROOT), *options]]
    assert f"Open {book.ROOT / '_build' / 'html' / 'index.html'}" in output
    assert "_build/quick/_build/html/index.html" in call("--mode", "quick")


def test_chapters_and_parameters_are_passed_on(executed: list, built: list, tmp_path: Path):
    parameters = ["-p", "seed=1", "-p", "variants=[1, 2]", "-p", "name=a=b"]
    call("--mode", "quick", "--chapter", ONE, TWO, "--out", tmp_path, *parameters)
    given = {"seed": 1, "variants": [1, 2], "name": "a=b"}
    assert executed == [("quick", tmp_path, [ONE, TWO], given)]
    call("--no-html")
    assert len(executed) == 2 and not built


def test_what_the_pages_need_is_executed_in_the_same_mode(
    executed: list, built: list, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(book, "lacking", {"full": [ONE, TWO], "quick": []}.get)
    assert f"in full mode: {TWO}" in call("--chapter", ONE)
    call("--chapter", ONE, "--mode", "quick")
    call("--chapter", ONE, "--no-html")
    assert [chapters for _, _, chapters, _ in executed] == [[ONE, TWO], [ONE], [ONE]]


def test_pages_that_were_not_made_are_an_error(executed: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(book, "make_pages", lambda mode: False)
    assert "The pages were not made." in call(code=1)


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "jupyter_book" else name
    )
    assert "jupyter_book not installed: pip install" in complaint()


def test_the_cell_that_failed_is_shown(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object) -> None:
        traceback = ["the cell and its error"]
        raise PapermillExecutionError(0, 1, "1 / 0", "ZeroDivisionError", "by zero", traceback)

    monkeypatch.setattr(book, "execute", fail)
    assert "the cell and its error" in call("--no-html", code=1)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--chapter", "99_nope"], [ONE, "got 99_nope"]),
        (["-p", "seed"], ["NAME=VALUE", "'seed'"]),
        (["-p", "nope=1"], ["among controls, images, seed, variant", "got nope"]),
        (["-p", "mode=quick"], ["--mode", "got the parameter mode=quick"]),
        (["-p", "mode=full"], ["--mode", "got the parameter mode=full"]),
        (["-p", "seed=1", "-p", "seed=2"], ["-p seed must be given once, got 1 and 2"]),
        (["--chapter", "08_costs", "-p", "seed=1"], ["there are none", "got seed"]),
    ],
)
def test_bad_input_is_one_line_that_says_what_it_may_be(
    args: list[str], words: list[str], tmp_path: Path
):
    line = complaint(*args, "--out", tmp_path)
    assert all(word in line for word in words), line
    assert not [*tmp_path.iterdir()]
