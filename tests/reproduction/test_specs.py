"""What a run is: its identity never changes, and whatever is not a spec is refused by name."""

import dataclasses
import hashlib
import itertools
from dataclasses import replace

import numpy as np
import pytest

from reproduction.experiments import specs, studies
from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Matching,
    Recipe,
    Resampling,
    Smoothing,
    Theory,
    Training,
    Variation,
    Worst,
    WorstPretrained,
)

SPEC = Training(
    "cifar10", "max-pool", 0, Recipe(epochs=5, batch_size=64, learning_rate=0.05), "protocol-1"
)
TEXT = (
    '{"architecture":"cifar10_vgg","data":"cifar10","downsampling":"max-pool","kind":"training","protocol":"protocol-1",'
    '"recipe":{"batch_size":64,"crop":0,"epochs":5,"flip":false,"label_smoothing":0,"learning_rate":0.05,'
    '"momentum":0.9,"pixels":"unit","warmup":0.2,"weight_decay":0},"seed":0,"task":"real","width":1}'
)
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
FULL = Training(
    "tiny-imagenet",
    "strided-relu",
    3,
    AUGMENTED,
    "protocol-1",
    "imagenet_vgg",
    0.5,
    "random-labels",
    5000,
    1,
    64,
)
INTEGER_FOR_FLOAT = Training("photos", "strided", 1, Recipe(6, 64, 1), "quick-1", width=1)
UNTRAINED = Initialization("imagenet", "max-pool", 0, 128, 0, size=224)
WORST = Worst(SPEC, 16, 4, 1, ("input", "conv1_2"), (("strided", 0),), 128)
PRETRAINED = WorstPretrained("squeezenet1_1", 0, 32, 20, 3, ("input", "conv1"))
FLOAT_FOR_INTEGER = Training("photos", "strided", 1, Recipe(6, 64, 1.0), "quick-1", width=1.0)


def test_identity_is_the_hash_of_canonical_json():
    assert specs.identity(SPEC) == hashlib.sha256(TEXT.encode()).hexdigest()[:12]


# Records are found by these: a change that moves one of them loses every record there is.
@pytest.mark.parametrize(
    "spec, identity",
    [
        (Intervention(SPEC, 2000, 1024), "d4c158fce059"),
        (Comparison(SPEC, 128, 2000), "46f0f587b23d"),
        (Variation(SPEC, "cifar10-choices-1"), "1c82c9e1f52f"),
        (Variation(UNTRAINED, "input-choices-1"), "9ebb28cd85f0"),
        (Matching(SPEC, 128, 2048), "67aac462af91"),
        (Smoothing(SPEC, 128, 2000, 2048), "46f41f48c388"),
        (Worst(SPEC, 128, 20, 6), "01b091a6cae4"),
        (WORST, "e9da7dd91853"),
        (PRETRAINED, "3cc89c5ad262"),
        (Theory(SPEC), "07464e2e94eb"),
        (Theory(SPEC, 64, (0.3, 1.0)), "1f2bffd95569"),
        (SPEC, "63b999cef2ae"),
        (FULL, "e5a97aacfc69"),
        (INTEGER_FOR_FLOAT, "910687abbb8a"),
        (FLOAT_FOR_INTEGER, "910687abbb8a"),
    ],
)
def test_identity_never_changes(spec: Training, identity: str):
    assert specs.identity(spec) == identity


def test_numbers_of_numpy_are_pythons():
    found = replace(
        SPEC,
        seed=np.int64(0),
        width=np.float32(1),
        recipe=replace(SPEC.recipe, epochs=np.int32(5), learning_rate=np.float64(0.05)),
    )
    assert (
        found == SPEC and specs.identity(found) == specs.identity(SPEC) and type(found.seed) is int
    )


@pytest.mark.parametrize("flip", [1, "no", None])
def test_flip_is_true_or_false(flip: object):
    with pytest.raises(ValueError, match=f"flip must be True or False, got {flip!r}"):
        replace(SPEC.recipe, flip=flip)


def test_a_study_has_each_run_once_and_variants_in_its_specs():
    assert studies.Study("", lambda mode, seed: [SPEC], {"full": range(3)}).specs("full") == [SPEC]
    with pytest.raises(
        ValueError, match="variant must be a field of the study's specs, got 'downsampling'"
    ):
        studies.Study(
            "", lambda mode, seed: [Resampling("cifar10_vgg", 20, seed)], {"full": range(1)}
        ).specs("full")


