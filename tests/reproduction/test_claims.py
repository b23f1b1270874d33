"""The rules of the ledger: made-up records that hold, hold in part, fail and are missing each come
out as they should."""

import dataclasses
import functools
import itertools
import math
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from made_up import checkpoint, probe, profile, smoothness, training
from scipy import stats

from deformlib.models import cifar10_vgg
from reproduction.analysis import claim_statistics, claims, curves, quantities
from reproduction.analysis.claims import CLAIMS, findings, judge, ledger
from reproduction.analysis.quantities import (
    FIVE,
    JUDGED,
    UNPOOLED,
    after,
    before,
    judged_study,
    log,
    observed,
    published_study,
)
from reproduction.analysis.study_arrays import by_variant_and_seed
from reproduction.analysis.verdicts import Part, verdict
from reproduction.experiments.protocol import layers_of
from reproduction.experiments.specs import Training
from reproduction.experiments.store import Record, rounded
from reproduction.experiments.studies import AUGMENTED, PLAIN

SEEDS = {"imagenet": 3, "cifar10-subset": 3, "mnist-templates-noise": 2, "initial-smoothness": 1}
ORDER = {
    variant: k
    for k, variant in enumerate(
        ("average-pool", "max-pool", "subsample", "strided", "strided-relu")
    )
}
LEVEL = {
    "average-pool": -1.2,
    "max-pool": -0.5,
    "subsample": 0.0,
    "strided": 0.1,
    "strided-relu": 0.2,
}  # at initialization

World = dict[
    str, dict[tuple, dict[str, np.ndarray]]
]  # study -> (variant, seed) -> quantity -> numbers


def world() -> World:
    """Records under which every claim holds."""
    return {
        study: {key: dict(numbers) for key, numbers in runs.items()}
        for study, runs in _world().items()
    }


@functools.cache
def _world() -> World:
    made: World = {}
    for study, variants in JUDGED.items():
        if study != "initial-smoothness":
            made[study] = {
                (variant, seed): run(study, variant, seed)
                for variant in variants
                for seed in range(SEEDS.get(study, 5))
            }
    made["initial-smoothness"] = {
        (architecture, 0): {
            "mean": np.full(8, 1.8702),
            "deviation": 0.0345 / np.sqrt(np.arange(k, 8 + k)),
            "draws": np.full(8, 10_000.0),
        }
        for k, architecture in enumerate(("cifar10_vgg", "imagenet_vgg"), 1)
    }
    return made


def run(study: str, variant: object, seed: int) -> dict[str, np.ndarray]:
    noise = partial(
        np.random.default_rng(zlib.crc32(f"{study} {variant} {seed}".encode())).normal, 0, 0.01
    )
    layers, banks = (19, 13) if study.startswith("imagenet") else (13, 8)
    depth, bank = np.arange(layers), np.arange(banks)
    before = math.log(0.2) + LEVEL.get(variant, 0.0) + noise(size=layers)
    after = math.log(0.2) + np.where(depth < 5, 0.6, -0.8) + noise(size=layers)
    kernel = (1.75 - 0.03 * bank if study == "imagenet" else 1.5 + 0.02 * bank) + noise(
        size=banks
    ) / 5
    if study == "imagenet-smoothed":
        before = np.random.default_rng(seed).normal(-1, 0.1, layers) - 0.4 * max(variant - 0.2, 0)
    if study == "cifar10-random-labels":
        after, kernel = after + 0.3 + 0.2 * ORDER[variant], kernel + 0.05 + 0.05 * ORDER[variant]
    if study == "mnist-templates":
        kernel = 1.85 - 0.05 * variant + noise(size=banks) / 5
    if study == "mnist-templates-noise":
        kernel = 1.85 + noise(size=banks) / 5
    accuracy = np.array([0.9 + noise() / 10])
    first = np.full(banks, 1.87)
    return {
        "before": before,
        "calibrated": before + 0.02,
        "after": after,
        "kernel before": first,
        "kernel after": kernel,
        "moved": np.ones(banks),
        "accuracy": accuracy,
        "euclidean before": before,
        "euclidean after": after,
    }


def change(
    made: World,
    study: str,
    by: Callable | float,
    *quantities: str,
    variants: tuple = (),
    layers: slice = slice(None),
) -> None:
    """Add a number to quantities of a study's runs, or call `by(numbers, variant, seed)` on them;
    Euclidean ones follow."""
    for (variant, seed), numbers in made[study].items():
        for name in quantities if not variants or variant in variants else ():
            for follower in (name, f"euclidean {name}"):
                if follower in numbers:
                    old = numbers[follower] = numbers[follower].copy()
                    old[layers] = (
                        by(old[layers], variant, seed) if callable(by) else old[layers] + by
                    )


def studies(made: World) -> dict[str, xr.Dataset]:
    return {
        study: judged_study(JUDGED[study], dataset(study, runs)) for study, runs in made.items()
    }


def dataset(study: str, runs: dict[tuple, dict[str, np.ndarray]]) -> xr.Dataset:
    """Three checkpoints: filters have half of their way behind them at the second."""
    read = _of_draws if study == "initial-smoothness" else _of_network
    whole = xr.concat([read(numbers) for numbers in runs.values()], "run")
    variants, seeds = zip(*runs)
    whole = whole.assign_coords(variant=("run", list(variants)), seed=("run", list(seeds)))
    return by_variant_and_seed(whole)


def _of_draws(numbers: dict[str, np.ndarray]) -> xr.Dataset:
    return xr.Dataset(
        {"draws": (("statistic", "size"), np.array(list(numbers.values())))},
        {"statistic": list(numbers), "size": range(1, 9)},
    )


def _of_network(numbers: dict[str, np.ndarray]) -> xr.Dataset:
    first, last, steps = (
        numbers["kernel before"],
        numbers["kernel after"],
        np.array([0, 0.5, 1])[:, None],
    )
    far_before, far_after = numbers["euclidean before"] / 2, numbers["euclidean after"] / 2
    plain = numbers["calibrated"]
    of_layers = {
        "sensitivity": np.exp([numbers["before"], *[numbers["after"]] * 2]),
        "calibrated": np.exp([plain] * 3),
        "euclidean": np.exp([far_before, far_after, far_after]),
        "calibrated_euclidean": np.exp([plain / 2] * 3),
    }
    of_filters = {
        "smoothness": first * (1 - steps) + last * steps,
        "moved": steps * numbers["moved"],
    }
    variables = {
        name: (("checkpoint", "layer"), rounded(v.tolist())) for name, v in of_layers.items()
    }
    for name, values in of_filters.items():
        variables[name] = (("checkpoint", "filters"), rounded(values.tolist()))
    variables["accuracy"] = ("checkpoint", rounded([10.0, 10.0, 100 * numbers["accuracy"][0]]))
    names = {
        "checkpoint": range(3),
        "layer": [f"layer{k}" for k in range(len(plain))],
        "filters": [f"filters{k}" for k in range(len(first))],
    }
    return xr.Dataset(variables, names)


