"""Differences of means over seeds: how large, how sure, who may be the best, who is as good; pure functions of arrays.

Seeds of two entries are treated as independent draws, each entry with a spread of its own (Welch 1947). Seeds pair runs
here, but they hardly correlate (.09, .23 and -.06 between methods on digits): pairing would cost half the degrees of
freedom and buy nothing, and where seeds do correlate, Welch's tests and intervals are on the safe side. In simulations
with the means and spreads of nine methods on digits (tests/bench/tables/test_differences.py) Welch with Holm errs in at
most 5 % of all tables at 3, 5 and 10 seeds and tells more pairs apart than the paired t-test (12.9 of 36 at 5 seeds,
10.0 paired); Games and Howell's intervals err in 10 % at 3 seeds, Tukey's, which pool the spreads, in 11 %.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from bench.tables.statistics import ALPHA, DIGITS, TESTED_FROM, Floats

POWER = 0.8
"""The chance of finding a difference that planning aims at."""
MAX_SEEDS = 1000
"""More are not proposed."""
COVERED = "93.7 to 95.3 %"
"""How often a 95 % interval holds the true difference though seeds were added until it was narrow, by simulation: 10
seeds at first, 5 at a time (tests/bench/planning/test_until.py)."""
QUANTILES = 16
"""Of a spread that a table may show, for the power: so many equally likely ones."""


@dataclass(frozen=True)
class Difference:
    """A difference of two means over seeds and its standard error; NaN where there is none."""

    mean: float
    se: float
    """Standard error; NaN for less than two seeds of either, and where no seed differs from another."""
    df: float
    """Degrees of freedom of `se` (Welch-Satterthwaite)."""
    tested: bool
    """Whether both have TESTED_FROM seeds, and a spread."""

    def interval(self, tails: float = ALPHA) -> tuple[float, float]:
        """The interval that misses the true difference with probability `tails`, half of it on either side."""
        half = float(stats.t.isf(tails / 2, self.df)) * self.se
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided test against zero; NaN (not tested) as `tested` says."""
        return float(2 * stats.t.sf(abs(self.mean) / self.se, self.df)) if self.tested else float("nan")

    def p_within(self, margin: float) -> float:
        """Two one-sided tests (Schuirmann 1987): small where the true difference lies between -margin and margin."""
        return float(stats.t.sf((margin - abs(self.mean)) / self.se, self.df)) if self.tested else float("nan")


def difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """a [n_a], b [n_b]: scores, one a seed -> mean(a) - mean(b)."""
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    n_a, n_b = len(first), len(second)
    mean = float(first.mean() - second.mean()) if n_a and n_b else float("nan")
    if min(n_a, n_b) < 2:
        return Difference(mean, float("nan"), float("nan"), False)
    se, df = welch([spread(first) / n_a, spread(second) / n_b], [n_a - 1, n_b - 1])
    return Difference(mean, se, df, min(n_a, n_b) >= TESTED_FROM and se > 0)


def spread(scores: Floats) -> float:
    """Sample variance of [n] scores; 0 where they are equal but for floating point."""
    return 0.0 if np.ptp(scores) < 10.0**-DIGITS else float(scores.var(ddof=1))


def welch(variances: Sequence[float], degrees: Sequence[float]) -> tuple[float, float]:
    """Independent variances with their degrees of freedom -> the standard error of their sum, its degrees of freedom.

    (NaN, NaN) where all are 0: what never varied says nothing of how much it would.
    """
    total = sum(variances)
    if total <= 0:
        return float("nan"), float("nan")
    return total**0.5, total**2 / sum(v**2 / d for v, d in zip(variances, degrees, strict=True))


def may_be_best(n: int, between: Callable[[int, int], Difference]) -> list[bool]:
    """Which of n entries may have the highest true mean (Hsu 1981, comparison with the best).

    between: the numbers of two entries -> the first one minus the second. With probability 0.95 the truly best one is
    among them: an entry is left out where another's mean is higher by a one-sided test at .05 / k, with k the others
    that it can be tested against. What cannot be tested is not left out. So none is kept whose simultaneous interval
    from another, of as many pairs or more, excludes zero.
    """
    seen = {pair: difference for pair in combinations(range(n), 2) if (difference := between(*pair)).tested}
    against = Counter(i for pair in seen for i in pair)
    found = [True] * n
    for (i, j), difference in seen.items():
        worse = i if difference.mean < 0 else j
        found[worse] &= difference.p / 2 >= ALPHA / against[worse]
    return found


def detectable(sd_a: float, sd_b: float, n: int, tests: int = 1) -> float:
    """The smallest true difference that n seeds of each find with probability POWER; NaN where none is tested.

    tests: how many p-values Holm's adjustment is over; taken at its worst, where each has to be below .05 / tests.
    The spreads are taken for true; those that a table will show, and with them its tests, are averaged over.
    """
    if n < TESTED_FROM or not max(sd_a, sd_b) > 0:
        return float("nan")
    shown = stats.chi2.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, n - 1) / (n - 1)  # of a variance of 1
    of_a, of_b = sd_a**2 / n * shown[:, None], sd_b**2 / n * shown  # [QUANTILES, 1], [QUANTILES]
    variance = of_a + of_b
    degrees = variance**2 / (of_a**2 + of_b**2) * (n - 1)
    beyond = stats.t.isf(ALPHA / tests / 2, degrees) * np.sqrt(variance)  # what a difference has to exceed
    se = float(np.hypot(sd_a, sd_b)) / n**0.5
    low, high = 0.0, float(beyond.max()) + 5 * se
    for _ in range(40):  # the power grows with the difference
        middle = (low + high) / 2
        found = special.ndtr((middle - beyond) / se) + special.ndtr((-middle - beyond) / se)
        low, high = (middle, high) if found.mean() < POWER else (low, middle)
    return float(high)


def seeds_needed(true: float, sd_a: float, sd_b: float, tests: int = 1) -> int | None:
    """How many seeds of each find a true difference with probability POWER, as `detectable`; None beyond MAX_SEEDS."""
    if not abs(true) > 0 or not max(sd_a, sd_b) > 0:
        return None
    low, high = TESTED_FROM, MAX_SEEDS
    if detectable(sd_a, sd_b, high, tests) > abs(true):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(sd_a, sd_b, middle, tests) <= abs(true) else (middle + 1, high)
    return low
