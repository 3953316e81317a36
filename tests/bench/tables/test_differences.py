"""Differences against scipy, statsmodels, hand-computed cases, and simulations with the spreads of this project."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.weightstats import ttost_ind

from bench.tables.comparison import Aim, candidates, compare, leaders
from bench.tables.differences import detectable, difference, may_be_best, seeds_needed, welch
from bench.tables.statistics import holm

A = np.array([90.1, 91.3, 89.8, 90.6, 92.0])
B = np.array([89.0, 90.9, 89.9, 89.1])
DIGITS = {  # linear accuracy on digits, preset quick: mean and sample sd of 5 seeds (results/reference/quick)
    "simclr": (97.55, 0.31),
    "moco_v3": (97.16, 0.69),
    "vicreg": (96.21, 0.98),
    "dino": (93.65, 1.09),
    "simsiam": (93.54, 2.39),
    "raft": (93.15, 0.67),
    "barlow_twins": (92.87, 0.89),
    "byol_prime": (92.20, 1.47),
    "byol": (91.87, 1.14),
}
MEANS, SPREADS = (np.array(column) for column in zip(*DIGITS.values(), strict=True))
PAIRS = list(itertools.combinations(range(len(DIGITS)), 2))


def best_of(scores: Sequence[ArrayLike]) -> list[bool]:
    return may_be_best(len(scores), lambda i, j: difference(scores[i], scores[j]))


def test_welch_is_scipys() -> None:
    found, expected = difference(A, B), stats.ttest_ind(A, B, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.interval(0.01) == pytest.approx(tuple(expected.confidence_interval(0.99)))
    assert found.mean == pytest.approx(A.mean() - B.mean())


def test_equivalence_is_statsmodels() -> None:
    p, _, _ = ttost_ind(A, B, -3, 3, usevar="unequal")
    assert difference(A, B).p_within(3) == pytest.approx(p)
    assert difference(A, B).p_within(0.5) > 0.5  # what was seen lies outside


def test_welch_by_hand() -> None:
    """Variances 2/4 and 1/3 with 3 and 2 degrees: se^2 = 5/6; df = (5/6)^2 / ((1/2)^2/3 + (1/3)^2/2)."""
    se, df = welch([2 / 4, 1 / 3], [3, 2])
    assert se == pytest.approx(math.sqrt(5 / 6))
    assert df == pytest.approx((25 / 36) / (1 / 12 + 1 / 18))


@pytest.mark.parametrize(
    ("a", "b"), [([], [90.0, 91.0, 92.0]), ([90.0], [90.0, 91.0, 92.0]), ([90.0, 91.0], [90.0, 91.0, 92.0])]
)
def test_too_few_seeds_are_not_tested(a: list[float], b: list[float]) -> None:
    found = difference(a, b)
    assert math.isnan(found.p) and math.isnan(found.p_within(1))
    assert math.isnan(found.se) == (len(a) < 2)


def test_what_never_varied_is_not_certain() -> None:
    """Also when floating point makes equal scores differ in the last digits."""
    found = difference([90.0 + 100 / 360, 90.0 + 100 / 360, 90 + 1 / 3.6], [80.0, 80.0, 80.0])
    assert math.isnan(found.p) and math.isnan(found.interval()[0])
    assert best_of([[90.0] * 3, [80.0] * 3]) == [True, True]


def test_who_may_be_best_by_hand() -> None:
    """An entry is out if another is better by a one-sided Welch test at .05 / 2; here the last only."""
    scores = [A, A - 0.4, A - 3.0]
    p = [stats.ttest_ind(A, other, equal_var=False, alternative="greater").pvalue for other in scores[1:]]
    assert p[0] > 0.025 > p[1]
    assert best_of(scores) == [True, True, False]
    assert best_of([A]) == [True]


def test_no_star_has_a_simultaneous_interval_that_excludes_zero() -> None:
    """Tables of 2 to 6 entries whose seeds are missing here and there: the star and the intervals agree in all."""
    draws = np.random.default_rng(0)
    starred = untested = 0
    for _ in range(150):
        rows = [
            {"entry": f"e{i}", "method": f"e{i}", "seed": seed, "top1": draws.normal(90 + i / 2, 0.4)}
            for i in range(draws.integers(2, 7))
            for seed in range(draws.choice([1, 2, 3, 5]))
        ]
        runs = pd.DataFrame(rows).assign(dataset="d", preset="p", protocol=1, chosen=True, state="done")
        best, among = leaders(runs, "top1"), candidates(runs, "top1")
        pairs = compare(runs, best, "top1")
        (leader,), (stars,) = best.values(), among.values()
        for pair in pairs[pairs["with_best"]].to_dict("records"):
            other = pair["entry_b"] if pair["entry_a"] == leader else pair["entry_a"]
            if np.isnan(pair["p_holm"]):
                untested += 1
                assert np.isnan(pair["low_simultaneous"]), "of no family"
            elif other in stars:
                starred += 1
                assert pair["low_simultaneous"] <= 0 <= pair["high_simultaneous"], pair
    assert starred > 20 and untested > 20


def test_equivalence_and_seeds_needed_are_of_all_pairs_of_the_table() -> None:
    """Against statsmodels: TOST's p-values adjusted by Holm; power at Holm's worst over the six pairs."""
    draws = np.random.default_rng(1)
    own = {f"e{i}": draws.normal(90 + i / 4, 0.5, 5) for i in range(4)}
    rows = [{"entry": e, "method": e, "seed": k, "top1": x} for e, values in own.items() for k, x in enumerate(values)]
    runs = pd.DataFrame(rows).assign(dataset="d", preset="p", protocol=1, chosen=True, state="done")
    pairs = compare(runs, leaders(runs, "top1"), "top1", aim=Aim(margin=1.0, difference=0.7))
    two = [(own[a], own[b]) for a, b in zip(pairs["entry_a"], pairs["entry_b"], strict=True)]
    raw = [ttost_ind(a, b, -1.0, 1.0, usevar="unequal")[0] for a, b in two]
    assert pairs["p_equivalent"].to_numpy() == pytest.approx(multipletests(raw, method="holm")[1])
    assert max(raw) < 1 and not np.allclose(raw, pairs["p_equivalent"])
    needed = [seeds_needed(0.7, a.std(ddof=1), b.std(ddof=1), len(two)) for a, b in two]
    assert pairs["seeds_needed"].tolist() == needed
    assert needed != [seeds_needed(0.7, a.std(ddof=1), b.std(ddof=1)) for a, b in two]


def test_detectable_is_near_statsmodels_where_spreads_are_equal() -> None:
    """The pooled test of equal spreads, which statsmodels is about, has more degrees of freedom: it detects less."""
    for n, tests, closeness in ((5, 1, 0.07), (10, 3, 0.05), (30, 36, 0.01)):
        pooled = 2 * TTestIndPower().solve_power(nobs1=n, alpha=0.05 / tests, power=0.8)
        assert pooled < detectable(2.0, 2.0, n, tests) < (1 + closeness) * pooled
    assert math.isnan(detectable(1.0, 1.0, 2))
    assert math.isnan(detectable(0.0, 0.0, 5))


def test_seeds_needed_is_the_first_number_that_detects() -> None:
    n = seeds_needed(1.0, 0.7, 1.1, 36)
    assert n is not None
    assert detectable(0.7, 1.1, n, 36) <= 1.0 < detectable(0.7, 1.1, n - 1, 36)
    assert seeds_needed(50.0, 0.7, 1.1) == 3  # fewer are not tested
    assert seeds_needed(0.001, 1.0, 1.0) is None  # more than are proposed
    assert seeds_needed(0.0, 1.0, 1.0) is None


# Simulations: fixed seeds; margins of three standard errors of a share of R tables.


def tables(means: np.ndarray, spreads: np.ndarray, seeds: int, r: int, shared: float = 0.1) -> np.ndarray:
    """[r, entries, seeds]: scores whose seeds correlate by `shared` between entries, as seeds hardly do here."""
    rng = np.random.default_rng(seeds)
    luck = np.sqrt(shared) * rng.standard_normal((r, 1, seeds))
    own = np.sqrt(1 - shared) * rng.standard_normal((r, len(means), seeds))
    return np.asarray(means[:, None] + spreads[:, None] * (luck + own))


def margin(share: float, r: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / r)


def wrong(scores: np.ndarray) -> float:
    """The share of tables of equal entries in which Welch's tests with Holm claim a difference."""
    p = np.stack([stats.ttest_ind(scores[:, i], scores[:, j], axis=1, equal_var=False).pvalue for i, j in PAIRS], 1)
    return float(np.mean([(holm(row) < 0.05).any() for row in p]))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("spreads", [np.ones(9), SPREADS], ids=["equal spreads", "spreads of digits"])
