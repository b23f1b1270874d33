"""Which specs stand behind each figure, in full and in quick mode.

A study is one entry of STUDIES: a chapter names it and a mode, and does not know where the records
come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deformlib.models import DOWNSAMPLINGS
from deformlib.named_objects import named_object
from deformlib.validation import check_known, require
from reproduction.experiments.recipes import Recipe
from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Matching,
    Resampling,
    Smoothing,
    Spec,
    Theory,
    Training,
    Variation,
    Worst,
    WorstPretrained,
)

MODES = ("full", "quick")
VARIANTS = tuple(name for name, layer in DOWNSAMPLINGS.items() if layer.paper)
BEYOND = tuple(name for name in DOWNSAMPLINGS if name not in VARIANTS)
# Of studies that have no records yet: no page asks for them.
ALL = tuple(DOWNSAMPLINGS)


@dataclass(frozen=True)
class Study:
    """What stands behind figures.

    purpose  what it is for, in words
    make     (mode, seed) -> its specs
    seeds    {mode: seeds}
    weights  the seeds whose final weights are kept beside the records
    variant  the field of a spec that tells the variants apart
    beyond   variants that may be without records
    """

    purpose: str
    make: Callable[[str, int], Sequence[Spec]]
    seeds: dict[str, Sequence[int]]
    weights: Sequence[int] = field(default=())
    variant: str = "downsampling"
    beyond: Sequence[str] = field(default=())

    def specs(self, mode: str, seeds: Sequence[int] | None = None) -> list[Spec]:
        """The specs of a mode, seed by seed, so that every variant has one before any has two.

        ValueError for an unknown mode, and for specs without the field `variant`.
        """
        check_known("mode", mode, self.seeds)
        chosen = self.seeds[mode] if seeds is None else seeds
        made = [spec for seed in chosen for spec in self.make(mode, seed)]
        named = all(hasattr(spec, self.variant) for spec in made)
        require(named, "variant", "a field of the study's specs", repr(self.variant))
        return list(dict.fromkeys(made))


# No augmentation, no weight decay: real and random labels, and the paper's figures, share it.
PLAIN = Recipe(epochs=8, batch_size=64, learning_rate=0.05)
# Tuned for accuracy: it checks that the training engine is sound.
AUGMENTED = Recipe(
    epochs=12,
    batch_size=128,
    learning_rate=0.2,
    weight_decay=5e-4,
    label_smoothing=0.1,
    flip=True,
    crop=4,
    pixels="standardized",
)
# Tried when that missed its goal: twice the steps, less noise in images and labels. It came out
# lower.
LESS_AUGMENTED = replace(AUGMENTED, batch_size=64, learning_rate=0.1, label_smoothing=0.0, crop=2)
# A fixed fifth of the images has fewer steps in an epoch: enough epochs to learn random labels.
FEW = replace(PLAIN, epochs=20)
EXAMPLES = 10_000
# How else these could have been trained, one change at a time; the book's own first, then what a
# reader asks first.
RECIPES = (
    FEW,
    replace(FEW, flip=True, crop=4),
    replace(FEW, epochs=10),
    replace(FEW, weight_decay=5e-4),
    replace(FEW, optimizer="adamw", learning_rate=0.001),
    replace(FEW, learning_rate=0.0125),
    replace(FEW, learning_rate=0.2),
    replace(FEW, epochs=40),
)
# CIFAR-10's own pixels: identity of the decoded images (`data.identity`). Earlier records are of a
# JPEG mirror.
ORIGINAL = "cb85cdd084bd"
# The pilot on the original pixels (methods chapter): one change at a time from PLAIN, then the best
# of these together.
PILOTED = {
    "plain": PLAIN,
    "rate 0.2": replace(PLAIN, learning_rate=0.2),
    "16 epochs": replace(PLAIN, epochs=16),
    "constant rate": replace(PLAIN, schedule="constant"),
    "standardized pixels": replace(PLAIN, pixels="standardized"),
    "no norm scale": replace(PLAIN, norm_scale=False),
    "32 epochs": replace(PLAIN, epochs=32),
    "rate 0.2, 16 epochs": replace(PLAIN, learning_rate=0.2, epochs=16),
}
# Tiny ImageNet's 25,000 images.
TINY = replace(PLAIN, epochs=12)
# The rate is chosen by a pilot, the same for every strength: see the methods chapter.
TEMPLATES = replace(PLAIN, epochs=10, learning_rate=0.8)
TEMPLATES_PILOT = ((0.2, 1.0), (0.2, 4.0), (0.4, 1.0), (0.8, 1.0), (0.8, 4.0))  # rate, strength
QUICK = Recipe(epochs=3, batch_size=64, learning_rate=0.05)
# At 0.8 the loss of the narrow networks passed 90,000 on the way.
QUICK_TEMPLATES = replace(TEMPLATES, epochs=1, learning_rate=0.1)
QUICK_FEW = replace(QUICK, epochs=20)
# The first is that of the networks which the other chapters train.
QUICK_RECIPES = (QUICK, replace(QUICK, weight_decay=5e-4), replace(QUICK, epochs=1))
QUICK_EXAMPLES = 256
THREE = ("max-pool", "average-pool", "strided-relu")
TWO = ("max-pool", "strided-relu")  # the variants of the paper's ImageNet experiments
SIGMAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)  # pixels; the last two are not in the paper
STRENGTHS = (1.0, 2.0, 3.0, 4.0)  # pixels
# Of untrained networks whose sensitivity is predicted: some of Figure 4's, and another.
UNTRAINED_SIGMAS = (0.3, 0.5, 0.7, 1.0)  # pixels
THEORY_IMAGES = {"full": 128, "quick": 64}
# Where the worst deformations are sought by a reader who waits: where sensitivity rises, and the
# end of every block.
WORST_LAYERS = ("input", "conv1_2", "down1", "down2", "down3", "down4")
# And of networks trained on ImageNet, whose layers are too many to search them all.
PRETRAINED_LAYERS = {
    "efficientnet_lite0": ("input", "stem", "block2_2", "block4_3", "block6_4", "top"),
    "squeezenet1_1": ("input", "conv1", "fire3", "fire5", "fire9", "conv10"),
}


# One spec


def _training(mode: str, seed: int, variant: str, recipe: Recipe, **fields: Any) -> Training:
    if mode == "quick":
        return Training("photos", variant, seed, QUICK, "quick-2", width=0.25, **fields)
    return Training("cifar10", variant, seed, recipe, "protocol-1", **fields)


def _few(mode: str, seed: int, variant: str, **fields: Any) -> Training:
    """On a fixed subset of the images, the same for all."""
    if mode == "quick":
        fields |= {"width": 0.25, "examples": QUICK_EXAMPLES}
        return Training("photos", variant, seed, QUICK_FEW, "quick-2", **fields)
    return Training("cifar10", variant, seed, FEW, "protocol-1", examples=EXAMPLES, **fields)


def _tiny(mode: str, seed: int, variant: str, width: float, size: int | None = None) -> Training:
    if mode == "quick":  # of both studies
        recipe = replace(QUICK, epochs=1)
        return Training("photos", variant, seed, recipe, "quick-2", "imagenet_vgg", width=0.125)
    fields: dict[str, Any] = {"width": width, "classes": 50, "size": size}
    return Training("tiny-imagenet", variant, seed, TINY, "imagenet-1", "imagenet_vgg", **fields)


def _initial(mode: str, seed: int, variant: str, calibration: int, **fields: Any) -> Initialization:
    if mode == "quick":
        fields |= {"width": 0.25, "size": 64}
        return Initialization("photos", variant, seed, 64, calibration, **fields)
    return Initialization("imagenet", variant, seed, 128, calibration, size=224, **fields)


def _digits(mode: str, seed: int, strength: float, **fields: Any) -> Training:
    fields = {"task": "templates", "classes": 10, "strength": strength, **fields}
    if mode == "quick":
        fields |= {"width": 0.25}
        return Training("photos", "max-pool", seed, QUICK_TEMPLATES, "quick-templates-1", **fields)
    return Training("mnist", "max-pool", seed, TEMPLATES, "templates-1", **fields)


# The specs of a study, for a mode and a seed


def _cifar10(mode: str, seed: int) -> list[Training]:
    variants = _variants(mode, seed)
    if mode == "quick" and seed:  # a band for two variants will do for a reader who waits
        variants = TWO
    return [_training(mode, seed, variant, PLAIN) for variant in variants]


def _variants(mode: str, seed: int) -> tuple[str, ...]:
    """The paper's variants, and in full mode for the first three seeds those beyond."""
    return VARIANTS + BEYOND if mode == "full" and seed < 3 else VARIANTS