@functools.cache
def names_of(variant: str) -> dict[str, list[str]]:
    return layers_of(cifar10_vgg(variant, width=0.1))


def record(study: str, variant: str, seed: int, **fields: object) -> Record:
    """A record of the world as `studies` has it, of CIFAR-10's networks."""
    numbers = world()[study][variant, seed]

    def at(when: str, moved: float, **more: object) -> object:
        kernel = numbers["kernel before"] * (1 - moved) + numbers["kernel after"] * moved
        kept = [np.exp(numbers[when]), np.exp(numbers[f"euclidean {when}"] / 2)]
        calibrated = [np.exp(numbers["calibrated"]), np.exp(numbers["calibrated"] / 2)]
        readout = [99.0, 98.0]  # pool and head
        return checkpoint(
            profile(*([*values, *readout] for values in kept)),
            smoothness(kernel, change_norm=moved * numbers["moved"]),
            calibrated=profile(*([*values, *readout] for values in calibrated)),
            probe=probe(test_accuracy=0.1),
            **more,
        )

    end = probe(test_accuracy=numbers["accuracy"][0], test_images=1000)
    names = names_of(variant)
    spec = Training("cifar10", variant, seed, PLAIN, "protocol-1")
    checkpoints = [at("before", 0.0), at("after", 0.5), at("after", 1.0, full_probe=end)]
    spec = dataclasses.replace(spec, **fields)
    return training(spec, checkpoints, names["layers"], names["banks"])


def judged(number: int, made: World) -> claims.Finding:
    needed = {study: runs for study, runs in made.items() if study in CLAIMS[number].studies}
    return judge(number, studies(needed))


def ledger_of(made: World) -> pd.DataFrame:
    found = studies(made)
    return ledger({number: judge(number, found) for number in CLAIMS})


def towards(value: float, fraction: float) -> Callable:
    """Move numbers a fraction of the way to a value."""
    return lambda numbers, variant, seed: numbers + fraction * (value - numbers)


def jitter(size: float) -> Callable:
    """Something seeds do that makes an interval wide and leaves the mean nearly alone."""
    return lambda numbers, variant, seed: numbers + size * (-1) ** seed


def apart(size: float) -> Callable:
    """Variants a constant apart, in the order of ORDER."""
    return lambda numbers, variant, seed: numbers + size * ORDER[variant]