def test_family_wise_error(seeds: int, spreads: np.ndarray) -> None:
    """Nine equal entries, 36 tests: at most 5 % of the tables claim a difference, whatever the spreads."""
    r = 1500
    assert wrong(tables(np.full(9, 90.0), spreads, seeds, r)) <= 0.05 + margin(0.05, r)
    scores = tables(np.full(9, 90.0), spreads, seeds, 300)
    own = [difference(scores[0, i], scores[0, j]).p for i, j in PAIRS]  # what is simulated is what is used
    assert own == pytest.approx([stats.ttest_ind(scores[0, i], scores[0, j], equal_var=False).pvalue for i, j in PAIRS])


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_best_is_starred(seeds: int) -> None:
    """The truly best of nine is among those that may be it in at least 95 % of the tables; most others are not."""
    r = 300
    scores = tables(MEANS, SPREADS, seeds, r)
    kept = np.array([best_of(list(table)) for table in scores])
    assert kept[:, 0].mean() >= 0.95 - margin(0.05, r)
    equal = np.array([best_of(list(table)) for table in tables(np.full(9, 90.0), SPREADS, seeds, r)])
    assert equal.mean(axis=0).min() >= 0.95 - margin(0.05, r)  # whichever is called the best of equals
    if seeds == 5:
        assert kept.sum(axis=1).mean() < 4  # of nine; by the tests of all pairs 4.2 would stay


