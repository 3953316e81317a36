"""Run directories -> tidy tables -> who leads, by how much, and whether the difference can be trusted.

Entries (methods, and what sweep files gave labels) are compared by Welch's tests over seeds, Holm-adjusted over all
pairs on the board (`bench.tables.comparison`); a comparison with the best tells which of them may be it. References (an
untrained and a supervised backbone) stand in the same table, but neither win nor count as tests. Where entries were not
trained alike (`bench.tables.conditions`), none is marked.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import unknown
from bench.runs.identity import seed_list
from bench.runs.result import ACCURACIES, METRICS, TIMINGS
from bench.tables import conditions, foreign, images, inventory
from bench.tables.across import across, improvements
from bench.tables.comparison import Aim, Board, candidates, compare, leaders, predicted
from bench.tables.evaluated import Measure, measures
from bench.tables.grid import BOARD, OF_SEARCH, UNFINISHED, edges, on_board, points, reported
from bench.tables.images import Told
from bench.tables.inventory import Inventory
from bench.tables.statistics import DIGITS, summarise
from methods import REFERENCES

SPACES = " and "
"""Between the spaces of an entry's searches."""


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
    """One row a pair of entries on a board: the difference, its intervals and its tests."""
    overall: pd.DataFrame
    """One row an entry that is on every board, if there are several: mean rank and mean accuracy."""
    improvements: pd.DataFrame
    """One row an ordered pair of these: the probability that a run of one is better."""
    problems: pd.DataFrame
    """Files that could not be used, with reasons."""
    configs: dict[str, dict[str, Any]]
    """config_hash -> resolved config with dotted keys."""
    results: Path
    """Where the experiments are, for what is read only when it is shown."""
    aim: Aim = field(default_factory=Aim)
    """What differences were judged against."""
    marks: dict[tuple[Board, str], dict[str, str]] = field(default_factory=dict)
    """What `marks` found, by board and number: every format shows it."""


def collect(
    results: Path, experiments: Iterable[str], metric: str = "test_linear_top1", aim: Aim | None = None
) -> Tables:
    """All tables of some experiments. Raises UserError on an unknown experiment or metric."""
    if metric not in ACCURACIES and not Measure.parse(metric):  # told before anything is read
        raise unknown("metric", metric, ACCURACIES)
    return tell(inventory.take(results, experiments), results, metric, aim)


def tell(found: Inventory, results: Path, metric: str = "test_linear_top1", aim: Aim | None = None) -> Tables:
    """All tables of what was found. Raises UserError on a metric that no run has."""
    runs = found.runs
    if metric not in runs:
        raise unknown("metric", metric, [*ACCURACIES, *measures(runs)])
    grid = points(runs, found.configs)
    runs["chosen"] = reported(runs, grid)
    best = leaders(runs, metric)
    by_image = predicted(runs, metric, results)
    pairs = compare(runs, best, metric, by_image, aim)
    board = rank(runs, grid, pairs, found.configs, best, metric)
    board = _over_images(board, metric, by_image)
    board = foreign.joined(board, found.encoders, found.evaluations, runs)
    overall, better = across(runs, metric), improvements(runs, metric)
    told = (found.problems, found.configs, results, aim or Aim())
    return Tables(metric, runs, found.history, found.evaluations, grid, board, pairs, overall, better, *told)


