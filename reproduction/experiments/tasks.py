"""What a network is trained on: images and labels in memory, and batches of them by epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from deformlib.seeding import noise_as_large, stream
from deformlib.validation import require
from deformlib.warping import Deformation, deform
from reproduction.experiments import data
from reproduction.experiments.recipes import Recipe
from reproduction.experiments.specs import Training


@dataclass(frozen=True)
class Task:
    """Images (N, C, H, W), uint8 or floating point (1 is white), and labels int64 (N,).

    identity                 of the decoded images and labels of the chosen classes, as they were
                             before any change (`data.identity`)
    vary(images, generator)  makes examples anew from `images` whenever they are used
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: list[str]
    identity: str
    vary: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def to(self, device: torch.device | str) -> "Task":
        """The same task with images and labels on another device; random draws stay on the CPU."""
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )


def real(task: Task, spec: Training) -> Task:
    """The images and labels of the data set."""
    return task


def random_labels(task: Task, spec: Training) -> Task:
    """Uniform random labels, the same in every epoch (Section 5, after Zhang et al. 2016)."""
    generator = stream(spec.label_seed or 0, "labels")
    labels = torch.randint(len(task.classes), task.labels.shape, generator=generator)
    return replace(task, labels=labels)


def gaussian_images(task: Task, spec: Training) -> Task:
    """Images from the normal distribution with the mean and covariance of the data; random labels.

    "Random images (modifying P(X))" of Section 5. Test images stay natural.
    """
    x = task.images.flatten(1).double()  # (N, C * H * W)
    mean = x.mean(0)
    x -= mean
    covariance = x.T @ x / len(x)
    values, vectors = torch.linalg.eigh(covariance)  # of few images it is singular
    root = vectors * values.clamp(min=0).sqrt()
    images = _drawn(task, spec, mean.float(), root.T.float())
    return random_labels(replace(task, images=images), spec)


def white_images(task: Task, spec: Training) -> Task:
    """Images of independent normal pixels with each pixel's mean and variance; random labels."""
    x = task.images.flatten(1).float()
    images = _drawn(task, spec, x.mean(0), x.std(0))
    return random_labels(replace(task, images=images), spec)


def _drawn(task: Task, spec: Training, mean: Tensor, root: Tensor) -> Tensor:
    """As many images as the task has, z @ root + mean (z * root + mean if root is a vector),
    rounded and clipped."""
    generator = stream(spec.label_seed or 0, "images")
    parts = []
    for chunk in task.images.split(2048):
        z = torch.randn(len(chunk), chunk[0].numel(), generator=generator)
        x = (z @ root if root.ndim == 2 else z * root) + mean
        parts.append(x.round().clamp(0, 255).to(torch.uint8).reshape(chunk.shape))
    return torch.cat(parts)


COPIES = 6400  # examples of templates in an epoch: 100 batches of 64
Change = Callable[[Tensor, Deformation, torch.Generator], Tensor]


def templates(task: Task, spec: Training) -> Task:
    """`classes` single images, each a class, deformed at random anew at every use (Section 4.3)."""
    return _varied(task, spec, _deformed)


def templates_in_noise(task: Task, spec: Training) -> Task:
    """The control of `templates`: Gaussian noise as large as the change by the deformation.

    Floating point and not clipped: most of a digit is black or white, and clipping would take off a
    quarter of the noise.
    """
    return _varied(task, spec, _noisy)


def _varied(task: Task, spec: Training, change: Change) -> Task:
    count, known = spec.classes or 0, len(task.images)
    require(2 <= count <= known, "classes", f"in 2..{known} for templates", spec.classes)
    order = torch.randperm(known, generator=stream(spec.label_seed or 0, "templates"))
    deformation = Deformation(Deformation.CIFAR10.grid, spec.strength or 0.0)

    def vary(images: Tensor, generator: torch.Generator) -> Tensor:
        return change(images, deformation, generator)

    labels = torch.arange(COPIES) % count
    images = task.images[order[:count]][labels]
    tests = min(len(task.test_images), COPIES)
    return Task(
        images=images,
        labels=labels,
        test_images=vary(images[:tests], stream(0, "test examples")),
        test_labels=labels[:tests],
        classes=[f"template {k}" for k in range(count)],
        identity=task.identity,
        vary=vary,
    )


