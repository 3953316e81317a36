"""Run directories -> tidy tables -> who leads, by how much, and whether the difference can be trusted.

Entries (methods, and what sweep files gave labels) are compared on common seeds by paired t-tests, Holm-adjusted over
all pairs of entries on the board, which holds whichever turns out best: the one with the highest mean over its own done
seeds. References (an untrained and a supervised backbone) stand in the same table, but neither win nor count as tests.
Where entries were not trained alike (`bench.tables.conditions`), none is marked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import unknown
from bench.runs.identity import seed_list
from bench.runs.result import ACCURACIES, METRICS, TIMINGS
from bench.tables import conditions, foreign, inventory
from bench.tables.evaluated import Measure, measures
from bench.tables.grid import BOARD, POINT, on_board, points
from bench.tables.statistics import ALPHA, DIGITS, holm, paired, percentile_interval, ranks, resampled_means, summarise
from methods import REFERENCES

Board = tuple[Any, ...]


@dataclass
class Tables:
    """Everything a report says, as tables. Numbers that do not exist are NaN."""

    metric: str
    """The accuracy that ranks and compares."""
    runs: pd.DataFrame
    """One row a run: identity, state, metrics, timing, provenance, evaluations; `chosen`: of the point that stands."""
    history: pd.DataFrame
    """One row a logged epoch."""
    evaluations: pd.DataFrame
    """One row a classifier of an evaluation."""
    grid: pd.DataFrame
    """One row a point: seeds by state, means and sds, the settings that vary, `competes`, `chosen`."""
    leaderboard: pd.DataFrame
    """One row an entry on a board, the best mean first, references last; then encoders from elsewhere (`source`)."""
    pairs: pd.DataFrame
    """One row a pair of entries on a board: the difference on common seeds and its tests."""
    overall: pd.DataFrame
    """One row an entry that is on every board, if there are several: mean rank and mean accuracy."""
    problems: pd.DataFrame
    """Files that could not be used, with reasons."""
    configs: dict[str, dict[str, Any]]
    """config_hash -> resolved config with dotted keys."""
    results: Path
    """Where the experiments are, for what is read only when it is shown."""
    marks: dict[tuple[Board, str], dict[str, str]] = field(default_factory=dict)
    """What `marks` found, by board and number: every format shows it."""


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
    board = foreign.joined(board, found.encoders, found.evaluations, runs)
    overall = across(runs, board, metric)
    told = (found.problems, found.configs, results)
    return Tables(metric, runs, found.history, found.evaluations, grid, board, pairs, overall, *told)


def standing(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that stand for the entries of the board that `rows` are of."""
    return on_board(tables.runs[tables.runs["chosen"]], rows)


def scores(runs: pd.DataFrame, metric: str) -> pd.Series:
    """Numbers of a board's done runs that stand for their entries, indexed by (entry, seed)."""
    used = runs[runs["chosen"] & (runs["state"] == "done") & runs[metric].notna()]
    return used.set_index(["entry", "seed"])[metric].sort_index()


def leaders(runs: pd.DataFrame, metric: str) -> dict[Board, str]:
    """The best entry of every board that has one: the highest mean over its done seeds; of equals, by name."""
    best: dict[Board, str] = {}
    for board, own in runs.groupby(BOARD):
        means = scores(own[~own["method"].isin(REFERENCES)], metric).groupby(level=0).mean()
        if len(means):
            best[board] = min(means.index, key=lambda entry: (-round(means[entry], DIGITS), entry))
    return best


