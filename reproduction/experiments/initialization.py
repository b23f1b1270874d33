"""What needs no training: networks at initialization on photographs of full size, and their filters drawn anew.

At 224x224 the first layers of 256 images take 3 GB each. So a network advances layer by layer, in chunks of images,
and a layer's output takes the place of its input where it has the same shape.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from scipy import integrate, stats
from torch import Tensor

from deformlib import models
from deformlib.filters import AVERAGES, variation_and_size
from deformlib.seeding import stream
from reproduction.experiments import protocol
from reproduction.experiments.specs import Initialization, Resampling
from reproduction.experiments.tasks import scale

CHUNK = 8  # images of 224x224 that go through a layer at once; runs of 256 took 5.5 to 6.6 GB
CALIBRATION = 16  # in chunks of so many batch norm statistics are taken, and then averaged


def measure(
    spec: Initialization, model: models.VGG, progress: Callable[[float], None]
) -> tuple[dict[str, Any], str]:
    """Sensitivity of every layer, with identity and with calibrated batch norm statistics and to other sets of images, and
    smoothness of every filter bank: a record's measurements with one checkpoint, and the identity of the images."""
    further = (spec.sets or 1) - 1
    counts = {
        "images": spec.images,
        "calibration": spec.calibration,
        **({"sets": further * spec.images} if further else {}),
    }
    parts, identity = protocol.test_images(spec.data, spec.size, counts)
    (clean, _), (others, _), *more = parts
    names = protocol.layers_of(model)
    works = {"sensitivity": (lambda: model.eval(), clean, "test-0")}
    if spec.calibration:
        works["calibrated"] = (
            lambda: protocol.calibrated(model, scale(others, "unit"), CALIBRATION),
            clean,
            "test-0",
        )
    for k in range(further):
        works[f"test-{k + 1}"] = (
            lambda: model.eval(),
            more[0][0][k * spec.images : (k + 1) * spec.images],
            f"test-{k + 1}",
        )
    reduced: dict[str, list[dict[str, dict[str, float]]]] = {what: [] for what in works}
    for done, (what, (network, images, pair)) in enumerate(works.items()):
        for r in advance(network(), _clean_and_deformed(images, spec.data, pair)):
            reduced[what].append({d: protocol.statistics(*r.chunk(2), d) for d in protocol.WHOLE})
            progress((done + len(reduced[what]) / len(names["layers"])) / len(works))

    def lists(what: str, keep: dict[str, tuple[str, ...]]) -> dict[str, Any]:
        return {
            d: {name: [r[d][name] for r in reduced[what]] for name in kept}
            for d, kept in keep.items()
        }

    entry: dict[str, Any] = {"step": 0, "epoch": 0.0}
    entry |= {
        what: lists(what, protocol.WHOLE) for what in ("sensitivity", "calibrated") if what in works
    }
    if further:
        sets = {
            "test-0": "sensitivity",
            **{what: what for what in works if what.startswith("test-")},
        }
        entry["full"] = {
            "conditions": {name: lists(what, protocol.BRIEF) for name, what in sets.items()}
        }
    entry["smoothness"] = protocol.smoothness_of(model, protocol.banks_of(model))
    measurements = {
        "layers": names["layers"],
        "banks": names["banks"],
        "examples": len(clean),
        "checkpoints": [entry],
    }
    return measurements, identity


def _clean_and_deformed(images: Tensor, data: str, pair: str) -> Tensor:
    """(2N, C, H, W) of images (N, C, H, W), under the deformations of this pair in the protocols."""
    clean = scale(images, "unit")
    deformed = protocol.deformed_as(clean, protocol.deformation_of(data, clean.shape[-1]), pair)
    return torch.cat([clean, deformed]).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def advance(model: models.VGG, x: Tensor) -> Iterator[Tensor]:
    """The representations of `model.layers`, the pooled one and the logits, one after the other; `x`, (N, C, H, W), is
    the first, and each one is gone once the next is asked for."""
    yield x
    for name in (*model.layers[1:], *models.READOUT):
        module = model.get_submodule(name)
        out = None
        for start in range(0, len(x), CHUNK):
            part = module(x[start : start + CHUNK])
            if out is None:
                format = torch.channels_last if part.ndim == 4 else torch.contiguous_format
                same = part.shape[1:] == x.shape[1:]
                out = x if same else torch.empty((len(x), *part.shape[1:]), memory_format=format)
            out[start : start + CHUNK] = part
        x = out
        yield x


@torch.no_grad()
def resample(
    spec: Resampling, model: models.VGG, progress: Callable[[float], None]
) -> dict[str, Any]:
    """Mean and standard deviation over draws of each filter bank's smoothness, by both averages; lists over banks.

    Of banks with as many kernels as an earlier one there is nothing new to learn: they are left out.
    """
    shapes = {
        weight.shape[:2].numel(): (name, weight.shape)
        for name, weight in reversed(protocol.banks_of(model).items())
    }
    found: dict[str, Any] = {
        average: {"mean": [], "deviation": [], "draws": []} for average in AVERAGES
    }
    total, done, edge = spec.draws * sum(shapes), 0, math.erf(2 / math.sqrt(2))
    for kernels, (name, shape) in sorted(shapes.items()):
        generator = stream(spec.seed, f"resampling {name}")
        weight, values = (
            torch.empty(shape),
            {average: torch.empty(spec.draws) for average in AVERAGES},
        )
        for draw in range(spec.draws):
            # A normal truncated at two standard deviations, but for its scale, which smoothness does not have; 12 times as
            # fast as nn.init.trunc_normal_.
            weight.uniform_(-edge, edge, generator=generator).erfinv_()
            parts = variation_and_size(weight)
            for average, reduce in AVERAGES.items():
                values[average][draw] = reduce(*parts)
            done += kernels
            progress(done / total)
        for average, drawn in values.items():
            found[average]["mean"].append(drawn.double().mean().item())
            found[average]["deviation"].append(drawn.double().std().item())
            found[average]["draws"].append(spec.draws)
    return {"banks": [name for _, (name, _) in sorted(shapes.items())], **found}


def expected_variation(cutoff: float = 2.0) -> float:
    """The normalized total variation of many independent normal weights, truncated at `cutoff` standard deviations:
    TV over L1 norm of a bank as printed (Section 4.1), 12 E|X - Y| / (9 E|X|) for 3x3 kernels.

    1.857 for the paper's initialization (footnote 2); 4 sqrt(2) / 3 = 1.886 if nothing is cut off.
    """
    weight = stats.truncnorm(-cutoff, cutoff)
    difference = (
        2 * integrate.quad(lambda x: weight.cdf(x) * weight.sf(x), -cutoff, cutoff)[0]
    )  # E|X - Y|
    return 12 / 9 * difference / (2 * integrate.quad(lambda x: x * weight.pdf(x), 0, cutoff)[0])