def _augmented(mode: str, seed: int) -> list[Spec]:
    return [_training(mode, seed, variant, AUGMENTED) for variant in THREE]


def _augmented_pilot(mode: str, seed: int) -> list[Spec]:
    recipes = {"full": (AUGMENTED, LESS_AUGMENTED), "quick": (QUICK,)}[mode]
    return [_training(mode, seed, "max-pool", recipe) for recipe in recipes]


def _random_labels(mode: str, seed: int) -> list[Training]:
    variants = _variants(mode, seed)
    return [_few(mode, seed, variant, task="random-labels") for variant in variants]


def _subset(mode: str, seed: int) -> list[Spec]:
    return [_few(mode, seed, variant) for variant in _variants(mode, seed)]


def _other_random_labels(mode: str, seed: int) -> list[Spec]:
    variants = {"full": TWO, "quick": TWO[:1]}[mode]
    return [
        _few(mode, seed, variant, task="random-labels", label_seed=draw)
        for draw in (1, 2)
        for variant in variants
    ]


def _all_random_labels(mode: str, seed: int) -> list[Spec]:
    variants = ("max-pool", "average-pool")
    return [_training(mode, seed, variant, FEW, task="random-labels") for variant in variants]


def _random_images(mode: str, seed: int) -> list[Spec]:
    variants = {"full": TWO, "quick": TWO[:1]}[mode]
    return [
        _few(mode, seed, variant, task=task)
        for task in ("gaussian-images", "white-images")
        for variant in variants
    ]


