"""Intervals for new seeds and new test images: against a hand-computed case, and how often they hold."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from bench.tables import differences, images
from bench.tables.images import Told

RIGHT = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 1]], dtype=bool)  # 3 seeds, 4 images


def test_parts_by_hand() -> None:
    """In percent: seed means 100, 25, 75; image means 100, 66.7, 33.3, 66.7; residuals by subtraction."""
    told = images.told(list(RIGHT))
    assert told.seed_means.tolist() == [100, 25, 75]
    assert told.image_means == pytest.approx([100, 200 / 3, 100 / 3, 200 / 3])
    scores = 100.0 * RIGHT
    rest = [scores[s, i] - scores[:, i].mean() - scores[s].mean() + scores.mean() for s in range(3) for i in range(4)]
    assert told.residual == pytest.approx(sum(r**2 for r in rest) / (2 * 3))
    mean = images.difference(told)
    seeds, of_images = np.var([100, 25, 75], ddof=1) / 3, np.var([100, 200 / 3, 100 / 3, 200 / 3], ddof=1) / 4
    assert mean.se == pytest.approx(math.sqrt(seeds + of_images - told.residual / 12))
    assert mean.mean == pytest.approx(100 * 8 / 12)


def test_what_is_hard_for_both_counts_for_neither() -> None:
    """Two entries that fail on the same images differ only by their seeds."""
    a = images.told([np.array([1, 1, 0, 0] * 50, dtype=bool)] * 2 + [np.array([1, 1, 1, 0] * 50, dtype=bool)])
    found = images.difference(a, a)
    seeds = differences.difference(a.seed_means, a.seed_means)
    assert found.mean == 0
    assert found.se == pytest.approx(seeds.se)


def test_more_chance_is_never_a_narrower_interval_of_a_difference() -> None:
    """Two degrees of freedom of the seeds: 4.3 standard errors; with a variance of 1,000 images 2.6 larger ones."""
    seed_means = np.array([89.0, 90.0, 91.0])
    a = Told(90 + 14 * np.tile([-1.0, 1.0], 500), seed_means, 0.0)
    b = Told(np.zeros(1000), np.zeros(3), 0.0)
    alone = stats.t.interval(0.95, 2, 90, stats.sem(seed_means))
    both = images.difference(a, b)
    assert both.se > stats.sem(seed_means) and stats.t.isf(0.025, both.df) * both.se < 90 - alone[0]
    assert images.interval(a, b) == pytest.approx(alone)


def test_of_independent_tries_a_mean_has_wilsons_interval() -> None:
    """Without spread between seeds or images beyond that of single tries: scipy's, of all tries; t for z."""
    right = np.random.default_rng(2).random((2, 2000)) < 0.9
    right[1, : right[0].sum() - right[1].sum()] = True  # about as many
    tries, t = right.size, stats.t.isf(0.025, 1999)
    told = Told(right.mean(axis=0) * 100, np.full(2, 100 * right.mean()), 0.0)
    low, high = images._score_interval(told, 100 * right.mean(), 1e-9, 1999)
    wilson = stats.binomtest(int(right.sum()), tries).proportion_ci(2 * stats.norm.cdf(t) - 1, method="wilson")
    assert (low, high) == pytest.approx((100 * wilson.low, 100 * wilson.high))


def test_where_all_is_right_an_interval_says_how_little_that_proves() -> None:
    low, high = images.interval(images.told([np.ones(359, dtype=bool)] * 3))
    assert high == 100 and 99 < low < 99.7
    low, high = images.interval(images.told([np.zeros(359, dtype=bool)] * 3))
    assert low == 0 and 0.3 < high < 1


def test_one_seed_has_no_interval() -> None:
    told = images.told(list(RIGHT))
    one = Told(told.image_means, told.seed_means[:1], math.nan)
    assert math.isnan(images.difference(one, told).se) and math.isnan(images.interval(one, told)[0])
    assert math.isnan(images.difference(told, one).se) and math.isnan(images.interval(one)[0])


def entry(rng: np.random.Generator, hard: np.ndarray, level: float, seeds: int) -> Told:
    """Chances from a logistic model: images that are hard for all, others for this entry; lucky seeds."""
    own = rng.standard_normal(len(hard))
    luck = 0.3 * rng.standard_normal((seeds, 1))
    return images.told(list(rng.random((seeds, len(hard))) < expit(level + hard + own + luck)))


@pytest.mark.parametrize("seeds", [5, 10])
def test_coverage_over_new_seeds_and_new_images(seeds: int) -> None:
    """359 images and levels as of digits: 93 to 97 % contain the true difference; by seeds alone fewer do."""
    rng = np.random.default_rng(seeds)
    draws = np.sqrt(2.5**2 + 1 + 0.3**2) * rng.standard_normal(2_000_000)
    true = 100 * (expit(6 + draws).mean() - expit(4.5 + draws).mean())
    both = alone = 0
    r = 1200
    for _ in range(r):
        hard = 2.5 * rng.standard_normal(359)
        a, b = entry(rng, hard, 6, seeds), entry(rng, hard, 4.5, seeds)
        low, high = images.interval(a, b)
        both += low <= true <= high
        low, high = differences.difference(a.seed_means, b.seed_means).interval()
        alone += low <= true <= high
    assert 0.93 <= both / r <= 0.97
    assert alone / r < 0.93


@pytest.mark.parametrize(("level", "least", "most"), [(3.5, 0.92, 0.98), (6.0, 0.92, 0.98), (9.0, 0.92, 0.99)])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_coverage_of_a_mean_over_new_seeds_and_new_images(level: float, least: float, most: float, seeds: int) -> None:
    """86, 97 and 99.7 %: of 600 tables, so an error of one point; none has an end beyond 0 to 100."""
    rng = np.random.default_rng(seeds)
    true = 100 * expit(level + np.sqrt(2.5**2 + 1 + 0.3**2) * rng.standard_normal(1_000_000)).mean()
    holds = 0
    for _ in range(600):
        low, high = images.interval(entry(rng, 2.5 * rng.standard_normal(359), level, seeds))
        assert 0 <= low < high <= 100
        holds += low <= true <= high
    assert least <= holds / 600 <= most
