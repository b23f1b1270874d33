"""A network of the user's own: from its factory and photographs to a table and a plot."""

import csv
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from deformlib.command_line import out_of_memory, progress
from deformlib.filters import smoothness
from deformlib.metrics import sensitivity
from deformlib.named_objects import named_object
from deformlib.photographs import opened, simplified
from deformlib.warping import Deformation

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Row:
    """What was measured at a layer; NaN where that is impossible there."""

    layer: str
    sensitivity: float  # normalized cosine distance
    euclidean: float  # normalized Euclidean distance
    smoothness: float  # normalized total variation of the filters, mean over kernels


def network(text: str) -> nn.Module:
    """The network that the factory (or the instance) named by `text` gives."""
    found = named_object(text)
    try:
        model = found if isinstance(found, nn.Module) else found()
    except TypeError as error:
        if error.__traceback__ and error.__traceback__.tb_next:  # out of the factory itself
            raise
        raise ValueError(
            f"{text} must be a torch.nn.Module or give one when called without arguments ({error})"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{text} must give a torch.nn.Module, got {type(model).__name__}")
    return model


def image_files(folder: Path, count: int) -> list[Path]:
    """The first `count` images in and below a folder, by name; hidden ones are left out."""
    if not folder.is_dir():
        state = "a file" if folder.exists() else "not there"
        raise ValueError(f"--images must be a folder, and {folder} is {state}")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    files = [path for path in found if path.is_file() and not _hidden(path, folder)]
    if len(files) < 2:
        raise ValueError(
            f"--images must be a folder with at least two images ({', '.join(SUFFIXES)}), "
            f"and {folder} has {len(files)}"
        )
    return sorted(files)[:count]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def photographs(files: Sequence[Path], size: int, mode: str = "RGB") -> Tensor:
    """Images cropped at the center and resized: (N, C, size, size) in [0, 1]."""
    images = torch.empty(len(files), len(mode), size, size)
    for k, file in enumerate(progress(files, "reading")):
        photo = opened(file)
        if photo.mode in ("I", "F"):  # what is white in them is not known
            raise ValueError(f"{file} must have 8 or 16 bits, got Pillow's mode {photo.mode}")
        fitted = ImageOps.fit(simplified(photo, mode), (size, size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(fitted)).view(size, size, -1)
        images[k] = pixels.permute(2, 0, 1) / 255
    return images


def check_memory(size: int, grid: int, count: int) -> None:
    """ValueError if not even images and the spline's matrix fit in this machine's memory."""
    if not hasattr(os, "sysconf"):  # Windows
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # bytes
    each = 4 * (grid**2 + 4 * 3 * count)  # bytes a pixel; images clean, deformed, both normalized
    largest = math.isqrt(memory // each)
    if size > largest:
        raise ValueError(
            f"--size must be at most {largest} with {count} photographs and --grid {grid} "
            f"in {memory / 2**30:.0f} GB of memory, got {size}"
        )


def normalized(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) with ImageNet's mean and standard deviation per channel."""
    mean = images.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = images.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (images - mean) / deviation


def measured(
    model: nn.Module,
    images: Tensor,
    deformation: Deformation,
    layers: Sequence[str] | None = None,
    normalize: Callable[[Tensor], Tensor] | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> list[Row]:
    """Sensitivity of layers and smoothness of their filters, in execution order.

    Images (N, C, H, W) in [0, 1] are deformed, then normalized, then moved to the model's device
    and type. ValueError if the network cannot take them.
    """
    control = deformation.sample(len(images), generator=generator)
    deformed = deformation.spline(images.shape[2:]).warp(images, control)
    if normalize:
        images, deformed = normalize(images), normalize(deformed)
    floating = [value for value in model.parameters() if value.is_floating_point()]
    like = floating[0] if floating else images
    images, deformed = images.to(like), deformed.to(like)
    columns = []
    try:
        for distance in progress(("cosine", "euclidean"), "measuring"):
            columns.append(sensitivity(model, images, deformed, layers, distance, batch_size))
    except (RuntimeError, AssertionError) as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"the network fails on images {tuple(images.shape[1:])}; "
            f"see --size and --grey ({error})"
        ) from error
    cosine, euclidean = columns
    columns.append(smoothness(model, "kernel", layers))
    names = dict.fromkeys([*euclidean, *cosine])  # cosine distance leaves out more
    return [Row(name, *(column.get(name, math.nan) for column in columns)) for name in names]


def cells(rows: Sequence[Row], form: str) -> list[list[str]]:
    """The rows as text below their titles, numbers in a format, NaN as nothing."""
    table = [[field.name for field in fields(Row)]]
    for row in rows:
        values = (row.sensitivity, row.euclidean, row.smoothness)
        table.append([row.layer, *(format(value, form).replace("nan", "") for value in values)])
    return table


def printed(rows: Sequence[Row]) -> str:
    """The rows as a table of aligned columns."""
    table = cells(rows, ".3f")
    first, *others = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for layer, *values in table:
        numbers = [value.rjust(width) for value, width in zip(values, others)]
        lines.append("  ".join([layer.ljust(first), *numbers]).rstrip())
    return "\n".join(lines)


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(cells(rows, ".6g"))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Plot sensitivity by layer, the first at the top. ImportError where there is no Matplotlib."""
    from matplotlib.figure import Figure

    height = max(2.0, 0.6 + 0.19 * len(rows))  # inches: as many lines of text as layers
    figure = Figure(figsize=(6.5, height), dpi=150, layout="constrained")
    axes = figure.subplots()
    names, values = [row.layer for row in rows], [row.sensitivity for row in rows]
    axes.plot(values, range(len(rows)), color="#0072B2", marker="o", markersize=4)
    axes.set(xlabel="normalized cosine distance", xlim=(0, None), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), names, fontsize=8, parse_math=False)  # a name may hold a $
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
