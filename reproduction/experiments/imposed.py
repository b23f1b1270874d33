"""Smoothness imposed on a network: by a penalty while it is trained, or on its filters afterwards.

Batch norm makes a network indifferent to the scale of its filters. A penalty on total variation
would only shrink them, so it is the *normalized* variation that is penalized, which has no scale
either. And a smoothed filter is compared with a randomly changed one of the same length and at the
same angle to the original, since the length of either means nothing.

The third way is no constraint on filters at all: training on deformed images (Wong et al. 2016).
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from deformlib import Deformation, deform, models, sensitivity, smoothness
from deformlib.filters import filters_of, normalized_total_variation, smoothed
from deformlib.seeding import stream
from reproduction.experiments import protocol, tasks
from reproduction.experiments.matching import images_of
from reproduction.experiments.records import Smoothed, SmoothingRecord
from reproduction.experiments.specs import Smoothing
from reproduction.experiments.tasks import Task
from reproduction.experiments.training import State

# While it is trained.


def roughness(model: nn.Module) -> Tensor:
    """Normalized total variation, summed over the layers of filters; scalar, differentiable."""
    return sum(map(normalized_total_variation, filters_of(model).values()), torch.zeros(()))


def penalize(state: State, coefficient: float) -> RemovableHandle:
    """Add `coefficient` times the roughness of the network to the loss of every step from now on.

    A negative one makes filters rougher. The gradient is added just before the optimizer's step, so
    that the training loop and the loss that it reports are what they were. `remove` of what comes
    back ends it.
    """

    def add_gradient(optimizer: Optimizer, *_: Any) -> None:
        (coefficient * roughness(state.model)).backward()

    return state.optimizer.register_step_pre_hook(add_gradient)


def with_deformations(task: Task, deformation: Deformation) -> Task:
    """The task with every training image deformed, anew at every use; test images are not.

    For `training.train`. An `Instrument` would measure training images deformed as well, and is to
    be given the task as it was.
    """

    def vary(images: Tensor, generator: torch.Generator) -> Tensor:
        return deform(tasks.scale(images, "unit"), deformation, generator=generator)

    return replace(task, vary=vary)


# Afterwards.


def turned_as_far(weight: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Filters of the length of those of `weight`, at random, at the angle at which those of `other`
    are to them: (out, in, kh, kw), twice -> (out, in, kh, kw)."""
    length = weight.flatten(1).norm(dim=1, keepdim=True)  # (out, 1)
    unit = weight.flatten(1) / length
    cosine = cosines(weight, other)[:, None]
    noise = torch.randn(unit.shape, generator=generator).to(unit)
    aside = noise - (noise * unit).sum(1, keepdim=True) * unit
    aside = aside / aside.norm(dim=1, keepdim=True)
    turned = cosine * unit + (1 - cosine**2).clamp(min=0).sqrt() * aside
    return (length * turned).view(weight.shape)


def cosines(weight: Tensor, other: Tensor) -> Tensor:
    """Cosine of the angle between filters: (out, in, kh, kw), twice -> (out,)."""
    return torch.cosine_similarity(weight.flatten(1), other.flatten(1))


@torch.no_grad()
def with_filters(model: models.VGG, change: Callable[[str, Tensor], Tensor]) -> models.VGG:
    """A copy of the network with the filters that `change` makes of a layer's name and weight."""
    model = copy.deepcopy(model)
    for name, weight in filters_of(model).items():
        weight.copy_(change(name, weight))
    return model


@torch.no_grad()
def measure_smoothing(
    spec: Smoothing, networks: Mapping[str, models.VGG], progress: Callable[[float], None]
) -> tuple[SmoothingRecord, str]:
    """A record's measurements, and the images' identity; `networks` has "after"."""
    task, trained = tasks.load(spec.training), networks["after"]
    clean, deformed, others = images_of(spec.training, task, spec.images, spec.calibration)
    order = protocol.measured_order(len(task.test_images), "test")[: spec.probes]
    probes, labels = task.test_images[order], task.test_labels[order]
    layers = list(trained.layers)

    def measured(network: models.VGG) -> Smoothed:
        fresh = protocol.calibrated(network, others)
        found = sensitivity(fresh, clean, deformed, layers)
        guesses = protocol.logits(fresh, probes, spec.training.recipe.pixels).argmax(1)
        both = zip(filters_of(trained).values(), filters_of(network).values(), strict=True)
        return Smoothed(
            sensitivity=[found[layer] for layer in layers],
            smoothness=list(smoothness(network, "kernel").values()),
            turned=[float(cosines(*weights).mean()) for weights in both],
            accuracy=protocol.fraction(guesses == labels),
        )

    unchanged, softer, random = measured(trained), [], []
    for done, sigma in enumerate(spec.sigmas, 1):
        gentle, wild = smoothed_and_random(trained, sigma, spec.seed)
        softer.append(measured(gentle))
        random.append(measured(wild))
        progress(done / len(spec.sigmas))
    record = SmoothingRecord(
        layers, list(filters_of(trained)), len(probes), unchanged, softer, random
    )
    return record, task.identity


def smoothed_and_random(
    model: models.VGG, sigma: float, seed: int
) -> tuple[models.VGG, models.VGG]:
    """The network with its filters smoothed, and with them turned as far in random directions, the
    same for every sigma."""

    def randomly(name: str, weight: Tensor) -> Tensor:
        generator = stream(seed, f"random in place of smoothing, {name}")
        return turned_as_far(weight, smoothed(weight, sigma), generator)

    gentle = with_filters(model, lambda name, weight: smoothed(weight, sigma))
    return gentle, with_filters(model, randomly)
