"""Statistics against scipy, statsmodels, brute force, hand-computed cases and simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bench.tables.statistics import holm, paired, ranks, summarise

A = np.array([90.1, 91.3, 89.8, 90.6, 92.0])
B = np.array([89.0, 90.9, 89.9, 89.1, 91.0])
SIGNS = {n: list(itertools.product((1, -1), repeat=n)) for n in (3, 5)}


def test_summary_by_hand() -> None:
    summary = summarise([1.0, 2.0, 3.0])
    half = 4.302652729696142 / math.sqrt(3)  # t quantile .975 with 2 degrees of freedom, from a table
    assert (summary.n, summary.mean, summary.sd) == (3, 2.0, 1.0)  # sample sd; the population's would be .816
    assert (summary.low, summary.high) == pytest.approx((2 - half, 2 + half))


def test_summary_is_scipys() -> None:
    summary = summarise(A)
    expected = stats.t.interval(0.95, len(A) - 1, loc=A.mean(), scale=stats.sem(A))
    assert (summary.low, summary.high) == pytest.approx(expected)
    assert summary.sd == pytest.approx(stats.tstd(A))


@pytest.mark.parametrize("scores", [[], [90.0]])
def test_too_few_seeds_have_no_interval_rather_than_zero(scores: list[float]) -> None:
    summary = summarise(scores)
    assert all(map(math.isnan, (summary.sd, summary.low, summary.high)))
    assert math.isnan(summary.mean) == (not scores)
    assert math.isnan(paired(scores, scores).p_t)


def test_paired_is_scipys() -> None:
    test = paired(A, B)
    expected = stats.ttest_rel(A, B)
    assert test.p_t == pytest.approx(expected.pvalue)
    assert (test.low, test.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert test.mean == pytest.approx(0.78)


def test_sign_flips_by_brute_force() -> None:
    d = A - B
    flipped = [np.mean(d * signs) for signs in itertools.product((1, -1), repeat=len(d))]
    expected = np.mean(np.abs(flipped) >= abs(d.mean()) - 1e-12)
    assert paired(A, B).p_permutation == pytest.approx(expected)


def test_five_seeds_cannot_show_less_than_a_sixteenth() -> None:
    test = paired(A + 50, B)
    assert test.p_permutation == test.p_permutation_least == 2 / 2**5
    assert test.p_t < 1e-6


def test_many_seeds_are_sampled_and_reproducible() -> None:
    scores = np.random.default_rng(0).normal(0.1, 1, 40)
    first, second = (paired(scores, np.zeros(40)) for _ in range(2))
    assert first.p_permutation == second.p_permutation == pytest.approx(first.p_t, abs=0.02)
    assert paired(scores + 9, np.zeros(40)).p_permutation >= first.p_permutation_least > 0


@pytest.mark.parametrize(("shift", "p_permutation"), [(0.0, 1.0), (2.0, 0.25), (100 / 360, 0.25)])
def test_equal_differences_are_not_certain(shift: float, p_permutation: float) -> None:
    """Also when floating point makes them differ in the last digits, as 100 / 360 does."""
    test = paired([3.0 + shift, 5.0 + shift, 9.1 + shift], [3.0, 5.0, 9.1])
    assert all(map(math.isnan, (test.p_t, test.low, test.high)))
    assert (test.sd, test.p_permutation) == (0.0, p_permutation)
    assert test.mean == pytest.approx(shift)


def test_two_seeds_are_not_tested() -> None:
    two = paired(A[:2] + 50, B[:2])
    assert math.isnan(two.p_t)
    assert two.low < two.mean < two.high
    assert not math.isnan(paired(A[:3], B[:3]).p_t)


@pytest.mark.parametrize(
    ("images", "counts", "expected"),
    [(360, [-2, 3, 0, 1, 1], 0.625), (10_000, [12, -7, 3, -8, 5], 0.875), (360, [2, -1, -1], 1.0)],
)
def test_sign_flips_of_accuracies_are_those_of_counts(images: int, counts: list[int], expected: float) -> None:
    flipped = [abs(sum(c * s for c, s in zip(counts, signs, strict=True))) for signs in SIGNS[len(counts)]]
    assert np.mean([f >= abs(sum(counts)) for f in flipped]) == expected
    for base in range(images // 2, images // 2 + 40):  # rounding errors differ with the accuracies
        right = base + np.arange(len(counts)) * 3
        a, b = 100 * (right + np.array(counts)) / images, 100 * right / images
        assert paired(a, b).p_permutation == expected


def test_holm_by_hand_and_by_statsmodels() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 * .01; 2 * .03; max(.06, 1 * .04)
    p = np.random.default_rng(1).uniform(size=20) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, math.nan, 0.03]) == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)
    assert len(holm([])) == 0
    assert np.isnan(holm([math.nan])).all()


def test_coverage_of_the_interval() -> None:
    """Of the 95 % intervals of 5 seeds, 93 to 97 % contain the true mean (4000 simulated experiments)."""
    draws = np.random.default_rng(2).normal(90, 0.7, size=(4000, 5))
    intervals = [summarise(row) for row in draws]
    covered = np.mean([s.low <= 90 <= s.high for s in intervals])
    assert 0.93 <= covered <= 0.97


def test_coverage_of_paired_differences() -> None:
    """Pairing removes what seeds share: intervals are right, and narrower than those of unpaired means."""
    rng = np.random.default_rng(3)
    luck = rng.normal(0, 2, size=(2000, 5))
    a, b = (luck + rng.normal(mean, 0.5, size=(2000, 5)) for mean in (90, 89))
    tests = [paired(x, y) for x, y in zip(a[:400], b[:400], strict=True)]
    assert 0.93 <= np.mean([t.low <= 1 <= t.high for t in tests]) <= 0.98
    assert np.mean([t.sd for t in tests]) < np.mean([summarise(x).sd for x in a[:400]])


def test_holm_controls_the_family_wise_error() -> None:
    """5 equal methods, 5 seeds, 10 paired tests an experiment: at most 5 % of the experiments claim a difference."""
    rng = np.random.default_rng(4)
    experiments = 3000
    scores = rng.normal(0, 1, size=(experiments, 1, 5)) + rng.normal(0, 0.5, size=(experiments, 5, 5))
    pairs = list(itertools.combinations(range(5), 2))
    p = np.stack([stats.ttest_rel(scores[:, i], scores[:, j], axis=1).pvalue for i, j in pairs], axis=1)
    wrong = np.mean([(holm(row) < 0.05).any() for row in p])
    naive = np.mean((p < 0.05).any(axis=1))
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / experiments)
    assert naive > 0.15  # the simulation can tell: without Holm, errors are common


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.2, 1.0])
def test_family_wise_error_of_discrete_accuracies(seeds: int, spread: float) -> None:
    """Equal methods on 360 test images, whose differences are often alike: at most 5 % false claims."""
    rng = np.random.default_rng(6)
    experiments = 400
    scores = np.round(rng.normal(95, spread, size=(experiments, 5, seeds)) * 3.6) / 3.6
    pairs = list(itertools.combinations(range(5), 2))
    p = [[paired(own[i], own[j]).p_t for i, j in pairs] for own in scores]
    wrong = np.mean([(holm(row) < 0.05).any() for row in p])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / experiments)


def test_ranks_share_ties() -> None:
    assert ranks([90.0, 95.0, 90.0, 80.0]).tolist() == [2.5, 1.0, 2.5, 4.0]
    assert ranks([[90.0, 1.0], [95.0, 2.0]], axis=0).tolist() == [[2.0, 2.0], [1.0, 1.0]]
