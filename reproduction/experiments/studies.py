"""Which specs stand behind each figure, in full and in quick mode.

A study is one entry of STUDIES: a chapter names it and a mode, and does not know where the records come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from deformlib.models import DOWNSAMPLINGS
from deformlib.named_objects import named_object
from deformlib.validation import check_known
from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Recipe,
    Resampling,
    Spec,
    Training,
    Variation,
)

MODES = ("full", "quick")
VARIANTS = tuple(name for name, layer in DOWNSAMPLINGS.items() if layer.paper)
BEYOND = tuple(name for name in DOWNSAMPLINGS if name not in VARIANTS)


@dataclass(frozen=True)
class Study:
    """What stands behind figures.

    purpose  what it is for, in words
    make     (mode, seed) -> its specs
    seeds    {mode: seeds}
    weights  the seeds whose final weights are kept beside the records
    variant      the field of a spec that tells the variants apart
    beyond   variants that may be without records
    """

    purpose: str
    make: Callable[[str, int], list[Spec]]  # mode, seed -> specs
    seeds: dict[str, Sequence[int]]
    weights: Sequence[int] = field(default=())
    variant: str = "downsampling"
    beyond: Sequence[str] = field(default=())

    def specs(self, mode: str, seeds: Sequence[int] | None = None) -> list[Spec]:
        """The specs of a mode, seed by seed, so that every variant has one before any has two. ValueError for an unknown mode, and
        for specs without the field `variant`."""
        check_known("mode", mode, self.seeds)
        chosen = self.seeds[mode] if seeds is None else seeds
        made = list(dict.fromkeys(spec for seed in chosen for spec in self.make(mode, seed)))
        if not all(hasattr(spec, self.variant) for spec in made):
            raise ValueError(f"variant must be a field of the study's specs, got {self.variant!r}")
        return made


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
# What was tried when that missed its goal: twice the steps, less noise in images and labels. It came out lower.
LESS_AUGMENTED = replace(AUGMENTED, batch_size=64, learning_rate=0.1, label_smoothing=0.0, crop=2)
# A fixed fifth of the images has fewer steps in an epoch: enough epochs that random labels are learned by heart.
FEW = replace(PLAIN, epochs=20)
EXAMPLES = 10_000
# How else these could have been trained, one change at a time; the book's own first, then what a reader asks first.
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
# CIFAR-10's own pixels: the identity of the decoded images (`data.identity`). Earlier records are of a JPEG mirror.
ORIGINAL = "cb85cdd084bd"
# The pilot on the original pixels (methods chapter): one change at a time from PLAIN, then what the best of these are together.
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
PILOT = (
    (0.2, 1.0),
    (0.2, 4.0),
    (0.4, 1.0),
    (0.8, 1.0),
    (0.8, 4.0),
)  # rates and strengths, in the order they were tried
QUICK = Recipe(epochs=3, batch_size=64, learning_rate=0.05)
QUICK_TEMPLATES = replace(
    TEMPLATES, epochs=1, learning_rate=0.1
)  # at 0.8 the loss of the narrow networks passed 90,000 on the way
QUICK_FEW, QUICK_EXAMPLES = replace(QUICK, epochs=20), 256
THREE = ("max-pool", "average-pool", "strided-relu")
TWO = ("max-pool", "strided-relu")  # the variants of the paper's ImageNet experiments
SIGMAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)  # pixels; the last two are not in the paper
STRENGTHS = (1.0, 2.0, 3.0, 4.0)  # pixels


def _cifar10(mode: str, seed: int) -> list[Spec]:
    variants = (
        TWO if mode == "quick" and seed else _variants(mode, seed)
    )  # who waits gets a band for two variants
    return [_training(mode, seed, variant, PLAIN) for variant in variants]


def _augmented_pilot(mode: str, seed: int) -> list[Spec]:
    recipes = {"full": (AUGMENTED, LESS_AUGMENTED), "quick": (QUICK,)}[mode]
    return [replace(_training(mode, seed, "max-pool", recipe), recipe=recipe) for recipe in recipes]


def _draws(mode: str, seed: int) -> list[Spec]:
    variants = {"full": TWO, "quick": TWO[:1]}[mode]
    return [
        _few(mode, seed, variant, task="random-labels", label_seed=draw)
        for draw in (1, 2)
        for variant in variants
    ]


def _random_images(mode: str, seed: int) -> list[Spec]:
    variants = {"full": TWO, "quick": TWO[:1]}[mode]
    return [
        _few(mode, seed, variant, task=task)
        for task in ("gaussian-images", "white-images")
        for variant in variants
    ]


def _sets(mode: str, seed: int) -> int | None:
    """Of one seed also on two further sets of photographs, for the scatter over images that coverage asks for."""
    return 3 if mode == "full" and seed == 0 else None


def _templates_pilot(mode: str, seed: int) -> list[Spec]:
    if mode == "quick":
        return [_digits(mode, seed, strength) for strength in _controlled(mode)]
    runs = [(rate, _digits(mode, seed, strength)) for rate, strength in PILOT]
    return [replace(spec, recipe=replace(spec.recipe, learning_rate=rate)) for rate, spec in runs]


def _other_templates(mode: str, seed: int) -> list[Spec]:
    others = (dict(classes=100), dict(label_seed=1), dict(label_seed=2))[
        : {"full": 3, "quick": 1}[mode]
    ]
    return [
        _digits(mode, seed, strength, **fields)
        for fields in others
        for strength in _controlled(mode)
    ]


def _controlled(mode: str) -> tuple[float, ...]:
    """The strengths of the controls: the weakest and the strongest will do for a reader who waits."""
    return {"full": STRENGTHS, "quick": STRENGTHS[:: len(STRENGTHS) - 1]}[mode]


def _resampling(mode: str, seed: int) -> list[Spec]:
    draws = {"full": 10_000, "quick": 20}[mode]
    return [
        Resampling(architecture, draws, seed) for architecture in ("cifar10_vgg", "imagenet_vgg")
    ]


def _positions(mode: str, seed: int) -> list[Spec]:
    images, calibration = {"full": (2000, 1024), "quick": (128, 128)}[mode]
    return [Intervention(training, images, calibration) for training in _cifar10(mode, seed)]


def _peers(mode: str, seed: int) -> list[Spec]:
    images, probes = {"full": (128, 2000), "quick": (64, 256)}[
        mode
    ]  # those of the protocols, and as many as time allows
    return [Comparison(training, images, probes) for training in _cifar10(mode, seed)]


def _multiverse(mode: str, seed: int) -> list[Spec]:
    choices, variants = {"full": ("cifar10-choices-1", VARIANTS), "quick": ("quick-choices-1", THREE)}[mode]
    return [
        Variation(_training(mode, seed, variant, PLAIN), choices) for variant in variants
    ]  # claims are judged on these


def _recipes(mode: str, seed: int) -> list[Spec]:
    if mode == "quick":  # QUICK is the recipe of the networks that the other chapters train
        recipes = (QUICK, replace(QUICK, weight_decay=5e-4), replace(QUICK, epochs=1))
        return [
            replace(_training(mode, seed, variant, PLAIN), recipe=recipe)
            for recipe in recipes
            for variant in TWO
        ]
    return [replace(_few(mode, seed, variant), recipe=recipe) for recipe in RECIPES for variant in THREE]


def _pilot(mode: str, seed: int) -> list[Spec]:
    if mode == "quick":
        return [_training(mode, seed, variant, PLAIN) for variant in TWO]
    return [
        _training(mode, seed, variant, recipe, data_id=ORIGINAL)
        for recipe in PILOTED.values()
        for variant in TWO
    ]


def _input(mode: str, seed: int) -> list[Spec]:
    quick = {"full": "", "quick": "quick-"}[mode]
    network = _initial(mode, seed, "max-pool", calibration=0)
    return [
        Variation(network, f"{quick}{choices}") for choices in ("input-choices-1", "shared-draws-1")
    ]


def _variants(mode: str, seed: int) -> tuple[str, ...]:
    """The paper's variants, and in full mode for the first three seeds those beyond."""
    return VARIANTS + BEYOND if mode == "full" and seed < 3 else VARIANTS


