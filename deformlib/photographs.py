"""One photograph of any size and mode, from file to file: read it, deform it, write it."""

import io
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageChops, ImageOps, ImageStat
from torch import Tensor

from deformlib.command_line import check_writable, progress
from deformlib.files import write_whole
from deformlib.validation import require
from deformlib.warping import field_by_rows, warp

STRIP = 256  # rows of a photograph deformed at a time, so that memory stays small at any size
GROSS = 64  # of 255: a mean difference that no compression of a photograph makes
# Modes whose values can be averaged, each with those that hold the same values.
WIDER = {"L": ("LA", "RGB", "RGBA"), "LA": ("RGBA",), "RGB": ("RGBA",), "I;16": ("I",)}
MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
HOLDING = {mode: (mode, *WIDER.get(mode, ())) for mode in MODES}
# What a photograph may become in a format that cannot hold it, the best first.
SIMPLER = {"LA": ("RGBA", "L"), "RGBA": ("RGB",), "CMYK": ("RGB",), "I;16": ("L",)}


def writable(out: Path, force: bool) -> str:
    """Pillow's name of the format of `out`. ValueError if it cannot or must not be written."""
    form = Image.registered_extensions().get(out.suffix.lower(), "")
    valid = form in Image.SAVE and form in Image.OPEN
    rule = "a name with the suffix of a format that Pillow writes and reads (.png, .jpg, .tif)"
    require(valid, "OUT", rule, out)
    if out.exists() and not force:
        raise ValueError(f"{out} exists; --force overwrites it")
    check_writable(out)
    return form


def decoded(file: Path | IO[bytes]) -> Image.Image:
    """The image in a file, upright, its first frame. ValueError, with the reason, if it is none."""
    try:
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image)
    except Exception as error:  # decoders raise whatever they like
        raise ValueError(str(error)) from error


def opened(path: Path) -> Image.Image:
    """A photograph, upright, in a mode whose values can be averaged."""
    try:
        photo = averageable(decoded(path))
    except ValueError as error:
        raise ValueError(f"{path} is not an image that can be read ({error})") from error
    require(min(photo.size) >= 2, str(path), "at least 2x2 pixels", "x".join(map(str, photo.size)))
    return photo


def averageable(image: Image.Image) -> Image.Image:
    """The image in a mode of HOLDING: palettes resolved, transparency as a channel."""
    transparent = image.has_transparency_data
    if image.mode.startswith("I;16"):  # in either byte order; Pillow's own conversion clips
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in HOLDING and not (image.mode in ("L", "RGB") and transparent):
        return image
    colours = "L" if image.mode in ("1", "L", "La") else "RGB"
    return image.convert(colours + "A" if transparent else colours)


def unread(path: Path) -> list[str]:
    """What of an image file `opened` leaves out, in words."""
    lost = []
    with Image.open(path) as file:
        if file.mode[0] != "I" and ";16" in str(file.tile):
            lost.append(f"{path.name}: 8 of its 16 bits a channel")
        with suppress(Exception):  # decoders raise whatever they like, here at the end of the file
            file.seek(1)
            lost.append(f"{path.name}: all frames but the first")
    return lost


def deformed(photo: Image.Image, control: Tensor, grid: int) -> Image.Image:
    """The photograph under the spline of control (K, 2), computed in strips of rows."""
    width, height = photo.size
    pixels = np.asarray(photo).reshape(height, width, -1)
    field = field_by_rows((height, width), grid, control)
    result = np.empty_like(pixels)
    alpha = photo.mode in ("LA", "RGBA")
    for top in progress(range(0, height, STRIP), "deforming"):
        bottom = min(top + STRIP, height)
        result[top:bottom] = strip(pixels, field(top, bottom).numpy(), top, alpha)
    moved = Image.frombytes(photo.mode, photo.size, result.tobytes())
    moved.info = {"icc_profile": photo.info.get("icc_profile")}
    return moved


