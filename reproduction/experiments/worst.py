"""The worst deformation within the paper's bound: of each image, the one that moves a layer most.

The paper draws deformations at random. Here the displacements of the control points climb the
gradient of the distance, inside the same box that random ones are drawn from, from several starts.
A search is a lower bound on the maximum: it is never below the best of as many random draws, and
more steps or more restarts never lower it.

Searching needs the network up to the layer only, and a passage back. `Found` says how many.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from deformlib import Deformation, ThinPlateSpline
from deformlib.metrics import evaluating
from deformlib.models import READOUT, VGG
from deformlib.seeding import stream
from deformlib.validation import check_known, is_whole, require
from deformlib.vector_distances import median, paired_distances, pairwise_distances
from reproduction.experiments import protocol
from reproduction.experiments.pretrained import PRETRAINED, Chain
from reproduction.experiments.records import (
    Budget,
    Carried,
    Maxima,
    OfNetwork,
    Predictions,
    WorstRecord,
)
from reproduction.experiments.specs import Worst, WorstPretrained
from reproduction.experiments.tasks import scale

CLASS = "class"  # a target beside the layers: that the network changes its mind
LOGITS = "head"  # the layer at which it does
STREAM = "worst deformations"  # of the random draws, the same for all networks
TRIED = 8  # random draws that what was found for one target is compared with at another
SCOUTS = 8  # random draws for each ascent, the best of which it begins at
# Step t moves every displacement by DECAY**t times the bound. Independent of the number of steps,
# so that a longer search goes on where a shorter one ended. Tried on a trained Max-pool network and
# 64 images: 0.8 to 0.9 differ by 2% or less at layers, steps by the gradient's size fall 1 to 8%
# behind.
DECAY = 0.85

Chained = VGG | Chain  # stages that follow one another, named in `layers`
Objective = Callable[[Tensor], Tensor]  # representation of the deformed images -> (N,)


@dataclass(frozen=True)
class Found:
    """The worst deformation of each of N images for one target, and what random ones come to.

    control      (N, K, 2) displacements of the control points, in pixels
    values       (N,) distances there, or margins by which another class wins
    random       (D, N) those of D random draws
    by_step      (steps + 1, N) the best of all ascents after 0, 1, ... steps
    by_restart   (restarts, N) the best of the first 1, 2, ... ascents
    forward, backward   passes of each image through the network up to the target in all ascents,
                        those that chose the starts included; D is as many as there were forward
    """

    control: Tensor
    values: Tensor
    random: Tensor
    by_step: Tensor
    by_restart: Tensor
    forward: int
    backward: int

    @property
    def ascent(self) -> Tensor:
        """(N,) what the ascents came to without the random draws that they are compared with."""
        return self.by_restart[-1]


def worst(
    model: Chained,
    images: Tensor,
    layer: str,
    deformation: Deformation,
    steps: int = 20,
    restarts: int = 6,
    generator: torch.Generator | None = None,
    distance: str = "cosine",
) -> Found:
    """The deformation of each image that moves `layer` most, of images (N, C, H, W).

    `model` is a chain of stages with their names in `model.layers`, as `deformlib.models.VGG` and
    `pretrained.Chain`. `layer` is one of these names, "input" for the image itself, "pool" or
    "head", or "class" to make another class win over the one that the network sees in the image.

    ValueError for another layer, steps below 0, restarts below 1.
    """
    found = search(model, images, [layer], deformation, steps, restarts, generator, distance)
    return found[layer]


def search(
    model: Chained,
    images: Tensor,
    targets: Sequence[str],
    deformation: Deformation,
    steps: int = 20,
    restarts: int = 6,
    generator: torch.Generator | None = None,
    distance: str = "cosine",
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, Found]:
    """`worst` for several targets, which share their random draws: {target: Found}."""
    for target in targets:
        check_known("layer", target, [*stages(model), CLASS])
    require(is_whole(steps, 0), "steps", "an integer >= 0", steps)
    require(is_whole(restarts, 1), "restarts", "an integer >= 1", restarts)
    spline = deformation.spline(images.shape[2:], device=images.device, dtype=images.dtype)
    count = restarts * (SCOUTS + steps + 1)
    with evaluating(model):
        aims = objectives(model, images, targets, distance)
        draws = drawn(deformation, len(images), count, generator, images)
        at_random = [values_under(model, images, aims, spline, control) for control in draws]
        found = {}
        for target, aim in aims.items():
            values = torch.stack([each[target] for each in at_random])  # (D, N)

            def climbed(control: Tensor, target: str = target, aim: Objective = aim) -> Tensor:
                warped = spline.warp(images, control)
                return aim(representation(model, warped, layer_of(target)))

            found[target] = _best(climbed, draws, values, deformation, steps, restarts)
            progress(len(found) / len(aims))
    return found


def _best(
    objective: Callable[[Tensor], Tensor],
    draws: list[Tensor],
    values: Tensor,
    deformation: Deformation,
    steps: int,
    restarts: int,
) -> Found:
    """The best of the ascents and of all draws: draws D x (N, K, 2), values (D, N)."""
    controls, courses = [], []
    for restart in range(restarts):
        scouts = slice(restart * SCOUTS, (restart + 1) * SCOUTS)
        start = best_of(draws[scouts], values[scouts])
        control, course = ascend(objective, start, deformation.max_displacement, steps)
        controls.append(control)
        courses.append(course)
    course = torch.stack(courses)  # (restarts, steps + 1, N)
    ends = course[:, -1]
    candidates = [*controls, best_of(draws, values)]
    reached = torch.cat([ends, values.amax(0, keepdim=True)])  # (restarts + 1, N)
    return Found(
        control=best_of(candidates, reached),
        values=reached.amax(0),
        random=values,
        by_step=course.amax(0),
        by_restart=ends.cummax(0).values,
        forward=len(draws),
        backward=restarts * steps,
    )


def ascend(
    objective: Callable[[Tensor], Tensor], start: Tensor, bound: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Climb from `start` (N, K, 2), every image on its own, with no displacement beyond `bound`.

    The best control that was met, (N, K, 2), and the best value after 0, 1, ... steps,
    (steps + 1, N).
    Steps follow the sign of the gradient: its size differs by orders of magnitude between layers.
    """
    control = best = start
    values, course = start.new_full((len(start),), -math.inf), []
    for step in range(steps + 1):
        reached, gradient = _value_and_gradient(objective, control, needed=step < steps)
        better = reached > values
        best = torch.where(better[:, None, None], control, best)
        values = torch.where(better, reached, values)
        course.append(values)
        if gradient is not None:
            moved = control + bound * DECAY**step * gradient.sign()
            control = moved.clamp(-bound, bound)
    return best, torch.stack(course)


