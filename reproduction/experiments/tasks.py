"""What a network is trained on: images and labels in memory, and batches of them by epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from deformlib.seeding import noise_as_large, stream
from deformlib.validation import check_known, require
from deformlib.warping import Deformation, deform
from reproduction.experiments import data
from reproduction.experiments.specs import Recipe, Training


@dataclass(frozen=True)
class Task:
    """Images (N, C, H, W), uint8 or floating point (1 is white), and labels int64 (N,) to train on, others
    to test on, and the class names.

    `identity` is that of the decoded images and labels (`reproduction.experiments.data.identity`) of the chosen classes, before any change to them.
    `vary(images, generator)`, if there is one, makes examples anew from `images` whenever they are used.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: list[str]
    identity: str
    vary: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def to(self, device: torch.device | str) -> "Task":
        """The same task with its images and labels on another device; all random draws stay on the CPU."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("images", "labels", "test_images", "test_labels")
        }
        return replace(self, **moved)


def real(task: Task, spec: Training) -> Task:
    """The images and labels of the data set."""
    return task


def random_labels(task: Task, spec: Training) -> Task:
    """Uniform random labels, the same in every epoch (Section 5, after Zhang et al. 2016); drawn by `label_seed`."""
    generator = stream(spec.label_seed or 0, "labels")
    return replace(
        task, labels=torch.randint(len(task.classes), task.labels.shape, generator=generator)
    )


def gaussian_images(task: Task, spec: Training) -> Task:
    """Images from the normal distribution with the mean and full covariance of the data's, random labels.

    "Random images (modifying P(X))" of Section 5. Test images stay natural.
    """
    x = task.images.flatten(1).double()
    x -= (mean := x.mean(0))
    values, vectors = torch.linalg.eigh(
        x.T @ x / len(x)
    )  # eigh, as the covariance of few images is singular
    root = vectors * values.clamp(min=0).sqrt()
    return random_labels(
        replace(task, images=_drawn(task, spec, mean.float(), root.T.float())), spec
    )


def white_images(task: Task, spec: Training) -> Task:
    """Images of independent normal pixels, with each pixel's mean and variance in the data (but for clipping), random labels."""
    x = task.images.flatten(1).float()
    return random_labels(replace(task, images=_drawn(task, spec, x.mean(0), x.std(0))), spec)


def _drawn(task: Task, spec: Training, mean: Tensor, root: Tensor) -> Tensor:
    """As many images as the task has, z @ root + mean (z * root + mean if root is a vector), rounded and clipped."""
    generator, parts = stream(spec.label_seed or 0, "images"), []
    for chunk in task.images.split(2048):
        z = torch.randn(len(chunk), chunk[0].numel(), generator=generator)
        x = (z @ root if root.ndim == 2 else z * root) + mean
        parts.append(x.round().clamp(0, 255).to(torch.uint8).reshape(chunk.shape))
    return torch.cat(parts)


COPIES = 6400  # examples of templates in an epoch: 100 batches of 64


def templates(task: Task, spec: Training) -> Task:
    """`classes` single images, each a class; its examples are the image deformed at random, at every use anew (4.3)."""
    return _varied(task, spec, _deformed)


def templates_in_noise(task: Task, spec: Training) -> Task:
    """The control of `templates`: in place of the deformation, Gaussian noise as large as the change it would make. Its
    examples are floating point, and not clipped: most of a digit is black or white, and clipping would take off a quarter."""
    return _varied(task, spec, _noisy)


def _varied(
    task: Task, spec: Training, change: Callable[[Tensor, Deformation, torch.Generator], Tensor]
) -> Task:
    if spec.strength is None or not 2 <= (spec.classes or 0) <= len(task.images):
        raise ValueError(
            f"strength must be > 0, in pixels, and classes in 2..{len(task.images)} for templates, "
            f"got {spec.strength} and {spec.classes}"
        )
    chosen = torch.randperm(len(task.images), generator=stream(spec.label_seed or 0, "templates"))[
        : spec.classes
    ]
    deformation = Deformation(Deformation.CIFAR10.grid, spec.strength)

    labels = torch.arange(COPIES) % spec.classes
    images, vary = (
        task.images[chosen][labels],
        lambda x, generator: change(x, deformation, generator),
    )
    tests = min(len(task.test_images), COPIES)
    return Task(
        images,
        labels,
        vary(images[:tests], stream(0, "test examples")),
        labels[:tests],
        [f"template {k}" for k in range(spec.classes)],
        task.identity,
        vary,
    )


