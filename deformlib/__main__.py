"""`python -m deformlib`: deform a photograph, measure a network of yours.

Whatever is slow to import (PyTorch above all) is imported inside the command that needs it: `--help` is quick.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from deformlib.command_line import Command, Group, at_least

app = typer.Typer(
    cls=Group, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Deform a photograph, measure how stable a network is to deformation.

    `python -m deformlib COMMAND --help` says more about a command.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=Command)
def deform(
    image: Annotated[Path, typer.Argument(help="Of any size and any format that Pillow reads.")],
    out: Annotated[Path, typer.Argument(help="Its suffix is the format.")],
    grid: Annotated[
        int, typer.Option(help="Control points along each side, 2 or more.", callback=at_least(2))
    ] = 5,
    max_displacement: Annotated[
        float | None,
        typer.Option(
            help="Largest displacement of a control point along each axis, in pixels.",
            show_default="10 on a short side of 224, as in the paper, and in proportion",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Another seed, another deformation.", callback=at_least(0))
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Deform a photograph as the paper does.

    Control points on an even grid are displaced at random and a thin plate spline carries that to every pixel.
    The size stays, and so do transparency and 16 bits where the format of OUT can hold them.

    Example: `python -m deformlib deform cat.jpg deformed.png --max-displacement 40 --seed 1`
    """
    import torch

    from deformlib.photographs import deformed, opened, save, writable
    from deformlib.warping import Deformation

    form = writable(out, force)
    photo = opened(image)
    largest = 10 / 224 * min(photo.size) if max_displacement is None else max_displacement
    control = Deformation(grid, largest).sample(1, generator=torch.Generator().manual_seed(seed))
    saved = save(deformed(photo, control[0], grid), out, form)
    typer.echo(
        f"{out}: {photo.width}x{photo.height} {saved.mode}, grid {grid}x{grid}, displaced by at most {largest:.4g} px, "
        f"seed {seed}" + (f" ({form} cannot hold {photo.mode})" if saved.mode != photo.mode else "")
    )


@app.command(cls=Command)
def measure(
    model: Annotated[
        str,
        typer.Argument(
            help="What gives the network, MODULE:FACTORY or FILE.py:FACTORY; called without arguments."
        ),
    ],
    images: Annotated[Path, typer.Option(help="A folder of photographs.")],
    size: Annotated[
        int,
        typer.Option(
            help="Pixels: the short side is resized to it, the center cropped.",
            callback=at_least(2),
        ),
    ] = 224,
    count: Annotated[
        int,
        typer.Option(
            help="The first so many photographs, by name; 2 or more.", callback=at_least(2)
        ),
    ] = 128,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="One or more names or patterns.", show_default="every module without children"
        ),
    ] = None,
    grid: Annotated[
        int, typer.Option(help="Control points along each side, 2 or more.", callback=at_least(2))
    ] = 5,
    max_displacement: Annotated[
        float | None,
        typer.Option(
            help="Largest displacement of a control point along each axis, in pixels.",
            show_default="10 on a side of 224, as in the paper, and in proportion",
        ),
    ] = None,
    normalize: Annotated[
        bool,
        typer.Option(
            help="Give the network images with ImageNet's mean and deviation per channel."
        ),
    ] = False,
    grey: Annotated[
        bool, typer.Option("--grey", help="Give the network grey images, of one channel.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Photographs at a time, where memory is short.",
            show_default="all",
            callback=at_least(1),
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Another seed, other deformations, and another network if its factory draws weights.",
            callback=at_least(0),
        ),
    ] = 0,
    out: Annotated[
        Path,
        typer.Option(
            help="Where the table and the plot go: OUT.csv and OUT.png, in place of earlier ones."
        ),
    ] = Path("stability"),
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

    from deformlib import measure as own
    from deformlib.warping import Deformation
    from reproduction.pages.figures import sensitivity_of_a_network

    if grey and normalize:
        raise ValueError("--normalize is for three channels, and --grey gives one")
    out = out.with_suffix("") if out.suffix in (".csv", ".png") else out
    out.parent.mkdir(parents=True, exist_ok=True)
    written, plotted = (
        Path(f"{out}.{suffix}") for suffix in ("csv", "png")
    )  # not with_suffix: OUT may be run-v1.2
    for file in (written, plotted):
        if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise ValueError(f"--out must name files that can be written, and {file} cannot")
    torch.manual_seed(seed)
    network, photos = (
        own.network(model),
        own.photographs(images, size, count, "L" if grey else "RGB"),
    )
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    largest = 10 / 224 * size if max_displacement is None else max_displacement
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        table = own.measured(
            network,
            photos,
            Deformation(grid, largest),
            layers or None,
            (lambda x: (x - mean) / std) if normalize else (lambda x: x),
            batch_size,
            torch.Generator().manual_seed(seed),
        )
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        typer.echo(f"Warning: {message}", err=True)
    typer.echo(table.to_string(float_format="{:.3f}".format, na_rep=""))
    table.to_csv(written, float_format="%.6g")
    sensitivity_of_a_network(table["sensitivity"]).savefig(plotted)
    typer.echo(
        f"{len(photos)} photographs of {size}x{size}, grid {grid}x{grid}, displaced by at most {largest:.4g} px, seed {seed}; "
        f"wrote {written} and {plotted}"
    )


if __name__ == "__main__":
    app(prog_name="python -m deformlib")
