"""`python -m deformlib`: what was computed and what is missing, make it, execute the book, deform a photograph.

Whatever is slow to import (PyTorch above all) is imported inside the command that needs it: `--help` is quick.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand, TyperGroup


class Mode(StrEnum):
    """`studies.MODES`, which cannot be imported without PyTorch."""

    full = "full"
    quick = "quick"


def at_least(low: int, high: int = 2**63 - 1) -> Callable[[Any], Any]:
    """Check one integer, or several, as Typer's own `min` does, which does not say what it was given."""
    def check(value: int | list[int] | None) -> int | list[int] | None:
        for given in value if isinstance(value, list) else [value]:
            if given is not None and not low <= given <= high:
                raise typer.BadParameter(f"must be {low} or more, got {given}" if given < low else f"must be at most {high}, got {given}")
        return value

    return check


class Group(TyperGroup):
    """Commands whose bad input is one line on stderr and exit code 2; options that cannot be read, click's own few lines."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from error
        except RuntimeError as error:
            if "allocate memory" not in str(error) and "out of memory" not in str(error):  # PyTorch has no class for it on the CPU
                raise
            typer.echo("Error: not enough memory for so large a grid, so many or so large images; see --help (measure has --batch-size)", err=True)
            raise typer.Exit(2) from error


class Command(TyperCommand):
    """A command whose repeatable options take several values at once: `--seeds 0 1` is `--seeds 0 --seeds 1`.

    An argument comes before them, for nothing would tell it from one more value.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {name for param in self.params if param.param_type_name == "option" and param.multiple for name in param.opts}
        used = [arg for arg in args if arg in several]
        for param in self.params:
            if param.required and used and args[0].startswith("-"):
                raise ValueError(f"put {param.name.upper()} first: {used[0]} takes every word up to the next option")
        return super().parse_args(ctx, repeat_options(args, several))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        options, *arguments = super().collect_usage_pieces(ctx)
        return [*arguments, options]


def repeat_options(args: Sequence[str], several: set[str]) -> list[str]:
    """`args` with each option of `several` before every one of its values: all words up to the next option."""
    result: list[str] = []
    option = None
    for arg in args:
        if arg.startswith("-"):
            option = arg if arg in several else None
        elif option and result[-1] != option:
            result.append(option)
        result.append(arg)
    return result


app = typer.Typer(cls=Group, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
ModeOption = Annotated[Mode, typer.Option(help="full: the paper; quick: small networks on a few photographs.")]


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Learned deformation stability: what was computed, what is missing, make it, make the book, deform a photograph.

    `python -m deformlib COMMAND --help` says more about a command.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=Command)
def status(
    study: Annotated[str | None, typer.Argument(help="Only this study, run by run.", show_default="all")] = None,
    mode: ModeOption = Mode.full,
) -> None:
    """What exists, what is missing, and what the missing would cost.

    A study is a list of runs, each a network trained and measured; a run that is finished has left a record.
    Without STUDY one line for each study, with STUDY one for each of its runs.

    Example: `python -m deformlib status cifar10`
    """
    from . import evidence, specs, studies
    from .progress import cost, duration, price, seconds_of, standing, summary

    store = evidence.store_for(mode)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("run", "id", "state", "time") if study else ("study", "records", "missing takes"):
        table.add_column(title, no_wrap=title != "records", justify="right" if title in ("time", "missing takes") else "left")
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
    typer.echo("Times are for one worker on the machine that made the records; those of what is missing, the median of these, "
               "of those made on a machine like this one if there are any.")
    for problem in problems:
        typer.echo(f"Damaged: {problem}")


