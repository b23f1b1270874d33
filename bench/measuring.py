"""Speed and memory of deforming and measuring.

Images are random, networks at initialization, memory contiguous, float32: time depends on none of
it. Memory needs Linux with glibc, the comparison with kornia the extra `bench`.
"""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from kornia.geometry.transform import get_tps_transform, warp_image_tps
from rows import DEVICE, Row, exponents, times_of
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from deformlib import models
from deformlib.metrics import distances, sensitivity
from deformlib.warping import Deformation, ThinPlateSpline

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def rows() -> Iterator[Row]:
    x, spline, control = case(32, 224, Deformation.IMAGENET)
    work = "warp, 32 images of 224x224, 5x5 grid"
    yield Row(work, "speed of kornia", inverse(against(by_kornia, x, spline, control, 5)), ">= 60")
    if DEVICE == "cpu":  # where SciPy computes
        assert torch.allclose(
            by_scipy(x[:1], spline, control[:1]), spline.warp(x[:1], control[:1]), atol=1e-3
        )
        yield Row(
            work,
            "speed of SciPy, image after image",
            inverse(against(by_scipy, x, spline, control, 5)),
            ">= 35",
        )
    yield Row(work, "time of bare grid_sample", against_grid_sample(x, spline, control), "<= 1.3")
    yield Row(
        "warp, 512 images of 32x32, 3x3 grid",
        "the same",
        against_grid_sample(*case(512, 32, Deformation.CIFAR10)),
        "<= 1.3",
    )
    yield from measuring(models.cifar10_vgg("max-pool"), 128, 32, 15)
    yield from measuring(models.imagenet_vgg("max-pool"), 16, 224, 5)
    if DEVICE == "cpu":  # a GPU takes the same time for all that does not fill it
        yield from growth()


def case(
    images: int, side: int, deformation: Deformation
) -> tuple[Tensor, ThinPlateSpline, Tensor]:
    x = torch.rand(images, 3, side, side, device=DEVICE)
    return (
        x,
        deformation.spline((side, side), device=DEVICE),
        deformation.sample(images, device=DEVICE),
    )


def inverse(ratios: list[float]) -> list[float]:
    return [1 / ratio for ratio in ratios]


def by_kornia(x: Tensor, spline: ThinPlateSpline, control: Tensor) -> Tensor:
    half = (x.shape[-1] - 1) / 2  # images are square: kornia's unit is that of grid_sample
    points = (spline.points / half - 1).expand(len(x), -1, -1)
    sources = (
        points + control / half
    )  # where its kernels stand, so between points its field is another
    return warp_image_tps(
        x, sources, *get_tps_transform(points, sources), align_corners=True, padding_mode="border"
    )


def by_scipy(x: Tensor, spline: ThinPlateSpline, control: Tensor) -> Tensor:
    y, points = (
        torch.cartesian_prod(*(torch.arange(float(side)) for side in spline.size)),
        spline.points.double(),
    )
    warped = torch.empty_like(x)
    for image, displacements, result in zip(x, control, warped):
        field = RBFInterpolator(points, displacements, kernel="thin_plate_spline", degree=1)(
            y.flip(1)
        )  # (H*W, 2), (dx, dy)
        places = y.T.numpy() + field.T[::-1]
        for channel, values in zip(image, result):
            values.view(-1).numpy()[:] = map_coordinates(
                channel.numpy(), places, order=1, mode="nearest"
            )
    return warped


def against(
    other: Callable[..., Tensor],
    x: Tensor,
    spline: ThinPlateSpline,
    control: Tensor,
    repetitions: int,
) -> list[float]:
    return times_of(lambda: spline.warp(x, control), lambda: other(x, spline, control), repetitions)


def against_grid_sample(x: Tensor, spline: ThinPlateSpline, control: Tensor) -> list[float]:
    """The limit: the same displacements, with the grid ready."""
    side = x.shape[-1]
    line = torch.arange(side, device=DEVICE)
    pixels = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    grid = (pixels + spline.field(control)) / ((side - 1) / 2) - 1
    bare = lambda: F.grid_sample(x, grid, padding_mode="border", align_corners=True)  # noqa: E731
    assert torch.allclose(bare(), spline.warp(x, control), atol=1e-4)
    return times_of(lambda: spline.warp(x, control), bare)


@torch.no_grad()
def measuring(model: models.VGG, images: int, side: int, repetitions: int) -> Iterator[Row]:
    model.eval().to(DEVICE)
    clean, deformed = torch.rand(2, images, 3, side, side, device=DEVICE)
    layers = list(model.layers)
    ours = lambda: sensitivity(model, clean, deformed, layers)  # noqa: E731
    work = f"sensitivity, {len(layers)} layers, {images} images of {side}x{side}"
    yield Row(
        work,
        "time of two forward passes",
        times_of(ours, lambda: (model(clean), model(deformed)), repetitions),
        "<= 1.25",
    )
    if DEVICE == "cuda" or CLEAR.exists():
        together = torch.cat([clean, deformed])
        both = [(peak_mb(ours), peak_mb(lambda: model(together))) for _ in range(3)]
        one = f"memory of one pass over both ({both[-1][0]:.0f} / {both[-1][1]:.0f} MB)"
        yield Row(work, one, [a / b for a, b in both], "<= 1.3")


def peak_mb(work: Callable[[], object]) -> float:
    """How far `work` raises this process's memory at its highest, or the GPU's."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def resident(field: str) -> int:
        return next(
            int(text.split()[1])
            for text in STATUS.read_text().splitlines()
            if text.startswith(field)
        )

    ctypes.CDLL(None).malloc_trim(
        0
    )  # what earlier work freed and the process kept would count for it, and then not at all
    CLEAR.write_text("5")  # the highest so far is forgotten
    before = resident("VmRSS")
    work()
    return (resident("VmHWM") - before) / 1024


@torch.no_grad()
def growth() -> Iterator[Row]:
    """Powers by which time grows; `distances` is `sensitivity` without its quadratic pairs."""
    model = models.cifar10_vgg("max-pool", width=0.25)

    def warping(images: int, side: int, grid: int) -> Callable[[], object]:
        x, spline, control = case(images, side, Deformation(grid, 2.0))
        return lambda: spline.warp(x, control)

    def moving(images: int, side: int) -> Callable[[], object]:
        clean, deformed = torch.rand(2, images, 3, side, side)
        return lambda: distances(model, clean, deformed, model.layers)

    counts, sides, grids = (32, 128, 512, 4096), (32, 64, 128, 256), (3, 5, 7, 9)
    yield Row(
        "warp",
        "images, 32 to 4,096: power of",
        exponents({n: warping(n, 32, 3) for n in counts}),
        "<= 1.1",
    )
    yield Row(
        "warp",
        "pixels, 32x32 to 256x256: power of",
        exponents({s**2: warping(32, s, 5) for s in sides}),
        "<= 1.1",
    )
    yield Row(
        "warp",
        "control points, 3x3 to 9x9: power of",
        exponents({g**2: warping(32, 128, g) for g in grids}),
        "<= 1.1",
    )
    yield Row(
        "distances, 13 layers",
        "images, 32 to 4,096: power of",
        exponents({n: moving(n, 32) for n in counts}, 3),
        "<= 1.1",
    )
    yield Row(
        "distances, 13 layers",
        "pixels, 32x32 to 256x256: power of",
        exponents({s**2: moving(8, s) for s in sides}),
        "<= 1.1",
    )