SUBSET, RANDOM, TEMPLATES, NOISE = (
    "cifar10-subset",
    "cifar10-random-labels",
    "mnist-templates",
    "mnist-templates-noise",
)
EACH = ("cifar10", "imagenet")
POOLED = ("max-pool", "average-pool")
# claim -> what is done to records under which it holds, and the verdict then
CASES: list[tuple[int, str, list[tuple], str]] = [
    (
        1,
        "above the threshold everywhere",
        [("cifar10", 1.3, "before", POOLED), ("imagenet-init", 0.65, "before", POOLED)],
        "Did not hold",
    ),
    (
        1,
        "one variant only",
        [("cifar10", 0.4, "before", ("max-pool",)), ("imagenet-init", 0.65, "before", POOLED)],
        "In part",
    ),
    (
        1,
        "wide intervals around the right sign",
        [("cifar10", jitter(1), "before", POOLED), ("imagenet-init", jitter(1), "before", POOLED)],
        "In part",
    ),
    (
        2,
        "no change",
        [
            (s, towards(math.log(0.2), 1), q)
            for s in EACH
            for q in ("before", "calibrated", "after")
        ],
        "Did not hold",
    ),
    (
        2,
        "no change from the calibrated start",
        [
            (
                s,
                lambda v, variant, seed: (
                    0 * v + math.log(0.2) + np.where(np.arange(len(v)) < 5, 0.6, -0.8)
                ),
                "calibrated",
            )
            for s in EACH
        ],
        "In part",
    ),
    (3, "decrease", [(s, -2.5, "after") for s in EACH], "Did not hold"),
    (
        3,
        "up by too little",
        [
            (
                s,
                lambda v, variant, seed: (
                    v * 0 + math.log(0.2) + LEVEL[variant] + 0.1 + 0.001 * seed
                ),
                "after",
            )
            for s in EACH
        ],
        "Did not hold",
    ),
    (3, "only with pooling", [(s, -0.55, "after", UNPOOLED) for s in EACH], "In part"),
    (
        4,
        "as sensitive as before",
        [(s, 0.95, "after", UNPOOLED) for s in EACH],
        "Did not hold",
    ),
    (
        4,
        "one of four",
        [("cifar10", 0.95, "after", ("subsample", "strided")), ("imagenet", 0.95, "after")],
        "In part",
    ),
    (
        5,
        "as far apart as before",
        [(s, lambda v, variant, seed: v + 1.5 * LEVEL[variant], "after") for s in EACH],
        "Did not hold",
    ),
    (
        5,
        "not in absolute terms",
        [(s, lambda v, variant, seed: v + 2 + 0.3 * LEVEL[variant], "after") for s in EACH],
        "In part",
    ),
    (
        6,
        "no effect",
        [
            (
                "imagenet-smoothed",
                lambda v, variant, seed: v * 0 - 1 + 0.01 * variant * (seed + 1),
                "before",
            )
        ],
        "Did not hold",
    ),
    (6, "not at the end", [("imagenet-smoothed", 0.3, "before", (1.0,))], "In part"),
    (6, "0.1 is not 0.2", [("imagenet-smoothed", 2e-4, "before", (0.1,))], "In part"),
    (
        6,
        "0.1 is not 0.2 in one seed",
        [("imagenet-smoothed", lambda v, variant, seed: v + 2e-4 * (seed == 3), "before", (0.1,))],
        "In part",
    ),
    (
        7,
        "rougher",
        [(TEMPLATES, lambda v, variant, seed: v + 0.1 * variant, "kernel after")],
        "Did not hold",
    ),
    (
        7,
        "as much under noise",
        [(NOISE, lambda v, variant, seed: v - 0.05 * variant, "kernel after")],
        "In part",
    ),
    (
        7,
        "gone at matched displacement",
        [
            (TEMPLATES, lambda v, variant, seed: v * 0 + variant, "moved"),
            (
                TEMPLATES,
                lambda v, variant, seed: (
                    v * 0 + 1.87 - 0.05 * variant + 0.002 * (-1) ** (seed * variant)
                ),
                "kernel after",
            ),
        ],
        "In part",
    ),
    (7, "not from 3 to 4", [(TEMPLATES, 0.05, "kernel after", (4,))], "In part"),
    (8, "rougher", [(s, 0.5, "kernel after") for s in EACH], "Did not hold"),
    (
        8,
        "smoother by too little",
        [(s, towards(1.86, 0.99), "kernel after") for s in EACH],
        "Did not hold",
    ),
    (8, "only one data set", [("imagenet", 0.5, "kernel after")], "In part"),
    (
        9,
        "the other way round",
        [(s, lambda v, variant, seed: 3 - v, "kernel after") for s in EACH],
        "Did not hold",
    ),
    (9, "both fall", [("imagenet", lambda v, variant, seed: 3 - v, "kernel after")], "In part"),
    (
        9,
        "only up to the last",
        [
            ("cifar10", -1, "kernel after", (), slice(-1, None)),
            ("imagenet", 1, "kernel after", (), slice(-1, None)),
        ],
        "In part",
    ),
    (10, "as in the control", [(SUBSET, apart(0.05), "kernel after")], "Did not hold"),
    (
        10,
        "of the control alone",
        [
            (RANDOM, lambda v, variant, seed: v - 0.05 * ORDER[variant], "kernel after"),
            (SUBSET, apart(0.05), "kernel after"),
        ],
        "Did not hold",
    ),
    (
        5,
        "as one before and apart after",
        [(s, lambda v, variant, seed: v - LEVEL[variant], "before") for s in EACH]
        + [(s, lambda v, variant, seed: v - LEVEL[variant], "calibrated") for s in EACH]
        + [(s, lambda v, variant, seed: v + LEVEL[variant], "after") for s in EACH],
        "Did not hold",
    ),
    (
        10,
        "unclear",
        [
            (SUBSET, apart(0.02), "kernel after"),
            (
                SUBSET,
                lambda v, variant, seed: v + 0.02 * (seed - 1) * ORDER[variant],
                "kernel after",
            ),
        ],
        "In part",
    ),
    (
        11,
        "as in the control, and by seed",
        [
            (SUBSET, apart(0.3), "after"),
            (RANDOM, lambda v, variant, seed: v - 0.18 * ORDER[variant] + 0.5 * seed, "after"),
        ],
        "Did not hold",
    ),
    (11, "by seed as well", [(RANDOM, jitter(0.5), "after")], "In part"),
    (
        12,
        "against each other",
        [(RANDOM, lambda v, variant, seed: 4 - v, "kernel after")],
        "Did not hold",
    ),
    (
        12,
        "unrelated",
        [
            (
                RANDOM,
                lambda v, variant, seed: (
                    v - 0.05 * ORDER[variant] + 0.05 * (2, 4, 1, 0, 3)[ORDER[variant]]
                ),
                "kernel after",
            )
        ],
        "Did not hold",
    ),
    (
        12,
        "in some seeds",
        [(RANDOM, lambda v, variant, seed: v if seed else 4 - v, "kernel after")],
        "In part",
    ),
    (
        13,
        "another average",
        [("initial-smoothness", -0.013, "mean"), ("initial-smoothness", 0.01, "deviation")],
        "Did not hold",
    ),
    (13, "another deviation", [("initial-smoothness", 0.01, "deviation")], "In part"),
    (13, "one bank off", [("initial-smoothness", 0.01, "mean", (), slice(3, 4))], "In part"),
    (
        13,
        "one bank of ImageNet off",
        [("initial-smoothness", 0.01, "mean", ("imagenet_vgg",), slice(7, 8))],
        "In part",
    ),
    (
        13,
        "ImageNet's deviations are only listed",
        [("initial-smoothness", 0.01, "deviation", ("imagenet_vgg",))],
        "Held",
    ),
    (
        14,
        "other ranks and verdicts",
        [
            (s, lambda v, variant, seed: -np.arange(len(v)) - ORDER[variant], q)
            for s in (*EACH, "imagenet-init")
            for q in ("euclidean before", "euclidean after")
        ],
        "Did not hold",
    ),
    (
        14,
        "other ranks",
        [
            (s, lambda v, variant, seed: -v, q)
            for s in (*EACH, "imagenet-init")
            for q in ("euclidean before", "euclidean after")
        ],
        "In part",
    ),
    (
        15,
        "no difference",
        [
            (RANDOM, lambda v, variant, seed: v * 0 + 1 + 0.1 * (seed - 1), q)
            for q in ("after", "kernel after")
        ]
        + [(SUBSET, lambda v, variant, seed: v * 0 + 1, q) for q in ("after", "kernel after")],
        "Did not hold",
    ),
    (
        15,
        "three variants",
        [
            (
                RANDOM,
                lambda v, variant, seed: v * 0 + 1.57 + 0.1 * (seed - 1),
                "kernel after",
                ("strided", "subsample"),
            )
        ],
        "In part",
    ),
    (
        15,
        "four variants",
        [
            (
                RANDOM,
                lambda v, variant, seed: v * 0 + 1.57 + 0.1 * (seed - 1),
                "kernel after",
                ("strided",),
            )
        ],
        "Held",
    ),
    (
        15,
        "only sensitivity",
        [(RANDOM, lambda v, variant, seed: v * 0 + 1.57 + 0.1 * (seed - 1), "kernel after")],
        "Did not hold",
    ),
    (
        15,
        "only in the lower layers",
        [
            (
                RANDOM,
                lambda v, variant, seed: v * 0 + math.log(0.2) - 0.8 + 0.1 * (seed - 1),
                "after",
                (),
                slice(7, 13),
            )
        ],
        "Did not hold",
    ),
    (16, "far apart", [(s, apart(0.1), "kernel after") for s in EACH], "Did not hold"),
    (
        16,
        "one bank of one variant",
        [("cifar10", 0.3, "kernel after", ("max-pool",), slice(2, 3))],
        "In part",
    ),
    (17, "two points apart", [(s, 0.02, "accuracy", POOLED) for s in EACH], "Did not hold"),
    (
        17,
        "one variant two points better",
        [("cifar10", 0.02, "accuracy", ("max-pool",))],
        "In part",
    ),
    (
        17,
        "wide intervals",
        [(s, lambda v, variant, seed: v + 0.01 * (-1) ** seed, "accuracy", POOLED) for s in EACH],
        "In part",
    ),
]


@pytest.mark.parametrize("number", CLAIMS)
def test_holds(number: int) -> None:
    found = judged(number, world())
    assert found.verdict == "Held", found.detail.to_string()


@pytest.mark.parametrize(
    ("number", "changes", "expected"),
    [pytest.param(n, c, v, id=f"{n}, {name}") for n, name, c, v in CASES],
)
def test_verdicts(number: int, changes: list[tuple], expected: str) -> None:
    made = world()
    for study, by, quantity, *rest in changes:
        change(made, study, by, quantity, **dict(zip(("variants", "layers"), rest, strict=False)))
    found = judged(number, made)
    assert found.verdict == expected, found.detail.drop(columns=["goal", "null"]).to_string()


def test_every_claim_fails_somewhere_and_holds_in_part_somewhere() -> None:
    cases = {(number, expected) for number, _, _, expected in CASES}
    assert {n for n in CLAIMS if (n, "In part") not in cases} == set()
    assert {n for n in CLAIMS if (n, "Did not hold") not in cases} == set()


