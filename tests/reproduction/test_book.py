"""The chapters run live in quick mode, make a book without a warning, match their references."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from reproduction.pages import book

NAMES = [source.stem for source in book.sources()]
chapter = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of a book in a folder of its own, for the chapters to be executed into."""
    root = tmp_path_factory.mktemp("book")
    shutil.copytree(
        book.BOOK, root / "book", ignore=shutil.ignore_patterns("*.ipynb", "*.py", "results")
    )
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(book.ROOT / name, root)
    return root


def code(notebook: NotebookNode) -> list[str]:
    """The code a notebook's author wrote, cell by cell."""
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", ())
    ]


@chapter
def test_runs_live_in_quick_mode(name: str, folder: Path, quick_store: Path):
    [path] = book.execute("quick", folder / "book", [name])
    for cell in nbformat.read(path, as_version=4).cells:
        kinds = {kind for output in cell.get("outputs", ()) for kind in output.get("data", ())}
        said = "".join(
            output.text for output in cell.get("outputs", ()) if output.output_type == "stream"
        )
        assert not said, f"{cell.source}\nsays: {said}"
        assert cell.cell_type != "code" or cell.execution_count is not None
        assert "figure" not in cell.metadata.get("mystnb", {}) or "image/png" in kinds, (
            f"no figure: {cell.source}"
        )


def test_renders_without_a_warning_or_a_network(folder: Path):
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    build = subprocess.run(
        [jupyter_book, "build", folder, "-W", "--keep-going", "--quiet"],
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    pages = {
        page: page.read_text() for page in (folder / "_build" / "html" / "book").glob("*.html")
    }
    assert {f"{name}.html" for name in NAMES} < {page.name for page in pages}
    for page, text in pages.items():
        assert not re.findall(
            r'(?:<script[^>]*src|<link[^>]*stylesheet[^>]*href|<img[^>]*src)="(?:https?:)?//[^"]*"',
            text,
        ), page


@chapter
def test_reference_is_the_chapter_executed_in_full_mode(name: str):
    path = book.REFERENCES / f"{name}.ipynb"
    assert path.exists(), "make reference"
    reference = nbformat.read(path, as_version=4)
    assert code(reference) == code(book.read(book.BOOK / f"{name}.py")), (
        "the chapter changed: make reference"
    )
    assert reference.metadata.papermill.parameters == {"mode": "full"}
    assert all(cell.execution_count for cell in reference.cells)
    assert any(cell.outputs for cell in reference.cells)


def test_no_reference_without_its_chapter():
    assert [path.stem for path in sorted(book.REFERENCES.glob("*.ipynb"))] == NAMES


def test_executing_twice_gives_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "01_one.py").write_text(
        '# %% tags=["parameters"]\nmode = "full"\nseed = 0\n\n# %%\nmode, seed\n'
    )
    monkeypatch.setattr(book, "BOOK", tmp_path)
    first, second = (
        book.execute("quick", tmp_path / out, parameters={"seed": 3})[0].read_text() for out in "ab"
    )
    assert first == second
    assert "('quick', 3)" in first


@pytest.mark.parametrize("parameters, shown", [({}, False), ({"seed": 3}, True)])
def test_a_page_shows_the_parameters_that_were_set(
    parameters: dict, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "01_one.py").write_text('# %% tags=["parameters"]\nmode = "full"\nseed = 0\n')
    monkeypatch.setattr(book, "BOOK", tmp_path)
    [path] = book.execute("full", tmp_path, parameters=parameters)
    [injected] = [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if "injected-parameters" in cell.metadata.tags
    ]
    assert ("remove-cell" not in injected.metadata.tags) == shown


def test_chapters_of_another_mode_are_lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("01_one", "02_two", "03_three"):
        (tmp_path / f"{name}.py").write_text('# %% tags=["parameters"]\nmode = "full"\n')
    monkeypatch.setattr(book, "BOOK", tmp_path)
    book.execute("full", tmp_path, ["01_one"])
    book.execute("quick", tmp_path, ["02_two"])
    assert book.lacking("full") == ["02_two", "03_three"]
    assert book.lacking("quick") == ["01_one", "03_three"]


def test_two_chapters_that_need_the_same_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They go side by side, and one waits for what the other makes."""
    source = """# %% tags=["parameters"]
mode = "full"

# %%
from reproduction.analysis.evidence import collect
len(collect("initial-smoothness", mode).records)
"""
    for name in ("01_one", "02_two"):
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(book, "BOOK", tmp_path)
    monkeypatch.setenv("DEFORMLIB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    for path in book.execute("quick", tmp_path):
        assert nbformat.read(path, as_version=4).cells[-1].outputs[0].data["text/plain"] == "2"


def test_a_failing_chapter_leaves_the_last_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "01_one.py").write_text('# %% tags=["parameters"]\nmode = "full"\n\n# %%\n1 / 0\n')
    (tmp_path / "01_one.ipynb").write_text("the last good one")
    monkeypatch.setattr(book, "BOOK", tmp_path)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        book.execute("full", tmp_path)
    assert (tmp_path / "01_one.ipynb").read_text() == "the last good one"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("fast",), r"mode must be one of full, quick, got 'fast'"),
        (("full", ["99_nowhere"]), rf"chapters must be among {NAMES[0]}.*, got 99_nowhere"),
        (("full", None, {"sede": 1}), r"of these chapters must be among .*seed.*, got sede"),
        (("full", None, {"mode": "quick"}), r"set by --mode, got the parameter mode=quick"),
    ],
)
def test_bad_input_is_named_with_what_it_may_be(arguments, message: str, tmp_path: Path):
    mode, *rest = arguments
    with pytest.raises(ValueError, match=message):
        book.execute(mode, tmp_path, *rest)
    assert not list(tmp_path.iterdir())


def test_a_chapter_without_parameters_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "01_one.py").write_text("# %%\n1\n")
    monkeypatch.setattr(book, "BOOK", tmp_path)
    with pytest.raises(ValueError, match=r"01_one\.py has no cell tagged parameters"):
        book.execute("full", tmp_path)


def test_requirements_are_those_of_pyproject():
    requirements = runpy.run_path(str(book.ROOT / ".ci" / "requirements.py"))["requirements"]
    assert (book.ROOT / "requirements.txt").read_text() == requirements(
        book.ROOT / "pyproject.toml"
    ), "make requirements"
