"""Statistics of seeds, as pure functions of arrays: intervals, paired tests, Holm, ranks.

Scores are finite numbers, one a seed. A number that does not exist (one seed's interval) is NaN, never 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
ALPHA = 0.05
EXACT_UP_TO = 13
"""Sign flips are enumerated up to this many pairs (8192 of them); beyond, as many are drawn."""
TESTED_FROM = 3
"""Fewer common seeds are not tested: two differences that happen to be alike would look certain."""
DIGITS = 9
"""Differences of percentages are equal to this many digits: k / n images in floating point is not exact."""


@dataclass(frozen=True)
class Summary:
    """A mean over seeds and how well it is known."""

    n: int
    mean: float
    sd: float
    """Sample standard deviation (n - 1); NaN for one seed."""
    low: float
    high: float
    """95 % t interval of the mean; NaN for one seed."""


@dataclass(frozen=True)
class Paired(Summary):
    """A mean difference over common seeds, tested against zero, two-sided."""

    p_t: float
    """Paired t-test; NaN (not tested) for fewer than TESTED_FROM seeds, and for differences without variance."""
    p_permutation: float
    """Sign-flip permutation test, exact up to EXACT_UP_TO seeds; NaN for no seed."""

    @property
    def p_permutation_least(self) -> float:
        """What p_permutation cannot go below with so few seeds: 2 / 2^n (5 seeds: 0.0625)."""
        if self.n > EXACT_UP_TO:
            return 1 / (2.0**EXACT_UP_TO + 1)
        return min(1.0, 2 / 2.0**self.n) if self.n else float("nan")


def half_interval(sd: float, n: int) -> float:
    """Half of the 95 % t interval of a mean of n scores with sample standard deviation sd; NaN below 2 scores."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / n**0.5 if n > 1 else float("nan")


def summarise(scores: ArrayLike) -> Summary:
    """scores: [n_seeds] -> n, mean, sample sd, 95 % t interval (Student 1908; scipy.stats.t)."""
    values = np.asarray(scores, dtype=float)
    n = len(values)
    mean = float(values.mean()) if n else float("nan")
    if n < 2:
        return Summary(n, mean, float("nan"), float("nan"), float("nan"))
    sd = float(values.std(ddof=1))
    half = half_interval(sd, n)
    return Summary(n, mean, sd, mean - half, mean + half)


def wilson(percent: float, n: int) -> tuple[float, float]:
    """95 % interval, in percent, of a share of n images (Wilson 1927): how well so many tell it, seeds aside."""
    low, high = proportion_confint(percent / 100 * n, n, 1 - CONFIDENCE, method="wilson")
    return 100 * float(low), 100 * float(high)


def paired(a: ArrayLike, b: ArrayLike) -> Paired:
    """a, b: [n_seeds], scores of the same seeds in the same order -> a - b, its interval and its tests.

    Differences that are all equal, as accuracies on few images can be by chance, say nothing of how much another
    seed would differ: they have no interval and no p_t (a t-test would call them certain).
    """
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    found = vars(summarise(difference))
    p_t = float("nan")
    if len(difference) > 1 and np.ptp(difference) < 10.0**-DIGITS:
        found |= {"sd": 0.0, "low": float("nan"), "high": float("nan")}
    elif len(difference) >= TESTED_FROM:
        p_t = float(stats.ttest_1samp(difference, 0.0).pvalue)
    return Paired(**found, p_t=p_t, p_permutation=_sign_flip_test(difference))


def _sign_flip_test(difference: Floats) -> float:
    """Under the null every difference is as likely as its negative (Fisher 1935): P(|mean| >= that observed).

    Means are compared after rounding: those of as many images are equal, whatever order they were added in.
    """
    n = len(difference)
    if n == 0:
        return float("nan")
    if n <= EXACT_UP_TO:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)  # [2^n, n]
    else:  # the observed signs, and drawn ones: the same runs give the same report
        drawn = np.random.default_rng(0).choice([-1, 1], size=(2**EXACT_UP_TO, n))
        signs = np.concatenate([np.ones((1, n), dtype=int), drawn])
    means = np.round(np.abs(signs @ difference) / n, DIGITS)
    return float(np.mean(means >= means[0]))  # the first are the observed signs


def holm(p_values: ArrayLike) -> Floats:
    """p_values: [n_tests] -> Holm's adjusted p-values (1979); NaN (not testable) stays NaN and is no test.

    Not statsmodels' (which the tests compare with): it collects all garbage at every call, seconds in a large table.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    steps = p[order] * np.arange(len(order), 0, -1)  # the smallest times all, the next times one less, ...
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def ranks(scores: ArrayLike, axis: int = -1) -> Floats:
    """scores: [..., n_methods, ...] -> ranks along `axis`; 1 is the highest, equals share their mean."""
    return np.asarray(stats.rankdata(-np.asarray(scores, dtype=float), axis=axis), dtype=float)