def _deformed(images: Tensor, deformation: Deformation, generator: torch.Generator) -> Tensor:
    return (
        (255 * deform(scale(images, "unit"), deformation, generator=generator))
        .round()
        .to(torch.uint8)
    )


def _noisy(images: Tensor, deformation: Deformation, generator: torch.Generator) -> Tensor:
    x = scale(images, "unit")
    return x + noise_as_large(deform(x, deformation, generator=generator) - x, generator)


TASKS: dict[str, Callable[[Task, Training], Task]] = {
    "real": real,
    "random-labels": random_labels,
    "gaussian-images": gaussian_images,
    "white-images": white_images,
    "templates": templates,
    "templates-in-noise": templates_in_noise,
}


def load(spec: Training) -> Task:
    """The task of a training spec. ValueError for a task, data set or number of examples that does not exist."""
    check_known("task", spec.task, TASKS)
    chosen = None if "templates" in spec.task else spec.classes
    images, labels, classes = data.load(spec.data, "train", size=spec.size, classes=chosen)
    test_images, test_labels, _ = data.load(spec.data, "test", size=spec.size, classes=chosen)
    task = Task(
        images,
        labels,
        test_images,
        test_labels,
        classes,
        data.identity(images, labels, test_images, test_labels),
    )
    if spec.examples is not None:
        require(
            1 <= spec.examples <= len(task.images),
            "examples",
            f"in 1..{len(task.images)} for {spec.data}",
            spec.examples,
        )
        keep = torch.randperm(len(task.images), generator=stream(0, "subset"))[: spec.examples]
        task = replace(task, images=task.images[keep], labels=task.labels[keep])
    return TASKS[spec.task](task, spec)


# Per-channel mean and standard deviation of CIFAR-10's training pixels in [0, 1], for pixels="standardized".
CHANNEL_MEAN, CHANNEL_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def scale(images: Tensor, pixels: str) -> Tensor:
    """uint8, or floating point in [0, 1], (N, C, H, W) -> floating point as a network sees it: "unit" or "standardized".

    ValueError for "standardized" images of other than three channels: the constants are CIFAR-10's.
    """
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    if pixels == "unit":
        return x
    require(x.shape[1] == 3, "pixels", "unit for images of other than three channels", repr(pixels))
    mean, std = (x.new_tensor(values)[:, None, None] for values in (CHANNEL_MEAN, CHANNEL_STD))
    return (x - mean) / std


def batches(task: Task, recipe: Recipe, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(float (B, C, H, W), int64 (B,)): each example once an epoch in an order of its own, the last few left out."""
    order = torch.randperm(len(task.images), generator=stream(seed, "order", epoch)).to(
        task.images.device
    )
    generator = stream(seed, "augmentation", epoch)
    for index in order[: len(order) // recipe.batch_size * recipe.batch_size].split(
        recipe.batch_size
    ):
        images = (
            task.images[index] if task.vary is None else task.vary(task.images[index], generator)
        )
        yield scale(augment(images, recipe, generator), recipe.pixels), task.labels[index]


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Left-right flips and shifts by up to `recipe.crop` pixels, reflected at the edge, all of a batch at once."""
    n, _, height, width = images.shape
    if recipe.crop:
        padded = F.pad(images.float(), [recipe.crop] * 4, mode="reflect").to(images.dtype)
        dy, dx = torch.randint(2 * recipe.crop + 1, (2, n, 1), generator=generator).to(
            images.device
        )
        rows = (dy + torch.arange(height, device=images.device))[:, None, :, None]  # (N, 1, H, 1)
        columns = (dx + torch.arange(width, device=images.device))[:, None, None, :]  # (N, 1, 1, W)
        example = torch.arange(n, device=images.device)[:, None, None, None]
        channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
        images = padded[example, channel, rows, columns]
    if recipe.flip:
        flipped = torch.randint(2, (n,), generator=generator).bool().to(images.device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images