@app.command(cls=Command)
def run(
    study: Annotated[str, typer.Argument(help="Its name; `status` lists them. Or your own: FILE.py:STUDY.")],
    seeds: Annotated[list[int] | None, typer.Option(help="One or more.", show_default="those of the study", callback=at_least(0))] = None,
    arms: Annotated[list[str] | None, typer.Option(help="One or more: downsampling layers, or what else the study varies.", show_default="all")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core", callback=at_least(1))] = None,
    device: Annotated[str | None, typer.Option(help="Train on it: cpu or cuda.", show_default="cuda where there is one")] = None,
    precision: Annotated[str | None, typer.Option(
        help="Train in float32, tensorfloat32 (on a GPU) or bfloat16.", show_default="tensorfloat32 on a GPU, bfloat16 on a CPU that has it, else float32")] = None,
    mode: ModeOption = Mode.full,
) -> None:
    """Make the missing records of a study.

    What exists stays as it is. An interrupted run goes on from its last epoch, so this may be stopped (Ctrl-C) and
    started again at any time. Data are read from `$DEFORMLIB_DATA`, otherwise from the Hugging Face hub. The
    processes share a GPU; ten took 20 to 30 GB of an H100's memory.

    Example: `python -m deformlib run cifar10 --seeds 0 1 --arms max-pool strided --workers 2`
    """
    from . import data, evidence, runs, studies, sweeps
    from .curves import short_name
    from .progress import standing, summary

    def arm_of(spec: studies.Spec) -> str:
        return short_name(str(getattr(spec, entry.arm)))

    device = device or runs.default_device()
    entry, store = studies.study(study), evidence.store_for(mode)
    wanted = entry.specs(mode, seeds or None)
    known, chosen = dict.fromkeys(map(arm_of, wanted)), set(map(short_name, arms or ()))
    if unknown := sorted(chosen - known.keys()):
        raise ValueError(f"arms of {study} must be among {', '.join(known)}, got {', '.join(unknown)}")
    rows = [standing(spec, store) for spec in wanted if not chosen or arm_of(spec) in chosen]
    missing = [row.spec for row in rows if row.missing and not row.running]
    typer.echo(f"{study}, {mode} mode: {summary(rows)}; {len(missing)} to make now, records go to {store.folder}")
    for row in rows:
        if row.problem:
            typer.echo(f"Damaged: {row.problem}")
    for name in dict.fromkeys(spec.data for spec in missing if hasattr(spec, "data")):
        typer.echo(f"{name} comes from {data.origin(name)}")
    try:
        failed = sweeps.make(missing, store, workers, studies.keeping(mode, entry), study if ":" in study else None,
                             device=device, precision=precision)
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
    chapter: Annotated[list[str] | None, typer.Option(help="One or more, such as 01_introduction.", show_default="all")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the executed chapters here, and make no pages.", show_default="book/")] = None,
    parameter: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter of chapters.")] = None,
    html: Annotated[bool, typer.Option(help="Make the pages once the chapters are executed.")] = True,
) -> None:
    """Execute the chapters of the book and make its pages.

    With --chapter the others stay as they are, where they were executed in the same mode.

    Full mode draws from the records and needs no data; quick mode trains small networks while you wait. The pages are
    those of `make book` and `make quick`. A chapter takes those parameters that its first cell assigns.

    Example: `python -m deformlib book --mode quick --chapter 01_introduction --out /tmp/chapters -p seed=1`
    """
    pages = html and out is None
    needed = ("jupytext", "papermill", *(["jupyter_book"] if pages else []))
    if absent := [module for module in needed if importlib.util.find_spec(module) is None]:
        raise ValueError(f"{', '.join(absent)} not installed: pip install -e '.[book]'")
    from papermill.exceptions import PapermillExecutionError

    from .book import BOOK, ROOT, execute, lacking, sources

    parameters = dict(parameter_of(text) for text in parameter or ())
    if pages and chapter and sources(chapter) and (others := [name for name in lacking(mode) if name not in chapter]):
        typer.echo(f"Executed too, because the pages need all chapters in {mode} mode: {', '.join(others)}", err=True)
        chapter = [*chapter, *others]
    try:
        execute(mode, out or BOOK, chapter or None, parameters)
    except PapermillExecutionError as error:  # shows the cell and its own traceback: ours would add nothing
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if pages:
        folder = ROOT / "_build" / "quick" if mode is Mode.quick else ROOT
        # --all: a page whose warning failed one build must not slip through the next as unchanged.
        options = ["-W", "--keep-going", "--all", "--quiet", "--path-output", str(folder)]
        code = subprocess.run([Path(sys.executable).with_name("jupyter-book"), "build", str(ROOT), *options]).returncode
        typer.echo(f"Open {folder / '_build' / 'html' / 'index.html'}" if code == 0 else "The pages were not made.", err=code != 0)
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
def deform(
    image: Annotated[Path, typer.Argument(help="Of any size and any format that Pillow reads.")],
    out: Annotated[Path, typer.Argument(help="Its suffix is the format.")],
    grid: Annotated[int, typer.Option(help="Control points along each side, 2 or more.", callback=at_least(2))] = 5,
    max_displacement: Annotated[float | None, typer.Option(
        help="Largest displacement of a control point along each axis, in pixels.",
        show_default="10 on a short side of 224, as in the paper, and in proportion")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another deformation.", callback=at_least(0))] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Deform a photograph as the paper does.

    Control points on an even grid are displaced at random and a thin plate spline carries that to every pixel.
    The size stays, and so do transparency and 16 bits where the format of OUT can hold them.

    Example: `python -m deformlib deform cat.jpg deformed.png --max-displacement 40 --seed 1`
    """
    import torch

    from .photo_files import deformed, opened, save, writable
    from .warping import Deformation

    form = writable(out, force)
    photo = opened(image)
    largest = 10 / 224 * min(photo.size) if max_displacement is None else max_displacement
    control = Deformation(grid, largest).sample(1, generator=torch.Generator().manual_seed(seed))
    saved = save(deformed(photo, control[0], grid), out, form)
    typer.echo(f"{out}: {photo.width}x{photo.height} {saved.mode}, grid {grid}x{grid}, displaced by at most {largest:.4g} px, "
               f"seed {seed}" + (f" ({form} cannot hold {photo.mode})" if saved.mode != photo.mode else ""))


@app.command(cls=Command)
def measure(
    model: Annotated[str, typer.Argument(help="What gives the network, MODULE:FACTORY or FILE.py:FACTORY; called without arguments.")],
    images: Annotated[Path, typer.Option(help="A folder of photographs.")],
    size: Annotated[int, typer.Option(help="Pixels: the short side is resized to it, the center cropped.", callback=at_least(2))] = 224,
    count: Annotated[int, typer.Option(help="The first so many photographs, by name; 2 or more.", callback=at_least(2))] = 128,
    layers: Annotated[list[str] | None, typer.Option(help="One or more names or patterns.", show_default="every module without children")] = None,
    grid: Annotated[int, typer.Option(help="Control points along each side, 2 or more.", callback=at_least(2))] = 5,
    max_displacement: Annotated[float | None, typer.Option(
        help="Largest displacement of a control point along each axis, in pixels.",
        show_default="10 on a side of 224, as in the paper, and in proportion")] = None,
    normalize: Annotated[bool, typer.Option(help="Give the network images with ImageNet's mean and deviation per channel.")] = False,
    grey: Annotated[bool, typer.Option("--grey", help="Give the network grey images, of one channel.")] = False,
    batch_size: Annotated[int | None, typer.Option(help="Photographs at a time, where memory is short.", show_default="all", callback=at_least(1))] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other deformations, and another network if its factory draws weights.", callback=at_least(0))] = 0,
    out: Annotated[Path, typer.Option(help="Where the table and the plot go: OUT.csv and OUT.png, in place of earlier ones.")] = Path("stability"),
) -> None:
    """Measure how stable a network of yours is to deformation.

    At every layer: how far the representation of a photograph moves when it is deformed, over how far those of two
    photographs are apart. 0: the deformation changes nothing. 1: as much as another photograph. And for convolutions
    how smooth their filters are.

    Example, of a network that has not been trained:
    `python -m deformlib measure torchvision.models:resnet18 --images photos --normalize --layers "layer*.relu" fc`
    For a trained one, write a function that builds it and loads its weights, and name that: `FILE.py:FUNCTION`.
    """
    import warnings

    import torch

    from . import measure as own
    from .figures import sensitivity_of_a_network
    from .warping import Deformation

    if grey and normalize:
        raise ValueError("--normalize is for three channels, and --grey gives one")
    out = out.with_suffix("") if out.suffix in (".csv", ".png") else out
    out.parent.mkdir(parents=True, exist_ok=True)
    written, plotted = (Path(f"{out}.{suffix}") for suffix in ("csv", "png"))  # not with_suffix: OUT may be run-v1.2
    for file in (written, plotted):
        if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise ValueError(f"--out must name files that can be written, and {file} cannot")
    torch.manual_seed(seed)
    network, photos = own.network(model), own.photographs(images, size, count, "L" if grey else "RGB")
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    largest = 10 / 224 * size if max_displacement is None else max_displacement
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        table = own.measured(network, photos, Deformation(grid, largest), layers or None,
                             (lambda x: (x - mean) / std) if normalize else (lambda x: x), batch_size, torch.Generator().manual_seed(seed))
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        typer.echo(f"Warning: {message}", err=True)
    typer.echo(table.to_string(float_format="{:.3f}".format, na_rep=""))
    table.to_csv(written, float_format="%.6g")
    sensitivity_of_a_network(table["sensitivity"]).savefig(plotted)
    typer.echo(f"{len(photos)} photographs of {size}x{size}, grid {grid}x{grid}, displaced by at most {largest:.4g} px, seed {seed}; "
               f"wrote {written} and {plotted}")


@app.command(cls=Command)
def agreement(
    file: Annotated[Path | None, typer.Argument(help="Curves as CSV.", show_default="those of the book")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw our curves over the published ones into this file: .png, .pdf or .svg.")] = None,
) -> None:
    """Compare the records with published curves.

    FILE has one row a point and the columns figure, dataset, condition, measure, arm, layer, value, how ("fit" or
    "eye"). For each curve: the mean absolute difference; the skill, 1 for a perfect match and 0 for one no better than
    untrained networks give; the correlation over layers without the mean over arms; and the share of published values
    within the band of seeds, image sets and reading. Rows that have no counterpart are named.

    Example: `python -m deformlib agreement book/published/curves.csv --plot curves.png`
    """
    from . import agreement, evidence, studies
    from .curves import PUBLISHED
    from .figures import over_published

    if plot and (plot.suffix.lower() not in (".png", ".pdf", ".svg") or not plot.parent.is_dir()):
        raise ValueError(f"--plot must be a .png, .pdf or .svg file in a folder that exists, got {plot}")
    points = agreement.beside(evidence.for_claims("full"), file or PUBLISHED)
    table, unmatched = agreement.compare(points)
    printed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    whole = agreement.readable(table).reset_index()
    rows = whole.drop(columns="study")
    for title in rows:
        printed.add_column(title, justify="left" if title in ("figure", "arm") else "right")
    for row in rows.itertuples(index=False):
        printed.add_row(*map(str, row))
    Console().print(printed)
    for study, figures in whole.groupby("study", sort=False)["figure"].unique().items():
        typer.echo(f"Figure {', '.join(figures)}: study {study}. {studies.STUDIES[study].purpose}")
    for gap in agreement.gaps(unmatched).itertuples():
        typer.echo(f"Not matched: figure {gap.figure}, {gap.arm}, layers {gap.layers} (rows {gap.rows}): {gap.reason}")
    if plot and len(table):
        over_published(points[points["reason"] == ""]).savefig(plot)
        typer.echo(f"wrote {plot}")


if __name__ == "__main__":
    app(prog_name="python -m deformlib")