@pytest.mark.parametrize("number", CLAIMS)
def test_not_tested(number: int) -> None:
    for found in (
        judged(number, {}),
        judged(number, {s: runs for s, runs in world().items() if s not in CLAIMS[number].studies}),
    ):
        assert found.verdict == "Not tested" and math.isnan(found.value) and math.isnan(found.low)
    assert len(ledger(findings({}))) == 17 and set(ledger(findings({}))["verdict"]) == {
        "Not tested"
    }


def test_one_architecture_alone_holds_in_part() -> None:
    made = world()
    del made["initial-smoothness"]["imagenet_vgg", 0]
    assert judged(13, made).verdict == "In part"


def test_single_seeds_cannot_show_that_variants_differ() -> None:
    made = {
        study: {key: v for key, v in runs.items() if key[1] == 0} for study, runs in world().items()
    }
    assert judged(15, made).verdict == "Not tested"
    assert judged(15, made).detail.query("role == 'listed'")["value"].notna().all()


def test_two_seeds_that_agree_on_ranks_give_no_interval() -> None:
    assert (
        claim_statistics.of_ranks([0.9, 0.9])[0] == 0.9
        and np.isnan(claim_statistics.of_ranks([0.9, 0.9])[1:]).all()
    )
    assert claim_statistics.of_ranks([0.9] * 3) == (0.9, 0.9, 0.9)
    value, low, high = claim_statistics.of_ranks([0.8, 0.9])
    assert value == pytest.approx(0.85) and (low, high) == (
        pytest.approx(0.85 - stats.t.ppf(0.975, 1) * 0.05),
        1.0,
    )


def test_the_rules_are_those_that_were_fixed() -> None:
    """Every goal and every range of layers as it was written down before there were records."""
    found = {number: judged(number, world()).detail for number in CLAIMS}
    goals = {
        number: [
            {tuple(np.round(goal, 6)) for goal in table.loc[table["role"] == role, "goal"]}
            for role in ("decides", "condition")
        ]
        for number, table in found.items()
    }
    below, above = (
        (lambda bar: {(-math.inf, round(bar, 6))}),
        (lambda bar: {(round(bar, 6), math.inf)}),
    )
    assert {number: decides for number, (decides, _) in goals.items()} == {
        1: below(math.log(0.8)),
        2: {(0.5, 1.0)},
        3: above(math.log(1.25)),
        4: below(math.log(0.9)),
        5: below(0.5),
        6: below(0),
        7: below(0),
        8: below(-0.05),
        9: below(-0.5) | above(0.5),
        10: above(2),
        11: above(1.5) | above(0.75),
        12: above(0.7),
        13: {(1.865, 1.875), (0.033, 0.037)},
        14: above(0.9) | {(1.0, 1.0)},
        15: above(4),
        16: {(0.0, 0.15)},
        17: {(-1.0, 1.0)},
    }
    assert {number: conditions for number, (_, conditions) in goals.items() if conditions} == {
        6: below(1e-4),
        7: below(0),
        12: below(0.05),
    }
    assert found[12].query("role == 'condition'")["goal"].item()[1] < 0.05
    layers = np.arange(19)
    assert [
        list(layers[part])
        for part in (
            claim_statistics.EARLY,
            claim_statistics.PATTERN,
            claim_statistics.UPPER,
            claim_statistics.LAST,
        )
    ] == [[1, 2, 3, 4], [*range(3, 19)], [*range(7, 13)], [18]]


@pytest.mark.parametrize(
    ("number", "studies", "quantity", "effect"),
    [
        (2, EACH, "after", range(3, 19)),
        (3, EACH, "after", range(1, 5)),
        (5, EACH, "after", range(3, 19)),
        (11, (RANDOM,), "after", range(3, 19)),
        (15, (SUBSET,), "after", range(7, 13)),
        (15, (SUBSET,), "kernel after", range(0, 8)),
        (16, EACH, "kernel after", range(0, 13)),
    ],
)
def test_a_claim_looks_at_its_layers_and_no_others(
    number: int, studies: tuple, quantity: str, effect: range
) -> None:
    whole = judged(number, world()).detail["value"]
    for layer in {effect.start - 1, effect.start, effect.stop - 1, effect.stop} & {*range(13)}:
        made = world()
        for study in studies:
            as_before = lambda v, variant, seed: v * 0 + math.log(0.2) + LEVEL[variant]  # noqa: E731
            moved = lambda v, variant, seed: v + (1 + seed) * ORDER[variant] - 2  # noqa: E731
            change(
                made,
                study,
                as_before if number == 2 else moved,
                quantity,
                layers=slice(layer, layer + 1),
            )
        same = judged(number, made).detail["value"].equals(whole)
        assert same == (layer not in effect), layer


def test_filters_that_move_back_are_matched_where_they_first_were_as_far() -> None:
    """Displacement is that reached so far: 0, 2, 1 is 0, 2, 2."""
    smooth, moved = (
        xr.DataArray([[path] for path in paths], dims=("variant", "seed", "checkpoint"))
        for paths in ([[1.9, 1.8, 1.7], [1.9, 1.5, 1.4]], [[0.0, 0.5, 1.0], [0.0, 2.0, 1.0]])
    )
    matched = quantities.at_matched_displacement(smooth, moved)
    assert matched.values.ravel() == pytest.approx([1.7, 1.7])


@pytest.mark.parametrize("number", [n for n in CLAIMS if n not in (13, 15)])
def test_one_seed_is_at_most_in_part(number: int) -> None:
    made = {
        study: {key: v for key, v in runs.items() if key[1] == 0} for study, runs in world().items()
    }
    found = judged(number, made)
    assert found.verdict == "In part", found.detail.to_string()
    assert math.isfinite(found.value) and (number == 14 or math.isnan(found.low))


@pytest.mark.parametrize(
    "number",
    [
        n
        for n, claim in CLAIMS.items()
        if "imagenet" in claim.studies or "imagenet-init" in claim.studies
    ],
)
def test_one_data_set_is_at_most_in_part(number: int) -> None:
    made = {study: runs for study, runs in world().items() if not study.startswith("imagenet")}
    found = judged(number, made)
    assert found.verdict == "In part"
    assert "held" in set(found.detail["outcome"]) and found.detail["outcome"].eq("not tested").any()


@pytest.mark.parametrize("number", [n for n in CLAIMS if n not in (6, 7, 13)])
def test_a_missing_variant_is_at_most_in_part(number: int) -> None:
    variant = "strided-relu"
    made = {
        study: {key: v for key, v in runs.items() if key[0] != variant or study == "imagenet"}
        for study, runs in world().items()
    }
    assert judged(number, made).verdict == "In part"


def test_a_missing_control_is_at_most_in_part() -> None:
    made = world()
    del made[NOISE]
    assert judged(7, made).verdict == "In part"