def test_fields_that_are_none_do_not_count():
    fields = specs.to_dict(SPEC)
    assert next(iter(fields)) == "kind" and fields["kind"] == "training"
    assert {"examples", "label_seed", "size"}.isdisjoint(fields)
    assert specs.to_dict(FULL)["examples"] == 5000


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        FULL,
        INTEGER_FOR_FLOAT,
        Intervention(FULL, 20, 10),
        Comparison(FULL, 20, 10, 0.5),
        Variation(FULL, "a"),
        Variation(UNTRAINED, "a"),
        Matching(FULL, 20, 10),
        Smoothing(FULL, 20, 30, 10, sigmas=(0.5,)),
        WORST,
        PRETRAINED,
        Theory(FULL, 64, (0.3, 1.0)),
    ],
)
def test_round_trip(spec: Training | Intervention):
    fields = specs.to_dict(spec)
    again = specs.from_dict(fields)
    assert (
        again == spec
        and hash(again) == hash(spec)
        and specs.identity(again) == specs.identity(spec)
    )
    assert fields == specs.to_dict(spec), "from_dict changed what it was given"


def test_every_field_tells_two_specs_apart():
    others = {
        "data": "mnist",
        "downsampling": "strided",
        "seed": 1,
        "recipe": AUGMENTED,
        "protocol": "quick-1",
        "architecture": "imagenet_vgg",
        "width": 0.5,
        "task": "random-labels",
        "examples": 10,
        "label_seed": 1,
        "size": 64,
        "classes": 5,
        "strength": 2.0,
        "data_id": "0",
    }
    recipes = {
        "epochs": 6,
        "batch_size": 65,
        "learning_rate": 0.06,
        "momentum": 0.8,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "flip": True,
        "crop": 1,
        "warmup": 0.3,
        "pixels": "standardized",
        "optimizer": "adamw",
        "schedule": "constant",
        "norm_scale": False,
    }
    assert others.keys() == {field.name for field in dataclasses.fields(Training)}
    assert recipes.keys() == {field.name for field in dataclasses.fields(Recipe)}
    changed = [dataclasses.replace(SPEC, **{name: value}) for name, value in others.items()]
    changed += [
        dataclasses.replace(SPEC, recipe=dataclasses.replace(SPEC.recipe, **{name: value}))
        for name, value in recipes.items()
    ]
    assert (
        len({SPEC, *changed}) == len(set(map(specs.identity, [SPEC, *changed]))) == 1 + len(changed)
    )


@pytest.mark.parametrize("mode", studies.MODES)
@pytest.mark.parametrize("name", studies.STUDIES)
def test_the_specs_of_a_study_are_distinct(name: str, mode: str):
    made = studies.study(name).specs(mode)
    assert made and len(set(map(specs.identity, made))) == len(set(made)) == len(made)
    assert [specs.from_dict(specs.to_dict(spec)) for spec in made] == made


def test_a_study_makes_every_variant_of_a_seed_before_the_next():
    seeds = [spec.seed for spec in studies.study("cifar10").specs("full", [3, 1])]
    assert [seed for seed, _ in itertools.groupby(seeds)] == [3, 1]


@pytest.mark.parametrize(
    "change, named",
    [
        ({"kind": "trainin"}, "kind must be one of training.*'trainin'"),
        ({"kind": None}, "kind must be one of training"),
        ({"colour": 1}, "colour"),
        ({"recipe": {**specs.to_dict(SPEC)["recipe"], "nesterov": True}}, "nesterov"),
        ({"recipe": {"epochs": 1}}, "batch_size"),
        ({"recipe": "plain"}, "recipe"),
        (
            {"recipe": {**specs.to_dict(SPEC)["recipe"], "epochs": 0}},
            "epochs must be an integer >= 1, got 0",
        ),
        ({"seed": "first"}, "seed"),
        ({"seed": "3"}, "seed"),
        ({"seed": 2.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"width": "wide"}, "width"),
        ({"width": [1]}, "width"),
        ({"data": 5}, "data"),
        ({"examples": "all"}, "examples"),
        ({"recipe": {**specs.to_dict(SPEC)["recipe"], "flip": "no"}}, "flip"),
    ],
)
def test_what_is_not_a_spec_is_refused_by_name(change: dict, named: str):
    with pytest.raises(ValueError, match=named):
        specs.from_dict({**specs.to_dict(SPEC), **change})


def test_an_intervention_holds_the_training_it_changes():
    fields = specs.to_dict(Intervention(SPEC, 20, 10))
    assert fields["kind"] == "intervention" and {
        "kind": "training",
        **fields["training"],
    } == specs.to_dict(SPEC)
    assert "examples" not in fields["training"]
    with pytest.raises(ValueError, match="epochs must be an integer >= 1, got 0"):
        specs.from_dict(
            {
                **fields,
                "training": {
                    **fields["training"],
                    "recipe": {**fields["training"]["recipe"], "epochs": 0},
                },
            }
        )


