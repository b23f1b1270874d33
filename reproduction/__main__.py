"""`python -m reproduction`: what was computed and what is missing, make it, execute the book.

Whatever is slow to import (PyTorch above all) is imported inside the command that needs it, so that
`--help` is quick.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deformlib.command_line import Command, Group, at_least

if TYPE_CHECKING:
    import pandas as pd

    from reproduction.experiments.specs import Spec


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

    A study is a list of runs, each a network trained and measured; a run that is finished has left
    a record. Without STUDY one line for each study, with STUDY one for each of its runs.

    Example: `python -m reproduction status cifar10`
    """
    needs_checkout("records", mode)
    from reproduction.analysis import evidence
    from reproduction.experiments import specs, studies
    from reproduction.experiments.status import cost, duration, price, seconds_of, standing, summary

    store = evidence.store_for(mode)
    entries = {study: studies.study(study)} if study else studies.STUDIES
    titles = ("run", "id", "state", "time") if study else ("study", "records", "missing takes")
    table = plain_table(titles)
    problems: list[str] = []
    for name, entry in entries.items():
        rows = [standing(spec, store) for spec in entry.specs(mode)]
        each = price(rows, store)
        problems += [row.problem for row in rows if row.problem]
        if not study:
            words = Text.assemble(summary(rows), "\n", (entry.purpose, "dim"))
            table.add_row(Text(name), words, cost(rows, each))
            continue
        for row in rows:
            time = duration(seconds_of(row.record)) if row.record else cost([row], each)
            table.add_row(
                Text(row.spec.slug), specs.identity(row.spec), Text(row.state), Text(time)
            )
    Console().print(table)
    if study:
        typer.echo(f"{summary(rows)}; the missing would take: {cost(rows, each)}")
    typer.echo(
        "Times are for one worker on the machine that made the records; those of what is missing, "
        "the median of these, of those made on a machine like this one if there are any."
    )
    for problem in dict.fromkeys(problems):
        typer.echo(f"Damaged: {problem}")


def plain_table(titles: Sequence[str]) -> Table:
    """An empty table for the terminal; only a column "records" may break its lines."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in titles:
        justify: Literal["left", "right"] = "left"
        if title in ("time", "missing takes"):
            justify = "right"
        table.add_column(title, no_wrap=title != "records", justify=justify)
    return table


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

    What exists stays as it is. An interrupted run goes on from its last epoch, so this may be
    stopped (Ctrl-C) and started again at any time. Data are read from `$DEFORMLIB_DATA`, otherwise
    from the Hugging Face hub. The processes share a GPU; ten took 20 to 30 GB of an H100's memory.

    Example:
    `python -m reproduction run cifar10 --seeds 0 1 --variants max-pool strided --workers 2`
    """
    needs_checkout("records", mode)
    from reproduction.analysis import evidence
    from reproduction.experiments import data, studies, sweeps
    from reproduction.experiments.hardware import default_device
    from reproduction.experiments.status import standing, summary

    entry, store = studies.study(study), evidence.store_for(mode)
    wanted = of_variants(entry.specs(mode, seeds or None), entry.variant, variants or [], study)
    rows = [standing(spec, store) for spec in wanted]
    missing = [row.spec for row in rows if row.missing and not row.running]
    typer.echo(
        f"{study}, {mode} mode: {summary(rows)}; {len(missing)} to make now, "
        f"records go to {store.folder}"
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
            device=device or default_device(),
            precision=precision,
        )
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command goes on from the last epoch of each run.", err=True)
        raise typer.Exit(130) from None
    for spec in missing:
        if spec not in failed:
            typer.echo(f"made {store.path(spec).name}")
    raise typer.Exit(1 if failed or any(row.problem for row in rows) else 0)


