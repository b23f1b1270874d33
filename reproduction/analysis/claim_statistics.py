"""The statistic of every claim: from judged studies (`quantities`) to parts of a claim
(`verdicts`).

Sensitivity enters as its logarithm s, smoothness as normalized total variation averaged over
kernels (the average that gives the paper's 1.87), accuracy in points. The seed is the unit. The
rules were fixed before the records that they judge were complete: see `claims`."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from reproduction.analysis import intervals
from reproduction.analysis.intervals import Interval, t_interval
from reproduction.analysis.quantities import (
    ARCHITECTURES,
    FIVE,
    JUDGED,
    POOLED,
    STRENGTHS,
    UNPOOLED,
    Moment,
    Studies,
    after,
    at_matched_displacement,
    before,
    by_euclidean_distance,
    complete,
    log,
)
from reproduction.analysis.verdicts import INF, Goal, Part, part, untested, verdict

TRAINED = ("cifar10", "imagenet")
# Layers by number, 0 the input. 3 is the first downsampling layer and 12 CIFAR-10's last;
# ImageNet's last is 18.
EARLY, PATTERN, UPPER = slice(1, 5), slice(3, None), slice(7, 13)
LAST, ALL = slice(-1, None), slice(None)
CONVOLUTIONS = (1, 2, 4, 5, 7, 8, 10, 11)  # layers of CIFAR-10's eight convolutions
RANDOM, CONTROL = "cifar10-random-labels", "cifar10-subset"
NAN = math.nan
Cube = tuple[
    np.ndarray, list
]  # (seeds, variants, layers), and the variants that are missing: `complete`


def s(study: xr.Dataset, when: Moment) -> xr.DataArray:
    """Log sensitivity: (variant, seed, layer)."""
    return when(log(study["sensitivity"]))


def baselines(study: xr.Dataset) -> dict[str, xr.DataArray]:
    """Log sensitivity before training, as it was and with batch norm statistics computed anew."""
    return {"before": s(study, before), "calibrated": before(log(study["calibrated"]))}


def layers(values: xr.DataArray, chosen: slice) -> xr.DataArray:
    """Some layers, or filters, by number."""
    return values.isel({values.dims[-1]: chosen})


def scalar(values: xr.DataArray, chosen: slice = ALL) -> np.ndarray:
    """Mean over layers of (seed, layer), one number for each seed that has one."""
    return layers(values, chosen).mean(str(values.dims[-1])).dropna("seed").values


def difference(values: xr.DataArray, one: object, other: object) -> xr.DataArray:
    """One variant less another: without the dimension variant."""
    return values.sel(variant=one, drop=True) - values.sel(variant=other, drop=True)


def opposed(study: str) -> list[tuple[str, str]]:
    """Every pooled against every unpooled variant."""
    return [pair for pair in product(POOLED, UNPOOLED) if set(pair) <= set(JUDGED[study])]


def over_variants(
    study: str,
    what: str,
    statistic: Callable[..., Interval],
    cubes: list[Cube],
    goal: Goal,
    **more: Any,
) -> Iterator[Part]:
    """A statistic that needs all variants at once, and an untested part for every variant that is
    missing."""
    if not all(len(values) and values.shape[1] > 1 for values, _ in cubes):
        yield untested(study, what, goal, **more)
        return
    found = statistic(*(values for values, _ in cubes))
    yield part(study, what, found, goal, **more)
    for variant in dict.fromkeys(variant for _, lacking in cubes for variant in lacking):
        yield untested(study, f"{what}: {variant} missing", goal)


def root_of_ratio(
    small: Callable[..., float], large: Callable[..., float], *samples: np.ndarray
) -> Interval:
    """sqrt(small / large), from a jackknife of the ratio itself: that of squares, smooth also where
    debiasing turns the smaller one negative, with the larger, well-determined one below. If that
    one is not above 0, seed noise explains all of it: infinite, or nothing where the smaller is not
    either; and no interval where so much hangs on one seed."""
    if large(*samples) <= 0:
        return Interval(INF if small(*samples) > 0 else NAN, NAN, NAN)

    def ratio(*samples: np.ndarray) -> float:
        below = large(*samples)
        return small(*samples) / below if below > 0 else NAN

    return Interval(*np.sqrt(np.maximum(intervals.jackknife(ratio, *samples), 0)))


def after_over_before(squared: Callable[[np.ndarray], float], values: np.ndarray) -> Interval:
    """Root of the ratio of a squared spread over variants; `values` is (seeds, variants, layers
    before and as many after)."""
    m = values.shape[2] // 2
    return root_of_ratio(lambda v: squared(v[..., m:]), lambda v: squared(v[..., :m]), values)


def random_over_control(random: np.ndarray, control: np.ndarray) -> Interval:
    """Ratio of debiased spreads; seeds of the two studies are jackknifed apart, as the control has
    fewer."""
    spread = intervals.squared_spread
    inverse = root_of_ratio(lambda r, c: spread(c), lambda r, c: spread(r), random, control)
    with np.errstate(divide="ignore"):
        return Interval(1 / inverse.value, 1 / inverse.high, 1 / inverse.low)


def fraction_outside(changes: np.ndarray, margin: float) -> Interval:
    """Fraction of layers of (seeds, layers) that change by more than `margin`: of the estimates;
    surely, and possibly, by simultaneous intervals."""
    if not changes.size:
        return Interval(NAN, NAN, NAN)
    found = t_interval(changes, scanned=changes.shape[1])
    fraction = (abs(found.value) > margin).mean()
    if np.isnan(found.low).any():
        return Interval(fraction, NAN, NAN)
    surely = (found.low > margin) | (found.high < -margin)
    inside = (found.low > -margin) & (found.high < margin)
    return Interval(fraction, surely.mean(), 1 - inside.mean())


def of_ranks(correlations: Iterable[float]) -> Interval:
    """Interval of a rank correlation over seeds, within [-1, 1]. Few ranks make for ties: none of
    two seeds that agree. At five seeds and eight ranks it covers 0.90 to 0.95, but where most seeds
    agree on 1 it is too narrow, by 0.03 at most."""
    values = list(correlations)
    value, low, high = t_interval(values)
    if len(values) == 2 and low == high:
        return Interval(value, NAN, NAN)
    return Interval(value, *np.clip((low, high), -1, 1))


# The statistics, by number of the claim


def pooling_at_initialization(studies: Studies) -> Iterator[Part]:
    """Claim 1."""
    for study in ("cifar10", "imagenet-init"):
        first = s(studies[study], before)
        for pooled, unpooled in opposed(study):
            found = t_interval(scalar(difference(first, pooled, unpooled), LAST))
            yield part(study, f"{pooled} - {unpooled}", found, (-INF, math.log(0.8)))


def changes(studies: Studies) -> Iterator[tuple[str, str, str, xr.DataArray]]:
    """Study, variant, baseline, and the change in s over training from that baseline: (seed,
    layer)."""
    for study in TRAINED:
        last = s(studies[study], after)
        for baseline, first in baselines(studies[study]).items():
            change = last - first
            for variant in JUDGED[study]:
                of_variant = change.sel(variant=variant, drop=True)
                yield study, variant, baseline, of_variant.dropna("seed")


def change_over_training(studies: Studies) -> Iterator[Part]:
    """Claim 2."""
    for study, variant, baseline, change in changes(studies):
        found = fraction_outside(layers(change, PATTERN).values, math.log(1.1))
        yield part(study, f"{variant}, {baseline}", found, (0.5, 1), possible=(0, 1))


def early_layers(studies: Studies) -> Iterator[Part]:
    """Claim 3."""
    for study, variant, baseline, change in changes(studies):
        found = t_interval(scalar(change, EARLY))
        yield part(study, f"{variant}, {baseline}", found, (math.log(1.25), INF))


def top_without_pooling(studies: Studies) -> Iterator[Part]:
    """Claim 4. The calibrated baseline is told, but does not decide: the claim is about how
    networks began."""
    for study, variant, baseline, change in changes(studies):
        if variant in UNPOOLED:
            found = t_interval(scalar(change, LAST))
            role = "decides" if baseline == "before" else "listed"
            yield part(study, f"{variant}, {baseline}", found, (-INF, math.log(0.9)), role=role)


def convergence(studies: Studies) -> Iterator[Part]:
    """Claim 5, in four ways that must all agree."""
    logs = partial(after_over_before, intervals.squared_spread)
    largest = partial(after_over_before, intervals.squared_range)

    def absolute(values: np.ndarray) -> Interval:
        return logs(np.exp(values))

    ways = (
        ("spread of logarithms", logs, "before"),
        ("spread, absolute", absolute, "before"),
        ("spread of logarithms, calibrated", logs, "calibrated"),
        ("largest difference of logarithms", largest, "before"),
    )
    for study in TRAINED:
        first, last = baselines(studies[study]), layers(s(studies[study], after), PATTERN)
        for what, statistic, baseline in ways:
            both = complete(layers(first[baseline], PATTERN), last)
            yield from over_variants(study, what, statistic, [both], (-INF, 0.5), null=1)


def smoother_initial_filters(studies: Studies) -> Iterator[Part]:
    """Claim 6."""
    study, first = "imagenet-smoothed", s(studies["imagenet-smoothed"], before)
    sigmas = JUDGED[study]
    for less, more in pairwise(sigmas[1:]):
        found = t_interval(scalar(difference(first, more, less), LAST))
        yield part(study, f"{more} - {less}", found, (-INF, 0))
    apart = abs(scalar(difference(first, sigmas[1], sigmas[0]), LAST))
    same = Interval(*[apart.max() if len(apart) else NAN] * 3)  # no chance in it
    what = f"{sigmas[1]} and {sigmas[0]}, largest difference"
    yield part(study, what, same, (-INF, 1e-4), role="condition")


def stronger_deformations(studies: Studies) -> Iterator[Part]:
    """Claim 7, and its two controls: filters that moved as far, and noise in place of
    deformation."""
    study, goal, least, most = "mnist-templates", (-INF, 0), STRENGTHS[0], STRENGTHS[-1]
    strongest = f"C = {most:g} - {least:g}"
    smooth, noisy = (after(studies[name]["smoothness"]) for name in (study, f"{study}-noise"))
    for less, more in pairwise(STRENGTHS):
        found = t_interval(scalar(difference(smooth, more, less)))
        yield part(study, f"C = {more:g} - {less:g}", found, goal)
    matched = at_matched_displacement(studies[study]["smoothness"], studies[study]["moved"])
    found = t_interval(scalar(difference(matched, most, least)))
    yield part(study, f"{strongest}, matched displacement", found, goal, role="condition")
    effects = [scalar(difference(each, most, least)) for each in (smooth, noisy)]
    found = intervals.welch_interval(*effects)
    yield part(study, f"{strongest}, less that of noise", found, goal, role="condition")


def filters_get_smoother(studies: Studies) -> Iterator[Part]:
    """Claim 8, on the mean over layers; layers whose own interval does not lie in the goal are
    named."""
    goal = (-INF, -0.05)
    for study in TRAINED:
        smoothness = studies[study]["smoothness"]
        changes = after(smoothness) - before(smoothness)
        for variant in JUDGED[study]:
            change = changes.sel(variant=variant, drop=True).dropna("seed")
            note = _failing(change.values, goal[1]) if change.size else ""
            yield part(study, variant, t_interval(scalar(change)), goal, note=note)


def _failing(change: np.ndarray, below: float) -> str:
    ends = t_interval(change, scanned=change.shape[1]).high
    failing = [str(number) for number, high in enumerate(ends, 1) if not high < below]
    return f"single banks not surely there: {', '.join(failing)}" if failing else ""


def smoothness_with_depth(studies: Studies) -> Iterator[Part]:
    """Claim 9."""
    for study, goal in (("cifar10", (-INF, -0.5)), ("imagenet", (0.5, INF))):
        last = after(studies[study]["smoothness"])
        for variant in JUDGED[study]:
            for what, chosen in (("", slice(1, None)), (", without the last", slice(1, -1))):
                rows = layers(last.sel(variant=variant).dropna("seed"), chosen).values
                # The less variation, the smoother.
                found = of_ranks(
                    stats.spearmanr(np.arange(row.size), -row).statistic for row in rows
                )
                yield part(study, f"{variant}{what}", found, goal)


def spread_under_random_labels(
    random: xr.DataArray, control: xr.DataArray, at_least: float
) -> Iterator[Part]:
    """Spread over variants under random labels over that of the control, for the variants that both
    studies have."""
    has = [values.notnull().any(["seed", values.dims[-1]]).values for values in (random, control)]
    both = has[0] & has[1]
    lacking = random["variant"].values[~both].tolist()
    cubes = [(complete(values.isel(variant=both))[0], lacking) for values in (random, control)]
    what, goal = "spread, times the control's", (at_least, INF)
    yield from over_variants(RANDOM, what, random_over_control, cubes, goal, null=1)


def smoothness_under_random_labels(studies: Studies) -> Iterator[Part]:
    """Claim 10."""
    random, control = (after(studies[name]["smoothness"]) for name in (RANDOM, CONTROL))
    yield from spread_under_random_labels(random, control, 2)


def sensitivity_under_random_labels(studies: Studies) -> Iterator[Part]:
    """Claim 11."""
    random, control = (layers(s(studies[name], after), PATTERN) for name in (RANDOM, CONTROL))
    yield from spread_under_random_labels(random, control, 1.5)
    what, goal = "intraclass correlation of variants", (0.75, INF)
    statistic = intervals.intraclass_interval
    yield from over_variants(RANDOM, what, statistic, [complete(random)], goal)
    for variant in FIVE:
        seeds = random.sel(variant=variant).dropna("seed").values
        deviation = np.sqrt(seeds.var(axis=0, ddof=1).mean()) if len(seeds) > 1 else NAN
        found = Interval(deviation, NAN, NAN)
        yield part(RANDOM, f"deviation over seeds, {variant}", found, (-INF, INF), role="listed")


def smoothness_with_stability(studies: Studies) -> Iterator[Part]:
    """Claim 12."""
    last = s(studies[RANDOM], after)
    numbers = [number for number in CONVOLUTIONS if number < last.sizes["layer"]]
    both = [complete(last.isel(layer=numbers), after(studies[RANDOM]["smoothness"]))]

    def correlation(values: np.ndarray) -> Interval:
        return of_ranks(intervals.correlation_over_variants(*np.split(values, 2, axis=2)))

    def p_value(values: np.ndarray) -> Interval:
        return Interval(*[intervals.whole_variant_p(*np.split(values, 2, axis=2))] * 3)

    yield from over_variants(RANDOM, "rank correlation", correlation, both, (0.7, INF))
    goal = (-INF, math.nextafter(0.05, 0))
    what = "p of permuted variants"
    yield from over_variants(RANDOM, what, p_value, both, goal, null=0.5, role="condition")


def initial_smoothness(studies: Studies) -> Iterator[Part]:
    """Claim 13, by size of filters, from the smallest. Intervals over draws: standard error of a
    mean, and of a normal's standard deviation. The footnote's 0.035 can only be that of CIFAR-10's
    first filters, 96 kernels, as the deviation falls with the root of their number; ImageNet's
    first layer has 192."""
    study, mean_goal = "initial-smoothness", (1.865, 1.875)
    z = stats.norm.ppf((1 + intervals.LEVEL) / 2)

    def around(value: float, error: float) -> Interval:
        return Interval(value, value - z * error, value + z * error)

    for architecture in ARCHITECTURES:
        drawn = studies[study]["draws"].sel(variant=architecture).dropna("seed", how="all")
        if not drawn.sizes["seed"]:
            yield untested(study, f"{architecture}, mean", mean_goal)
            continue
        drawn = drawn.isel(seed=0).dropna("size", how="all")
        means, deviations, draws = drawn.sel(statistic=["mean", "deviation", "draws"]).values
        errors = deviations / np.sqrt(draws)
        for size, (mean, error) in enumerate(zip(means, errors), 1):
            what = f"{architecture}, mean, size {size}"
            yield part(study, what, around(mean, error), mean_goal)
        errors = deviations / np.sqrt(2 * draws)
        for size, (deviation, error) in enumerate(zip(deviations, errors), 1):
            first = (architecture, size) == (ARCHITECTURES[0], 1)
            goal, role = ((0.033, 0.037), "decides") if first else ((-INF, INF), "listed")
            what = f"{architecture}, deviation, size {size}"
            yield part(study, what, around(deviation, error), goal, role=role)


def euclidean_alike(studies: Studies) -> Iterator[Part]:
    """Claim 14."""
    euclidean = {name: by_euclidean_distance(study) for name, study in studies.items()}
    moments = (
        ("cifar10", before),
        ("cifar10", after),
        ("imagenet-init", before),
        ("imagenet", after),
    )

    def correlation(values: np.ndarray) -> Interval:
        halves = (np.split(seed, 2, axis=1) for seed in values)
        return of_ranks(stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in halves)

    for study, when in moments:
        # The input is no variant's.
        sides = [layers(s(each[study], when), slice(1, None)) for each in (studies, euclidean)]
        what = f"rank correlation, {when.__name__}"
        yield from over_variants(study, what, correlation, [complete(*sides)], (0.9, INF))
    for number, statistic in OF_SENSITIVITY.items():
        one, other = verdict(statistic(studies)), verdict(statistic(euclidean))
        same = NAN if "Not tested" in (one, other) else float(one == other)
        what = f"same verdict on claim {number}"
        found = Interval(same, same, same)
        yield part("all", what, found, (1, 1), note=f"{one}; {other}", possible=(0, 1))


def _excludes_zero(interval: Interval) -> bool:
    return interval.low > 0 or interval.high < 0  # not if it is nan, of a single seed


def joint_distribution(studies: Studies) -> Iterator[Part]:
    """Claim 15. Paired by the seeds that both studies have; variants with an interval count. The
    count's ends: variants that surely differ, and all five, as no interval can show that there is
    no difference at all. That four of five differ takes four whose intervals hold for two at once:
    if three do, either of the others may seem to (Benjamini and Heller 2008)."""
    study, at_least = CONTROL, 4
    real, random = studies[CONTROL], studies[RANDOM]
    compared = {
        "sensitivity": layers(s(real, after) - s(random, after), UPPER),
        "smoothness": after(real["smoothness"]) - after(random["smoothness"]),
    }
    differing, surely, without = [], [], []
    for variant in FIVE:
        samples = [scalar(values.sel(variant=variant)) for values in compared.values()]
        found = [t_interval(sample) for sample in samples]
        wider = [t_interval(sample, scanned=len(FIVE) - at_least + 1) for sample in samples]
        for name, interval in zip(compared, found):
            yield part(study, f"{name}, {variant}", interval, (-INF, INF), role="listed")
        differing.append(all(map(_excludes_zero, found)))
        surely.append(all(map(_excludes_zero, wider)))
        if any(math.isnan(interval.low) for interval in found):
            without.append(variant)
    what, goal, possible = "variants that differ in both", (at_least, INF), (0, len(FIVE))
    if len(without) == len(FIVE):
        yield untested(study, what, goal, possible=possible)
        return
    count = Interval(sum(differing), sum(surely), len(FIVE))
    yield part(study, what, count, goal, possible=possible)
    for variant in without:
        yield untested(study, f"{what}: {variant} missing", goal)


def smoothness_converges(studies: Studies) -> Iterator[Part]:
    """Claim 16. The largest over pairs of variants and layers, both scanned: its interval is that
    of the simultaneous intervals."""

    def largest(values: np.ndarray) -> Interval:
        pairs = [values[:, i] - values[:, j] for i, j in combinations(range(values.shape[1]), 2)]
        differences = np.concatenate(pairs, axis=1)  # (seeds, pairs * layers)
        value, low, high = t_interval(differences, scanned=differences.shape[1])
        nearest, farthest = np.maximum(low, -high).clip(0), np.maximum(-low, high)
        return Interval(abs(value).max(), nearest.max(), farthest.max())

    for study in TRAINED:
        cube, goal = complete(after(studies[study]["smoothness"])), (0, 0.15)
        what = "largest difference"
        yield from over_variants(study, what, largest, [cube], goal, possible=(0, INF))


def equal_accuracy(studies: Studies) -> Iterator[Part]:
    """Claim 17."""
    for study in TRAINED:
        accuracy = after(studies[study]["accuracy"])
        for pooled, unpooled in opposed(study):
            points = difference(accuracy, pooled, unpooled).dropna("seed").values
            yield part(study, f"{pooled} - {unpooled}", t_interval(points), (-1, 1))


OF_SENSITIVITY = {
    1: pooling_at_initialization,
    2: change_over_training,
    3: early_layers,
    4: top_without_pooling,
    5: convergence,
}
