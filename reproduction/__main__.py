"""`python -m reproduction`: what was computed and what is missing, make it, execute the book, deform a photograph.

Whatever is slow to import (PyTorch above all) is imported inside the command that needs it: `--help` is quick.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from deformlib.command_line import Command, Group, at_least


class Mode(StrEnum):
    """`studies.MODES`, which cannot be imported without PyTorch."""

    full = "full"
    quick = "quick"


app = typer.Typer(
    cls=Group, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)
ModeOption = Annotated[
    Mode, typer.Option(help="full: the paper; quick: small networks on a few photographs.")
]


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Learned deformation stability: what was computed, what is missing, make it, make the book.

    `python -m reproduction COMMAND --help` says more about a command.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=Command)
def status(
    study: Annotated[
        str | None, typer.Argument(help="Only this study, run by run.", show_default="all")
    ] = None,
    mode: ModeOption = Mode.full,
) -> None:
    """What exists, what is missing, and what the missing would cost.

    A study is a list of runs, each a network trained and measured; a run that is finished has left a record.
    Without STUDY one line for each study, with STUDY one for each of its runs.

    Example: `python -m reproduction status cifar10`
    """
    from reproduction.analysis import evidence
    from reproduction.experiments import specs, studies
    from reproduction.experiments.status import cost, duration, price, seconds_of, standing, summary

    store = evidence.store_for(mode)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("run", "id", "state", "time") if study else ("study", "records", "missing takes"):
        table.add_column(
            title,
            no_wrap=title != "records",
            justify="right" if title in ("time", "missing takes") else "left",
        )
    problems = {}
    for name, entry in ({study: studies.study(study)} if study else studies.STUDIES).items():
        rows = [standing(spec, store) for spec in entry.specs(mode)]
        each = price(rows, store)
        problems |= {row.problem: None for row in rows if row.problem}
        if not study:
            table.add_row(name, f"{summary(rows)}\n[dim]{entry.purpose}[/dim]", cost(rows, each))
        for row in rows if study else ():
            time = duration(seconds_of(row.record)) if row.record else cost([row], each)
            table.add_row(row.spec.slug, specs.identity(row.spec), row.state, time)
    Console().print(table)
    if study:
        typer.echo(f"{summary(rows)}; the missing would take: {cost(rows, each)}")
    typer.echo(
        "Times are for one worker on the machine that made the records; those of what is missing, the median of these, "
        "of those made on a machine like this one if there are any."
    )
    for problem in problems:
        typer.echo(f"Damaged: {problem}")


@app.command(cls=Command)
def run(
    study: Annotated[
        str, typer.Argument(help="Its name; `status` lists them. Or your own: FILE.py:STUDY.")
    ],
    seeds: Annotated[
        list[int] | None,
        typer.Option(help="One or more.", show_default="those of the study", callback=at_least(0)),
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            help="One or more: downsampling layers, or what else the study varies.",
            show_default="all",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes.", show_default="one per core", callback=at_least(1)),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Train on it: cpu or cuda.", show_default="cuda where there is one"),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Train in float32, tensorfloat32 (on a GPU) or bfloat16.",
            show_default="tensorfloat32 on a GPU, bfloat16 on a CPU that has it, else float32",
        ),
    ] = None,
    mode: ModeOption = Mode.full,
) -> None:
    """Make the missing records of a study.

    What exists stays as it is. An interrupted run goes on from its last epoch, so this may be stopped (Ctrl-C) and
    started again at any time. Data are read from `$DEFORMLIB_DATA`, otherwise from the Hugging Face hub. The
    processes share a GPU; ten took 20 to 30 GB of an H100's memory.

    Example: `python -m reproduction run cifar10 --seeds 0 1 --variants max-pool strided --workers 2`
    """
    from reproduction.analysis import evidence
    from reproduction.analysis.curves import short_name
    from reproduction.experiments import data, runs, studies, sweeps
    from reproduction.experiments.status import standing, summary

    def variant_of(spec: studies.Spec) -> str:
        return short_name(str(getattr(spec, entry.variant)))

    device = device or runs.default_device()
    entry, store = studies.study(study), evidence.store_for(mode)
    wanted = entry.specs(mode, seeds or None)
    known, chosen = dict.fromkeys(map(variant_of, wanted)), set(map(short_name, variants or ()))
    if unknown := sorted(chosen - known.keys()):
        raise ValueError(
            f"variants of {study} must be among {', '.join(known)}, got {', '.join(unknown)}"
        )
    rows = [standing(spec, store) for spec in wanted if not chosen or variant_of(spec) in chosen]
    missing = [row.spec for row in rows if row.missing and not row.running]
    typer.echo(
        f"{study}, {mode} mode: {summary(rows)}; {len(missing)} to make now, records go to {store.folder}"
    )
    for row in rows:
        if row.problem:
            typer.echo(f"Damaged: {row.problem}")
    for name in dict.fromkeys(spec.data for spec in missing if hasattr(spec, "data")):
        typer.echo(f"{name} comes from {data.origin(name)}")
    try:
        failed = sweeps.make(
            missing,
            store,
            workers,
            studies.keeping(mode, entry),
            study if ":" in study else None,
            device=device,
            precision=precision,
        )
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command goes on from the last epoch of each run.", err=True)
        raise typer.Exit(130) from None
    for spec in missing:
        if spec not in failed:
            typer.echo(f"made {store.path(spec).name}")
    raise typer.Exit(1 if failed or any(row.problem for row in rows) else 0)


@app.command(cls=Command)
def book(
    mode: ModeOption = Mode.full,
    chapter: Annotated[
        list[str] | None,
        typer.Option(help="One or more, such as 01_introduction.", show_default="all"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep the executed chapters here, and make no pages.", show_default="book/"
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter of chapters.")
    ] = None,
    html: Annotated[
        bool, typer.Option(help="Make the pages once the chapters are executed.")
    ] = True,
) -> None:
    """Execute the chapters of the book and make its pages.

    With --chapter the others stay as they are, where they were executed in the same mode.

    Full mode draws from the records and needs no data; quick mode trains small networks while you wait. The pages are
    those of `make book` and `make quick`. A chapter takes those parameters that its first cell assigns.

    Example: `python -m reproduction book --mode quick --chapter 01_introduction --out /tmp/chapters -p seed=1`
    """
    pages = html and out is None
    needed = ("jupytext", "papermill", *(["jupyter_book"] if pages else []))
    if absent := [module for module in needed if importlib.util.find_spec(module) is None]:
        raise ValueError(f"{', '.join(absent)} not installed: pip install -e '.[book]'")
    from papermill.exceptions import PapermillExecutionError

    from reproduction.pages.book import BOOK, ROOT, execute, lacking, sources

    parameters = dict(parameter_of(text) for text in parameter or ())
    if (
        pages
        and chapter
        and sources(chapter)
        and (others := [name for name in lacking(mode) if name not in chapter])
    ):
        typer.echo(
            f"Executed too, because the pages need all chapters in {mode} mode: {', '.join(others)}",
            err=True,
        )
        chapter = [*chapter, *others]
    try:
        execute(mode, out or BOOK, chapter or None, parameters)
    except (
        PapermillExecutionError
    ) as error:  # shows the cell and its own traceback: ours would add nothing
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if pages:
        folder = ROOT / "_build" / "quick" if mode is Mode.quick else ROOT
        # --all: a page whose warning failed one build must not slip through the next as unchanged.
        options = ["-W", "--keep-going", "--all", "--quiet", "--path-output", str(folder)]
        code = subprocess.run(
            [Path(sys.executable).with_name("jupyter-book"), "build", str(ROOT), *options]
        ).returncode
        typer.echo(
            f"Open {folder / '_build' / 'html' / 'index.html'}"
            if code == 0
            else "The pages were not made.",
            err=code != 0,
        )
        raise typer.Exit(min(code, 1))


def parameter_of(text: str) -> tuple[str, Any]:
    """NAME=VALUE as a pair, the value read as JSON where it is JSON (numbers, true, lists), else as it stands."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"-p must be NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@app.command(cls=Command)