def _untrained(mode: str, seed: int) -> list[Spec]:
    sets = _sets(mode, seed)
    return [_initial(mode, seed, variant, calibration=128, sets=sets) for variant in TWO]


def _smoothed(mode: str, seed: int) -> list[Spec]:
    # Figure 4 does not name its variant. Its curves rise through the downsampling layers, as those
    # of an unpooled variant alone do.
    network = _initial(mode, seed, "strided-relu", calibration=0, sets=_sets(mode, seed))
    return [replace(network, smoothing=sigma) for sigma in SIGMAS]


def _sets(mode: str, seed: int) -> int | None:
    """Sets of photographs: three of one seed, for the scatter over images that coverage asks
    for."""
    return 3 if mode == "full" and seed == 0 else None


def _tiny_64(mode: str, seed: int) -> list[Spec]:
    return [_tiny(mode, seed, variant, width=0.5) for variant in TWO]


def _tiny_128(mode: str, seed: int) -> list[Spec]:
    return [_tiny(mode, seed, variant, width=0.25, size=128) for variant in TWO]


def _templates(mode: str, seed: int) -> list[Spec]:
    return [_digits(mode, seed, strength) for strength in STRENGTHS]


def _templates_pilot(mode: str, seed: int) -> list[Spec]:
    if mode == "quick":
        return [_digits(mode, seed, strength) for strength in _controlled(mode)]
    return [
        replace(_digits(mode, seed, strength), recipe=replace(TEMPLATES, learning_rate=rate))
        for rate, strength in TEMPLATES_PILOT
    ]


def _templates_in_noise(mode: str, seed: int) -> list[Spec]:
    strengths = _controlled(mode)
    return [_digits(mode, seed, strength, task="templates-in-noise") for strength in strengths]


