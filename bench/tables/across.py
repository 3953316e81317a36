"""Entries over several boards: mean accuracy, mean rank, and how sure they are."""

import numpy as np
import pandas as pd

from bench.tables import differences
from bench.tables.comparison import scores
from bench.tables.differences import Difference, spread, welch
from bench.tables.grid import BOARD
from bench.tables.statistics import ALPHA, Floats, ranks
from methods import REFERENCES

COLUMNS = ["entry", "method", "boards", "mean_rank", "mean_rank_low", "mean_rank_high", "mean", "low", "high"]


def across(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Entries on all of several boards: mean rank and mean accuracy with intervals over seeds, the boards being fixed.

    The mean's is a t interval of the sum of the boards' variances (Welch-Satterthwaite). A rank's has no such formula,
    and a bootstrap of ranks misses near ties (Mogstad, Romano, Shaikh and Wilhelm 2024): on each board an entry is at
    best behind those that are shown to be better, and at worst before those that are shown to be worse, by tests whose
    errors are 5 % over all its opponents and boards. It holds at least 95 % of the time, and is wide where little is
    shown.
    """
    runs = runs[~runs["method"].isin(REFERENCES)]
    by_board = [scores(own, metric) for _, own in runs.groupby(BOARD)]
    everywhere = [set(own.index.get_level_values(0)) for own in by_board]
    entries = sorted(set.intersection(*everywhere)) if everywhere else []
    if len(by_board) < 2 or not entries:
        return pd.DataFrame(columns=COLUMNS)
    method = dict(zip(runs["entry"], runs["method"], strict=True))
    samples = [[own[entry].to_numpy(dtype=float) for own in by_board] for entry in entries]
    mean_ranks = ranks([[values.mean() for values in row] for row in samples], axis=0).mean(axis=1)
    rows = []
    for e, entry in enumerate(entries):
        low, high = mean_over_boards(samples[e]).interval()
        bounds = [rank_bounds(e, [row[d] for row in samples], len(by_board)) for d in range(len(by_board))]
        best, worst = np.mean(bounds, axis=0)
        mean = float(np.mean([values.mean() for values in samples[e]]))
        rows.append([entry, method[entry], len(by_board), mean_ranks[e], best, worst, mean, low, high])
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