def agreement(
    file: Annotated[
        Path | None, typer.Argument(help="Curves as CSV.", show_default="those of the book")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw our curves over the published ones into this file: .png, .pdf or .svg."
        ),
    ] = None,
) -> None:
    """Compare the records with published curves.

    FILE has one row a point and the columns figure, dataset, condition, measure, arm, layer, value, how ("fit" or
    "eye"). For each curve: the mean absolute difference; the skill, 1 for a perfect match and 0 for one no better than
    untrained networks give; the correlation over layers without the mean over variants; and the fraction of published values
    within the band of seeds, image sets and reading. Rows that have no counterpart are named.

    Example: `python -m reproduction agreement book/published/curves.csv --plot curves.png`
    """
    from reproduction.analysis import agreement, evidence
    from reproduction.analysis.curves import PUBLISHED
    from reproduction.experiments import studies
    from reproduction.pages.figures import over_published

    if plot and (plot.suffix.lower() not in (".png", ".pdf", ".svg") or not plot.parent.is_dir()):
        raise ValueError(
            f"--plot must be a .png, .pdf or .svg file in a folder that exists, got {plot}"
        )
    points = agreement.beside(evidence.for_claims("full"), file or PUBLISHED)
    table, unmatched = agreement.compare(points)
    printed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    whole = agreement.readable(table).reset_index()
    rows = whole.drop(columns="study")
    for title in rows:
        printed.add_column(title, justify="left" if title in ("figure", "variant") else "right")
    for row in rows.itertuples(index=False):
        printed.add_row(*map(str, row))
    Console().print(printed)
    for study, figures in whole.groupby("study", sort=False)["figure"].unique().items():
        typer.echo(f"Figure {', '.join(figures)}: study {study}. {studies.STUDIES[study].purpose}")
    for gap in agreement.gaps(unmatched).itertuples():
        typer.echo(
            f"Not matched: figure {gap.figure}, {gap.variant}, layers {gap.layers} (rows {gap.rows}): {gap.reason}"
        )
    if plot and len(table):
        over_published(points[points["reason"] == ""]).savefig(plot)
        typer.echo(f"wrote {plot}")


if __name__ == "__main__":
    app(prog_name="python -m reproduction")