@pytest.mark.parametrize(
    ("low", "value", "high", "outcome"),
    [
        (1.1, 2.0, 3.0, "held"),
        (0.5, 2.0, 3.0, "right sign"),
        (-0.5, 0.5, 1.5, "right sign"),
        (-2.0, -0.5, 1.5, "wrong sign"),
        (0.1, 0.5, 0.9, "excluded"),
        (-3.0, -2.0, -1.0, "excluded"),
        (math.nan, 2.0, math.nan, "right sign"),
        (math.nan, -2.0, math.nan, "wrong sign"),
        (math.nan, math.nan, math.nan, "not tested"),
        (1.0, 1.0, 1.0, "held"),
    ],
)
def test_outcomes_of_a_part(low: float, value: float, high: float, outcome: str) -> None:
    above = Part("", "", value, low, high, (1.0, math.inf))
    below = Part("", "", -value, -high, -low, (-math.inf, -1.0))
    shifted = Part("", "", value + 5, low + 5, high + 5, (6.0, math.inf), null=5.0)
    assert above.outcome == below.outcome == shifted.outcome == outcome


def test_outcomes_of_a_goal_with_two_ends() -> None:
    within = partial(Part, "", "", goal=(-1.0, 1.0))
    assert within(0.0, -0.9, 0.9).outcome == "held"
    assert within(0.5, -1.5, 2.5).outcome == "right sign"
    assert within(1.2, 0.5, 1.9).outcome == "wrong sign"
    assert within(2.0, 1.5, 2.5).outcome == "excluded"
    assert within(-2.0, -2.5, -1.5).outcome == "excluded"
    assert within(0.0, -0.9, 0.9, role="listed").outcome == "listed"


HELD, RIGHT, WRONG, EXCLUDED, NONE = (
    (v, low, high)
    for v, low, high in ((2, 1.5, 3), (2, 0.5, 3), (-1, -3, 2), (0.5, 0.1, 0.9), (math.nan,) * 3)
)


@pytest.mark.parametrize(
    ("parts", "conditions", "expected"),
    [
        ([HELD, HELD], [], "Held"),
        ([HELD, HELD], [HELD], "Held"),
        ([HELD, HELD], [EXCLUDED], "In part"),
        ([HELD, HELD], [NONE], "In part"),
        ([HELD, NONE], [], "In part"),
        ([HELD, EXCLUDED, EXCLUDED], [], "In part"),
        ([RIGHT, EXCLUDED], [], "In part"),
        ([RIGHT, EXCLUDED, EXCLUDED], [], "Did not hold"),
        ([RIGHT, WRONG, NONE], [], "In part"),
        ([WRONG], [], "Did not hold"),
        ([EXCLUDED], [HELD], "Did not hold"),
        ([EXCLUDED, NONE], [], "Did not hold"),
        ([NONE], [], "Not tested"),
        ([NONE], [HELD], "Not tested"),
        ([], [], "Not tested"),
    ],
)
def test_verdict_of_parts(parts: list[tuple], conditions: list[tuple], expected: str) -> None:
    make = partial(Part, "", "", goal=(1.0, math.inf))
    listed = [make(*EXCLUDED, role="listed")]
    assert (
        verdict(
            [make(*p) for p in parts] + [make(*c, role="condition") for c in conditions] + listed
        )
        == expected
    )


def theirs(number: int) -> pd.Series:
    found = {name: published_study(name) for name in CLAIMS[number].studies}
    return judge(number, found).detail.set_index(["study", "what"])["published"]


def curve(figure: str, variant: str) -> np.ndarray:
    table = curves.published(figure)
    return table[table["variant"] == variant].sort_values("layer")["value"].to_numpy()


def test_published_values_by_hand() -> None:
    before, after, smooth = (
        {variant: curve(f, variant) for variant in FIVE} for f in ("3c", "3d", "6b")
    )
    assert theirs(1)["cifar10", "max-pool - strided-relu"] == pytest.approx(math.log(0.117 / 0.212))
    assert theirs(1)["imagenet-init", "max-pool - strided-relu"] == pytest.approx(
        math.log(curve("3a", "max-pool")[18] / curve("3a", "strided-relu")[18])
    )
    logs = np.log(after["strided"] / before["strided"])
    assert theirs(2)["cifar10", "strided, before"] == np.mean(abs(logs[3:13]) > math.log(1.1))
    assert theirs(3)["cifar10", "strided, before"] == pytest.approx(logs[1:5].mean())
    assert theirs(4)["cifar10", "strided, before"] == pytest.approx(math.log(0.196 / 0.186))
    assert math.isnan(theirs(4)["cifar10", "strided, calibrated"])
    assert theirs(6)["imagenet-smoothed", "0.3 - 0.2"] == pytest.approx(
        math.log(curve("4", "sigma=0.3")[18] / curve("4", "sigma=0.2")[18])
    )
    assert theirs(7)["mnist-templates", "C = 4 - 3"] == pytest.approx(
        np.mean(curve("5", "strength=4") - curve("5", "strength=3"))
    )
    assert theirs(8)["cifar10", "max-pool"] == pytest.approx(smooth["max-pool"].mean() - 1.87)
    assert theirs(9)["cifar10", "max-pool"] == pytest.approx(
        -pd.Series(smooth["max-pool"][1:]).corr(pd.Series(range(7)), method="spearman")
    )
    assert theirs(16)["cifar10", "largest difference"] == pytest.approx(
        np.ptp(list(smooth.values()), axis=0).max()
    )
    assert theirs(13)["initial-smoothness", "cifar10_vgg, deviation, size 1"] == 0.035
    assert {value for (_, what), value in theirs(13).items() if "mean" in what} == {1.87}


def test_published_spreads_by_hand() -> None:
    before, after = (
        np.array([curve(f, variant)[3:] for variant in FIVE]) for f in ("3c", "3d")
    )  # (variants, layers)

    def rms(values: np.ndarray) -> float:
        return np.sqrt(np.mean(values**2))

    found = theirs(5)
    assert found["cifar10", "spread of logarithms"] == pytest.approx(
        rms(np.log(after).std(0, ddof=1)) / rms(np.log(before).std(0, ddof=1))
    )
    assert found["cifar10", "spread, absolute"] == pytest.approx(
        rms(after.std(0, ddof=1)) / rms(before.std(0, ddof=1))
    )
    assert found["cifar10", "largest difference of logarithms"] == pytest.approx(
        rms(np.ptp(np.log(after), axis=0)) / rms(np.ptp(np.log(before), axis=0))
    )
    assert math.isnan(found["cifar10", "spread of logarithms, calibrated"])
    assert math.isnan(found["imagenet", "spread of logarithms"]) or "3b" in set(
        pd.read_csv(curves.PUBLISHED, dtype=str)["figure"]
    )


def test_the_ledger_shows_the_least_favourable_part() -> None:
    made = world()
    change(made, "cifar10", 0.3, "before", variants=("max-pool",))
    row = ledger_of(made).loc[1]
    assert row["part"] == "cifar10: max-pool - subsample" and row["held"] == "6 of 7"
    assert row["low"] < row["value"] < row["high"] and row["value"] == pytest.approx(-0.2, abs=0.02)
    assert (
        row["published"] == pytest.approx(math.log(0.117 / 0.179)) and row["verdict"] == "In part"
    )
    assert ledger({4: judged(4, world())})["held"].item() == "4 of 4", (
        "parts that are listed are not counted"
    )


