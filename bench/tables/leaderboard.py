"""Run directories -> tidy tables -> who leads, by how much, and whether the difference can be trusted.

Methods are compared on common seeds by paired t-tests, Holm-adjusted over all pairs of methods on the board,
which holds whichever method turns out best: the one with the highest mean over its own done seeds. References (an
untrained and a supervised backbone) stand in the same table, but neither win nor count as tests. Where methods were
not trained alike (`bench.tables.conditions`), no method is marked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import unknown
from bench.runs.identity import seed_list
from bench.runs.result import ACCURACIES, METRICS, TIMINGS
from bench.tables import conditions, inventory
from bench.tables.evaluated import Measure, measures
from bench.tables.grid import BOARD, POINT, on_board, points
from bench.tables.statistics import ALPHA, DIGITS, holm, paired, percentile_interval, ranks, resampled_means, summarise
from methods import REFERENCES

Board = tuple[Any, ...]


@dataclass
class Tables:
    """Everything a report says, as tables. Numbers that do not exist are NaN."""

    metric: str
    """The accuracy that ranks and compares methods."""
    runs: pd.DataFrame
    """One row a run: identity, state, metrics, timing, provenance, evaluations; `chosen`: of the point that stands."""
    history: pd.DataFrame
    """One row a logged epoch."""
    evaluations: pd.DataFrame
    """One row a classifier of an evaluation."""
    grid: pd.DataFrame
    """One row a point: seeds by state, means and sds, the settings that vary, `competes`, `chosen`."""
    leaderboard: pd.DataFrame
    """One row a method on a board, the best mean first, references last."""
    pairs: pd.DataFrame
    """One row a pair of methods on a board: the difference on common seeds and its tests."""
    overall: pd.DataFrame
    """One row a method that is on every board, if there are several: mean rank and mean accuracy."""
    problems: pd.DataFrame
    """Files that could not be used, with reasons."""
    configs: dict[str, dict[str, Any]]
    """config_hash -> resolved config with dotted keys."""


def collect(results: Path, experiments: Iterable[str], metric: str = "test_linear_top1") -> Tables:
    """All tables of some experiments. Raises UserError on an unknown experiment or metric."""
    if metric not in ACCURACIES and not Measure.parse(metric):  # told before anything is read
        raise unknown("metric", metric, ACCURACIES)
    found = inventory.take(results, experiments)
    runs = found.runs
    if metric not in runs:
        raise unknown("metric", metric, [*ACCURACIES, *measures(runs)])
    grid = points(runs, found.configs)
    chosen = grid.loc[grid["chosen"], [*POINT, "chosen"]]
    runs["chosen"] = runs.merge(chosen, on=POINT, how="left")["chosen"].eq(True).to_numpy()
    runs["chosen"] &= runs["state"] != "duplicate"
    best = leaders(runs, metric)
    pairs = compare(runs, best, metric)
    board = rank(runs, grid, pairs, found.configs, best, metric)
    overall = across(runs, board, metric)
    return Tables(
        metric, runs, found.history, found.evaluations, grid, board, pairs, overall, found.problems, found.configs
    )


def standing(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that stand for the methods of the board that `rows` are of."""
    return on_board(tables.runs[tables.runs["chosen"]], rows)


def scores(runs: pd.DataFrame, metric: str) -> pd.Series:
    """Numbers of a board's done runs that stand for their methods, indexed by (method, seed)."""
    used = runs[runs["chosen"] & (runs["state"] == "done") & runs[metric].notna()]
    return used.set_index(["method", "seed"])[metric].sort_index()


def leaders(runs: pd.DataFrame, metric: str) -> dict[Board, str]:
    """The best method of every board that has one: the highest mean over its done seeds; of equals, by name."""
    best: dict[Board, str] = {}
    for board, own in runs.groupby(BOARD):
        means = scores(own, metric).groupby(level=0).mean().drop(list(REFERENCES), errors="ignore")
        if len(means):
            best[board] = min(means.index, key=lambda method: (-round(means[method], DIGITS), method))
    return best


