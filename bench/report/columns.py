"""What a reader sees of the tables: columns, rounded numbers, marks, flags and footnotes, as plain text.

Every output (terminal, Markdown, LaTeX, HTML) shows these texts in its own markup.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from bench.errors import unknown
from bench.report.names import dataset_name, entry_name, measure_name
from bench.tables.evaluated import Measure, measures
from bench.tables.grid import BOARD
from bench.tables.leaderboard import Tables

DASH = "–"
MARKS = {"best": "*", "candidate": "*", "untested": "?"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard."""

    header: str
    text: Callable[[Row], str]
    csv: tuple[str, ...]
    """The columns of leaderboard.csv that hold it, unrounded."""


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table whose columns are named by text."""
    return cast(list[dict[str, Any]], frame.to_dict("records"))


def number(value: float, digits: int = 2) -> str:
    """A rounded number, a dash if there is none."""
    return DASH if math.isnan(value) else f"{value:.{digits}f}"


def interval(row: Row, name: str, digits: int = 2, images: bool = True) -> str:
    """mean ± half of the 95 % interval; one seed: a dash in its place. Not trained here: mean [low, high].

    images: take the interval for new test images too, where there is one.
    """
    mean, low, high = (row[f"{name}_{key}"] for key in ("mean", "low", "high"))
    if row["source"] and not math.isnan(mean):
        between = DASH if math.isnan(low) else f"{low:.{digits}f}, {high:.{digits}f}"
        return f"{mean:.{digits}f} [{between}]"
    if images and not math.isnan(row.get(f"{name}_high_seeds_images", math.nan)):
        low, high = (row[f"{name}_{end}_seeds_images"] for end in ("low", "high"))
    half = max(mean - low, high - mean)  # near 100 % the former, if images count
    return DASH if math.isnan(mean) else f"{mean:.{digits}f} ± {number(half, digits)}"


def p_value(p: float) -> str:
    return DASH if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def seeds(row: Row) -> str:
    """How many seeds are done: "5", or "4/5" of those planned."""
    if not row["planned"]:
        return DASH
    return f"{row['done']}" if row["done"] == row["planned"] else f"{row['done']}/{row['planned']}"


def flags(row: Row) -> str:
    """What a reader must know about a row."""
    counts = {"failed": "failed", "damaged": "damaged", "unfinished": "missing", "collapsed": "collapsed"}
    found = [f"{row[key]} {word}" for key, word in counts.items() if row[key]]
    if row["points"] > 1 and row["points_incomplete"]:
        found.append(f"{row['points_incomplete']} of {row['points']} points incomplete")
    found += [f"{key} at the edge" for key in row["edges"].split()]
    if row["reference"]:
        found.append("not trained here" if row["source"] else "reference")
    return ", ".join(found)


def budget(row: Row) -> str:
    """How much was tried for an entry: configurations, and runs in all."""
    return f"{row['points']} ({row['budget_runs']})" if row["points"] else DASH


def _difference(row: Row) -> str:
    if math.isnan(row["difference"]):
        return DASH
    low, high = row["difference_low"], row["difference_high"]
    return f"{row['difference']:+.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


def _metric(header: str, name: str, digits: int) -> Column:
    keys = tuple(f"{name}_{key}" for key in ("n", "mean", "sd", "low", "high"))
    return Column(header, lambda row: interval(row, name, digits), keys)


class _Columns(dict[str, Column]):
    """Columns by name; of evaluations there are as many as were made, named as in runs.csv."""

    def __missing__(self, name: str) -> Column:
        measure = Measure.parse(name)
        if measure is None:
            raise KeyError(name)
        return _metric(measure_name(measure), name, 2)


COLUMNS = _Columns()
COLUMNS |= {
    "rank": Column("rank", lambda row: number(row["rank"], 0), ("rank",)),
    "method": Column("method", lambda row: entry_name(row["method"]), ("method",)),
    "entry": Column("entry", lambda row: entry_name(row["entry"]), ("entry",)),
    "seeds": Column("seeds", seeds, ("done", "planned", "seeds")),
    "test_linear_top1": _metric("linear", "test_linear_top1", 2),
    "test_knn_top1": _metric("kNN", "test_knn_top1", 2),
    "val_linear_top1": _metric("val. linear", "val_linear_top1", 2),
    "val_knn_top1": _metric("val. kNN", "val_knn_top1", 2),
    "online_linear_top1": _metric("online linear", "online_linear_top1", 2),
    "alignment": _metric("alignment", "alignment", 3),
    "uniformity": _metric("uniformity", "uniformity", 3),
    "effective_rank": Column(
        "eff. rank",
        lambda row: number(row["effective_rank_mean"], 1),
        tuple(f"effective_rank_{key}" for key in ("n", "mean", "sd", "low", "high")),
    ),
    "feature_std": _metric("feature std", "feature_std", 4),
    "loss": _metric("loss", "loss", 3),
    "difference": Column("difference from best", _difference, ("difference", "difference_low", "difference_high")),
    "p_value": Column("p (Holm)", lambda row: p_value(row["p_holm"]), ("p_holm",)),
    "train_seconds": Column(
        "seconds",
        lambda row: number(row["train_seconds_mean"], 0 if row["train_seconds_mean"] >= 100 else 1),
        ("train_seconds_mean", "train_seconds_sd"),
    ),
    "images_per_second": Column(
        "images/s", lambda row: number(row["images_per_second_mean"], 0), ("images_per_second_mean",)
    ),
    "budget": Column("configs (runs)", budget, ("points", "budget_runs")),
    "config": Column(
        "configuration", lambda row: row["source"] or str(row["overrides"] or "preset"), ("config_hash", "overrides")
    ),
    "flags": Column(
        "flags", flags, ("mark", "failed", "damaged", "unfinished", "collapsed", "points_incomplete", "edges")
    ),
}


def name_column(tables: Tables) -> str:
    """The column that names a table's rows: "method", or "entry" where some rows are more than a method."""
    board = tables.leaderboard
    return "entry" if (board["entry"] != board["method"]).any() else "method"


