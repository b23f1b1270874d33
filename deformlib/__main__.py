"""`python -m deformlib`. PyTorch is imported inside the commands: `--help` is quick."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from deformlib.command_line import Command, Group, at_least, check_writable

app = typer.Typer(
    cls=Group, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
GridOption = Annotated[
    int, typer.Option(help="Control points along each side, 2 to 64.", callback=at_least(2, 64))
]
DisplacementOption = Annotated[
    float | None,
    typer.Option(
        help="Largest displacement of a control point along each axis, in pixels.",
        show_default="10 on a short side of 224, as in the paper, and in proportion",
    ),
]
SeedOption = Annotated[
    int, typer.Option(help="Of all that is drawn at random.", callback=at_least(0))
]


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Deform a photograph, measure how stable a network is to deformation.

    \b
    Example:
      python -m deformlib deform cat.jpg deformed.png
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=Command)
def deform(
    image: Annotated[Path, typer.Argument(help="Of any size and any format that Pillow reads.")],
    out: Annotated[Path, typer.Argument(help="Its suffix is the format.")],
    grid: GridOption = 5,
    max_displacement: DisplacementOption = None,
    seed: SeedOption = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Deform a photograph as the paper does.

    Control points on an even grid are displaced at random and a thin plate spline carries that to
    every pixel. The size stays, and so do transparency and 16 bits where the format of OUT can
    hold them; what it cannot hold is said.

    \b
    Example:
      python -m deformlib deform cat.jpg deformed.png --max-displacement 40 --seed 1
    """
    import torch

    from deformlib.photographs import deformed, opened, save, unread, writable
    from deformlib.warping import Deformation

    form = writable(out, force)
    photo = opened(image)
    lost = unread(image)
    largest = 10 / 224 * min(photo.size) if max_displacement is None else max_displacement
    control = Deformation(grid, largest).sample(1, generator=torch.Generator().manual_seed(seed))
    lost += save(deformed(photo, control[0], grid), out, form)
    typer.echo(
        f"{out}: {photo.width}x{photo.height} {photo.mode}, grid {grid}x{grid}, "
        f"displaced by at most {largest:.4g} px, seed {seed}"
    )
    for loss in lost:
        typer.echo(f"Lost: {loss}")


@app.command(cls=Command)
def measure(
    model: Annotated[
        str, typer.Argument(help="What returns the network: MODULE:FACTORY or FILE.py:FACTORY.")
    ],
    images: Annotated[Path, typer.Option(help="A folder of photographs.")],
    size: Annotated[
        int, typer.Option(help="Resize the short side, crop the center.", callback=at_least(2))
    ] = 224,
    count: Annotated[
        int, typer.Option(help="Photographs, the first by name; 2 or more.", callback=at_least(2))
    ] = 128,
    layers: Annotated[
        list[str] | None, typer.Option(help="One or more names or patterns.", show_default="all")
    ] = None,
    grid: GridOption = 5,
    max_displacement: DisplacementOption = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="By ImageNet's mean and deviation per channel.")
    ] = False,
    grey: Annotated[bool, typer.Option("--grey", help="Images of one channel.")] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Photographs at a time.", show_default="all", callback=at_least(1)),
    ] = None,
    seed: SeedOption = 0,
    out: Annotated[
        Path, typer.Option(help="The table is OUT.csv and the plot OUT.png; earlier ones go.")
    ] = Path("stability"),
) -> None:
    """Measure how stable a network of yours is to deformation.

    At every layer: how far the representation of a photograph moves when it is deformed, over how
    far those of two photographs are apart. 0: the deformation changes nothing. 1: as much as
    another photograph. And for convolutions how smooth their filters are.

    For a trained network, name a function of yours that builds it and loads its weights:
    `FILE.py:FUNCTION`. The one in the example has not been trained.

    \b
    Example:
      python -m deformlib measure torchvision.models:resnet18 --images photos \\
        --normalize --layers "layer*.relu" fc
    """
    import torch

    from deformlib import measure as own
    from deformlib.warping import Deformation

    if grey and normalize:
        raise ValueError("--normalize is for three channels, and --grey gives one")
    table, plot = output_files(out)
    largest = 10 / 224 * size if max_displacement is None else max_displacement
    deformation = Deformation(grid, largest)
    files = own.image_files(images, count)
    torch.manual_seed(seed)
    network = own.network(model)
    photos = own.photographs(files, size, "L" if grey else "RGB")
    options = (layers or None, own.normalized if normalize else None, batch_size)
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        rows = own.measured(network, photos, deformation, *options, generator)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        typer.echo(f"Warning: {message}", err=True)
    typer.echo(own.printed(rows))
    own.write(rows, table)
    typer.echo(
        f"{len(photos)} photographs of {size}x{size}, grid {grid}x{grid}, "
        f"displaced by at most {largest:.4g} px, seed {seed}; wrote {table}"
    )
    try:
        own.draw(rows, plot)
        typer.echo(f"wrote {plot}")
    except ImportError:
        typer.echo(f"{plot} was not drawn: it needs Matplotlib (pip install matplotlib)")


def output_files(out: Path) -> tuple[Path, Path]:
    """OUT.csv and OUT.png, in a folder made for them. ValueError if they cannot be written."""
    stem = out.with_suffix("") if out.suffix in (".csv", ".png") else out
    stem.parent.mkdir(parents=True, exist_ok=True)
    table, plot = (stem.with_name(stem.name + suffix) for suffix in (".csv", ".png"))
    check_writable(table)
    check_writable(plot)
    return table, plot


if __name__ == "__main__":
    app(prog_name="python -m deformlib")