def _value_and_gradient(
    objective: Callable[[Tensor], Tensor], control: Tensor, needed: bool
) -> tuple[Tensor, Tensor | None]:
    with torch.set_grad_enabled(needed):
        control = control.detach().requires_grad_(needed)
        values = objective(control)
        if not needed:
            return values, None
        (gradient,) = torch.autograd.grad(values.sum(), control)  # no image sees another's
    return values.detach(), gradient


def best_of(controls: Sequence[Tensor], values: Tensor) -> Tensor:
    """Of each image the control with the highest value: C x (N, K, 2), (C, N) -> (N, K, 2)."""
    chosen = values.argmax(0)
    images = torch.arange(values.shape[1], device=values.device)
    return torch.stack(list(controls))[chosen, images]


def drawn(
    deformation: Deformation,
    n: int,
    count: int,
    generator: torch.Generator | None,
    images: Tensor,
) -> list[Tensor]:
    """`count` random draws for n images, (n, K, 2) each. Fewer are the first of more."""
    return [
        deformation.sample(n, generator=generator, device=images.device).to(images.dtype)
        for _ in range(count)
    ]


def stages(model: Chained) -> dict[str, nn.Module]:
    """{name: module} in the order in which they follow one another, "input" first."""
    readout = [name for name in READOUT if hasattr(model, name)]
    names = [name for name in model.layers if name != "input"]
    return {"input": nn.Identity(), **{name: getattr(model, name) for name in [*names, *readout]}}


def layer_of(target: str) -> str:
    """Where a target is measured."""
    return LOGITS if target == CLASS else target


def representations(
    model: Chained, images: Tensor, layers: Iterable[str]
) -> Iterator[tuple[str, Tensor]]:
    """(layer, representation) of some layers; the network runs up to the last of them."""
    left = set(layers)
    for name, stage in stages(model).items():
        images = stage(images)
        if name in left:
            left.remove(name)
            yield name, images
        if not left:
            return


def representation(model: Chained, images: Tensor, layer: str) -> Tensor:
    """That of one layer."""
    return dict(representations(model, images, [layer]))[layer]


@torch.no_grad()
def objectives(
    model: Chained, images: Tensor, targets: Sequence[str], distance: str = "cosine"
) -> dict[str, Objective]:
    """{target: what the worst deformation maximizes}, in the order of `targets`."""
    clean = dict(representations(model, images, map(layer_of, targets)))
    found: dict[str, Objective] = {}
    for target in targets:
        values = clean[layer_of(target)]
        if target == CLASS:
            found[target] = partial(margin, values.argmax(1))
        else:
            found[target] = partial(paired_distances, values, distance=distance)
    return found


