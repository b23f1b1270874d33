"""What a network is trained on: images and labels in memory, and batches of them by epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from . import data
from .streams import stream

if TYPE_CHECKING:
    from .specs import Training
    from .training import Recipe


@dataclass(frozen=True)
class Task:
    """Images uint8 (N, C, H, W) and labels int64 (N,) to train on, others to test on, and the class names.

    `identity` is that of the decoded data set (`deformlib.data.identity`), before any change to labels.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: list[str]
    identity: str


def real_labels(task: Task, spec: "Training") -> Tensor:
    """The labels of the data set."""
    return task.labels


def random_labels(task: Task, spec: "Training") -> Tensor:
    """Uniform random labels, the same in every epoch (Section 5, after Zhang et al. 2016); drawn by `label_seed`."""
    generator = stream(spec.label_seed or 0, "labels")
    return torch.randint(len(task.classes), task.labels.shape, generator=generator)


TASKS: dict[str, Callable[[Task, "Training"], Tensor]] = {"real": real_labels, "random-labels": random_labels}


def load(spec: "Training") -> Task:
    """The task of a training spec. ValueError for a task, data set or number of examples that does not exist."""
    if spec.task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {spec.task!r}")
    images, labels, classes = data.load(spec.data, "train", size=spec.size)
    test_images, test_labels, _ = data.load(spec.data, "test", size=spec.size)
    identity = data.identity(images, labels, test_images, test_labels)
    if spec.examples is not None:
        if not 1 <= spec.examples <= len(images):
            raise ValueError(f"examples must be in 1..{len(images)} for {spec.data}, got {spec.examples}")
        keep = torch.randperm(len(images), generator=stream(0, "subset"))[: spec.examples]
        images, labels = images[keep], labels[keep]
    task = Task(images, labels, test_images, test_labels, classes, identity)
    return Task(images, TASKS[spec.task](task, spec), test_images, test_labels, classes, identity)


# Per-channel mean and standard deviation of CIFAR-10's training pixels in [0, 1], for pixels="standardized".
CHANNEL_MEAN, CHANNEL_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def scale(images: Tensor, pixels: str) -> Tensor:
    """uint8, or floating point in [0, 1], (N, C, H, W) -> float32 as a network sees it: "unit" or "standardized"."""
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    if pixels == "unit":
        return x
    mean, std = (x.new_tensor(values)[:, None, None] for values in (CHANNEL_MEAN, CHANNEL_STD))
    return (x - mean) / std


def batches(task: Task, recipe: "Recipe", seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(float (B, C, H, W), int64 (B,)): each example once an epoch in an order of its own, the last few left out."""
    order = torch.randperm(len(task.images), generator=stream(seed, "order", epoch)).to(task.images.device)
    generator = stream(seed, "augmentation", epoch)
    for index in order[: len(order) // recipe.batch_size * recipe.batch_size].split(recipe.batch_size):
        yield scale(augment(task.images[index], recipe, generator), recipe.pixels), task.labels[index]


def augment(images: Tensor, recipe: "Recipe", generator: torch.Generator) -> Tensor:
    """Left-right flips and shifts by up to `recipe.crop` pixels, reflected at the edge, all of a batch at once."""
    n, _, height, width = images.shape
    if recipe.crop:
        padded = F.pad(images.float(), [recipe.crop] * 4, mode="reflect").to(images.dtype)
        dy, dx = torch.randint(2 * recipe.crop + 1, (2, n, 1), generator=generator).to(images.device)
        rows = (dy + torch.arange(height, device=images.device))[:, None, :, None]  # (N, 1, H, 1)
        columns = (dx + torch.arange(width, device=images.device))[:, None, None, :]  # (N, 1, 1, W)
        example = torch.arange(n, device=images.device)[:, None, None, None]
        channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
        images = padded[example, channel, rows, columns]
    if recipe.flip:
        flipped = torch.randint(2, (n,), generator=generator).bool().to(images.device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images