def _other_templates(mode: str, seed: int) -> list[Spec]:
    others = ({"classes": 100}, {"label_seed": 1}, {"label_seed": 2})
    return [
        _digits(mode, seed, strength, **fields)
        for fields in others[: {"full": 3, "quick": 1}[mode]]
        for strength in _controlled(mode)
    ]


def _controlled(mode: str) -> tuple[float, ...]:
    """The strengths of the controls: the weakest and the strongest for a reader who waits."""
    return {"full": STRENGTHS, "quick": (STRENGTHS[0], STRENGTHS[-1])}[mode]


def _resampling(mode: str, seed: int) -> list[Spec]:
    draws = {"full": 10_000, "quick": 20}[mode]
    return [Resampling(name, draws, seed) for name in ("cifar10_vgg", "imagenet_vgg")]


def _positions(mode: str, seed: int) -> list[Spec]:
    images, calibration = {"full": (2000, 1024), "quick": (128, 128)}[mode]
    return [Intervention(training, images, calibration) for training in _cifar10(mode, seed)]


def _other_measures(mode: str, seed: int) -> list[Spec]:
    # Images of the protocols, and as many probes as time allows.
    images, probes = {"full": (128, 2000), "quick": (64, 256)}[mode]
    return [Comparison(training, images, probes) for training in _cifar10(mode, seed)]


def _matched(mode: str, trainings: Sequence[Training]) -> list[Spec]:
    images, calibration = {"full": (128, 2048), "quick": (64, 256)}[mode]
    return [Matching(training, images, calibration) for training in trainings]


def _matching(mode: str, seed: int) -> list[Spec]:
    return _matched(mode, _cifar10(mode, seed))


def _matching_of_random_labels(mode: str, seed: int) -> list[Spec]:
    return _matched(mode, _random_labels(mode, seed))


def _smoothing(mode: str, seed: int) -> list[Spec]:
    images, probes, calibration = {"full": (128, 2000, 2048), "quick": (64, 256, 256)}[mode]
    return [Smoothing(training, images, probes, calibration) for training in _cifar10(mode, seed)]


def _worst(mode: str, seed: int) -> list[Spec]:
    """What is found for one network is tried on those of the other variants, same seed."""
    trainings = _cifar10(mode, seed)
    found: list[Spec] = []
    for training in trainings:
        others = tuple((other.downsampling, seed) for other in trainings if other != training)
        if mode == "full":
            found.append(Worst(training, 128, 20, 6, others=others, calibration=2048))
        else:
            found.append(Worst(training, 16, 4, 1, WORST_LAYERS, others, calibration=128))
    return found


def _worst_pretrained(mode: str, seed: int) -> list[Spec]:
    if mode == "quick":
        network = "squeezenet1_1"
        return [WorstPretrained(network, seed, 4, 1, 1, PRETRAINED_LAYERS[network])]
    return [
        WorstPretrained(network, seed, images=32, steps=20, restarts=3, layers=layers)
        for network, layers in PRETRAINED_LAYERS.items()
    ]


def _theory(mode: str, seed: int) -> list[Spec]:
    return [
        Theory(training, THEORY_IMAGES[mode], UNTRAINED_SIGMAS)
        if training.downsampling in TWO
        else Theory(training, THEORY_IMAGES[mode])
        for training in _cifar10(mode, seed)
    ]


def _theory_of_random_labels(mode: str, seed: int) -> list[Spec]:
    return [Theory(training, THEORY_IMAGES[mode]) for training in _random_labels(mode, seed)]


def _choices(mode: str, seed: int) -> list[Spec]:
    # Claims are judged on these.
    variants = {"full": VARIANTS, "quick": THREE}[mode]
    choices = {"full": "cifar10-choices-1", "quick": "quick-choices-1"}[mode]
    return [Variation(_training(mode, seed, variant, PLAIN), choices) for variant in variants]


def _input_choices(mode: str, seed: int) -> list[Spec]:
    network = _initial(mode, seed, "max-pool", calibration=0)
    prefix = {"full": "", "quick": "quick-"}[mode]
    return [
        Variation(network, f"{prefix}{choices}")
        for choices in ("input-choices-1", "shared-draws-1")
    ]


