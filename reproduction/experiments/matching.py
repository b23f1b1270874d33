"""Is smoothness what makes a network stable? Weights given the spatial statistics of others.

Smoothness is a matter of a kernel's taps: of their second moments, a 9x9 matrix for each layer of
3x3 kernels. *Sufficient*: untrained weights are given those of the trained layer, and nothing else
of it. *Necessary*: trained weights are given those of the untrained layer, and keep all else.
Between the two lies a ladder of replacements that keep more and more of what training made, so that
what is spatial in a filter is told from how filters combine channels.

Scale. Batch norm divides by the standard deviation of each channel, so the size of a layer's
weights does not matter (but for its epsilon), and a matrix of second moments is taken as it is. A
strided convolution has no batch norm, but the convolution after it has. What counts is the size of
a change relative to the weights that it is added to, and that is kept.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deformlib import models, sensitivity, smoothness
from deformlib.seeding import stream
from reproduction.experiments import protocol, tasks
from reproduction.experiments.records import MatchingRecord
from reproduction.experiments.specs import Matching, Training

Weights = Callable[[Tensor, Tensor, torch.Generator], Tensor]
ROUNDING = 1e-12  # of second moments of float32 weights, relative to the largest


def second_moments(weight: Tensor) -> Tensor:
    """Mean over kernels of w w^T, not centred: (out, in, kh, kw) -> (kh * kw, kh * kw), float64."""
    kernels = weight.detach().double().flatten(2).flatten(0, 1)  # (out * in, kh * kw)
    return kernels.T @ kernels / len(kernels)


def recoloured(weight: Tensor, moments: Tensor) -> Tensor:
    """Kernels with the second moments `moments`, each the same linear map of what it was.

    (out, in, kh, kw), (kh * kw, kh * kw) -> (out, in, kh, kw) in the dtype of `weight`.

    Many linear maps do this, since a rotation may come between whitening and colouring. This one is
    symmetric, not negative, and changes the kernels least in mean square: the optimal transport
    between normal distributions (Olkin and Pukelsheim 1982). The usual product of two roots also
    rotates the space of taps, which nothing asks for.

    ValueError if the kernels do not vary in a direction in which `moments` want them to.
    """
    change = transport(second_moments(weight), moments.double())
    return (weight.double().flatten(2) @ change).view(weight.shape).to(weight.dtype)


def transport(before: Tensor, after: Tensor) -> Tensor:
    """The symmetric A >= 0 with A @ before @ A = after: (k, k), (k, k) -> (k, k), all float64.

    Written with the root of `after`, it needs no inverse of `before`: either may be singular.
    """
    root = power(after, 0.5)
    change = root @ power(root @ before @ root, -0.5) @ root
    if (change @ before @ change - after).norm() > 1e-6 * after.norm():
        raise ValueError("moments must be zero where those of weight are zero, got larger ones")
    return change


def power(matrix: Tensor, exponent: float) -> Tensor:
    """Power of a symmetric matrix that is not negative; zero where it is."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > ROUNDING * values.max()
    return vectors[:, kept] * values[kept] ** exponent @ vectors[:, kept].T


# A replacement's weights of one layer, from those before and after training.