def compare(runs: pd.DataFrame, best: dict[Board, str], metric: str) -> pd.DataFrame:
    """All pairs of entries of every board on their common seeds; `entry_a` has the higher mean over its own seeds."""
    rows: list[dict[str, Any]] = []
    for board, own in runs.groupby(BOARD):
        by_entry = {str(e): s.droplevel(0) for e, s in scores(own, metric).groupby(level=0)}
        method = dict(zip(own["entry"], own["method"], strict=True))
        order = sorted(by_entry, key=lambda e: (-round(by_entry[e].mean(), DIGITS), e))
        family = []
        for i, a in enumerate(order):
            for b in order[i + 1 :]:
                seeds = by_entry[a].index.intersection(by_entry[b].index)
                test = paired(by_entry[a][seeds], by_entry[b][seeds])
                row = {**dict(zip(BOARD, board, strict=True)), "entry_a": a, "entry_b": b}
                row |= {"method_a": method[a], "method_b": method[b], "n": test.n}
                row |= {"difference": test.mean, "sd": test.sd, "low": test.low, "high": test.high}
                row |= {"p_t": test.p_t, "p_permutation": test.p_permutation}
                row |= {"p_permutation_least": test.p_permutation_least}
                row |= {
                    "reference": not {method[a], method[b]}.isdisjoint(REFERENCES),
                    "with_best": best.get(board) in (a, b),
                }
                family.append(row)
        family.sort(key=lambda row: bool(row["reference"]))
        tested: list[Any] = [np.nan if row["reference"] else row["p_t"] for row in family]
        for row, p in zip(family, holm(tested), strict=True):
            rows.append({**row, "p_holm": float(p), "significant": bool(p < ALPHA)})
    columns = [*BOARD, "entry_a", "entry_b", "method_a", "method_b", "n", "difference", "sd", "low", "high"]
    columns += ["p_t", "p_permutation", "p_permutation_least", "p_holm", "significant", "reference", "with_best"]
    return pd.DataFrame(rows, columns=columns)


def rank(
    runs: pd.DataFrame,
    grid: pd.DataFrame,
    pairs: pd.DataFrame,
    configs: dict[str, dict[str, Any]],
    best: dict[Board, str],
    metric: str,
) -> pd.DataFrame:
    """The leaderboard: every planned entry of every board, even one without any finished run.

    mark: "best"; "tie" (not shown to be worse than the best); "collapsed" (one of both, but some of its seeds
    collapsed: so wide an interval is no merit); "untested" (too few common seeds, or equal differences); "unlike" (it
    might have one of these, but entries were not trained alike); "" for the others and the references.
    """
    rows: list[dict[str, Any]] = []
    for board, tried in grid.groupby(BOARD):
        on_board = (runs[BOARD] == list(board)).all(axis=1)
        used = runs[on_board & runs["chosen"] & (runs["state"] == "done")]
        tests = pairs[(pairs[BOARD] == list(board)).all(axis=1)]
        entries = [_row(str(entry), own, used[used["entry"] == entry]) for entry, own in tried.groupby("entry")]
        first = best.get(board, "")
        order = {row["entry"]: -round(float(np.nan_to_num(row[f"{metric}_mean"], nan=-1.0)), DIGITS) for row in entries}
        entries.sort(key=lambda row: (row["reference"], row["entry"] != first, order[row["entry"]], row["entry"]))
        alike = _alike(tried, configs)
        for row in entries:
            row.update(_against(first, row, tests, alike))
            rows.append({**dict(zip(BOARD, board, strict=True)), **row})
    table = pd.DataFrame(rows, columns=None if rows else [*BOARD, "entry", "method"])
    if rows:
        ranked = table[~table["reference"]]
        means = ranked[f"{metric}_mean"].round(DIGITS)
        table["rank"] = means.groupby([ranked[key] for key in BOARD]).rank(ascending=False, method="min")
    return table


def _row(entry: str, tried: pd.DataFrame, used: pd.DataFrame) -> dict[str, Any]:
    """An entry's row: its chosen point, its search budget, its numbers over the done seeds."""
    chosen = tried[tried["chosen"]].iloc[0]
    method = str(chosen["method"])
    row: dict[str, Any] = {"entry": entry, "method": method, "reference": method in REFERENCES}
    row |= {key: str(chosen[key] or "") for key in ("config_hash", "overrides", "entry_keys")}
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


