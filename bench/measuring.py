"""Speed and memory of deforming and measuring, side by side in one process with the least that could do the same.

    python bench/measuring.py

`ThinPlateSpline.warp` against bare `grid_sample` whose grid is ready; `sensitivity` over all layers against two bare
forward passes over the same images, and its peak memory against one forward pass over clean and deformed images
together. Images are random, networks at initialization, memory contiguous, float32: time depends on none of it.
Repetitions alternate, so that whatever else the machine does falls on both sides; the median of the ratios of
neighbours is printed with its quartiles. Run it while nothing else runs. Memory needs Linux.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from deformlib import models
from deformlib.metrics import sensitivity
from deformlib.warping import Deformation

REPETITIONS = 15
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def ratios(ours: Callable[[], object], theirs: Callable[[], object]) -> list[float]:
    """Seconds of ours over seconds of theirs, one after the other, after a warm-up of both."""

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    seconds(ours), seconds(theirs)
    return [seconds(ours) / seconds(theirs) for _ in range(REPETITIONS)]


def peak_mb(work: Callable[[], object]) -> float:
    """How far `work` raises this process's memory at its highest."""

    def resident(field: str) -> int:
        return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(field))

    CLEAR.write_text("5")  # the highest so far is forgotten
    before = resident("VmRSS")
    work()
    return (resident("VmHWM") - before) / 1024


def warping(images: int, side: int, deformation: Deformation) -> tuple[str, list[float]]:
    x = torch.rand(images, 3, side, side)
    spline, control = deformation.spline((side, side)), deformation.sample(images)
    half = torch.tensor([(side - 1) / 2] * 2)
    pixels = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), -1)
    grid = (pixels + spline.field(control)) / half - 1
    bare = lambda: F.grid_sample(x, grid, padding_mode="border", align_corners=True)  # noqa: E731
    assert torch.allclose(bare(), spline.warp(x, control), atol=1e-4)
    return f"warp {images} of {side}x{side}, bare grid_sample", ratios(lambda: spline.warp(x, control), bare)


@torch.no_grad()
def measuring(model: models.VGG, images: int, side: int) -> list[tuple[str, list[float]]]:
    model.eval()
    clean, deformed = torch.rand(2, images, 3, side, side)
    layers = list(model.layers)
    name = f"sensitivity of {len(layers)} layers, {images} of {side}x{side},"
    rows = [(f"{name} two forward passes", ratios(
        lambda: sensitivity(model, clean, deformed, layers), lambda: (model(clean), model(deformed))))]
    if CLEAR.exists():
        together = torch.cat([clean, deformed])
        both = [(peak_mb(lambda: sensitivity(model, clean, deformed, layers)), peak_mb(lambda: model(together)))
                for _ in range(3)]
        rows.append((f"{name} memory, one pass ({both[-1][0]:.0f} / {both[-1][1]:.0f} MB)", [a / b for a, b in both]))
    return rows


def main() -> None:
    print(f"threads {torch.get_num_threads()}, load {os.getloadavg()[0]:.1f}, {torch.backends.cpu.get_cpu_capability()}")
    rows = [
        warping(32, 224, Deformation(5, 10.0)),
        warping(512, 32, Deformation(3, 2.0)),
        *measuring(models.cifar10_vgg("max-pool"), 128, 32),
        *measuring(models.imagenet_vgg("max-pool"), 16, 224),
    ]
    for name, values in rows:
        low, middle, high = np.percentile(values, [25, 50, 75])
        print(f"{name:88} {middle:6.2f}   quartiles {low:.2f} .. {high:.2f}")


if __name__ == "__main__":
    main()
