"""`photos`: a small set of real images that needs no download, for quick mode.

A class is a place in a photograph, an example a view of it. Patches labelled by their photograph
would not do: colour alone solves them, and sensitivity collapses. So views are grey, and contrast,
brightness and sign vary.
"""

from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.nn import functional as F

from deformlib.seeding import stream

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera")
COUNTS = {"train": 4096, "test": 1024}
SIDE = 32
SHIFT = 14.0  # pixels, each way
REDUCTION = 3  # of the photographs, whose finest detail is smoother than that of small images


def views(split: str, size: int | None = None) -> tuple[Tensor, Tensor, list[str]]:
    """4,096 training or 1,024 test views of ten places, 32x32 if no size is given.

    Each is shifted by up to 14 px, 1 to 2 times larger, varied in contrast and brightness, flipped
    or not, inverted or not, and grey in three channels.

    Returns:
        uint8 (N, 3, size, size), labels int64 (N,), class names.
    """
    generator, side = stream(0, f"photos-{split}"), size or SIDE
    places, names = _places()
    labels = torch.arange(COUNTS[split], device="cpu") % len(names)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(labels), generator=generator, device="cpu")

    def coin() -> Tensor:
        return torch.randint(2, (len(labels),), generator=generator, device="cpu") * 2.0 - 1

    reach = places.shape[-1] / 2  # pixels from a place's center to the edge of its patch
    scale = SIDE / 2 / reach / uniform(1, 2)
    theta = torch.zeros(len(labels), 2, 3, device="cpu")  # view -> patch, as affine_grid has it
    theta[:, 0, 0], theta[:, 1, 1] = scale * coin(), scale
    theta[:, :, 2] = torch.stack([uniform(-SHIFT, SHIFT), uniform(-SHIFT, SHIFT)], 1) / reach
    grid = F.affine_grid(theta, [len(labels), 1, side, side], align_corners=False)
    patches = places[labels][:, None]
    x = F.grid_sample(patches, grid, align_corners=False, padding_mode="border")  # (N, 1, H, W)
    contrast, brightness = uniform(0.6, 1.2) * coin(), uniform(-0.15, 0.15)
    x = (x - 0.5) * contrast[:, None, None, None] + 0.5 + brightness[:, None, None, None]
    x = (x.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    return x, labels, names


def photograph(name: str) -> Tensor:
    """A public-domain photograph of scikit-image, one of PHOTOGRAPHS: uint8 (3, H, W)."""
    from skimage import data

    image = np.atleast_3d(getattr(data, name)())
    colours = np.broadcast_to(image, (*image.shape[:2], 3)).copy()
    return torch.from_numpy(colours).permute(2, 0, 1).contiguous()


def square(name: str) -> Tensor:
    """The middle square of a photograph, resized: (3, 224, 224) in [0, 1]."""
    image = ImageOps.fit(Image.fromarray(photograph(name).permute(1, 2, 0).numpy()), (224, 224))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def crops(count: int, side: int = 224) -> Tensor:
    """Random squares of the photographs in turn, in colour: (N, 3, side, side) in [0, 1].

    Each is at least half as large as its photograph allows, then resized. The same at every call.
    """
    generator, squares = stream(0, "photos-crops"), []
    for number in range(count):
        image = photograph(PHOTOGRAPHS[number % len(PHOTOGRAPHS)])
        size, top, left = torch.rand(3, generator=generator).tolist()
        height, width = image.shape[1:]
        length = round(min(height, width) * (1 + size) / 2)
        top, left = round(top * (height - length)), round(left * (width - length))
        square = image[None, :, top : top + length, left : left + length].float() / 255
        resized = F.interpolate(square, (side, side), mode="bilinear", antialias=True)
        squares.append(resized[0].clamp(0, 1))
    return torch.stack(squares)


def typeset_digits() -> Tensor:
    """The ten digits in Pillow's own typeface, white on black: (10, 1, 32, 32) in [0, 1]."""
    font = ImageFont.load_default(26)

    def drawn(digit: int) -> np.ndarray:
        image = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(image).text((SIDE / 2, SIDE / 2), str(digit), "white", font, anchor="mm")
        return np.array(image)

    return torch.from_numpy(np.stack([drawn(digit) for digit in range(10)]))[:, None] / 255


@cache
def _places() -> tuple[Tensor, list[str]]:
    """The two patches of most contrast in each photograph, reduced: (10, 64, 64), names."""
    patches, names, side = [], [], 2 * SIDE
    for name in PHOTOGRAPHS:
        grey = photograph(name).float().mean(0, keepdim=True) / 255  # (1, H, W)
        grey = F.avg_pool2d(grey, REDUCTION)[0]
        step = side // 2
        windows = grey.unfold(0, side, step).unfold(1, side, step)  # (rows, columns, side, side)
        contrast = windows.std((2, 3))
        for place in ("a", "b"):
            row, column = divmod(int(contrast.argmax()), contrast.shape[1])
            patches.append(windows[row, column])
            names.append(f"{name} {place}")
            contrast[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = -1  # no overlap
    return torch.stack(patches), names