def test_a_missing_field_is_named():
    fields = specs.to_dict(SPEC)
    del fields["downsampling"]
    with pytest.raises(ValueError, match="downsampling"):
        specs.from_dict(fields)


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"epochs": 2.5}, "epochs must be an integer >= 1, got 2.5"),
        ({"learning_rate": "0.1"}, "learning_rate must be a finite number >= 0, got '0.1'"),
        ({"epochs": True}, "epochs must be an integer >= 1, got True"),
        ({"learning_rate": -0.1}, "learning_rate must be a finite number >= 0, got -0.1"),
        ({"weight_decay": float("nan")}, "weight_decay must be a finite number >= 0, got nan"),
        ({"momentum": 1.1}, r"momentum must be a number in \[0, 1\], got 1.1"),
        ({"label_smoothing": 2}, r"label_smoothing must be a number in \[0, 1\], got 2"),
        ({"warmup": 3}, r"warmup must be a number in \[0, 1\], got 3"),
        ({"crop": -1}, "crop must be an integer >= 0, got -1"),
        ({"pixels": "raw"}, "pixels must be one of unit, standardized, got 'raw'"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adamw, got 'lion'"),
    ],
)
def test_a_recipe_out_of_range_is_refused(fields: dict, named: str):
    with pytest.raises(ValueError, match=named):
        Recipe(**{"epochs": 1, "batch_size": 1, "learning_rate": 0.1} | fields)


@pytest.mark.parametrize(
    "make, named",
    [
        (lambda: replace(SPEC, seed="a"), "seed must be an integer >= 0, got 'a'"),
        (lambda: replace(SPEC, seed=-1), "seed must be an integer >= 0, got -1"),
        (lambda: replace(SPEC, seed=None), "seed must be an integer >= 0, got None"),
        (
            lambda: replace(SPEC, label_seed=0),
            "label_seed must be an integer >= 1, got 0",
        ),  # the first draw has one name, None
        (lambda: replace(SPEC, width=-1.0), "width must be a finite number > 0, got -1.0"),
        (lambda: replace(SPEC, width=float("nan")), "width must be a finite number > 0, got nan"),
        (lambda: replace(SPEC, examples=True), "examples must be an integer >= 1, got True"),
        (lambda: replace(SPEC, classes=0), "classes must be an integer >= 1, got 0"),
        (lambda: replace(SPEC, size=2.5), "size must be an integer >= 1, got 2.5"),
        (lambda: replace(SPEC, strength=0.0), "strength must be a finite number > 0, got 0.0"),
        (
            lambda: Initialization("photos", "max-pool", 0, 1, 0),
            "images must be an integer >= 2, got 1",
        ),
        (
            lambda: Initialization("photos", "max-pool", 0, 2, -1),
            "calibration must be an integer >= 0, got -1",
        ),
        (
            lambda: Initialization("photos", "max-pool", 0, 2, 0, smoothing=-0.1),
            "smoothing must be a finite number >= 0, in pixels, got -0.1",
        ),
        (lambda: Resampling("cifar10_vgg", 1, 0), "draws must be an integer >= 2, got 1"),
        (lambda: Intervention(SPEC, 1, 0), "images must be an integer >= 2, got 1"),
        (lambda: Comparison(SPEC, 2, 0), "probes must be an integer >= 1, got 0"),
        (lambda: Comparison(SPEC, 2, 1, cutoff=1), "cutoff must be an integer >= 2, got 1"),
        (lambda: Theory(SPEC, 1), "images must be an integer >= 2, got 1"),
        (lambda: Worst(SPEC, 2, 1, 0), "restarts must be an integer >= 1, got 0"),
        (lambda: replace(PRETRAINED, steps=-1), "steps must be an integer >= 0, got -1"),
        (lambda: Matching(SPEC, 1, 1), "images must be an integer >= 2, got 1"),
        (lambda: Smoothing(SPEC, 2, 0, 1), "probes must be an integer >= 1, got 0"),
        (
            lambda: Smoothing(SPEC, 2, 1, 1, sigmas=(0.5, 0)),
            r"sigmas must be a tuple of finite numbers > 0, got \(0.5, 0\)",
        ),
        (
            lambda: Comparison(SPEC, 2, 1, displacement=0),
            "displacement must be a finite number > 0, got 0",
        ),
    ],
)
def test_a_number_out_of_range_is_refused(make, named: str):
    with pytest.raises(ValueError, match=named):
        make()


def test_unknown_studies_and_modes_are_named_with_the_known():
    with pytest.raises(ValueError, match=r"study must be one of cifar10, .*got None"):
        studies.study(None)
    with pytest.raises(ValueError, match=r"study must be one of cifar10, .*got 'cifar'"):
        studies.study("cifar")
    with pytest.raises(ValueError, match="mode must be one of full, quick, got 'fast'"):
        studies.study("cifar10").specs("fast")
    with pytest.raises(ValueError, match="mode must be one of full, got 'quick'"):
        studies.Study("", studies.study("cifar10").make, {"full": range(1)}).specs("quick")


def test_a_seed_named_twice_is_one_seed():
    assert studies.study("cifar10").specs("full", [1, 0, 1]) == studies.study("cifar10").specs(
        "full", [1, 0]
    )