def compare(runs: pd.DataFrame, best: dict[Board, str], metric: str) -> pd.DataFrame:
    """All pairs of methods of every board on their common seeds; `method_a` has the higher mean over its own seeds."""
    rows: list[dict[str, Any]] = []
    for board, own in runs.groupby(BOARD):
        by_method = {str(m): s.droplevel(0) for m, s in scores(own, metric).groupby(level=0)}
        order = sorted(by_method, key=lambda m: (-round(by_method[m].mean(), DIGITS), m))
        family = []
        for i, a in enumerate(order):
            for b in order[i + 1 :]:
                seeds = by_method[a].index.intersection(by_method[b].index)
                test = paired(by_method[a][seeds], by_method[b][seeds])
                row = {**dict(zip(BOARD, board, strict=True)), "method_a": a, "method_b": b, "n": test.n}
                row |= {"difference": test.mean, "sd": test.sd, "low": test.low, "high": test.high}
                row |= {"p_t": test.p_t, "p_permutation": test.p_permutation}
                row |= {"p_permutation_least": test.p_permutation_least}
                row |= {"reference": a in REFERENCES or b in REFERENCES, "with_best": best.get(board) in (a, b)}
                family.append(row)
        family.sort(key=lambda row: bool(row["reference"]))
        tested: list[Any] = [np.nan if row["reference"] else row["p_t"] for row in family]
        for row, p in zip(family, holm(tested), strict=True):
            rows.append({**row, "p_holm": float(p), "significant": bool(p < ALPHA)})
    columns = [*BOARD, "method_a", "method_b", "n", "difference", "sd", "low", "high", "p_t", "p_permutation"]
    columns += ["p_permutation_least", "p_holm", "significant", "reference", "with_best"]
    return pd.DataFrame(rows, columns=columns)


def rank(
    runs: pd.DataFrame,
    grid: pd.DataFrame,
    pairs: pd.DataFrame,
    configs: dict[str, dict[str, Any]],
    best: dict[Board, str],
    metric: str,
) -> pd.DataFrame:
    """The leaderboard: every planned method of every board, even one without any finished run.

    mark: "best"; "tie" (not shown to be worse than the best); "collapsed" (one of both, but some of its seeds
    collapsed: so wide an interval is no merit); "untested" (too few common seeds, or equal differences); "unlike" (it
    might have one of these, but methods were not trained alike); "" for the others and the references.
    """
    rows: list[dict[str, Any]] = []
    for board, tried in grid.groupby(BOARD):
        on_board = (runs[BOARD] == list(board)).all(axis=1)
        used = runs[on_board & runs["chosen"] & (runs["state"] == "done")]
        tests = pairs[(pairs[BOARD] == list(board)).all(axis=1)]
        methods = [_row(str(method), own, used[used["method"] == method]) for method, own in tried.groupby("method")]
        first = best.get(board, "")
        order = {
            row["method"]: -round(float(np.nan_to_num(row[f"{metric}_mean"], nan=-1.0)), DIGITS) for row in methods
        }
        methods.sort(key=lambda row: (row["reference"], row["method"] != first, order[row["method"]], row["method"]))
        alike = not conditions.unlike(tried[~tried["method"].isin(REFERENCES)], configs)
        for row in methods:
            row.update(_against(first, row, tests))
            row["mark"] = "unlike" if row["mark"] and not alike else row["mark"]
            rows.append({**dict(zip(BOARD, board, strict=True)), **row})
    table = pd.DataFrame(rows, columns=None if rows else [*BOARD, "method"])
    if rows:
        ranked = table[~table["reference"]]
        means = ranked[f"{metric}_mean"].round(DIGITS)
        table["rank"] = means.groupby([ranked[key] for key in BOARD]).rank(ascending=False, method="min")
    return table