def select(columns: list[str] | None, metric: str, default: tuple[str, ...], name: str = "method") -> list[str]:
    """The columns to show: those asked for, or `default` behind name, seeds, metric and the other probe.

    Raises UserError on an unknown column.
    """
    for column in columns or ():
        if column not in COLUMNS and not Measure.parse(column):  # whether there is such a measure, tables tell
            raise unknown("column", column, COLUMNS)
    other = "test_linear_top1" if metric == "test_knn_top1" else "test_knn_top1"
    return list(dict.fromkeys(columns or [name, "seeds", metric, other, *default]))


def of_tables(columns: list[str] | None, tables: Tables) -> None:
    """Raises UserError on a column of evaluations that were not made."""
    there = [*COLUMNS, *measures(tables.runs)]
    for column in columns or ():
        if column not in there:
            raise unknown("column", column, there)


def cell(row: Row, column: str, metric: str) -> str:
    """The text of one cell; the ranking metric carries the mark of the best and its ties."""
    return marked(row, column, row["mark"] if column == metric else "")


def marked(row: Row, column: str, mark: str) -> str:
    """The text of one cell with a mark, and behind it how many seeds it is of, if they are not all that are done."""
    n = row.get(f"{column}_n", 0)
    return COLUMNS[column].text(row) + MARKS.get(mark, "") + (f" ({n})" if 0 < n < row["done"] else "")


def chances(rows: pd.DataFrame, metric: str) -> str:
    """What "half of the 95 % interval" goes on with: over seeds, or for new test images too where they are known."""
    seeds = "over training seeds (t), on one fixed test set"
    if rows[f"{metric}_high_seeds_images"].isna().all():
        return f" {seeds}"
    return (
        f": of {COLUMNS[metric].header} its longer side, for new seeds and new test images (both as random), of all "
        f"else {seeds}; in leaderboard.csv {metric}_low and _high are over seeds, too"
    )


def boards(table: pd.DataFrame, named: bool = True) -> Iterator[tuple[str, pd.DataFrame]]:
    """(label, rows) of every board: the dataset, with preset and protocol where datasets alone do not tell.

    named: call the dataset what readers call it, not by its id.
    """
    keys = table[BOARD].drop_duplicates()
    for key, rows in table.groupby(BOARD, sort=False):
        dataset, preset, protocol = (str(part) for part in key)
        same = keys[keys["dataset"] == dataset]
        parts = [f"preset {preset}"] * (len(set(same["preset"])) > 1)
        parts += [f"protocol {protocol}"] * (len(set(keys["protocol"])) > 1)
        yield (dataset_name(dataset) if named else dataset) + (f" ({', '.join(parts)})" if parts else ""), rows