def test_further_variants_of_a_study_are_left_out() -> None:
    runs = [record("cifar10", variant, seed) for variant in FIVE for seed in range(5)]
    other = record("cifar10", "strided", 0, downsampling="max-pool", width=0.5)
    found = observed([other, *runs, other], "downsampling", FIVE)
    assert found.sizes["seed"] == 5
    assert judge(1, studies(world()) | {"cifar10": found}).verdict == "Held"
    expected = before(studies(world())["cifar10"]["sensitivity"]).values
    assert before(found["sensitivity"]).values == pytest.approx(expected, rel=1e-5)


def test_reads_what_a_training_leaves() -> None:
    """Layers without pooled and logits; filters; accuracy on the most images; the wanted recipe."""
    names = layers_of(cifar10_vgg("max-pool"))
    numbers_of_filters = tuple(names["layers"].index(each) for each in names["banks"])
    assert numbers_of_filters == claim_statistics.CONVOLUTIONS
    numbers = world()["cifar10"]["max-pool", 0]
    recipes = ((AUGMENTED, 0), (PLAIN, 0), (PLAIN, 1))
    records = [
        dataclasses.replace(each, spec=dataclasses.replace(each.spec, seed=seed))
        for each, seed in (
            (record("cifar10", "max-pool", 0, recipe=r), seed) for r, seed in recipes
        )
    ]
    found = observed(records, "downsampling", FIVE)
    s = before(log(found["sensitivity"]))
    assert s.shape == (5, 2, 13) and s.sel(variant="strided").isnull().all()
    one = found.sel(variant="max-pool", seed=1)
    calibrated, euclidean = before(log(one["calibrated"])), after(2 * log(one["euclidean"]))
    assert s.sel(variant="max-pool", seed=1).values == pytest.approx(numbers["before"], abs=1e-5)
    assert calibrated.values == pytest.approx(numbers["before"] + 0.02, abs=1e-5)
    assert euclidean.values == pytest.approx(numbers["after"], abs=1e-4)
    assert before(one["smoothness"]).values.tolist() == [1.87] * 8
    assert one["smoothness"].shape == (3, 8)
    assert after(one["accuracy"]).item() == pytest.approx(100 * numbers["accuracy"][0], abs=1e-3)


def test_failing_banks_are_listed() -> None:
    made = world()
    change(
        made,
        "cifar10",
        lambda v, variant, seed: v * 0 + 1.85,
        "kernel after",
        variants=("strided",),
        layers=slice(1, 3),
    )
    notes = judged(8, made).detail.set_index(["study", "what"])["note"]
    assert (
        notes["cifar10", "strided"] == "single banks not surely there: 2, 3"
        and notes["cifar10", "subsample"] == ""
    )


def test_matched_displacement_is_read_off_the_way() -> None:
    """C = 4 moves twice as far; where it had moved as far as C = 1 ever did, it was halfway."""
    made = world()
    change(
        made, TEMPLATES, lambda v, variant, seed: v * 0 + (2.0 if variant == 4 else 1.0), "moved"
    )
    change(made, TEMPLATES, lambda v, variant, seed: v * 0 + 1.87 - 0.1 * variant, "kernel after")
    study = studies(made)[TEMPLATES]
    matched = quantities.at_matched_displacement(study["smoothness"], study["moved"])
    for strength, value in ((1, 1.77), (3, 1.57), (4, 1.87 - 0.4 / 2)):
        assert matched.sel(variant=strength).values == pytest.approx(value)


def test_fraction_outside_counts_both_ways() -> None:
    seeds = np.array([[-0.01], [0.0], [0.01]])
    changes = np.array([0.5, -0.5, 0.0, 0.101]) + seeds
    assert claim_statistics.fraction_outside(changes, 0.1) == (0.75, 0.5, 0.75)


def test_fraction_outside_covers() -> None:
    """Seven of ten layers change by more than the margin, some by little more."""
    rng, true = (
        np.random.default_rng(3),
        np.array([0.11, 0.12, 0.15, 0.3, -0.2, -0.5, 0.13, 0.0, 0.05, 0.09]),
    )

    def covers() -> bool:
        found = claim_statistics.fraction_outside(true + rng.normal(0, 0.03, (5, 10)), 0.1)
        return found.low <= 0.7 <= found.high

    assert np.mean([covers() for _ in range(600)]) >= 0.95


@pytest.mark.parametrize(
    ("noise", "rate", "off"), [(2.0, 0.92, 1), (1.0, 0.88, 1), (0.3, 0.2, 0.03)]
)
def test_intervals_of_rank_correlations_cover(noise: float, rate: float, off: float) -> None:
    """Over eight banks, of five seeds, the expectation of the correlation; where nearly all are 1,
    all but."""
    rng, banks = np.random.default_rng(4), np.arange(8)

    def correlations(seeds: int) -> list[float]:
        return [
            stats.spearmanr(banks, banks + noise * rng.normal(size=8)).statistic
            for _ in range(seeds)
        ]

    truth = np.mean(correlations(3000))
    found = [claim_statistics.of_ranks(correlations(5)) for _ in range(500)]
    assert np.mean([each.low <= truth <= each.high for each in found]) >= rate
    assert max(max(each.low - truth, truth - each.high) for each in found) < off
    assert all(-1 <= each.low <= each.high <= 1 for each in found)


def test_random_over_control_covers() -> None:
    rng = np.random.default_rng(0)
    random, control = rng.normal(0, 1, (5, 8)), rng.normal(0, 0.3, (5, 8))
    truth = np.sqrt(random.var(0, ddof=1).mean() / control.var(0, ddof=1).mean())

    def covers() -> bool:
        found = claim_statistics.random_over_control(
            *(m + 0.1 * rng.normal(size=(n, 5, 8)) for m, n in ((random, 5), (control, 3)))
        )
        return found.low <= truth <= found.high

    assert np.mean([covers() for _ in range(600)]) == pytest.approx(0.95, abs=0.03)


def test_variants_as_one_under_control_are_infinitely_further_apart() -> None:
    rng = np.random.default_rng(1)
    random = np.arange(5.0)[None, :, None] + 0.01 * rng.normal(size=(5, 5, 8))
    value, low, high = claim_statistics.random_over_control(random, np.ones((3, 5, 8)))
    assert value == math.inf and low > 1e6 and high == math.inf


def smoothness_only(values: np.ndarray) -> dict[str, xr.Dataset]:
    """CIFAR-10 with filters (variants, seeds, filters) after training."""
    over, names = (
        ("variant", "seed", "checkpoint", "filters"),
        {"variant": list(FIVE), "seed": range(5)},
    )
    found = xr.Dataset(
        {"smoothness": (over, values[:, :, None])}, names | {"checkpoint": [0], "filters": range(8)}
    )
    return {"cifar10": judged_study(FIVE, found), "imagenet": judged_study(JUDGED["imagenet"])}