def _row(method: str, tried: pd.DataFrame, used: pd.DataFrame) -> dict[str, Any]:
    """A method's row: its chosen point, its search budget, its numbers over the done seeds."""
    chosen = tried[tried["chosen"]].iloc[0]
    row: dict[str, Any] = {"method": method, "reference": method in REFERENCES}
    row |= {key: str(chosen[key] or "") for key in ("config_hash", "overrides")}
    row |= {key: int(chosen[key]) for key in ("planned", "done", "failed", "damaged", "unfinished", "collapsed")}
    row |= {
        "seeds": seed_list(used["seed"]),
        "points": len(tried),
        "points_competing": int(tried["competes"].sum()),
        "budget_runs": int(tried["planned"].sum()),
    }
    row |= {"points_incomplete": int((tried["done"] < tried["planned"]).sum())}
    for name in (*METRICS, *TIMINGS, *measures(used)):
        summary = summarise(used[name].dropna().to_numpy(dtype=float))
        row |= {f"{name}_{key}": value for key, value in vars(summary).items()}
    return row


def _against(best: str, method: Mapping[str, Any], tests: pd.DataFrame) -> dict[str, Any]:
    """The difference from the best method (negative: worse) on common seeds, and the mark it gives."""
    name = method["method"]
    row: dict[str, Any] = dict.fromkeys(("difference", "difference_low", "difference_high", "p_holm"), np.nan)
    row["mark"] = ""
    if name == best:
        with_others = tests[tests["with_best"] & ~tests["reference"]]
        if len(with_others):
            tested = with_others["p_holm"].notna().any()
            row["mark"] = "untested" if not tested else "collapsed" if method["collapsed"] else "best"
        return row
    first, second = tests["method_a"], tests["method_b"]
    for _, test in tests[(first == best) & (second == name) | (first == name) & (second == best)].iterrows():
        sign = 1 if test["method_a"] == name else -1
        low, high = sorted((sign * test["low"], sign * test["high"]))
        row.update(difference=sign * test["difference"], difference_low=low, difference_high=high)
        row["p_holm"] = test["p_holm"]
        if test["reference"]:
            continue
        if np.isnan(test["p_holm"]):
            row["mark"] = "untested"
        elif row["difference"] > 0:  # on common seeds; the best has others, too
            row["mark"] = "tie"
        elif not test["significant"]:
            row["mark"] = "collapsed" if method["collapsed"] else "tie"
    return row


def across(runs: pd.DataFrame, board: pd.DataFrame, metric: str, repetitions: int = 2000) -> pd.DataFrame:
    """Methods on all of several boards: mean rank and mean accuracy with stratified bootstrap intervals."""
    columns = ["method", "boards", "mean_rank", "mean_rank_low", "mean_rank_high", "mean", "low", "high"]
    by_board = [scores(own, metric) for _, own in runs.groupby(BOARD)]
    everywhere = [set(own.index.get_level_values(0)) - set(REFERENCES) for own in by_board]
    methods = sorted(set.intersection(*everywhere)) if everywhere else []
    if len(by_board) < 2 or not methods:
        return pd.DataFrame(columns=columns)
    samples = [[own[method].to_numpy(dtype=float) for own in by_board] for method in methods]
    means = np.array([[values.mean() for values in row] for row in samples])  # [methods, boards]
    drawn = resampled_means(samples, np.random.default_rng(0), repetitions)  # the same runs, the same report
    mean_ranks = ranks(means, axis=0).mean(axis=1)
    drawn_ranks = ranks(drawn, axis=1).mean(axis=2)  # [repetitions, methods]
    rows = []
    for m, method in enumerate(methods):
        rank_interval = percentile_interval(drawn_ranks[:, m])
        interval = percentile_interval(drawn[:, m].mean(axis=1))
        rows.append([method, len(by_board), mean_ranks[m], *rank_interval, means[m].mean(), *interval])
    return pd.DataFrame(rows, columns=columns).sort_values(["mean_rank", "method"], ignore_index=True)