def _training(mode: str, seed: int, variant: str, recipe: Recipe, **fields) -> Training:
    if mode == "quick":
        return Training("photos", variant, seed, QUICK, "quick-2", width=0.25, **fields)
    return Training("cifar10", variant, seed, recipe, "protocol-1", **fields)


def _few(mode: str, seed: int, variant: str, **fields) -> Training:
    """On a fixed subset of the images, the same for all."""
    if mode == "quick":
        return Training(
            "photos", variant, seed, QUICK_FEW, "quick-2", width=0.25, examples=QUICK_EXAMPLES, **fields
        )
    return Training("cifar10", variant, seed, FEW, "protocol-1", examples=EXAMPLES, **fields)


def _tiny(mode: str, seed: int, variant: str, width: float, size: int | None = None) -> Training:
    if mode == "quick":
        return Training(
            "photos", variant, seed, replace(QUICK, epochs=1), "quick-2", "imagenet_vgg", width=0.125
        )  # of both studies
    return Training(
        "tiny-imagenet", variant, seed, TINY, "imagenet-1", "imagenet_vgg", width, classes=50, size=size
    )


def _initial(mode: str, seed: int, variant: str, calibration: int, **fields) -> Initialization:
    if mode == "quick":
        return Initialization("photos", variant, seed, 64, calibration, width=0.25, size=64, **fields)
    return Initialization("imagenet", variant, seed, 128, calibration, size=224, **fields)