def _recipes(mode: str, seed: int) -> list[Spec]:
    networks = [_few(mode, seed, variant) for variant in THREE]
    if mode == "quick":
        networks = [_training(mode, seed, variant, QUICK) for variant in TWO]
    recipes = {"full": RECIPES, "quick": QUICK_RECIPES}[mode]
    return [replace(network, recipe=recipe) for recipe in recipes for network in networks]


def _pilot(mode: str, seed: int) -> list[Spec]:
    if mode == "quick":
        return [_training(mode, seed, variant, PLAIN) for variant in TWO]
    return [
        _training(mode, seed, variant, recipe, data_id=ORIGINAL)
        for recipe in PILOTED.values()
        for variant in TWO
    ]


def _seeds(full: int, quick: int = 1) -> dict[str, Sequence[int]]:
    """So many seeds, from 0 on."""
    return {"full": range(full), "quick": range(quick)}


STUDIES: dict[str, Study] = {
    "cifar10": Study(
        purpose="Figures 3c, 3d and 6b: five ways of downsampling, before and after training",
        make=_cifar10,
        seeds=_seeds(full=5, quick=2),
        weights=(0, 1),
        beyond=BEYOND,
    ),
    "cifar10-augmented": Study(
        purpose="is it the recipe? augmentation, weight decay, label smoothing",
        make=_augmented,
        seeds=_seeds(full=2),
    ),
    "cifar10-augmented-pilot": Study(
        purpose="how its recipe was sought",
        make=_augmented_pilot,
        seeds=_seeds(full=1),
    ),
    "cifar10-random-labels": Study(
        purpose="Figures 6c and 7: random labels on a fixed fifth of the images",
        make=_random_labels,
        seeds=_seeds(full=5),
        weights=(0,),
        beyond=BEYOND,
    ),
    "cifar10-subset": Study(
        purpose="its control: the same images and steps, true labels",
        make=_subset,
        seeds=_seeds(full=3),
        beyond=BEYOND,
    ),
    "cifar10-random-labels-draws": Study(
        purpose="other draws of the random labels",
        make=_other_random_labels,
        seeds=_seeds(full=1),
    ),
    "cifar10-random-labels-all": Study(
        purpose="random labels on all images",
        make=_all_random_labels,
        seeds=_seeds(full=1),
    ),
    "cifar10-random-images": Study(
        purpose="Section 5, named but not shown: random images, "
        "Gaussian with the data's covariance and white",
        make=_random_images,
        seeds=_seeds(full=2),
    ),
    "imagenet-init": Study(
        purpose="Figure 3a: the ImageNet networks at initialization, photographs of 224x224",
        make=_untrained,
        seeds=_seeds(full=5),
    ),
    "imagenet-smoothed": Study(
        purpose="Figure 4: smoother filters at initialization",
        make=_smoothed,
        seeds=_seeds(full=5),
        variant="smoothing",
    ),
    "imagenet": Study(
        purpose="Figures 3b and 6a: the ImageNet architecture, half as wide, "
        "on 50 classes of Tiny ImageNet",
        make=_tiny_64,
        seeds=_seeds(full=5),
    ),
    "imagenet-128": Study(
        purpose="the same images enlarged to 128x128, a quarter as wide: "
        "less padding in the upper layers",
        make=_tiny_128,
        seeds=_seeds(full=1),
    ),
    "mnist-templates": Study(
        purpose="Figure 5: ten digits, each a class of its deformed copies, "
        "by strength of the deformation",
        make=_templates,
        seeds=_seeds(full=5),
        variant="strength",
    ),
    "mnist-templates-pilot": Study(
        purpose="how the learning rate of the digit tasks was chosen",
        make=_templates_pilot,
        seeds=_seeds(full=1),
        variant="strength",
    ),
    "mnist-templates-noise": Study(
        purpose="its control: noise as large as the deformations' change",
        make=_templates_in_noise,
        seeds=_seeds(full=2),
        variant="strength",
    ),
    "mnist-templates-others": Study(
        purpose="a hundred digits, and two other sets of ten",
        make=_other_templates,
        seeds=_seeds(full=1),
        variant="strength",
    ),
    "initial-smoothness": Study(
        purpose="footnote 1: filters at initialization, drawn 10,000 times",
        make=_resampling,
        seeds=_seeds(full=1),
        variant="architecture",
    ),
    "cifar10-positions": Study(
        purpose="Section 4.4: what the trained networks lose without relative position, "
        "layer by layer",
        make=_positions,
        seeds=_seeds(full=1),
        beyond=BEYOND,
    ),
    "cifar10-other-measures": Study(
        purpose="do the measures of others agree? relative stability and shift consistency "
        "of the trained networks",
        make=_other_measures,
        seeds=_seeds(full=2),
        beyond=BEYOND,
    ),
    "cifar10-matching": Study(
        purpose="is smoothness sufficient, is it necessary? "
        "weights given the second moments of others",
        make=_matching,
        seeds=_seeds(full=2, quick=2),
        beyond=ALL,
    ),
    "cifar10-random-labels-matching": Study(
        purpose="the same of networks that learned random labels",
        make=_matching_of_random_labels,
        seeds=_seeds(full=1),
        beyond=ALL,
    ),
    "cifar10-smoothing": Study(
        purpose="trained filters smoothed, and changed as much at random",
        make=_smoothing,
        seeds=_seeds(full=2),
        beyond=ALL,
    ),
    "cifar10-worst": Study(
        purpose="the worst deformations within the paper's bound, before and after training",
        make=_worst,
        seeds=_seeds(full=1),
        beyond=ALL,
    ),
    "imagenet-worst": Study(
        purpose="the same for networks that others trained on ImageNet",
        make=_worst_pretrained,
        seeds=_seeds(full=1),
        variant="network",
        beyond=tuple(PRETRAINED_LAYERS),
    ),
    "cifar10-theory": Study(
        purpose="why smooth filters help: two bounds, and sensitivity predicted from clean images "
        "and filters",
        make=_theory,
        seeds=_seeds(full=1),
        beyond=ALL,
    ),
    "cifar10-random-labels-theory": Study(
        purpose="the same of networks that learned random labels",
        make=_theory_of_random_labels,
        seeds=_seeds(full=1),
        beyond=ALL,
    ),
    "multiverse-cifar10": Study(
        purpose="what the outcome depends on: choices that the paper leaves open, "
        "before and after training",
        make=_choices,
        seeds=_seeds(full=2),
    ),
    "multiverse-input": Study(
        purpose="the same for photographs of 224x224 themselves, layer 0 of Figure 3a",
        make=_input_choices,
        seeds=_seeds(full=1),
        variant="choices",
    ),
    "cifar10-recipes": Study(
        purpose="the same for training: augmentation, weight decay, optimizer, rate, epochs, "
        "on a fifth of the images",
        make=_recipes,
        seeds=_seeds(full=1),
    ),
    "recipe-pilot": Study(
        purpose="how the recipe was chosen on CIFAR-10's original pixels",
        make=_pilot,
        seeds=_seeds(full=1),
    ),
}


def keeping(mode: str, *more: Study) -> set[Spec]:
    """The specs whose final weights are kept by any study, whichever of the studies that share them
    is run first. `more` are studies of a reader's own."""
    keepers = [each for each in (*STUDIES.values(), *more) if each.weights]
    return {spec for each in keepers for spec in each.specs(mode, each.weights)}


def study(name: str) -> Study:
    """A study by name, or a reader's own, "FILE.py:STUDY" or "MODULE:STUDY". ValueError that lists
    the known ones."""
    if name in STUDIES:
        return STUDIES[name]
    if not isinstance(name, str) or ":" not in name:
        known = ", ".join(STUDIES)
        raise ValueError(f"study must be one of {known}, or FILE.py:STUDY, got {name!r}")
    found = named_object(name)
    if not isinstance(found, Study):
        rule = "a reproduction.experiments.studies.Study"
        raise ValueError(f"{name} must be {rule}, got {type(found).__name__}")
    return found
