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

from . import models, protocol
from .metrics import AVERAGES, variation_and_size
from .specs import Initialization, Resampling
from .streams import stream
from .tasks import scale

CHUNK = 8  # images of 224x224 that go through a layer at once; runs of 256 took 5.5 to 6.6 GB
CALIBRATION = 16  # in chunks of so many batch norm statistics are taken, and then averaged


def measure(spec: Initialization, model: models.VGG, progress: Callable[[float], None]) -> tuple[dict[str, Any], str]:
    """Sensitivity of every layer, with identity and with calibrated batch norm statistics, and smoothness of every
    filter bank: a record's measurements with one checkpoint, and the identity of the images."""
    parts, identity = protocol.test_images(spec.data, spec.size, {"images": spec.images, "calibration": spec.calibration})
    clean, others = (images for images, _ in parts)
    clean = scale(clean, "unit")
    deformation = protocol.deformation_of(spec.data, clean.shape[-1])
    control = deformation.sample(len(clean), generator=stream(0, "measurement test-0"))
    deformed = deformation.spline(clean.shape[-2:]).warp(clean, control)
    entry: dict[str, Any] = {"step": 0, "epoch": 0.0}
    names = protocol.layers_of(model)
    layers = names["layers"]
    networks = {"sensitivity": lambda: model.eval()}
    if spec.calibration:
        networks["calibrated"] = lambda: protocol.calibrated(model, scale(others, "unit"), CALIBRATION)
    for k, (what, network) in enumerate(networks.items()):
        both = torch.cat([clean, deformed]).contiguous(memory_format=torch.channels_last)
        reduced: list[dict[str, dict[str, float]]] = []
        for r in advance(network(), both):
            reduced.append({d: protocol.statistics(*r.chunk(2), d) for d in protocol.WHOLE})
            progress((k + len(reduced) / len(layers)) / len(networks))
        entry[what] = {d: {name: [r[d][name] for r in reduced] for name in kept} for d, kept in protocol.WHOLE.items()}
    entry["smoothness"] = protocol.smoothness_of(model, protocol.banks_of(model))
    measurements = {"layers": layers, "banks": names["banks"], "examples": len(clean), "checkpoints": [entry]}
    return measurements, identity


@torch.no_grad()
def advance(model: models.VGG, x: Tensor) -> Iterator[Tensor]:
    """The representations of `model.layers`, the pooled one and the logits, one after the other; `x`, (N, C, H, W), is
    the first, and each one is gone once the next is asked for."""
    yield x
    for name in (*model.layers[1:], "pool", "head"):
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
def resample(spec: Resampling, model: models.VGG, progress: Callable[[float], None]) -> dict[str, Any]:
    """Mean and standard deviation over draws of each filter bank's smoothness, by both averages; lists over banks.

    Of banks with as many kernels as an earlier one there is nothing new to learn: they are left out.
    """
    shapes = {weight.shape[:2].numel(): (name, weight.shape) for name, weight in reversed(protocol.banks_of(model).items())}
    found: dict[str, Any] = {average: {"mean": [], "deviation": [], "draws": []} for average in AVERAGES}
    total, done, edge = spec.draws * sum(shapes), 0, math.erf(2 / math.sqrt(2))
    for kernels, (name, shape) in sorted(shapes.items()):
        generator = stream(spec.seed, f"resampling {name}")
        weight, values = torch.empty(shape), {average: torch.empty(spec.draws) for average in AVERAGES}
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
    difference = 2 * integrate.quad(lambda x: weight.cdf(x) * weight.sf(x), -cutoff, cutoff)[0]  # E|X - Y|
    return 12 / 9 * difference / (2 * integrate.quad(lambda x: x * weight.pdf(x), 0, cutoff)[0])
