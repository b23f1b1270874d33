"""Intervals cover what they should, and variance components are those of the literature."""

import numpy as np
import pytest
from scipy import stats

from reproduction.analysis import intervals
from reproduction.analysis.intervals import (
    correlation_over_variants,
    intraclass_correlation,
    jackknife,
    squared_range,
    squared_spread,
    t_interval,
    welch_interval,
    whole_variant_p,
)

TIMES = 2000


def covered(interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def test_t_is_students() -> None:
    samples = [1.0, 2.0, 4.0, 4.5, 3.0]
    expected = stats.t.interval(0.95, 4, np.mean(samples), np.std(samples, ddof=1) / 5**0.5)
    assert t_interval(samples)[1:] == pytest.approx(expected)
    assert t_interval([1.0, 2.0]).high == pytest.approx(
        1.5 + 12.706 * 0.5, rel=1e-4
    )  # a table of Student's t


def test_the_critical_value_of_a_scan_is_sidaks() -> None:
    samples = np.array([1.0, 2.0, 4.0, 4.5, 3.0])
    half = stats.t.ppf((1 + 0.95**0.1) / 2, 4) * samples.std(ddof=1) / 5**0.5
    assert t_interval(samples, scanned=10) == pytest.approx((2.9, 2.9 - half, 2.9 + half))


def test_t_covers_at_five_seeds() -> None:
    draws = np.random.default_rng(0).normal(3, 2, (5, TIMES))
    found = t_interval(draws)
    assert np.mean((found.low <= 3) & (found.high >= 3)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("shared", "at_most"), [(0.0, 0.97), (0.8, 1.0)])
def test_max_t_covers_all_layers_at_once(shared: float, at_most: float) -> None:
    rng = np.random.default_rng(1)
    draws = shared**0.5 * rng.normal(size=(5, TIMES, 1)) + (1 - shared) ** 0.5 * rng.normal(
        size=(5, TIMES, 10)
    )
    found = t_interval(draws, scanned=10)
    rate = ((found.low <= 0) & (found.high >= 0)).all(1).mean()
    assert 0.93 <= rate <= at_most


def test_no_interval_without_two_seeds() -> None:
    assert np.isnan(t_interval([])).all()
    value, low, high = t_interval([7.0])
    assert value == 7 and np.isnan(low) and np.isnan(high)
    value, low, high = t_interval(np.ones((1, 3)))
    assert value.tolist() == [1, 1, 1] and np.isnan(low).all() and np.isnan(high).all()
    assert np.isnan(welch_interval([], [1.0, 2.0]).value)
    assert welch_interval([3.0], [1.0, 2.0]).value == 1.5 and np.isnan(
        welch_interval([3.0], [1.0, 2.0]).low
    )
    assert np.isnan(jackknife(np.mean, np.array([1.0, 2.0])).low)


def test_welch_covers_unequal_samples() -> None:
    rng = np.random.default_rng(2)
    rate = np.mean(
        [covered(welch_interval(rng.normal(1, 1, 5), rng.normal(0, 3, 4)), 1) for _ in range(TIMES)]
    )
    assert rate == pytest.approx(0.95, abs=0.02)


def test_jackknife_of_a_mean_is_students_t() -> None:
    sample = np.array([1.0, 2.0, 4.0, 4.5, 3.0])
    assert jackknife(np.mean, sample) == pytest.approx(t_interval(sample))


def test_jackknife_of_two_samples_is_welchs() -> None:
    first, second = np.array([1.0, 2.0, 4.0, 4.5, 3.0]), np.array([0.0, 5.0, 2.0])
    found = jackknife(lambda a, b: a.mean() - b.mean(), first, second)
    assert found == pytest.approx(welch_interval(first, second))


def test_jackknife_without_variance_is_a_point() -> None:
    assert jackknife(np.mean, np.ones(4)) == (1, 1, 1)


def table(
    rng: np.random.Generator, variants: np.ndarray, seeds: int, common: float, own: float
) -> np.ndarray:
    """(seeds, variants, layers): an effect of the variant, one of the seed on all variants alike,
    and noise of each run."""
    return (
        variants
        + common * rng.normal(size=(seeds, 1, variants.shape[1]))
        + own * rng.normal(size=(seeds, *variants.shape))
    )


@pytest.mark.parametrize("of_seed, of_run", [(0.0, 0.5), (0.0, 0.17), (0.15, 0.1)])
def test_intraclass_correlation_covers_at_five_seeds(of_seed: float, of_run: float) -> None:
    """Arms are fixed; what a seed does, to all variants or to one, it does to all layers alike."""
    rng, variants = np.random.default_rng(0), 0.3 * np.arange(5.0)[:, None]
    truth = variants.var(ddof=1) / (variants.var(ddof=1) + of_seed**2 + of_run**2)

    def covers() -> bool:
        found = intervals.intraclass_interval(
            variants
            + of_seed * rng.normal(size=(5, 1, 1))
            + of_run * rng.normal(size=(5, 5, 1))
            + np.zeros((5, 5, 10))
        )
        return found.low <= truth <= found.high

    assert 0.9 <= np.mean([covers() for _ in range(500)]) <= 0.985


def test_ratio_of_spreads_covers_at_five_seeds() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.normal(0, 1, (5, 10)), rng.normal(0, 0.4, (5, 10))
    truth = squared_spread(after[None]) / squared_spread(before[None])
    both = np.concatenate([before, after], axis=1)

    def ratio(values: np.ndarray) -> float:
        return squared_spread(values[..., 10:]) / squared_spread(values[..., :10])

    rate = np.mean(
        [covered(jackknife(ratio, table(rng, both, 5, 0.1, 0.1)), truth) for _ in range(TIMES)]
    )
    assert rate == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("common", [0.0, 3.0])
def test_spread_is_free_of_seed_noise(common: float) -> None:
    """Whether or not variants share what a seed does."""
    rng = np.random.default_rng(4)
    variants = np.array([0.0, 1.0, 2.0, 4.0])[:, None]
    found = [squared_spread(table(rng, variants, 3, common, 1.5)) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(np.var(variants, ddof=1), abs=0.1)


def test_spread_by_hand() -> None:
    values = np.array(
        [[[1.0], [5.0]], [[2.0], [4.0]]]
    )  # variant means 1.5, 4.5; residuals 0.5 each: noise 1, halved by two seeds
    assert squared_spread(values) == pytest.approx(4.5 - 1 / 2)
    assert squared_spread(values[:1]) == 8  # one seed: the plain variance
    assert (
        squared_spread(np.zeros((2, 3, 1)) + np.array([[[1.0], [0], [0]], [[0], [1.0], [0]]])) < 0
    )  # noise alone


def test_range_by_hand() -> None:
    values = np.array([[[1.0, 0.0], [5.0, 1.0], [3.0, 0.5]]])
    assert squared_range(values) == (16 + 1) / 2


def test_icc_of_shrout_and_fleiss() -> None:
    """Their Table 2: six targets, four judges, ICC(1) = 0.17."""
    targets = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
    )
    assert intraclass_correlation(targets.T[..., None]) == pytest.approx(0.1657, abs=5e-5)
    assert np.isnan(intraclass_correlation(targets.T[:1, :, None]))


def test_icc_averages_mean_squares_over_layers() -> None:
    rng = np.random.default_rng(5)
    big = table(rng, np.array([[0.0, 0.0], [9.0, 0.0], [18.0, 0.0]]), 4, 0, 1.0)
    each = [intraclass_correlation(big[..., k : k + 1]) for k in range(2)]
    assert each[1] < intraclass_correlation(big) < each[0]
    variants = big.mean(0)  # (3 variants, 2 layers)
    between, within = (
        (4 * ((variants - variants.mean(0)) ** 2).sum(0) / 2).mean(),
        (((big - variants) ** 2).sum((0, 1)) / (3 * 3)).mean(),
    )
    assert intraclass_correlation(big) == pytest.approx((between - within) / (between + 3 * within))
    assert intervals.intraclass_interval(big).value == pytest.approx(intraclass_correlation(big))
    assert intraclass_correlation(np.array([[[0.0], [1.0]], [[0.0], [1.0]]])) == 1


def test_rank_correlation_is_spearmans() -> None:
    x, y = np.random.default_rng(6).normal(size=(2, 3, 5, 4))
    expected = [
        np.mean([stats.spearmanr(x[s, :, m], y[s, :, m]).statistic for m in range(4)])
        for s in range(3)
    ]
    assert correlation_over_variants(x, y) == pytest.approx(expected)


def test_p_of_whole_variants() -> None:
    x = np.arange(5.0)[None, :, None] + np.zeros((2, 1, 3))
    assert whole_variant_p(x, x**3) == 1 / 120
    assert whole_variant_p(x, -x) == 1
    y = x[:, [1, 0, 2, 3, 4]]  # as good or better: the identity and the four swaps of neighbours
    assert whole_variant_p(x, y) == pytest.approx(5 / 120)


def test_p_is_uniform_without_an_effect() -> None:
    """Layers and seeds share the variants' order, so that only whole variants may be permuted."""
    rng = np.random.default_rng(7)
    shared = [
        rng.normal(size=(2, 1, 4, 1)) + 0.1 * rng.normal(size=(2, 2, 4, 3)) for _ in range(150)
    ]
    assert np.mean([whole_variant_p(*pair) <= 0.1 for pair in shared]) < 0.16


def test_the_level_is_stated_once() -> None:
    assert intervals.LEVEL == 0.95
