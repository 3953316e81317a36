"""Entries over several boards: mean accuracy, mean rank, probability of improvement, and how sure they are."""

import math
from itertools import permutations

import numpy as np
import pandas as pd
from scipy import optimize

from bench.tables import differences
from bench.tables.comparison import scores
from bench.tables.differences import Difference, spread, welch
from bench.tables.grid import BOARD
from bench.tables.statistics import ALPHA, DIGITS, Floats, ranks
from methods import REFERENCES

COLUMNS = ["entry", "method", "boards", "mean_rank", "mean_rank_low", "mean_rank_high", "mean", "low", "high"]

IMPROVEMENT = ["entry_a", "entry_b", "method_a", "method_b", "boards", "probability", "low", "high"]


def across(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Entries on all of several boards: mean rank and mean accuracy with intervals over seeds, the boards being fixed.

    The mean's is a t interval of the sum of the boards' variances (Welch-Satterthwaite). A rank's has no such formula,
    and a bootstrap of ranks misses near ties (Mogstad, Romano, Shaikh and Wilhelm 2024): on each board an entry is at
    best behind those that are shown to be better, and at worst before those that are shown to be worse, by tests whose
    errors are 5 % over all its opponents and boards. It holds at least 95 % of the time, and is wide where little is
    shown.
    """
    found, method, n_boards = _everywhere(runs, metric)
    entries, samples = list(found), list(found.values())
    if not entries:
        return pd.DataFrame(columns=COLUMNS)
    mean_ranks = ranks([[values.mean() for values in row] for row in samples], axis=0).mean(axis=1)
    rows = []
    for e, entry in enumerate(entries):
        low, high = mean_over_boards(samples[e]).interval()
        bounds = [rank_bounds(e, [row[d] for row in samples], n_boards) for d in range(n_boards)]
        best, worst = np.mean(bounds, axis=0)
        mean = float(np.mean([values.mean() for values in samples[e]]))
        rows.append([entry, method[entry], n_boards, mean_ranks[e], best, worst, mean, low, high])
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["mean_rank", "entry"], ignore_index=True)


def mean_over_boards(samples: list[Floats]) -> Difference:
    """samples: of every board an entry's scores [n_seeds] -> the mean of their means; no interval with one seed."""
    mean, n = float(np.mean([values.mean() for values in samples])), len(samples)
    if min(len(values) for values in samples) < 2:
        return Difference(mean, float("nan"), float("nan"), False)
    se, df = welch([spread(values) / len(values) / n**2 for values in samples], [len(values) - 1 for values in samples])
    return Difference(mean, se, df, False)


def rank_bounds(own: int, scores: list[Floats], boards: int) -> tuple[int, int]:
    """The best and the worst rank that entry number `own` of a board may have; scores: [entries][seeds]."""
    level = ALPHA / boards / max(1, len(scores) - 1)
    against = [differences.difference(scores[own], other) for j, other in enumerate(scores) if j != own]
    shown = [d.mean for d in against if d.tested and d.p < level]
    better, worse = sum(mean < 0 for mean in shown), sum(mean > 0 for mean in shown)
    return 1 + better, len(scores) - worse


def _everywhere(runs: pd.DataFrame, metric: str) -> tuple[dict[str, list[Floats]], dict[str, str], int]:
    """Of the entries that are on all of several boards, references aside, the scores on each; methods; boards."""
    runs = runs[~runs["method"].isin(REFERENCES)]
    by_board = [scores(own, metric) for _, own in runs.groupby(BOARD)]
    everywhere = [set(own.index.get_level_values(0)) for own in by_board]
    entries = sorted(set.intersection(*everywhere)) if len(by_board) > 1 else []
    samples = {entry: [own[entry].to_numpy(dtype=float) for own in by_board] for entry in entries}
    return samples, dict(zip(runs["entry"], runs["method"], strict=True)), len(by_board)


def improvements(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Every ordered pair of entries on all of several boards: the probability that entry_a is better than entry_b."""
    found, method, n = _everywhere(runs, metric)
    rows = [
        [a, b, method[a], method[b], n, *probability_of_improvement(found[a], found[b])]
        for a, b in permutations(found, 2)
    ]
    return pd.DataFrame(rows, columns=IMPROVEMENT)


def probability_of_improvement(a: list[Floats], b: list[Floats]) -> tuple[float, float, float]:
    """a, b: of every board the scores [n_seeds] of two entries -> the probability that a run of a beats one of b; 95 %.

    As rliable's (Agarwal et al. 2021): Mann and Whitney's statistic, equal scores half, mean over boards. Its interval
    there is a bootstrap over seeds, which has no width where all seeds of one are above all of the other. Here it is
    Hoeffding's bound for such statistics (1963, theorem 1 and section 5), which holds with any seeds and distributions,
    and is wide where they are few: from n seeds on each of d boards, all of them above, it says "at least .025^(1/nd)".
    """
    signs = [np.sign(np.round(x[:, None] - y, DIGITS)) for x, y in zip(a, b, strict=True)]  # [n_a, n_b] each
    shares = [(1 + own.mean()) / 2 for own in signs]
    n = len(shares) * min(len(scores) for scores in (*a, *b))
    return float(np.mean(shares)), *bounded(float(np.mean(shares)), n)


def bounded(mean: float, n: int) -> tuple[float, float]:
    """The 95 % interval of what n independent numbers between 0 and 1 with this mean have as their true mean."""
    limit = math.log(2 / ALPHA) / n

    def beyond(true: float) -> float:
        """Kullback and Leibler's divergence, over the limit."""
        parts = [x * math.log(x / y) for x, y in ((mean, true), (1 - mean, 1 - true)) if x > 0]
        return sum(parts) - limit

    least, most = 1e-12, 1 - 1e-12
    low = optimize.brentq(beyond, least, mean) if mean > least and beyond(least) > 0 else 0.0
    high = optimize.brentq(beyond, mean, most) if mean < most and beyond(most) > 0 else 1.0
    return float(low), float(high)
