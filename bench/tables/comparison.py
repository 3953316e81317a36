"""Entries of a board against each other: differences, tests, and who may be the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.runs.evaluations import FOLDER, Asked, EvaluationFiles
from bench.runs.experiment import Until
from bench.tables import differences, images, predictions
from bench.tables.differences import Difference
from bench.tables.grid import BOARD
from bench.tables.images import Told
from bench.tables.statistics import ALPHA, DIGITS, holm, paired
from methods import REFERENCES

Board = tuple[Any, ...]

PREDICTED = {f"test_{name}_top1": Asked(evaluation=name).key for name in ("linear", "knn")}
"""Accuracies of one classifier, whose predictions are stored -> the evaluation that made it."""

LOOKS = ("width", "first", "each", "most")
"""Of a pair whose difference decided how many seeds it has: see `bench.runs.experiment.Until`."""

PAIRS = [
    *("entry_a", "entry_b", "method_a", "method_b", "n", "difference", "se", "low", "high"),
    *("low_simultaneous", "high_simultaneous", "low_seeds_images", "high_seeds_images", "p_welch", "p_holm"),
    *("significant", "p_t", "p_permutation", "p_permutation_least", "p_equivalent", "verdict"),
    *("detectable", "seeds_needed", "reference", "with_best", "metric", "margin", "seeds_needed_for"),
    *(f"until_{key}" for key in LOOKS),
]


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


def candidates(runs: pd.DataFrame, metric: str) -> dict[Board, set[str]]:
    """The entries of every board of which one is the best with probability 0.95, references aside."""
    found: dict[Board, set[str]] = {}
    for board, own in runs.groupby(BOARD):
        by_entry = _by_entry(scores(own[~own["method"].isin(REFERENCES)], metric))
        among = differences.may_be_best(len(by_entry), partial(_between, list(by_entry.values())))
        found[board] = {entry for entry, may in zip(by_entry, among, strict=True) if may}
    return found


def predicted(runs: pd.DataFrame, metric: str, results: Path) -> dict[Board, dict[str, Told]]:
    """How the entries of every board told the test images, of those whose runs all stored it, of the same images."""
    return {board: _told(own, metric, results) for board, own in runs.groupby(BOARD)}


def _told(runs: pd.DataFrame, metric: str, results: Path) -> dict[str, Told]:
    """`predicted` of one board."""
    key = PREDICTED.get(metric, "")
    used = runs[runs["chosen"] & (runs["state"] == "done") & runs[metric].notna()]
    if not key:
        return {}
    found: dict[str, Told] = {}
    labels: predictions.Predictions | None = None
    for entry, own in used.groupby("entry"):
        right = []
        for experiment, run_id, score in own[["experiment", "run_id", metric]].itertuples(index=False):
            files = EvaluationFiles(results / experiment / "runs" / run_id / FOLDER, key)
            if not files.predictions.exists():
                break
            try:
                said = predictions.read(files.predictions)
            except ValueError:
                break  # the confusion matrices name the file
            labels = labels or said
            rightly = said.predicted[0] == said.labels
            if not np.array_equal(said.labels, labels.labels) or abs(100 * rightly.mean() - score) > 0.01:
                break
            right.append(rightly)
        if len(right) == len(own):
            found[str(entry)] = images.told(right)
    return found


@dataclass(frozen=True)
class Aim:
    """What differences are judged against."""

    margin: float | None = None
    """Points within which two entries are as good as each other, named before; None: equivalence is not tested."""
    difference: float | None = None
    """The true difference that `seeds_needed` is for; None: that which was seen."""
    untils: Sequence[Until] = ()
    """Pairs whose difference decided how many seeds they have."""


def compare(
    runs: pd.DataFrame,
    best: Mapping[Board, str],
    metric: str,
    told: Mapping[Board, Mapping[str, Told]] | None = None,
    aim: Aim | None = None,
) -> pd.DataFrame:
    """All pairs of entries of every board; `entry_a` has the higher mean. told: what `predicted` found.

    A difference is of the means over the `n` common seeds: one that failed for one of them, as a hard one may, counts
    for neither. Its tests are Welch's, Holm-adjusted over the pairs without a reference; p_t and p_permutation are
    paired. Intervals, all of 95 %: low, high of that one difference; *_simultaneous of all tested pairs at once;
    *_seeds_images of that one, for new seeds and new test images, where both have the same seeds. Every row says by
    which metric it compares, with which margin, and which difference seeds_needed is for (NaN: the one seen); until_*,
    where the interval decided how many seeds there are, how narrow it was to be and when that was looked at.
    """
    aim = aim or Aim()
    told_of = {"metric": metric, "margin": aim.margin, "seeds_needed_for": aim.difference}
    until = {asked.pair: {f"until_{key}": getattr(asked, key) for key in LOOKS} for asked in aim.untils}
    rows: list[dict[str, Any]] = []
    for board, own in runs.groupby(BOARD):
        by_entry = _by_entry(scores(own, metric))
        by_image = (told or {}).get(board, {})
        method = dict(zip(own["entry"], own["method"], strict=True))
        order = sorted(by_entry, key=lambda e: (-round(by_entry[e].mean(), DIGITS), e))
        found: list[tuple[dict[str, Any], Difference]] = []
        for a, b in combinations(order, 2):
            row: dict[str, Any] = {**dict(zip(BOARD, board, strict=True)), "entry_a": a, "entry_b": b, **told_of}
            row |= {"method_a": method[a], "method_b": method[b], **until.get(frozenset((a, b)), {})}
            row["reference"] = not {method[a], method[b]}.isdisjoint(REFERENCES)
            row["with_best"] = best.get(board) in (a, b)
            values = _common(by_entry[a], by_entry[b])
            test = paired(*values)
            row |= {"n": test.n, "p_t": test.p_t, "p_permutation": test.p_permutation}
            row["p_permutation_least"] = test.p_permutation_least
            if a in by_image and b in by_image and by_entry[a].index.equals(by_entry[b].index):
                row["low_seeds_images"], row["high_seeds_images"] = images.interval(by_image[a], by_image[b])
            found.append((row, differences.difference(*values)))
        found.sort(key=lambda pair: bool(pair[0]["reference"]))
        rows += _family(found, by_entry, aim)
    given = ("margin", "seeds_needed_for", *(f"until_{key}" for key in LOOKS))
    return pd.DataFrame(rows, columns=[*BOARD, *PAIRS]).astype(dict.fromkeys(given, float))


def _by_entry(numbers: pd.Series) -> dict[str, pd.Series]:
    return {str(entry): own.droplevel(0) for entry, own in numbers.groupby(level=0)}


def _common(a: pd.Series, b: pd.Series) -> tuple[pd.Series, pd.Series]:
    seeds = a.index.intersection(b.index)
    return a[seeds], b[seeds]


def _between(entries: list[pd.Series], i: int, j: int) -> Difference:
    return differences.difference(*_common(entries[i], entries[j]))


def _interval(difference: Difference, suffix: str = "", tails: float = ALPHA) -> dict[str, float]:
    low, high = difference.interval(tails)
    return {f"low{suffix}": low, f"high{suffix}": high}


def _family(
    pairs: list[tuple[dict[str, Any], Difference]], by_entry: Mapping[str, pd.Series], aim: Aim
) -> list[dict[str, Any]]:
    """The rows of one board with what depends on how many pairs are tested."""
    p = [np.nan if row["reference"] else difference.p for row, difference in pairs]
    tests = max(1, int(np.count_nonzero(~np.isnan(p))))
    equivalent = [
        np.nan if row["reference"] or aim.margin is None else difference.p_within(aim.margin)
        for row, difference in pairs
    ]
    sd = {entry: float(values.std(ddof=1)) for entry, values in by_entry.items()}
    rows = []
    for (row, difference), raw, adjusted, within in zip(pairs, p, holm(p), holm(equivalent), strict=True):
        row |= {"difference": difference.mean, "se": difference.se, **_interval(difference)}
        if row["reference"] or not np.isnan(raw):  # what is not tested is of no family
            row |= _interval(difference, "_simultaneous", ALPHA / tests)
        row |= {"p_welch": difference.p, "p_holm": float(adjusted), "significant": bool(adjusted < ALPHA)}
        row["p_equivalent"] = float(within)
        row["verdict"] = _verdict(raw, row["significant"], row["p_equivalent"], aim)
        if not np.isnan(raw):
            spreads = sd[row["entry_a"]], sd[row["entry_b"]]
            row["detectable"] = differences.detectable(*spreads, row["n"], tests)
            aimed = aim.difference or difference.mean
            row["seeds_needed"] = differences.seeds_needed(aimed, *spreads, tests) or np.nan
        rows.append(row)
    return rows


def _verdict(p: float, significant: bool, p_equivalent: float, aim: Aim) -> str:
    """What is shown of a pair: "better" (entry_a), "equivalent" within the margin, both, or "undecided"."""
    if np.isnan(p):
        return ""
    parts = ["better"] * significant
    parts += [f"equivalent within {aim.margin}"] * bool(p_equivalent < ALPHA)
    return ", ".join(parts) or "undecided"
