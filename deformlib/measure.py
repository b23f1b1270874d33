"""A network of yours: from its factory and a folder of photographs to a table of what was measured."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from tqdm import tqdm

from deformlib.filters import smoothness
from deformlib.metrics import sensitivity
from deformlib.named_objects import named_object
from deformlib.photographs import opened, simplified
from deformlib.warping import Deformation

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def network(text: str) -> nn.Module:
    """The network that the factory (or the instance) named by `text` gives. ValueError if that is not an nn.Module."""
    found = named_object(text)
    try:
        model = found if isinstance(found, nn.Module) else found()
    except TypeError as error:
        if error.__traceback__.tb_next:  # out of the factory, not of calling it
            raise
        raise ValueError(
            f"{text} must be a torch.nn.Module or give one when called without arguments ({error})"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{text} must give a torch.nn.Module, got {type(model).__name__}")
    return model


def photographs(folder: Path, size: int, count: int, mode: str = "RGB") -> Tensor:
    """The first `count` images of a folder and those below it, by name: (N, C, size, size) in [0, 1], cropped at the center.

    What is hidden, file or folder, is left out. ValueError for a folder with fewer than two images, or an image that cannot be read.
    """
    found = (
        file
        for file in Path(folder).rglob("*")
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not Path(folder).is_dir():
        raise ValueError(
            f"--images must be a folder, and {folder} is {'a file' if Path(folder).exists() else 'not there'}"
        )
    files = sorted(file for file in found if file.suffix.lower() in SUFFIXES)[:count]
    if len(files) < 2:
        raise ValueError(
            f"--images must be a folder with at least two images ({', '.join(sorted(SUFFIXES))}), and {folder} has {len(files)}"
        )
    images = []
    for file in tqdm(files, desc="images", unit="image", leave=False, disable=None):
        photo = opened(file)
        if photo.mode in ("I", "F"):  # nobody knows what is white in it
            raise ValueError(
                f"{file} must have values of 8 or 16 bits, got Pillow's mode {photo.mode}"
            )
        fitted = ImageOps.fit(simplified(photo, mode), (size, size), Image.Resampling.BILINEAR)
        images.append(np.asarray(fitted).reshape(size, size, -1))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def measured(
    model: nn.Module,
    images: Tensor,
    deformation: Deformation,
    layers: Sequence[str] | None = None,
    normalize: Callable[[Tensor], Tensor] = lambda x: x,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> pd.DataFrame:
    """Sensitivity of layers and smoothness of filters, a row each in execution order: index layer, columns sensitivity
    (normalized cosine distance), euclidean, smoothness (normalized total variation, mean over kernels; NaN where a
    layer is no convolution). Images (N, C, H, W) in [0, 1] are deformed, then normalized, then moved to the model's device
    and type. ValueError for images that the network cannot take."""
    like = next(
        (parameter for parameter in model.parameters() if parameter.is_floating_point()), images
    )
    control = deformation.sample(len(images), generator=generator)
    deformed = normalize(deformation.spline(images.shape[2:]).warp(images, control)).to(like)
    images = normalize(images).to(like)
    try:
        columns = {
            name: sensitivity(model, images, deformed, layers, distance, batch_size)
            for name, distance in (("sensitivity", "cosine"), ("euclidean", "euclidean"))
        }
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise
        raise ValueError(
            f"the network fails on images {tuple(images.shape[1:])}; see --size and --grey ({error})"
        ) from error
    rows = dict.fromkeys(
        [*columns["euclidean"], *columns["sensitivity"]]
    )  # cosine distance leaves out more
    table = (
        pd.DataFrame(columns)
        .reindex(list(rows))
        .assign(smoothness=pd.Series(smoothness(model, "kernel", layers), dtype=float))
    )
    return table.rename_axis("layer")
