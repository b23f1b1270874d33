"""Training speed: our loop, a plain PyTorch loop, and a matrix product.

Both loops train the same CIFAR-10 network with the same recipe `augmented` on real images. The
plain loop is what a tutorial would write: DataLoader, torchvision transforms image by image,
float32, contiguous memory.
"""

import time
from collections.abc import Iterator

import numpy as np
import torch
from rows import DEVICE, Row, now
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from deformlib import models
from reproduction.experiments import data, tasks
from reproduction.experiments.hardware import arithmetic, fastest
from reproduction.experiments.studies import AUGMENTED
from reproduction.experiments.training import State, _step

REPETITIONS, SECONDS, SIDE = (5, 6.0, 2048) if DEVICE == "cpu" else (3, 2.0, 8192)
MEAN, STD = tasks.CHANNEL_MEAN, tasks.CHANNEL_STD


class Plain(Dataset):
    """One image at a time through torchvision transforms."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(32, padding=AUGMENTED.crop, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def steps_of_plain(dataset: Plain):
    """Endless steps of the plain loop, each giving the number of its images."""
    model = models.cifar10_vgg("max-pool", generator=torch.Generator().manual_seed(0)).to(DEVICE)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    while True:
        for images, labels in DataLoader(
            dataset, AUGMENTED.batch_size, shuffle=True, drop_last=True
        ):
            images, labels = images.to(DEVICE), labels.to(DEVICE)
            loss = F.cross_entropy(model(images), labels, label_smoothing=AUGMENTED.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(images)


def steps_of_ours(task: tasks.Task):
    """Endless steps of our loop, each giving the number of its images."""
    state = State.start(
        models.cifar10_vgg("max-pool", generator=torch.Generator().manual_seed(0)).to(DEVICE),
        AUGMENTED,
    )
    epoch = 0
    while True:
        for images, labels in tasks.batches(task, AUGMENTED, 0, epoch):
            with arithmetic(fastest(DEVICE), DEVICE):
                _step(state, images, labels, AUGMENTED, 10**6)
            yield len(images)
        epoch += 1


def steps_of_product(dtype: torch.dtype):
    """Endless matrix products, each giving the number of its multiply-adds times two."""
    a = torch.rand(SIDE, SIDE, device=DEVICE).to(dtype)
    while True:
        torch.mm(a, a)
        yield 2 * SIDE**3


def rate(steps, seconds: float) -> float:
    """What the steps give, per second."""
    start, total = now(), 0
    while time.perf_counter() - start < seconds:
        total += next(steps)
    return total / (now() - start)


def flops_per_image() -> float:
    """Of one training step, forward and backward, without element-wise work."""
    model = models.cifar10_vgg("max-pool")
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(8, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() / 8


def rows() -> Iterator[Row]:
    images, labels, classes = data.load("cifar10", "train")
    task = tasks.Task(images, labels, images[:1], labels[:1], classes, "").to(DEVICE)
    product = torch.bfloat16 if fastest(DEVICE) == "bfloat16" else torch.float32
    loops = {
        "plain": steps_of_plain(Plain(images, labels)),
        "ours": steps_of_ours(task),
        "product": steps_of_product(product),
    }
    for steps in loops.values():
        next(steps)
    rates = np.array(
        [[rate(steps, SECONDS) for steps in loops.values()] for _ in range(REPETITIONS)]
    )
    plain, ours, flops = rates.T
    work = f"training, {np.median(ours):.0f} images a second"
    yield Row(
        work,
        f"speed of a plain loop, {np.median(plain):.0f} images a second",
        list(ours / plain),
        ">= 2",
    )
    fraction = list(ours * flops_per_image() / flops)
    yield Row(work, f"rate of a {str(product).removeprefix('torch.')} product", fraction, ">= 0.75")
