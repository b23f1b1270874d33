"""The chapters, executed by papermill into the notebooks that Jupyter Book renders.

A chapter is a percent script `book/NN_name.py`. Executed, it is a git-ignored `book/NN_name.ipynb`,
which `jupyter-book build .` renders as it is. Its code cells and what they print in full mode,
images left out, are committed as `tests/references/NN_name.ipynb`; nbval compares against those.

How a chapter is written
------------------------
- It opens with a Markdown cell `# Title`; the file name is listed in `_toc.yml`. No jupytext header
  is needed.
- One cell is tagged: `# %% tags=["parameters"]`, with `mode = "full"` first. Every other parameter
  that papermill may set is assigned in the same cell, with the value of the paper.
- A figure (PNG, never glued) is the last expression of its cell, without a semicolon, which nbval
  does not heed. Whatever drew it with pyplot has closed it (`plt.close`), or it would be shown
  twice. Its cell has no other output: records are collected in a cell before it, where quick mode
  shows its progress. Its caption is the cell's metadata, all on one line:
  `# %% mystnb={"figure": {"name": "fig-3c", "caption": "..."}}`. Prose refers to it by
  `` {numref}`fig-3c` `` or `` {ref}`...` ``, to a paper by `` {cite:p}`ruderman2018` ``
  (`book/references.bib`).
- What is only known when the chapter runs (seeds, epochs) enters a caption or the prose through
  `glue("fig-3c-seeds", 2, display=False)` (from myst_nb) and `` {glue:text}`fig-3c-seeds` ``; keys
  start with the name of their figure, since they are shared by all chapters.
- The data of a figure stand under it as a rounded table, the last expression of its own cell.
- Outputs are the same at every execution: no dates, durations, paths, memory addresses or pandas
  Styler, and nothing on stderr (progress bars are switched off in the kernel; a warning is an error
  in the tests).
- Nothing rests on the current folder: papermill runs a chapter in the repository root, nbval does
  not.
- `tags=["hide-input"]` folds code that does not carry the argument; `remove-cell` hides it.
"""

import ast
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import jupytext
import nbformat
import papermill
from nbformat import NotebookNode
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from deformlib.files import write_whole
from deformlib.validation import check_known
from reproduction.experiments.hardware import threads_for
from reproduction.experiments.store import ROOT
from reproduction.experiments.studies import MODES

BOOK = ROOT / "book"
REFERENCES = ROOT / "tests" / "references"


def sources(names: Sequence[str] | None = None) -> list[Path]:
    """The sources of the chapters of these names ("01_introduction"), or of all, in order."""
    known = {source.stem: source for source in sorted(BOOK.glob("[0-9][0-9]_*.py"))}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"chapters must be among {', '.join(known)}, got {', '.join(unknown)}")
    return [source for name, source in known.items() if names is None or name in names]


def lacking(mode: str) -> list[str]:
    """The chapters that `book/` does not hold as executed in this mode, as its pages need them."""
    return [source.stem for source in sources() if _executed_in(source) != mode]


def _executed_in(source: Path) -> str | None:
    """The mode in which a chapter was executed, if it was."""
    path = source.with_suffix(".ipynb")
    if not path.exists():
        return None
    made = nbformat.read(path, as_version=4).metadata.get("papermill", {})
    return made.get("parameters", {}).get("mode")


def read(source: Path) -> NotebookNode:
    """A chapter's source as a notebook that has not been executed."""
    return jupytext.read(source, fmt="py:percent")