def margin(classes: Tensor, logits: Tensor) -> Tensor:
    """(N,) by how much the best other class beats `classes` (N,), of logits (N, number)."""
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -math.inf)
    return others.amax(1) - own


@torch.no_grad()
def values_under(
    model: Chained,
    images: Tensor,
    aims: Mapping[str, Objective],
    spline: ThinPlateSpline,
    control: Tensor,
) -> dict[str, Tensor]:
    """{target: (N,)} under one control (N, K, 2), all targets in one pass."""
    warped = spline.warp(images, control)
    seen = dict(representations(model, warped, map(layer_of, aims)))
    return {target: aim(seen[layer_of(target)]) for target, aim in aims.items()}


def pictures(
    model: Chained,
    images: Tensor,
    targets: Sequence[str],
    deformation: Deformation,
    steps: int = 20,
    restarts: int = 6,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """{"clean", "random", target: images under the worst deformation for it}, (N, C, H, W) each.

    The generator first draws the random deformation.
    """
    controls = {"random": drawn(deformation, len(images), 1, generator, images)[0]}
    found = search(model, images, targets, deformation, steps, restarts, generator)
    controls |= {target: each.control for target, each in found.items()}
    spline = deformation.spline(images.shape[2:], device=images.device, dtype=images.dtype)
    deformed = {name: spline.warp(images, control) for name, control in controls.items()}
    return {"clean": images, **deformed}


def measure_worst(
    spec: Worst, networks: Mapping[str, Chained], progress: Callable[[float], None]
) -> tuple[WorstRecord, str]:
    """A record's measurements, and the images' identity.

    `networks` are {"before": before training, "after": trained}, and those of `spec.others`, named
    "VARIANT-SEED".
    """
    counts = {"images": spec.images, "calibration": spec.calibration or 0}
    parts, identity = protocol.test_images(spec.data, spec.training.size, counts)
    (images, labels), (others, _) = parts
    seen = scale(images, spec.training.recipe.pixels)
    networks = dict(networks)
    if spec.calibration:
        fresh = protocol.calibrated(networks["before"], scale(others, spec.training.recipe.pixels))
        networks["calibrated"] = cast(VGG, fresh)
    deformation = protocol.deformation_of(spec.data, seen.shape[-1])
    return measured(spec, networks, seen, labels, deformation, progress), identity


def measure_worst_pretrained(
    spec: WorstPretrained, networks: Mapping[str, Chained], progress: Callable[[float], None]
) -> tuple[WorstRecord, str]:
    """The same for a network trained on ImageNet, with the paper's 5x5 points and 10 px at 224.

    `networks` are {"before": `untrained(...).model`, "after": `pretrained(...).model`}.
    Images are scaled first and deformed after: the scaling is linear, so that is the same.
    """
    count = {"images": spec.images}
    [(images, labels)], identity = protocol.test_images(spec.data, spec.size, count)
    seen = PRETRAINED[spec.network].scale(scale(images, "unit"))
    deformation = protocol.deformation_of(spec.data, spec.size)
    return measured(spec, networks, seen, labels, deformation, progress), identity


def measured(
    spec: Worst | WorstPretrained,
    networks: Mapping[str, Chained],
    images: Tensor,
    labels: Tensor,
    deformation: Deformation,
    progress: Callable[[float], None],
) -> WorstRecord:
    """The record of images (N, C, H, W) as the networks see them."""
    images = images.contiguous(memory_format=torch.channels_last)
    layers = list(spec.layers or networks["after"].layers)
    searched = [name for name in ("before", "calibrated", "after") if name in networks]
    of_network, budget = {}, Budget(0, 0, 0)
    for done, name in enumerate(searched):
        model = networks[name]
        # What an untrained network calls an image is nobody's guess.
        decides = name == "after" and hasattr(model, LOGITS)
        found = search(
            model,
            images,
            [*layers, CLASS] if decides else layers,
            deformation,
            spec.steps,
            spec.restarts,
            stream(0, STREAM),
            progress=_within(progress, done, len(searched)),
        )
        of_network[name] = described(name, networks, images, labels, layers, found, deformation)
        first = found[layers[0]]
        budget = Budget(first.forward, first.backward, len(first.random))
    progress(1.0)
    numbers = [networks["after"].layers.index(layer) for layer in layers]
    return WorstRecord(layers, numbers, len(images), budget, of_network)


def _within(progress: Callable[[float], None], done: int, parts: int) -> Callable[[float], None]:
    """Progress of one of `parts`, of which `done` are done; a tenth is for what follows."""
    return lambda part: progress((done + 0.9 * part) / parts)


def described(
    name: str,
    networks: Mapping[str, Chained],
    images: Tensor,
    labels: Tensor,
    layers: list[str],
    found: Mapping[str, Found],
    deformation: Deformation,
) -> OfNetwork:
    """What was found for the network `name`, in numbers."""
    spline = deformation.spline(images.shape[2:], device=images.device, dtype=images.dtype)
    maxima = maxima_of(networks[name], images, layers, found, deformation.max_displacement)
    of_classes = None
    if CLASS in found:
        of_classes = predictions(networks[name], images, labels, found, spline, deformation)
    tried = {
        other: carried(model, images, layers, found, spline, deformation)
        for other, model in networks.items()
    }
    return OfNetwork(list(found), maxima, tried, of_classes)


@torch.no_grad()
def maxima_of(
    model: Chained, images: Tensor, layers: list[str], found: Mapping[str, Found], bound: float
) -> Maxima:
    """Of every layer the search in numbers, as `Maxima` declares them."""
    rows = []
    with evaluating(model):
        for layer, values in representations(model, images, layers):
            middle = float(median(pairwise_distances(values)))
            rows.append([*_maxima(found[layer], middle, bound), middle])
    return Maxima(*(list(column) for column in zip(*rows, strict=True)))


def _maxima(found: Found, middle: float, bound: float) -> list[float]:
    best = found.random.amax(0)
    half_steps = found.by_step[len(found.by_step) // 2]
    half_restarts = found.by_restart[(len(found.by_restart) - 1) // 2]
    means = [found.random, best, found.values, found.ascent, half_steps, half_restarts]
    return [
        *(float(values.mean()) / middle for values in means),
        protocol.fraction(found.ascent > best),
        protocol.fraction(found.control.abs() >= bound),
    ]


@torch.no_grad()
def predictions(
    model: Chained,
    images: Tensor,
    labels: Tensor,
    found: Mapping[str, Found],
    spline: ThinPlateSpline,
    deformation: Deformation,
) -> Predictions:
    """Accuracy and flips under what was found for each target, and under random deformations."""

    def guess(seen: Tensor) -> Tensor:
        return representation(model, seen, LOGITS).argmax(1)

    draws = drawn(deformation, len(images), TRIED, stream(0, STREAM), images)
    with evaluating(model):
        clean = guess(images)
        guesses = [guess(spline.warp(images, each.control)) for each in found.values()]
        at_random = torch.stack([guess(spline.warp(images, draw)) for draw in draws])
    right = clean == labels
    # What is attacked is the prediction, so that one search gives flips and accuracy.
    flipped = found[CLASS].random.amax(0) > 0
    accuracy = [protocol.fraction(guessed == labels) for guessed in guesses]
    accuracy[list(found).index(CLASS)] = protocol.fraction(right & ~(found[CLASS].values > 0))
    return Predictions(
        clean_accuracy=protocol.fraction(right),
        random_accuracy=protocol.fraction(at_random == labels),
        random_flips=protocol.fraction(found[CLASS].random > 0),
        random_best_accuracy=protocol.fraction(right & ~flipped),
        random_best_flips=protocol.fraction(flipped),
        accuracy=accuracy,
        flips=[protocol.fraction(guessed != clean) for guessed in guesses],
    )


def carried(
    model: Chained,
    images: Tensor,
    layers: list[str],
    found: Mapping[str, Found],
    spline: ThinPlateSpline,
    deformation: Deformation,
) -> Carried:
    """What was found, maybe for another network, tried on this one."""
    targets = [*layers, CLASS] if hasattr(model, LOGITS) else layers
    draws = drawn(deformation, len(images), TRIED, stream(0, STREAM), images)
    with evaluating(model):
        aims = objectives(model, images, targets)
        at_random = [values_under(model, images, aims, spline, draw) for draw in draws]
        rows = [values_under(model, images, aims, spline, each.control) for each in found.values()]
    usual = torch.stack([means(each, layers) for each in at_random]).mean(0)
    return Carried(
        distances=[(means(row, layers) / usual).tolist() for row in rows],
        flips=[protocol.fraction(row[CLASS] > 0) for row in rows] if CLASS in targets else None,
    )


def means(values: Mapping[str, Tensor], layers: list[str]) -> Tensor:
    """(layers,) of {layer: (N,)}."""
    return torch.stack([values[layer].mean() for layer in layers])
