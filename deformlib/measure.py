"""A network of the user's own: from its factory and photographs to a table and a plot."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from deformlib.command_line import progress
from deformlib.filters import smoothness
from deformlib.metrics import sensitivity
from deformlib.named_objects import named_object
from deformlib.photographs import opened, simplified
from deformlib.validation import require
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
    rule = "a torch.nn.Module or give one when called without arguments"
    try:
        model = found if isinstance(found, nn.Module) else found()
    except TypeError as error:
        if error.__traceback__ and error.__traceback__.tb_next:  # out of the factory itself
            raise
        raise ValueError(f"{text} must be {rule} ({error})") from error
    require(isinstance(model, nn.Module), text, rule, type(model).__name__)
    return model


def image_files(folder: Path, count: int) -> list[Path]:
    """The first `count` images in and below a folder, by name; hidden ones are left out."""
    require(folder.is_dir(), "--images", "a folder", folder)
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    seen = [path for path in found if "/." not in f"/{path.relative_to(folder).as_posix()}"]
    files = [path for path in seen if path.is_file()]
    rule = f"a folder with at least two images ({', '.join(SUFFIXES)})"
    require(len(files) >= 2, "--images", rule, f"{folder} with {len(files)}")
    return sorted(files)[:count]


def photographs(files: Sequence[Path], size: int, mode: str = "RGB") -> Tensor:
    """Images cropped at the center and resized: (N, C, size, size) in [0, 1]."""
    images = torch.empty(len(files), len(mode), size, size)
    for k, file in enumerate(progress(files, "reading")):
        photo = opened(file)
        known = photo.mode not in ("I", "F")  # what is white in these is not
        require(known, str(file), "of 8 or 16 bits", f"Pillow's mode {photo.mode}")
        fitted = ImageOps.fit(simplified(photo, mode), (size, size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(fitted)).view(size, size, -1)
        images[k] = pixels.permute(2, 0, 1) / 255
    return images


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
    """Sensitivity of layers and smoothness of their filters, in execution order. Images
    (N, C, H, W) in [0, 1] are deformed, then normalized, then moved to the model's device and type.
    ValueError if the network cannot take them."""
    control = deformation.sample(len(images), generator=generator)
    deformed = deformation.spline(images.shape[2:]).warp(images, control)
    if normalize:
        images, deformed = normalize(images), normalize(deformed)
    floating = [value for value in model.parameters() if value.is_floating_point()]
    like = floating[0] if floating else images
    images, deformed = images.to(like), deformed.to(like)
    try:
        cosine, euclidean = (
            sensitivity(model, images, deformed, layers, distance, batch_size)
            for distance in progress(("cosine", "euclidean"), "measuring")
        )
    except (RuntimeError, AssertionError) as error:
        shape = tuple(images.shape[1:])
        words = f"the network fails on images {shape}; see --size and --grey ({error})"
        raise ValueError(words) from error
    columns = (cosine, euclidean, smoothness(model, "kernel", layers))
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
    width = max(len(layer) for layer, *_ in table)
    lines = [f"{layer:{width}}  {a:>11}  {b:>9}  {c:>10}".rstrip() for layer, a, b, c in table]
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
    figure.savefig(path)
