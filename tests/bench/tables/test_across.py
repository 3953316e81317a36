"""Intervals over several boards: how often they hold."""

import numpy as np
import pytest
from scipy import stats

from bench.tables.across import bounded, mean_over_boards, probability_of_improvement, rank_bounds


def boards(rng: np.random.Generator, seeds: int, entries: int = 6, n: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """True means [entries, n] that differ little, and scores [entries, n, seeds] of unequal spreads."""
    true = 90 + 0.5 * rng.standard_normal((entries, n))
    spread = rng.uniform(0.3, 1.5, (entries, n, 1))
    return true, true[:, :, None] + spread * rng.standard_normal((entries, n, seeds))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_coverage_of_the_mean_over_boards(seeds: int) -> None:
    """93 to 97 %; the bootstrap over seeds that stood here covered 81 % at 3 seeds and 88 % at 5."""
    rng, hits = np.random.default_rng(seeds), []
    for _ in range(500):
        true, scores = boards(rng, seeds)
        for e in range(len(true)):
            low, high = mean_over_boards(list(scores[e])).interval()
            hits.append(low <= true[e].mean() <= high)
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_true_mean_rank_is_within_its_bounds(seeds: int) -> None:
    """At least 95 % (a bootstrap of ranks covers 69 % at 3 seeds with entries as near as these)."""
    rng, hits, widths = np.random.default_rng(seeds), [], []
    for _ in range(150):
        true, scores = boards(rng, seeds)
        ranks = stats.rankdata(-true, axis=0).mean(axis=1)
        for e in range(len(true)):
            bounds = np.mean([rank_bounds(e, list(scores[:, d]), 3) for d in range(3)], axis=0)
            hits.append(bounds[0] <= ranks[e] <= bounds[1])
            widths.append(bounds[1] - bounds[0])
    assert np.mean(hits) >= 0.95
    assert np.mean(widths) < 5  # something is told: without any test they would be 1 to 6


def test_bounds_of_a_rank_by_hand() -> None:
    first, second, third = np.array([90.0, 90.1, 90.2]), np.array([80.0, 80.1, 80.2]), np.array([85.0, 75.0, 81.0])
    assert rank_bounds(0, [first, second, third], 1) == (1, 2)  # before the second for sure
    assert rank_bounds(1, [first, second, third], 1) == (2, 3)
    assert rank_bounds(2, [first, second, third], 1) == (1, 3)


def test_the_probability_of_improvement_by_hand() -> None:
    """Of 2 x 3 pairs of runs 4 and a tie on one board, of 2 x 2 none on the other: (4.5 / 6 + 0) / 2."""
    a = [np.array([3.0, 5.0]), np.array([1.0, 1.0])]
    b = [np.array([2.0, 3.0, 4.0]), np.array([2.0, 3.0])]
    probability, low, high = probability_of_improvement(a, b)
    assert probability == pytest.approx((4.5 / 6 + 0) / 2)
    mirrored = probability_of_improvement(b, a)
    assert mirrored == pytest.approx((1 - probability, 1 - high, 1 - low))
    for end in (low, high):  # n = 2 boards x 2 seeds: n KL(p | end) = ln 40
        divergence = stats.entropy([probability, 1 - probability], [end, 1 - end])
        assert 4 * divergence == pytest.approx(np.log(40))


@pytest.mark.parametrize(("seeds", "n"), [(3, 2), (5, 3)])
def test_where_every_run_is_better_the_bound_is_the_binomials(seeds: int, n: int) -> None:
    """Clopper and Pearson's of as many successes as trials."""
    better, worse = [np.linspace(10, 11, seeds)] * n, [np.linspace(0, 1, seeds)] * n
    exact = stats.binomtest(seeds * n, seeds * n).proportion_ci(0.95)
    assert probability_of_improvement(better, worse) == pytest.approx((1, exact.low, 1))
    assert bounded(0.0, seeds * n) == pytest.approx((0, 1 - exact.low))


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_probability_of_improvement_is_within_its_bounds(seeds: int, shift: float) -> None:
    """At least 95 %: Hoeffding's bounds are no estimates. True: of normal scores Phi(shift / root of 2), 3 boards."""
    rng, true = np.random.default_rng(seeds), stats.norm.cdf(shift / np.sqrt(2))
    hits = []
    for _ in range(300):
        a, b = rng.standard_normal((2, 3, seeds))
        _, low, high = probability_of_improvement(list(a + shift), list(b))
        hits.append(low <= true <= high)
    assert np.mean(hits) >= 0.95
    width = np.subtract(*bounded(float(true), 3 * seeds)[::-1])
    assert width < 2.8 / np.sqrt(3 * seeds)  # something is told: less than twice the normal interval at 1/2


def test_the_bounds_hold_where_they_are_hardest_to_hold() -> None:
    """One seed a board, as many data sets: a count of successes, whose coverage is computed exactly."""
    n = 12
    counts = np.arange(n + 1)
    ends = np.array([bounded(k / n, n) for k in counts])
    for true in np.linspace(0.01, 0.99, 99):
        inside = (ends[:, 0] <= true) & (true <= ends[:, 1])
        assert stats.binom.pmf(counts, n, true)[inside].sum() >= 0.95