def with_trained_moments(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Sufficient: untrained weights with the second moments of the trained ones."""
    return recoloured(before, second_moments(after))


def with_moments_of_change(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Sufficient, too: untrained weights, and added to them random ones with the second moments of
    the change. A trained weight is largely what it was, whose roughness hides the change's."""
    noise = torch.randn(before.shape, generator=generator, dtype=torch.float64)
    return before + recoloured(noise, second_moments(after - before)).to(before.dtype)


def with_initial_moments(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Necessary: trained weights with the second moments of the untrained ones."""
    return recoloured(after, second_moments(before))


def dealt(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Trained kernels, each between another pair of channels."""
    kernels = after.flatten(0, 1)  # (out * in, kh, kw)
    return kernels[torch.randperm(len(kernels), generator=generator)].view(after.shape)


def dealt_within_filters(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Trained kernels, each of them at another input channel of its filter."""
    inputs = after.shape[1]
    orders = [torch.randperm(inputs, generator=generator) for _ in after]
    return torch.stack([kernels[order] for kernels, order in zip(after, orders, strict=True)])


def misaligned(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Trained weights whose input channels have changed places, in all filters alike: a layer is
    what it was, but no longer fits the one below. The first, which sees colours, stays."""
    inputs = after.shape[1]
    return after if inputs <= 3 else after[:, torch.randperm(inputs, generator=generator)]


def as_trained(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Trained weights."""
    return after


def as_initial(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Untrained weights."""
    return before


@dataclass(frozen=True)
class Replacement:
    """How the weights of convolutions are replaced, of those whose kernels have sides of at least
    `side`: 3 is the paper's filters, 2 also what downsamples with a stride. `host` is the network
    that all else is of: "before", where batch norm's scale is 1 and its shift 0, or "after"."""

    weights: Weights
    host: str
    label: str
    side: int = 2


REPLACEMENTS: dict[str, Replacement] = {
    # A ladder from the initial to the trained network: each keeps what those above it keep.
    "moments": Replacement(with_trained_moments, "before", "second moments of the taps"),
    "kernels": Replacement(dealt, "before", "kernels, dealt anew"),
    "filters": Replacement(dealt_within_filters, "before", "filters, their inputs dealt anew"),
    "layers": Replacement(misaligned, "before", "layers, not fitting each other"),
    "weights": Replacement(as_trained, "before", "all weights, but not batch norm's"),
    # What is not on the ladder.
    "change": Replacement(with_moments_of_change, "before", "second moments of the change"),
    "batch norm": Replacement(as_initial, "after", "batch norm's scale and shift alone"),
    "without": Replacement(with_initial_moments, "after", "all but the second moments"),
    # Of the paper's filters alone: the same, unless a network downsamples with a stride.
    "moments, 3x3": Replacement(with_trained_moments, "before", "second moments, 3x3 alone", 3),
    "without, 3x3": Replacement(with_initial_moments, "after", "all but those, 3x3 alone", 3),
}
LADDER = ("moments", "kernels", "filters", "layers", "weights")


def convolutions(model: nn.Module, side: int) -> dict[str, nn.Conv2d]:
    """Those whose kernels have sides of at least `side`, by name."""
    modules = model.named_modules()
    convs = {name: module for name, module in modules if isinstance(module, nn.Conv2d)}
    return {name: conv for name, conv in convs.items() if min(conv.kernel_size) >= side}


@torch.no_grad()
def replaced(networks: Mapping[str, models.VGG], name: str, seed: int) -> models.VGG:
    """A network with one of REPLACEMENTS. `networks` are "before" and "after", and stay as is.

    A layer's random draws depend on seed, replacement and layer, not on how a network downsamples.
    """
    replacement = REPLACEMENTS[name]
    before = convolutions(networks["before"], replacement.side)
    after = convolutions(networks["after"], replacement.side)
    network = copy.deepcopy(networks[replacement.host])
    for layer, conv in convolutions(network, replacement.side).items():
        generator = stream(seed, f"matching, {name}, {layer}")
        weights = replacement.weights(before[layer].weight, after[layer].weight, generator)
        conv.weight.copy_(weights)
    return network


def measure_matching(
    spec: Matching, networks: Mapping[str, models.VGG], progress: Callable[[float], None]
) -> tuple[MatchingRecord, str]:
    """A record's measurements, and the images' identity. `networks` as for `replaced`."""
    task = tasks.load(spec.training)
    clean, deformed, others = images_of(spec.training, task, spec.images, spec.calibration)
    layers = list(networks["before"].layers)
    sensitivities, variations = {}, {}
    names = [*networks, *REPLACEMENTS]
    for done, name in enumerate(names, 1):
        network = networks[name] if name in networks else replaced(networks, name, spec.seed)
        found = sensitivity(protocol.calibrated(network, others), clean, deformed, layers)
        sensitivities[name] = [found[layer] for layer in layers]
        variations[name] = smoothness(network, "kernel")
        progress(done / len(names))
    filters = list(variations["before"])
    smoothnesses = {name: list(values.values()) for name, values in variations.items()}
    return MatchingRecord(layers, filters, sensitivities, smoothnesses), task.identity


def images_of(
    training: Training, task: tasks.Task, images: int, calibration: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean and deformed test images, and training images to calibrate on, as in the records of
    trainings; (N, C, H, W), as networks see them."""
    pixels = training.recipe.pixels
    order = protocol.measured_order(len(task.test_images), "test")[:images]
    clean = tasks.scale(task.test_images[order], "unit")
    deformation = protocol.deformation_of(training.data, clean.shape[-1])
    deformed = protocol.deformed_as(clean, deformation, "test-0")
    order = protocol.measured_order(len(task.images), "train")[:calibration]
    others = tasks.scale(task.images[order], pixels)
    return tasks.scale(clean, pixels), tasks.scale(deformed, pixels), others