def _digits(
    mode: str, seed: int, strength: float, task: str = "templates", classes: int = 10, **fields
) -> Training:
    fields = dict(task=task, classes=classes, strength=strength) | fields
    if mode == "quick":
        return Training(
            "photos", "max-pool", seed, QUICK_TEMPLATES, "quick-templates-1", width=0.25, **fields
        )
    return Training("mnist", "max-pool", seed, TEMPLATES, "templates-1", **fields)


STUDIES: dict[str, Study] = {
    "cifar10": Study(
        "Figures 3c, 3d and 6b: five ways of downsampling, before and after training",
        _cifar10,
        {"full": range(5), "quick": range(2)},
        weights=(0, 1),
        beyond=BEYOND,
    ),
    "cifar10-augmented": Study(
        "is it the recipe? augmentation, weight decay, label smoothing",
        lambda mode, seed: [_training(mode, seed, variant, AUGMENTED) for variant in THREE],
        {"full": range(2), "quick": range(1)},
    ),
    "cifar10-augmented-pilot": Study(
        "how its recipe was sought",
        _augmented_pilot,
        {"full": range(1), "quick": range(1)},
    ),
    "cifar10-random-labels": Study(
        "Figures 6c and 7: random labels on a fixed fifth of the images",
        lambda mode, seed: [
            _few(mode, seed, variant, task="random-labels") for variant in _variants(mode, seed)
        ],
        {"full": range(5), "quick": range(1)},
        weights=(0,),
        beyond=BEYOND,
    ),
    "cifar10-subset": Study(
        "its control: the same images and steps, true labels",
        lambda mode, seed: [_few(mode, seed, variant) for variant in _variants(mode, seed)],
        {"full": range(3), "quick": range(1)},
        beyond=BEYOND,
    ),
    "cifar10-random-labels-draws": Study(
        "other draws of the random labels",
        _draws,
        {"full": range(1), "quick": range(1)},
    ),
    "cifar10-random-labels-all": Study(
        "random labels on all images",
        lambda mode, seed: [
            _training(mode, seed, variant, FEW, task="random-labels")
            for variant in ("max-pool", "average-pool")
        ],
        {"full": range(1), "quick": range(1)},
    ),
    "cifar10-random-images": Study(
        "Section 5, named but not shown: random images, Gaussian with the data's covariance and white",
        _random_images,
        {"full": range(2), "quick": range(1)},
    ),
    "imagenet-init": Study(
        "Figure 3a: the ImageNet networks at initialization, photographs of 224x224",
        lambda mode, seed: [
            _initial(mode, seed, variant, calibration=128, sets=_sets(mode, seed)) for variant in TWO
        ],
        {"full": range(5), "quick": range(1)},
    ),
    "imagenet-smoothed": Study(
        "Figure 4: smoother filters at initialization",
        # Figure 4 does not name its variant; its curves rise through the downsampling layers, which only an unpooled variant does.
        lambda mode, seed: [
            _initial(
                mode, seed, "strided-relu", calibration=0, smoothing=sigma, sets=_sets(mode, seed)
            )
            for sigma in SIGMAS
        ],
        {"full": range(5), "quick": range(1)},
        variant="smoothing",
    ),
    "imagenet": Study(
        "Figures 3b and 6a: the ImageNet architecture, half as wide, on 50 classes of Tiny ImageNet",
        lambda mode, seed: [_tiny(mode, seed, variant, width=0.5) for variant in TWO],
        {"full": range(5), "quick": range(1)},
    ),
    "imagenet-128": Study(
        "the same images enlarged to 128x128, a quarter as wide: less padding in the upper layers",
        lambda mode, seed: [_tiny(mode, seed, variant, width=0.25, size=128) for variant in TWO],
        {"full": range(1), "quick": range(1)},
    ),
    "mnist-templates": Study(
        "Figure 5: ten digits, each a class of its deformed copies, by strength of the deformation",
        lambda mode, seed: [_digits(mode, seed, strength) for strength in STRENGTHS],
        {"full": range(5), "quick": range(1)},
        variant="strength",
    ),
    "mnist-templates-pilot": Study(
        "how the learning rate of the digit tasks was chosen",
        _templates_pilot,
        {"full": range(1), "quick": range(1)},
        variant="strength",
    ),
    "mnist-templates-noise": Study(
        "its control: noise as large as the deformations' change",
        lambda mode, seed: [
            _digits(mode, seed, strength, task="templates-in-noise")
            for strength in _controlled(mode)
        ],
        {"full": range(2), "quick": range(1)},
        variant="strength",
    ),
    "mnist-templates-others": Study(
        "a hundred digits, and two other sets of ten",
        _other_templates,
        {"full": range(1), "quick": range(1)},
        variant="strength",
    ),
    "initial-smoothness": Study(
        "footnote 1: filters at initialization, drawn 10,000 times",
        _resampling,
        {"full": range(1), "quick": range(1)},
        variant="architecture",
    ),
    "cifar10-positions": Study(
        "Section 4.4: what the trained networks lose without relative position, layer by layer",
        _positions,
        {"full": range(1), "quick": range(1)},
        beyond=BEYOND,
    ),
    "cifar10-other-measures": Study(
        "do the measures of others agree? relative stability and shift consistency of the trained networks",
        _peers,
        {"full": range(2), "quick": range(1)},
        beyond=BEYOND,
    ),
    "multiverse-cifar10": Study(
        "what the outcome depends on: choices that the paper leaves open, before and after training",
        _multiverse,
        {"full": range(2), "quick": range(1)},
    ),
    "multiverse-input": Study(
        "the same for photographs of 224x224 themselves, layer 0 of Figure 3a",
        _input,
        {"full": range(1), "quick": range(1)},
        variant="choices",
    ),
    "cifar10-recipes": Study(
        "the same for training: augmentation, weight decay, optimizer, rate, epochs, on a fifth of the images",
        _recipes,
        {"full": range(1), "quick": range(1)},
    ),
    "recipe-pilot": Study(
        "how the recipe was chosen on CIFAR-10's original pixels",
        _pilot,
        {"full": range(1), "quick": range(1)},
    ),
}


def keeping(mode: str, *more: Study) -> set[Spec]:
    """The specs whose final weights are kept: those that any study keeps, whichever of the studies that share them is run
    first. `more` are studies of a reader's own."""
    return {
        spec
        for each in (*STUDIES.values(), *more)
        if each.weights
        for spec in each.specs(mode, each.weights)
    }


def study(name: str) -> Study:
    """A study by name, or a reader's own, "FILE.py:STUDY" or "MODULE:STUDY". ValueError that lists the known ones."""
    if name in STUDIES:
        return STUDIES[name]
    if not isinstance(name, str) or ":" not in name:
        raise ValueError(
            f"study must be one of {', '.join(STUDIES)}, or FILE.py:STUDY, got {name!r}"
        )
    if not isinstance(found := named_object(name), Study):
        raise ValueError(
            f"{name} must be a reproduction.experiments.studies.Study, got {type(found).__name__}"
        )
    return found