def strip(pixels: np.ndarray, field: np.ndarray, top: int, alpha: bool) -> np.ndarray:
    """Rows from `top` of pixels (H, W, C) under field (rows, W, 2), from those it reaches."""
    bottom = top + len(field)
    sources = np.arange(top, bottom)[:, None] + field[..., 1]  # (rows, W)
    first = max(0, min(top - 1, int(sources.min()) - 1))  # two rows at least, which `warp` needs
    last = max(bottom, min(len(pixels), int(sources.max()) + 3))
    dtype = np.float64 if pixels.itemsize > 2 else np.float32
    values = torch.from_numpy(pixels[first:last].astype(dtype)).permute(2, 0, 1)  # (C, reached, W)
    if alpha:  # the colour of a transparent pixel must not bleed
        values[:-1] *= values[-1:]
    padded = np.pad(field.astype(dtype), ((top - first, last - bottom), (0, 0), (0, 0)))
    values = warp(values[None], torch.from_numpy(padded)[None])[0]
    values = values[:, top - first : bottom - first]  # (C, rows, W)
    if alpha:
        values[:-1] /= values[-1:].clamp(min=1e-6)
    if pixels.dtype.kind != "f":
        values = values.round()
    return values.permute(1, 2, 0).numpy().astype(pixels.dtype)


def save(photo: Image.Image, out: Path, form: str) -> list[str]:
    """Write the photograph, or the best that the format can hold of it; what was lost, in words.
    ValueError if the format can hold nothing of the kind; then nothing is written."""
    reasons: list[Exception] = []
    for mode in (photo.mode, *SIMPLER.get(photo.mode, ())):
        chosen, file = simplified(photo, mode), io.BytesIO()
        try:
            chosen.save(file, form, quality=95, icc_profile=chosen.info.get("icc_profile"))
            lost = unlike(chosen, averageable(decoded(file)))
        except Exception as error:  # encoders too
            reasons.append(error)
            continue
        write_whole(out, partial(Path.write_bytes, data=file.getvalue()))
        if mode not in HOLDING[photo.mode]:
            lost = [f"cannot hold {photo.mode}, saved as {mode}", *lost]
        return [f"{form} {loss}" for loss in lost]
    raise ValueError(f"{out} was not written: {form} cannot hold {photo.mode} ({reasons[0]})")


def simplified(photo: Image.Image, mode: str) -> Image.Image:
    """The photograph in another mode: transparency laid on white, 16 bits made 8."""
    if photo.mode == mode:
        return photo
    info = photo.info if mode[0] == photo.mode[0] else {}  # of other colours it says nothing
    if photo.mode == "I;16":
        photo = Image.fromarray((np.asarray(photo) // 257).astype(np.uint8))
    if photo.mode in ("LA", "RGBA") and mode in ("L", "RGB"):
        white = Image.new("RGBA", photo.size, "white")
        photo = Image.alpha_composite(white, photo.convert("RGBA"))
    result = photo.convert(mode)
    result.info = {"icc_profile": info.get("icc_profile")}
    return result


def unlike(photo: Image.Image, kept: Image.Image) -> list[str]:
    """What differs between a photograph and what its file holds. ValueError if it is too much."""
    if kept.size != photo.size:
        raise ValueError(f"it would become {kept.width}x{kept.height} pixels")
    if kept.mode not in HOLDING[photo.mode]:
        raise ValueError(f"it would become {kept.mode}")
    kept = kept.convert(photo.mode)
    if np.array_equal(np.asarray(photo), np.asarray(kept), equal_nan=True):
        return []
    if photo.mode in ("I;16", "I", "F"):
        raise ValueError("its values would change")
    weighted = {"LA": "La", "RGBA": "RGBa"}.get(photo.mode, photo.mode)  # as colours are seen
    difference = ImageChops.difference(photo.convert(weighted), kept.convert(weighted))
    changed = max(ImageStat.Stat(difference).mean)
    words = f"changed values by {changed:.2g} of 255 on average"
    if changed > GROSS:
        raise ValueError(words)
    return [words] if changed else []