def of_variants(wanted: list[Spec], field: str, variants: list[str], study: str) -> list[Spec]:
    """The specs of these variants, all of them if none are named. ValueError for an unknown one."""
    from reproduction.analysis.curves import short_name

    names = [short_name(str(getattr(spec, field))) for spec in wanted]
    chosen = {short_name(variant) for variant in variants}
    unknown = sorted(chosen - set(names))
    if unknown:
        known = ", ".join(dict.fromkeys(names))
        raise ValueError(f"variants of {study} must be among {known}, got {', '.join(unknown)}")
    return [spec for spec, name in zip(wanted, names) if not chosen or name in chosen]


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

    Full mode draws from the records and needs no data; quick mode trains small networks while you
    wait. The pages are those of `make book` and `make quick`. A chapter takes those parameters that
    its first cell assigns, but the mode, which --mode sets.

    Example:
    `python -m reproduction book --mode quick --chapter 01_introduction --out chapters -p seed=1`
    """
    needs_checkout("chapters and records")
    pages = html and out is None
    needed = ["jupytext", "papermill", "jupyter_book"] if pages else ["jupytext", "papermill"]
    absent = [module for module in needed if importlib.util.find_spec(module) is None]
    if absent:
        raise ValueError(f"{', '.join(absent)} not installed: pip install -e '.[book]'")
    from papermill.exceptions import PapermillExecutionError

    from reproduction.pages.book import BOOK, execute, lacking, make_pages, pages_folder, sources

    parameters = parameters_of(parameter or [])
    chosen = [source.stem for source in sources(chapter or None)]
    if pages:
        others = [name for name in lacking(mode) if name not in chosen]
        if others:
            why = f"Executed too, because the pages need all chapters in {mode} mode"
            typer.echo(f"{why}: {', '.join(others)}", err=True)
        chosen += others
    try:
        execute(mode, out or BOOK, chosen, parameters)
    except PapermillExecutionError as error:
        # It shows the cell and the cell's own traceback; ours would add nothing.
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if pages and not make_pages(mode):
        typer.echo("The pages were not made.", err=True)
        raise typer.Exit(1)
    if pages:
        typer.echo(f"Open {pages_folder(mode) / 'index.html'}")


def parameters_of(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE, each value read as JSON where it is JSON (numbers, true, lists), else as text."""
    parameters: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"-p must be NAME=VALUE, got {text!r}")
        if name in parameters:
            raise ValueError(f"-p {name} must be given once, got {parameters[name]!r} and {value}")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def needs_checkout(what: str, mode: Mode = Mode.full) -> None:
    """FileNotFoundError where the installed package stands alone; quick mode needs no records."""
    from reproduction.experiments.store import ROOT

    folder = ROOT / "book" / "results"
    if mode is Mode.full and not folder.is_dir():
        alone = "come with a checkout of the project, not with the installed package"
        raise FileNotFoundError(f"{what} {alone}: there is no folder {folder}")


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

    FILE has one row a point and the columns figure, dataset, condition, measure, arm (the variant),
    layer, value, how ("fit" or "eye"). For each curve: the mean absolute difference; the skill, 1
    for a perfect match and 0 for one no better than untrained networks give; the correlation over
    layers without the mean over variants; and the fraction of published values within the band of
    seeds, image sets and reading. Rows that have no counterpart are named.

    Example: `python -m reproduction agreement book/published/curves.csv --plot curves.png`
    """
    if plot:
        check_plot(plot)
    needs_checkout("records and published curves")
    from reproduction.analysis import agreement, evidence
    from reproduction.analysis.curves import PUBLISHED
    from reproduction.experiments import studies
    from reproduction.pages.figures import over_published

    points = agreement.beside(evidence.for_claims("full"), file or PUBLISHED)
    table, unmatched = agreement.compare(points)
    readable = agreement.readable(table).reset_index()
    Console().print(as_printed(readable.drop(columns="study")))
    for study, figures in readable.groupby("study", sort=False)["figure"].unique().items():
        purpose = studies.STUDIES[str(study)].purpose
        typer.echo(f"Figure {', '.join(figures)}: study {study}. {purpose}")
    for gap in agreement.gaps(unmatched).itertuples():
        where = f"figure {gap.figure}, {gap.variant}, layers {gap.layers} (rows {gap.rows})"
        typer.echo(f"Not matched: {where}: {gap.reason}")
    if plot and len(table):
        over_published(points[points["reason"] == ""]).savefig(plot)
        typer.echo(f"wrote {plot}")


def check_plot(plot: Path) -> None:
    """ValueError for a file that no plot can be written to."""
    if plot.suffix.lower() not in (".png", ".pdf", ".svg") or not plot.parent.is_dir():
        raise ValueError(
            f"--plot must be a .png, .pdf or .svg file in a folder that exists, got {plot}"
        )


def as_printed(table: pd.DataFrame) -> Table:
    """A table for the terminal; text in brackets is no markup."""
    printed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in table:
        printed.add_column(
            str(title), justify="left" if title in ("figure", "variant") else "right"
        )
    for row in table.itertuples(index=False):
        printed.add_row(*[Text(str(cell)) for cell in row])
    return printed


if __name__ == "__main__":
    app(prog_name="python -m reproduction")