def test_simultaneous_intervals_cover_all_pairs_at_once() -> None:
    r = 400
    scores = tables(MEANS, SPREADS, 5, r)
    covered = 0
    for table in scores:
        found = [(difference(table[i], table[j]).interval(0.05 / 36), MEANS[i] - MEANS[j]) for i, j in PAIRS]
        covered += all(low <= true <= high for (low, high), true in found)
    assert covered / r >= 0.95 - margin(0.05, r)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_coverage_of_one_interval(seeds: int) -> None:
    """93 to 97 % with unequal spreads; Welch's degrees of freedom are an approximation, on the safe side at 3 seeds."""
    scores = tables(np.array([90.0, 89.0]), np.array([0.5, 1.5]), seeds, 3000, shared=0)
    intervals = [difference(a, b).interval() for a, b in scores]
    assert 0.93 <= np.mean([low <= 1 <= high for low, high in intervals]) <= 0.97


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("spreads", [(0.7, 0.7), (0.7, 1.1), (0.3, 2.4)])
def test_power_is_as_predicted(seeds: int, spreads: tuple[float, float]) -> None:
    """At the detectable difference 80 % of the tables find it."""
    r, true = 4000, detectable(*spreads, seeds, 10)
    scores = tables(np.array([true, 0.0]), np.array(spreads), seeds, r, shared=0)
    p = stats.ttest_ind(scores[:, 0], scores[:, 1], axis=1, equal_var=False).pvalue
    assert np.mean(p < 0.05 / 10) == pytest.approx(0.8, abs=margin(0.8, r))


def test_size_of_the_equivalence_test() -> None:
    """Two entries that differ by just the margin are called equivalent in 5 % of the tables; equal ones more often."""
    r = 3000
    at_edge = [
        difference(a, b).p_within(1.0) for a, b in tables(np.array([1.0, 0.0]), np.array([0.4, 0.7]), 10, r, shared=0)
    ]
    equal = [difference(a, b).p_within(1.0) for a, b in tables(np.zeros(2), np.array([0.4, 0.7]), 10, r, shared=0)]
    assert np.mean(np.array(at_edge) < 0.05) == pytest.approx(0.05, abs=margin(0.05, r))
    assert np.mean(np.array(equal) < 0.05) > 0.9