def _deformed(images: Tensor, deformation: Deformation, generator: torch.Generator) -> Tensor:
    moved = deform(scale(images, "unit"), deformation, generator=generator)
    return (255 * moved).round().to(torch.uint8)


def _noisy(images: Tensor, deformation: Deformation, generator: torch.Generator) -> Tensor:
    x = scale(images, "unit")
    change = deform(x, deformation, generator=generator) - x
    return x + noise_as_large(change, generator)


TASKS: dict[str, Callable[[Task, Training], Task]] = {
    "real": real,
    "random-labels": random_labels,
    "gaussian-images": gaussian_images,
    "white-images": white_images,
    "templates": templates,
    "templates-in-noise": templates_in_noise,
}
TEMPLATE_TASKS = ("templates", "templates-in-noise")


def load(spec: Training) -> Task:
    """The task of a training. ValueError for what its data set cannot give: examples, classes, or
    colour for standardized pixels."""
    of_templates = spec.task in TEMPLATE_TASKS
    chosen = None if of_templates else spec.classes
    images, labels, classes = data.load(spec.data, "train", size=spec.size, classes=chosen)
    test_images, test_labels, _ = data.load(spec.data, "test", size=spec.size, classes=chosen)
    grey = images.shape[1] != len(CHANNEL_MEAN)
    if grey and spec.recipe.pixels == "standardized":
        raise ValueError(
            f"pixels must be 'unit' for {spec.data}, which is grey, got 'standardized'"
        )
    identity = data.identity(images, labels, test_images, test_labels)
    task = Task(images, labels, test_images, test_labels, classes, identity)
    if spec.examples is not None:
        task = _subset(task, spec)
    return TASKS[spec.task](task, spec)


def _subset(task: Task, spec: Training) -> Task:
    """The same random `examples` images for all variants and seeds."""
    count, known = spec.examples or 0, len(task.images)
    require(count <= known, "examples", f"in 1..{known} for {spec.data}", count)
    kept = torch.randperm(known, generator=stream(0, "subset"))[:count]
    return replace(task, images=task.images[kept], labels=task.labels[kept])


# Per-channel mean and deviation of CIFAR-10's training pixels in [0, 1].
CHANNEL_MEAN = (0.4914, 0.4822, 0.4465)
CHANNEL_STD = (0.2470, 0.2435, 0.2616)


def scale(images: Tensor, pixels: str) -> Tensor:
    """Images (N, C, H, W) as a network sees them; `pixels` is "unit" or "standardized".

    They are uint8, or floating point in [0, 1]; "standardized" is for three channels.
    """
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    if pixels == "unit":
        return x
    mean = x.new_tensor(CHANNEL_MEAN)[:, None, None]
    std = x.new_tensor(CHANNEL_STD)[:, None, None]
    return (x - mean) / std


def batches(task: Task, recipe: Recipe, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(float (B, C, H, W), int64 (B,)): each example once, in an order of the epoch's own; the last
    few, which fill no batch, are left out."""
    order = torch.randperm(len(task.images), generator=stream(seed, "order", epoch))
    order = order[: len(order) // recipe.batch_size * recipe.batch_size].to(task.images.device)
    generator = stream(seed, "augmentation", epoch)
    for index in order.split(recipe.batch_size):
        images = task.images[index]
        if task.vary is not None:
            images = task.vary(images, generator)
        yield scale(augment(images, recipe, generator), recipe.pixels), task.labels[index]


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """A batch (N, C, H, W), each image shifted and flipped at random as the recipe says."""
    if recipe.crop:
        images = _shifted(images, recipe.crop, generator)
    if recipe.flip:
        flipped = torch.randint(2, (len(images),), generator=generator).bool().to(images.device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images


def _shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to `most` pixels along each side, reflected at the edge."""
    n, channels, height, width = images.shape
    device = images.device
    padded = F.pad(images.float(), [most] * 4, mode="reflect").to(images.dtype)
    dy, dx = torch.randint(2 * most + 1, (2, n, 1), generator=generator).to(device)
    rows = (dy + torch.arange(height, device=device))[:, None, :, None]  # (N, 1, H, 1)
    columns = (dx + torch.arange(width, device=device))[:, None, None, :]  # (N, 1, 1, W)
    example = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return padded[example, channel, rows, columns]