def test_the_largest_difference_is_judged_by_simultaneous_intervals() -> None:
    """Without any true difference, its interval reaches down to 0 in at least 95% of cases."""
    rng = np.random.default_rng(2)

    def reaches_zero() -> bool:
        part = next(CLAIMS[16].statistic(smoothness_only(rng.normal(1.5, 0.01, (5, 5, 8)))))
        return part.low == 0 and part.value > 0

    assert np.mean([reaches_zero() for _ in range(60)]) >= 0.9


def test_the_interval_of_the_largest_difference_covers() -> None:
    rng, means = np.random.default_rng(5), 1.5 + 0.05 * np.arange(5)[:, None, None]

    def covers() -> bool:
        part = next(CLAIMS[16].statistic(smoothness_only(means + rng.normal(0, 0.02, (5, 5, 8)))))
        return part.low <= 0.2 <= part.high

    assert np.mean([covers() for _ in range(100)]) >= 0.95


def test_a_seed_measured_on_more_sets_of_images_is_a_seed() -> None:
    records = [
        record("cifar10", variant, seed) for variant in ("max-pool", "strided") for seed in range(3)
    ]
    for each in records:
        object.__setattr__(each.spec, "sets", 3 if each.spec.seed == 0 else None)
    found = observed(records, "downsampling", ("max-pool", "strided"))["sensitivity"]
    assert found["seed"].values.tolist() == [0, 1, 2] and found.notnull().all()


def test_a_fourth_variant_needs_more_than_an_interval_of_its_own() -> None:
    seeds = np.linspace(-1, 1, 5)[:, None]
    fourth = 3.1 * np.std(seeds, ddof=1) / math.sqrt(5)
    means = (9.0, 9.0, 9.0, fourth, 0.0)
    real = {(v, k): mean + seeds[k] * np.ones(13) for v, mean in zip(FIVE, means) for k in range(5)}

    def study(values: dict[tuple, np.ndarray]) -> xr.Dataset:
        s = np.array([[values[variant, seed] for seed in range(5)] for variant in FIVE])[:, :, None]
        names = {"variant": list(FIVE), "seed": range(5), "checkpoint": [0]}
        variables = {
            "sensitivity": (("variant", "seed", "checkpoint", "layer"), np.exp(s)),
            "smoothness": (("variant", "seed", "checkpoint", "filters"), s),
        }
        places = {"layer": range(13), "filters": range(13)}
        return judged_study(FIVE, xr.Dataset(variables, names | places))

    nothing = study({key: 0 * values for key, values in real.items()})
    *_, part = CLAIMS[15].statistic({SUBSET: study(real), RANDOM: nothing})
    assert (part.low, part.value, part.high) == (3, 4, 5) and part.outcome == "right sign"


@pytest.mark.parametrize("variants", [1, 3, 4])
def test_variants_without_records_are_no_variants_without_a_difference(variants: int) -> None:
    made = world()
    made[RANDOM] = {
        key: numbers
        for key, numbers in made[RANDOM].items()
        if key[0] in FIVE[:variants] or (variants == 3 and key[1] == 0)
    }
    found = judged(15, made)
    assert found.verdict == "In part"
    assert (found.detail["outcome"] == "not tested").sum() >= 5 - variants


def by_seed(made: World, study: str, variant: object, quantity: str) -> np.ndarray:
    """(seeds, layers), as the records have it: sensitivities to six digits."""
    return np.array([numbers[quantity] for (a, _), numbers in made[study].items() if a == variant])


def part_of(found: claims.Finding, study: str, what: str) -> pd.Series:
    return found.detail[(found.detail["study"] == study) & (found.detail["what"] == what)].squeeze(
        axis=0
    )


def test_changes_are_counted_by_intervals_for_all_layers_at_once() -> None:
    made = world()
    change(
        made,
        "cifar10",
        lambda v, variant, seed: v + (0.7 + 0.017 * (seed - 2)) * (np.arange(len(v)) == 6),
        "after",
    )  # near the margin
    found = judged(2, made)
    diff = (
        by_seed(made, "cifar10", "strided", "after")[:, 3:]
        - by_seed(made, "cifar10", "strided", "before")[:, 3:]
    )
    half = stats.t.ppf(0.5 + 0.95 ** (1 / 10) / 2, 4) * diff.std(0, ddof=1) / np.sqrt(5)
    surely = [abs(m) - h > math.log(1.1) for m, h in zip(diff.mean(0), half)]
    alone = [
        abs(m) - h > math.log(1.1)
        for m, h in zip(
            diff.mean(0), half / stats.t.ppf(0.5 + 0.95 ** (1 / 10) / 2, 4) * stats.t.ppf(0.975, 4)
        )
    ]
    assert np.mean(surely) < np.mean(alone), "else the two could not be told apart"
    assert part_of(found, "cifar10", "strided, before")["low"] == pytest.approx(np.mean(surely))


def test_the_calibrated_beginning_does_not_decide_claim_4() -> None:
    roles = judged(4, world()).detail.set_index("what")["role"]
    assert dict(roles.items()) == {
        f"{variant}, {baseline}": role
        for variant in ("subsample", "strided", "strided-relu")
        for baseline, role in (("before", "decides"), ("calibrated", "listed"))
    }


def test_banks_that_are_not_shown_to_get_smoother_are_named_by_simultaneous_intervals() -> None:
    made = world()

    def shift(v, variant, seed):
        return v + (np.arange(len(v)) == 2) * (1.87 - v - 0.08 + 0.0085 * (seed - 2))

    change(made, "cifar10", shift, "kernel after", variants=("strided",))
    values = by_seed(made, "cifar10", "strided", "kernel after")[:, 2] - 1.87
    ends = [
        values.mean() + stats.t.ppf(level, 4) * stats.sem(values)
        for level in (0.975, 0.5 + 0.95 ** (1 / 8) / 2)
    ]
    assert ends[0] < -0.05 < ends[1], "else the two could not be told apart"
    assert (
        part_of(judged(8, made), "cifar10", "strided")["note"] == "single banks not surely there: 3"
    )


@pytest.mark.parametrize("bank", [0, 7])
def test_every_bank_counts_in_claim_10(bank: int) -> None:
    values = []
    for size in (0.0, 0.5):
        made = world()
        change(made, SUBSET, apart(0.02), "kernel after")
        change(made, RANDOM, apart(size), "kernel after", layers=slice(bank, bank + 1))
        values.append(part_of(judged(10, made), RANDOM, "spread, times the control's")["value"])
    assert values[1] > 2 * values[0]


def test_deviations_over_seeds_are_root_mean_squares() -> None:
    made = world()
    values = by_seed(made, RANDOM, "strided", "after")[:, 3:]
    expected = math.sqrt(np.mean([np.var(values[:, k], ddof=1) for k in range(values.shape[1])]))
    assert part_of(judged(11, made), RANDOM, "deviation over seeds, strided")[
        "value"
    ] == pytest.approx(expected, rel=1e-3)