def marks(tables: Tables, rows: pd.DataFrame, metric: str) -> dict[str, str]:
    """The marks of a board's entries by any number, as `rank` gives them by the one that ranks."""
    key = tuple(rows.iloc[0][BOARD]), metric
    if key not in tables.marks:
        runs = on_board(tables.runs, rows)
        best = leaders(runs, metric)
        tests = compare(runs, best, metric)
        alike = _alike(on_board(tables.grid, rows), tables.configs)
        first = next(iter(best.values()), "")
        known = rows[["entry", "collapsed"]].itertuples(index=False)
        told = ({"entry": entry, "collapsed": collapsed} for entry, collapsed in known)
        tables.marks[key] = {row["entry"]: _against(first, row, tests, alike)["mark"] for row in told}
    return tables.marks[key]


def _alike(tried: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a board's entries were trained alike, references aside."""
    return not conditions.unlike(tried[~tried["method"].isin(REFERENCES)], configs)


def _against(best: str, entry: Mapping[str, Any], tests: pd.DataFrame, alike: bool) -> dict[str, Any]:
    """The difference from the best entry (negative: worse) on common seeds, and the mark it gives."""
    row = _difference(best, entry, tests)
    return row if alike or not row["mark"] else {**row, "mark": "unlike"}


def _difference(best: str, entry: Mapping[str, Any], tests: pd.DataFrame) -> dict[str, Any]:
    name = entry["entry"]
    row: dict[str, Any] = dict.fromkeys(("difference", "difference_low", "difference_high", "p_holm"), np.nan)
    row["mark"] = ""
    if name == best:
        with_others = tests[tests["with_best"] & ~tests["reference"]]
        if len(with_others):
            tested = with_others["p_holm"].notna().any()
            row["mark"] = "untested" if not tested else "collapsed" if entry["collapsed"] else "best"
        return row
    first, second = tests["entry_a"], tests["entry_b"]
    for _, test in tests[(first == best) & (second == name) | (first == name) & (second == best)].iterrows():
        sign = 1 if test["entry_a"] == name else -1
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
            row["mark"] = "collapsed" if entry["collapsed"] else "tie"
    return row


def across(runs: pd.DataFrame, board: pd.DataFrame, metric: str, repetitions: int = 2000) -> pd.DataFrame:
    """Entries on all of several boards: mean rank and mean accuracy with stratified bootstrap intervals."""
    columns = ["entry", "method", "boards", "mean_rank", "mean_rank_low", "mean_rank_high", "mean", "low", "high"]
    runs = runs[~runs["method"].isin(REFERENCES)]
    by_board = [scores(own, metric) for _, own in runs.groupby(BOARD)]
    everywhere = [set(own.index.get_level_values(0)) for own in by_board]
    entries = sorted(set.intersection(*everywhere)) if everywhere else []
    if len(by_board) < 2 or not entries:
        return pd.DataFrame(columns=columns)
    method = dict(zip(runs["entry"], runs["method"], strict=True))
    samples = [[own[entry].to_numpy(dtype=float) for own in by_board] for entry in entries]
    means = np.array([[values.mean() for values in row] for row in samples])  # [entries, boards]
    drawn = resampled_means(samples, np.random.default_rng(0), repetitions)  # the same runs, the same report
    mean_ranks = ranks(means, axis=0).mean(axis=1)
    drawn_ranks = ranks(drawn, axis=1).mean(axis=2)  # [repetitions, entries]
    rows = []
    for e, entry in enumerate(entries):
        rank_interval = percentile_interval(drawn_ranks[:, e])
        interval = percentile_interval(drawn[:, e].mean(axis=1))
        of_board = [entry, method[entry], len(by_board)]
        rows.append([*of_board, mean_ranks[e], *rank_interval, means[e].mean(), *interval])
    return pd.DataFrame(rows, columns=columns).sort_values(["mean_rank", "entry"], ignore_index=True)