def parameter_names(notebook: NotebookNode) -> set[str]:
    """What papermill may set in a chapter: the names assigned in its cell tagged `parameters`."""
    names = set()
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            nodes = [
                node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)
            ]
            names |= {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    return names


def execute(
    mode: str,
    out: Path,
    chapters: Sequence[str] | None = None,
    parameters: Mapping[str, object] | None = None,
) -> list[Path]:
    """Execute chapters and write each as `out/NN_name.ipynb`, once it has succeeded.

    `parameters` go to the chapters that have them. A chapter that fails raises papermill's error,
    which shows the cell, and leaves the notebook of its last success alone. Two go side by side, in
    quick mode too, where one waits for what the other trains: imports and figures keep one core
    busy.
    """
    check_known("mode", mode, MODES)
    notebooks = {source: read(source) for source in sources(chapters)}
    names = {source: parameter_names(notebook) for source, notebook in notebooks.items()}
    _check_parameters(parameters or {}, names)
    given = {**(parameters or {}), "mode": mode}
    out = Path(out).resolve()

    def chapter(source: Path) -> Path:
        """Execute one and write it."""
        start = time.monotonic()
        chosen = {name: value for name, value in given.items() if name in names[source]}
        executed = _execute(source, notebooks[source], chosen)
        path = write(executed, out / f"{source.stem}.ipynb")
        tqdm.write(f"{source.stem} ({mode} mode): {time.monotonic() - start:.0f} s")
        return path

    workers = min(2, len(notebooks))
    with patch.dict(os.environ, TQDM_DISABLE="1", PYDEVD_DISABLE_FILE_VALIDATION="1"):
        os.environ.setdefault("OMP_NUM_THREADS", str(threads_for(workers)))
        return thread_map(
            chapter, notebooks, max_workers=workers, desc="book", unit="chapter", disable=None
        )


def _check_parameters(given: Mapping[str, object], names: Mapping[Path, set[str]]) -> None:
    """ValueError for a chapter without a mode, for a mode given twice, and for unknown names."""
    for source, of_chapter in names.items():
        if "mode" not in of_chapter:
            raise ValueError(f"{source.name} has no cell tagged parameters that assigns mode")
    if "mode" in given:
        raise ValueError(f"the mode is set by --mode, got the parameter mode={given['mode']}")
    known = set().union(*names.values()) - {"mode"}
    unknown = sorted(given.keys() - known)
    if unknown:
        may_be = f"among {', '.join(sorted(known))}" if known else "left out (there are none)"
        raise ValueError(f"parameters of these chapters must be {may_be}, got {', '.join(unknown)}")


def _execute(
    source: Path, notebook: NotebookNode, parameters: Mapping[str, object]
) -> NotebookNode:
    """The executed chapter, equal at every execution: no random ids, times or local paths."""
    notebook = papermill.execute_notebook(
        notebook,
        None,
        dict(parameters),
        kernel_name="python3",
        language="python",
        cwd=ROOT,
        # A kernel logs at every start that it is on TCP, and the interrupt that ends it. Errors of
        # cells come another way.
        extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        progress_bar={"desc": f"  {source.stem}", "leave": False, "disable": None},
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", ()):
            _hide_what_was_not_set(cell, parameters)
    notebook.metadata.pop("jupytext", None)  # names in no certain order
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    notebook.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.metadata.papermill = {
        "input_path": f"book/{source.name}",
        "parameters": dict(parameters),
    }
    return notebook


def _hide_what_was_not_set(cell: NotebookNode, parameters: Mapping[str, object]) -> None:
    """Keep papermill's cell off the page where it only repeats the chapter's own parameters."""
    if parameters == {"mode": "full"}:
        cell.metadata.tags.append("remove-cell")


def reference(notebook: NotebookNode) -> NotebookNode:
    """What nbval compares of a chapter: its code cells and their outputs, without images."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        for output in cell.outputs:
            for image in ("image/png", "image/jpeg"):  # the two that nbval does not compare
                output.get("data", {}).pop(image, None)
    return NotebookNode({**notebook, "cells": cells})


def write(notebook: NotebookNode, path: Path) -> Path:
    """A notebook that is there is a whole one."""
    write_whole(path, lambda file: nbformat.write(notebook, file))
    return path


def pages_folder(mode: str) -> Path:
    """Where the pages of a mode lie."""
    root = ROOT if mode == "full" else ROOT / "_build" / mode
    return root / "_build" / "html"


def make_pages(mode: str) -> bool:
    """Make the pages of the executed chapters. Whether that went without a warning."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    # --all: a page whose warning failed one build must not slip through the next as unchanged.
    options = ["-W", "--keep-going", "--all", "--quiet"]
    out = pages_folder(mode).parents[1]
    command = [str(jupyter_book), "build", str(ROOT), *options, "--path-output", str(out)]
    return subprocess.run(command).returncode == 0


if __name__ == "__main__":  # the references of all chapters, or of those named
    for executed in execute("full", ROOT / "_build" / "reference", sys.argv[1:] or None):
        write(reference(nbformat.read(executed, as_version=4)), REFERENCES / executed.name)