def test_variants_are_permuted_whole_and_in_all_seeds_alike() -> None:
    made = world()

    def swapped(v, variant, seed):
        return v - 0.05 * ORDER[variant] + 0.05 * (0, 2, 1, 3, 4)[ORDER[variant]]

    change(
        made,
        RANDOM,
        lambda v, variant, seed: swapped(v, variant, seed) if seed else 4 - v,
        "kernel after",
    )  # the first seed disagrees
    convolutions = list(claim_statistics.CONVOLUTIONS)
    s, kernel = (
        np.stack([by_seed(made, RANDOM, variant, q) for variant in FIVE], axis=1)
        for q in ("after", "kernel after")
    )
    s = s[..., convolutions]

    def statistic(order: tuple[int, ...]) -> float:
        return np.mean(
            [
                stats.spearmanr(s[k, order, b], kernel[k, :, b]).statistic
                for k in range(5)
                for b in range(8)
            ]
        )

    orders = list(itertools.permutations(range(5)))
    expected = np.mean([statistic(order) >= statistic(orders[0]) - 1e-12 for order in orders])
    found = judged(12, made)
    assert part_of(found, RANDOM, "rank correlation")["value"] == pytest.approx(
        statistic(orders[0])
    )
    assert (
        part_of(found, RANDOM, "p of permuted variants")["value"] == pytest.approx(expected)
        and expected > 1 / 120
    )


def test_the_two_distances_are_compared_by_ranks_of_variant_layers_without_the_image() -> None:
    made = world()
    change(
        made, "cifar10", lambda v, variant, seed: -(v**4) / 20, "euclidean before"
    )  # another scale, nearly the same ranks
    for numbers in made["cifar10"].values():
        numbers["euclidean before"] = numbers["euclidean before"] * (np.arange(13) > 0) + 50.0 * (
            np.arange(13) == 0
        )
    variants = [
        [by_seed(made, "cifar10", variant, q)[:, 1:] for variant in FIVE]
        for q in ("before", "euclidean before")
    ]
    each = [
        stats.spearmanr(*(np.ravel([table[seed] for table in side]) for side in variants)).statistic
        for seed in range(5)
    ]
    assert part_of(judged(14, made), "cifar10", "rank correlation, before")[
        "value"
    ] == pytest.approx(np.mean(each), abs=1e-3)


def test_what_stronger_deformations_do_is_compared_with_what_noise_does_by_welchs_interval() -> (
    None
):
    made = world()
    smooth, noisy = (
        np.subtract(
            *(by_seed(made, study, strength, "kernel after").mean(1) for strength in (4, 1))
        )
        for study in (TEMPLATES, NOISE)
    )
    expected = [
        smooth.mean() - noisy.mean(),
        *stats.ttest_ind(smooth, noisy, equal_var=False).confidence_interval(0.95),
    ]
    found = part_of(judged(7, made), TEMPLATES, "C = 4 - 1, less that of noise")
    assert found[["value", "low", "high"]].tolist() == pytest.approx(expected, abs=1e-5)


def test_one_bank_of_one_variant_is_enough_to_exclude_that_smoothness_converges() -> None:
    made = world()
    change(made, "cifar10", 0.2, "kernel after", variants=("strided",), layers=slice(2, 3))
    part = part_of(judged(16, made), "cifar10", "largest difference")
    assert part["outcome"] == "excluded" and 0.15 < part["low"] < 0.2 < part["high"] < 0.25


def test_smoothness_is_ranked_with_depth_from_the_second_bank_on_with_and_without_the_last() -> (
    None
):
    made = world()
    change(
        made,
        "cifar10",
        lambda v, variant, seed: np.random.default_rng(seed).uniform(1.4, 1.8, len(v)),
        "kernel after",
        variants=("strided",),
    )
    found, kernels = judged(9, made), by_seed(made, "cifar10", "strided", "kernel after")
    for what, end in (("strided", 8), ("strided, without the last", 7)):
        expected = [stats.spearmanr(range(end - 1), -seed[1:end]).statistic for seed in kernels]
        assert part_of(found, "cifar10", what)["value"] == pytest.approx(np.mean(expected))


def test_intervals_over_draws_are_those_of_a_mean_and_of_a_deviation() -> None:
    made = world()
    found, z = judged(13, made), 1.959964  # of the normal distribution, 95% within
    for architecture in ("cifar10_vgg", "imagenet_vgg"):
        numbers = made["initial-smoothness"][architecture, 0]
        for what, errors in (
            ("mean", numbers["deviation"] / 10_000**0.5),
            ("deviation", numbers["deviation"] / 20_000**0.5),
        ):
            parts = [
                part_of(found, "initial-smoothness", f"{architecture}, {what}, size {k}")[
                    ["value", "low", "high"]
                ].tolist()
                for k in range(1, 9)
            ]
            assert (
                pytest.approx(
                    np.array(
                        [numbers[what], numbers[what] - z * errors, numbers[what] + z * errors]
                    ),
                    abs=1e-8,
                )
                == np.array(parts).T
            )


def test_the_worst_part_of_a_fraction_is_the_smallest() -> None:
    made = world()
    change(
        made,
        "cifar10",
        lambda v, variant, seed: math.log(0.2) + LEVEL["strided"] + 0 * v,
        "after",
        variants=("strided",),
        layers=slice(9, 13),
    )
    found = judged(2, made)
    assert found.part.startswith("cifar10: strided, ") and found.value == pytest.approx(0.6)
    made = world()
    change(made, "cifar10", 0.05, "kernel after", variants=("strided",))
    assert judged(16, made).part == "cifar10: largest difference"


def test_the_table_is_whole() -> None:
    assert list(CLAIMS) == list(range(1, 18))
    for claim in CLAIMS.values():
        assert claim.claim and claim.section and claim.measured and claim.threshold and claim.figure
        assert set(claim.studies) <= set(JUDGED)


@pytest.mark.parametrize("study", ["cifar10", "cifar10-random-labels", "cifar10-subset"])
def test_a_variant_that_the_paper_does_not_have_enters_no_claim(study: str):
    made = world()
    expected = ledger_of(made)
    for seed in range(3):
        made[study]["blur-pool", seed] = {
            name: numbers + 7 + seed for name, numbers in run(study, "subsample", seed).items()
        }
    pd.testing.assert_frame_equal(ledger_of(made), expected)
    assert not {"blur-pool"} & {variant for variants in JUDGED.values() for variant in variants}


def test_damaged_published_curves_are_not_passed_over(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "curves.csv"
    damaged.write_text(curves.PUBLISHED.read_text().replace("0.1", "x", 1))
    monkeypatch.setattr(curves, "PUBLISHED", damaged)
    with pytest.raises(ValueError, match="curves.csv, row"):
        published_study("cifar10")
