"""One photograph of any size and mode, from file to file: read it, deform it, write it.

What `python -m deformlib deform` does between its options and the line that it prints.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.progress import track
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from deformlib.files import write_whole
from deformlib.warping import warp

STRIP = 256  # rows of a photograph deformed at a time: the matrix of ThinPlateSpline for 24 megapixels takes 2.6 GB
# What a photograph may become in a format that cannot hold it as it is, the best first.
SIMPLER = {"LA": ("RGBA", "L"), "RGBA": ("RGB",), "CMYK": ("RGB",), "I;16": ("L",)}


def writable(out: Path, force: bool) -> str:
    """Pillow's name of the format of `out`. ValueError or FileNotFoundError if it cannot or must not be written."""
    form = Image.registered_extensions().get(out.suffix.lower())
    if form not in Image.SAVE:
        raise ValueError(
            f"OUT must end in a suffix of a format that Pillow writes (.png, .jpg, .tif, .webp), got {out}"
        )
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent}")
    if out.exists() and not force:
        raise ValueError(f"{out} exists; --force overwrites it")
    return form


def opened(path: Path) -> Image.Image:
    """A photograph, upright, in a mode whose values can be averaged."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with Image.open(path) as file:
            photo = ImageOps.exif_transpose(file)
    except Exception as error:  # decoders raise whatever they like
        raise ValueError(f"{path} is not an image that can be read ({error})") from error
    if min(photo.size) < 2:
        raise ValueError(f"{path} must be at least 2x2 pixels, got {photo.width}x{photo.height}")
    if (
        (photo.mode in ("L", "RGB")
        and not photo.has_transparency_data)
        or photo.mode in (*SIMPLER, "I", "F")
    ):
        return photo
    if photo.mode.startswith("I;16"):  # of another byte order, which Pillow's convert clips
        return Image.fromarray(np.asarray(photo).astype(np.uint16))
    return photo.convert(
        ("L" if photo.mode in ("1", "L", "La") else "RGB")
        + ("A" if photo.has_transparency_data else "")
    )


def deformed(photo: Image.Image, control: Tensor, grid: int) -> Image.Image:
    """The photograph under the spline of control (K, 2), in strips of rows, so that memory stays small at any size."""
    width, height = photo.size
    pixels = np.asarray(photo).reshape(height, width, -1)
    points = np.stack(
        np.meshgrid(np.linspace(0, width - 1, grid), np.linspace(0, height - 1, grid)), -1
    ).reshape(-1, 2)
    spline = RBFInterpolator(points, control.double().numpy(), kernel="thin_plate_spline", degree=1)
    result = np.empty_like(pixels)
    for top in track(
        range(0, height, STRIP), "deforming", transient=True, disable=height <= 4 * STRIP
    ):
        y, x = np.mgrid[top : min(top + STRIP, height), :width]
        field = spline(np.stack([x, y], -1).reshape(-1, 2).astype(float)).reshape(*x.shape, 2)
        result[top : top + STRIP] = strip(pixels, field, top, alpha=photo.mode in ("LA", "RGBA"))
    moved = Image.frombytes(photo.mode, photo.size, result.tobytes())
    moved.info = {key: photo.info[key] for key in ("icc_profile", "dpi") if key in photo.info}
    return moved


def strip(pixels: np.ndarray, field: np.ndarray, top: int, alpha: bool) -> np.ndarray:
    """Rows from `top` of pixels (H, W, C) resampled along field (rows, W, 2), from only those rows that it reaches."""
    bottom = top + len(field)
    rows = np.arange(top, bottom)[:, None] + field[..., 1]
    first = max(0, min(top - 1, int(rows.min()) - 1))  # two rows at least, which `warp` needs
    last = max(bottom, min(len(pixels), int(rows.max()) + 3))
    values = torch.from_numpy(
        pixels[first:last].astype(np.float64 if pixels.itemsize > 2 else np.float32)
    )
    values = values.permute(2, 0, 1)[None]  # (1, C, rows that are reached, W)
    if alpha:  # the colour of a transparent pixel must not bleed
        values[:, :-1] *= values[:, -1:]
    padded = np.pad(field, ((top - first, last - bottom), (0, 0), (0, 0)))
    values = warp(values, torch.from_numpy(padded).to(values.dtype)[None])[
        0, :, top - first : bottom - first
    ]
    if alpha:
        values[:-1] /= values[-1:].clamp(min=1e-6)
    values = values if pixels.dtype.kind == "f" else values.round()
    return values.permute(1, 2, 0).numpy().astype(pixels.dtype)


def save(photo: Image.Image, out: Path, form: str) -> Image.Image:
    """Write the photograph, or the best that the format can hold of it, whole or not at all; returns what was written."""
    for mode in (photo.mode, *SIMPLER.get(photo.mode, ())):
        chosen = simplified(photo, mode)
        profile = (
            photo.info.get("icc_profile") if mode[0] == photo.mode[0] else None
        )  # of other colours it says nothing
        try:
            write_whole(out, lambda file: chosen.save(file, form, quality=95, icc_profile=profile))
            return chosen
        except (OSError, ValueError) as error:
            reason = error
    raise ValueError(f"{out} could not be written: {reason}") from reason


def simplified(photo: Image.Image, mode: str) -> Image.Image:
    """The photograph in another mode: transparency laid on white, 16 bits made 8."""
    if photo.mode == "I;16" and mode != photo.mode:
        photo = Image.fromarray((np.asarray(photo) // 257).astype(np.uint8))
    if photo.mode in ("LA", "RGBA") and mode in ("L", "RGB"):
        white = Image.new("RGBA", photo.size, "white")
        return Image.alpha_composite(white, photo.convert("RGBA")).convert(mode)
    return photo if photo.mode == mode else photo.convert(mode)
