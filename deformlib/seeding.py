"""Randomness: one independent stream per (seed, purpose, epoch); no random state is ever saved."""

import hashlib

import torch
from torch import Tensor

from deformlib.validation import require
from deformlib.vector_distances import power_of_two


def stream(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """A generator on the CPU whose draws depend on these three values alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def device_of(generator: torch.Generator | None) -> torch.device | str:
    """The device on which to draw: the generator's own, or the CPU if None."""
    valid = generator is None or isinstance(generator, torch.Generator)
    require(valid, "generator", "a torch.Generator or None", generator)
    return "cpu" if generator is None else generator.device


def noise_as_large(change: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Gaussian noise, image by image of the norm of `change` (N, ...)."""
    noise = torch.randn(change.shape, generator=generator, device=device_of(generator)).to(change)
    each = (len(change), *[1] * (change.ndim - 1))
    power = power_of_two(change.flatten(1).abs().amax(1)).view(each)  # so that no square overflows
    ratio = (change / power).flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    return noise * ratio.view(each) * power