def standing(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that stand for the entries of the board that `rows` are of."""
    return on_board(tables.runs[tables.runs["chosen"]], rows)


def rank(
    runs: pd.DataFrame,
    grid: pd.DataFrame,
    pairs: pd.DataFrame,
    configs: dict[str, dict[str, Any]],
    best: dict[Board, str],
    metric: str,
) -> pd.DataFrame:
    """The leaderboard: every planned entry of every board, even one without any finished run.

    mark: "best", the highest mean; "candidate" (it may be the best, as `comparison.candidates` tells); "collapsed" (one
    of both, but some of its seeds collapsed: so wide an interval is no merit); "untested" (too few seeds, or no
    spread); "unlike" (it might have one of these, but entries were not trained alike); "" for the others and the
    references.
    """
    rows: list[dict[str, Any]] = []
    may_be_best = candidates(runs, metric)
    for board, tried in grid.groupby(BOARD):
        on_board = (runs[BOARD] == list(board)).all(axis=1)
        there = runs[on_board & (runs["state"] != "duplicate")]
        tests = pairs[(pairs[BOARD] == list(board)).all(axis=1)]
        entries = [_row(str(entry), own, there[there["entry"] == entry]) for entry, own in tried.groupby("entry")]
        first = best.get(board, "")
        order = {row["entry"]: -round(float(np.nan_to_num(row[f"{metric}_mean"], nan=-1.0)), DIGITS) for row in entries}
        entries.sort(key=lambda row: (row["reference"], row["entry"] != first, order[row["entry"]], row["entry"]))
        alike = _alike(tried, configs)
        for row in entries:
            row.update(_against(first, row, tests, may_be_best.get(board, ()), alike))
            rows.append({**dict(zip(BOARD, board, strict=True)), **row})
    table = pd.DataFrame(rows, columns=None if rows else [*BOARD, "entry", "method"])
    if rows:
        ranked = table[~table["reference"]]
        means = ranked[f"{metric}_mean"].round(DIGITS)
        table["rank"] = means.groupby([ranked[key] for key in BOARD]).rank(ascending=False, method="min")
    return table


def _row(entry: str, tried: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Any]:
    """An entry's row: what stands for it, its search budget, its numbers over the done seeds. runs: all of it."""
    chosen = tried[tried["chosen"]].iloc[0]
    standing, search = runs[runs["chosen"]], runs[runs[OF_SEARCH] != ""]
    used = standing[standing["state"] == "done"]
    method = str(chosen["method"])
    row: dict[str, Any] = {"entry": entry, "method": method, "reference": method in REFERENCES}
    overrides = chosen["overrides"] if standing.empty else standing["overrides"].iloc[0]
    row |= {"config_hash": chosen["stands"], "overrides": overrides or "", "entry_keys": chosen["entry_keys"] or ""}
    row |= {"planned": len(standing), "done": len(used)}
    row |= {state: int((standing["state"] == state).sum()) for state in ("failed", "damaged")}
    row |= {"unfinished": int(standing["state"].isin(UNFINISHED).sum()), "collapsed": int(standing["collapsed"].sum())}
    row |= {
        "seeds": seed_list(used["seed"]),
        "points": tried["stands"].nunique(),
        "points_competing": int(tried["competes"].sum()),
        "budget_runs": len(runs),
    }
    row |= {"points_incomplete": tried.loc[tried["done"] < tried["planned"], "stands"].nunique()}
    spaces = dict.fromkeys(filter(None, tried["search_space"]))  # more than one where a range was extended
    row |= {"edges": " ".join(edges(tried)), "search_space": SPACES.join(spaces)}
    row |= {"search_seeds": seed_list(search["seed"]), "search_runs": len(search)}
    row |= {"search_seconds": float(search[["train_seconds", "eval_seconds"]].sum().sum())}
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
        may_be_best = next(iter(candidates(runs, metric).values()), set())
        alike = _alike(on_board(tables.grid, rows), tables.configs)
        first = next(iter(best.values()), "")
        known = rows[["entry", "collapsed"]].itertuples(index=False)
        told = ({"entry": entry, "collapsed": collapsed} for entry, collapsed in known)
        found = {row["entry"]: _against(first, row, tests, may_be_best, alike)["mark"] for row in told}
        tables.marks[key] = found
    return tables.marks[key]


def _alike(tried: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a board's entries were trained alike, references aside."""
    return not conditions.unlike(tried[~tried["method"].isin(REFERENCES)], configs)


def _against(
    best: str, entry: Mapping[str, Any], tests: pd.DataFrame, may_be_best: Collection[str], alike: bool
) -> dict[str, Any]:
    """The difference from the best entry (negative: worse), and the mark it gives."""
    row = _difference(best, entry, tests, may_be_best)
    return row if alike or not row["mark"] else {**row, "mark": "unlike"}


def _difference(
    best: str, entry: Mapping[str, Any], tests: pd.DataFrame, may_be_best: Collection[str]
) -> dict[str, Any]:
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
        which = "" if test["reference"] else "_simultaneous"
        low, high = sorted((sign * test[f"low{which}"], sign * test[f"high{which}"]))
        row.update(difference=sign * test["difference"], difference_low=low, difference_high=high)
        row["p_holm"] = test["p_holm"]
        if test["reference"]:
            continue
        if np.isnan(test["p_holm"]):
            row["mark"] = "untested"
        elif name in may_be_best:
            row["mark"] = "collapsed" if entry["collapsed"] else "candidate"
    return row


def _over_images(board: pd.DataFrame, metric: str, by_image: Mapping[Board, Mapping[str, Told]]) -> pd.DataFrame:
    """With the intervals of every mean for new seeds and new test images; of a whole board, or of none of it.

    Beside one over seeds alone such an interval would look like a worse one.
    """
    names = [f"{metric}_{end}_seeds_images" for end in ("low", "high")]
    board[names] = np.nan
    for key, rows in board.groupby(BOARD):
        several = rows[rows[f"{metric}_n"] > 1]
        told = by_image.get(key, {})
        if told.keys() >= set(several["entry"]):
            for i, entry in several["entry"].items():
                board.loc[i, names] = images.interval(told[str(entry)])
    return board
