"""What a reader sees of the tables: columns, rounded numbers, marks, flags and footnotes, as plain text.

Every output (terminal, Markdown, LaTeX, HTML) shows these texts in its own markup.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import pandas as pd

from bench.errors import unknown
from bench.runs.store import seed_list
from bench.tables.conditions import unlike
from bench.tables.leaderboard import BOARD, CHOICE, REFERENCES, Tables, on_board, setting, varying
from bench.tables.statistics import TESTED_FROM, half_interval

DASH = "–"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A table to show, as texts, with its footnotes."""

    title: str
    header: list[str]
    rows: list[list[str]]
    bold: set[tuple[int, int]]
    """(row, column) of the best numbers."""
    references: set[int]
    """Rows of the references; they are the last."""
    notes: list[str]


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


def interval(row: Row, name: str, digits: int = 2) -> str:
    """mean ± half of the 95 % interval; one seed: a dash in its place."""
    mean = row[f"{name}_mean"]
    half = row[f"{name}_high"] - mean
    return DASH if math.isnan(mean) else f"{mean:.{digits}f} ± {number(half, digits)}"


def p_value(p: float) -> str:
    return DASH if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def seeds(row: Row) -> str:
    """How many seeds are done: "5", or "4/5" of those planned."""
    return f"{row['done']}" if row["done"] == row["planned"] else f"{row['done']}/{row['planned']}"


def flags(row: Row) -> str:
    """What a reader must know about a row."""
    counts = {"failed": "failed", "damaged": "damaged", "unfinished": "missing", "collapsed": "collapsed"}
    found = [f"{row[key]} {word}" for key, word in counts.items() if row[key]]
    if row["points"] > 1 and row["points_incomplete"]:
        found.append(f"{row['points_incomplete']} of {row['points']} points incomplete")
    if row["reference"]:
        found.append("reference")
    return ", ".join(found)


def budget(row: Row) -> str:
    """How much was tried for a method: configurations, and runs in all."""
    return f"{row['points']} ({row['budget_runs']})"


def _difference(row: Row) -> str:
    if math.isnan(row["difference"]):
        return DASH
    low, high = number(row["difference_low"]), number(row["difference_high"])
    return f"{row['difference']:+.2f} [{low}, {high}]"


def _metric(header: str, name: str, digits: int) -> Column:
    keys = tuple(f"{name}_{key}" for key in ("n", "mean", "sd", "low", "high"))
    return Column(header, lambda row: interval(row, name, digits), keys)


COLUMNS = {
    "rank": Column("rank", lambda row: number(row["rank"], 0), ("rank",)),
    "method": Column("method", lambda row: str(row["method"]), ("method",)),
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
    "config": Column("configuration", lambda row: str(row["overrides"] or "preset"), ("config_hash", "overrides")),
    "flags": Column("flags", flags, ("mark", "failed", "damaged", "unfinished", "collapsed", "points_incomplete")),
}


def select(columns: list[str] | None, metric: str, default: tuple[str, ...]) -> list[str]:
    """The columns to show: those asked for, or `default` behind method, seeds, metric and the other probe.

    Raises UserError on an unknown column.
    """
    for column in columns or ():
        if column not in COLUMNS:
            raise unknown("column", column, COLUMNS)
    other = "test_linear_top1" if metric == "test_knn_top1" else "test_knn_top1"
    return list(dict.fromkeys(columns or ["method", "seeds", metric, other, *default]))


def cell(row: Row, column: str, metric: str) -> str:
    """The text of one cell; the ranking metric carries the mark of the best and its ties."""
    text = COLUMNS[column].text(row)
    marks = {"best": "*", "tie": "*", "untested": "?"}
    return text + marks.get(row["mark"], "") if column == metric else text


def boards(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(label, rows) of every board: the dataset, with preset and protocol where datasets alone do not tell."""
    keys = table[BOARD].drop_duplicates()
    for key, rows in table.groupby(BOARD, sort=False):
        dataset, preset, protocol = (str(part) for part in key)
        same = keys[keys["dataset"] == dataset]
        parts = [f"preset {preset}"] * (len(set(same["preset"])) > 1)
        parts += [f"protocol {protocol}"] * (len(set(keys["protocol"])) > 1)
        yield dataset + (f" ({', '.join(parts)})" if parts else ""), rows


def sections(tables: Tables, columns: list[str], every_point: bool = False) -> Iterator[Section]:
    """Several boards side by side, if there are several; then every board by itself.

    every_point: after each board that was swept, all its configurations.
    """
    labelled = list(boards(tables.leaderboard))
    if len(labelled) > 1:
        yield side_by_side(tables)
    for label, rows in labelled:
        own = records(rows)
        texts = [[cell(row, column, tables.metric) for column in columns] for row in own]
        shown = tables.metric in columns
        bold = {(i, columns.index(tables.metric)) for i, row in enumerate(own) if shown and row["mark"] == "best"}
        references = {i for i, row in enumerate(own) if row["reference"]}
        yield Section(label, [COLUMNS[c].header for c in columns], texts, bold, references, notes(tables, rows))
        if every_point and (tried := configurations(tables, rows)):
            yield tried if len(labelled) == 1 else replace(tried, title=f"{tried.title}: {label}")


def configurations(tables: Tables, rows: pd.DataFrame) -> Section | None:
    """Every point of a board's swept methods, whether it was chosen or not; None if nothing was swept."""
    grid = on_board(tables.grid, rows)
    swept = grid[grid["method"].isin(rows.loc[rows["points"] > 1, "method"])]
    if swept.empty:
        return None
    keys = [setting(key) for key in varying([tables.configs.get(digest, {}) for digest in swept["config_hash"]])]
    keys = [key for key in keys if key in swept]  # methods differ among themselves in others
    metrics = [CHOICE, *dict.fromkeys([tables.metric, "test_knn_top1"])]
    diagnosed = {"alignment": 2, "uniformity": 2, "effective_rank": 1}
    texts, bold = [], set()
    for r, point in enumerate(records(swept)):
        means = [_mean_of_point(point, name, 2) for name in metrics]
        means += [_mean_of_point(point, name, digits) for name, digits in diagnosed.items()]
        settings = [f"{point[key]:g}" if isinstance(point[key], float) else str(point[key]) for key in keys]
        collapsed = f"{point['collapsed']} collapsed" if point["collapsed"] else ""
        told = ", ".join(part for part in ("chosen" if point["chosen"] else "", collapsed) if part)
        texts.append([point["method"], *settings, seeds(point), *means, told])
        bold |= {(r, 0)} if point["chosen"] else set()
    header = [COLUMNS[name].header for name in (*metrics, *diagnosed)]
    notes = [
        "Mean ± half of the 95 % t interval over seeds. Chosen: by mean validation linear accuracy, among the "
        "configurations with the most seeds; test numbers choose nothing."
    ]
    return Section("Every configuration", ["method", *keys, "seeds", *header, "flags"], texts, bold, set(), notes)


def _mean_of_point(point: Row, name: str, digits: int) -> str:
    mean, half = point[f"{name}_mean"], half_interval(point[f"{name}_sd"], point["done"])
    return DASH if math.isnan(mean) else f"{mean:.{digits}f} ± {number(half, digits)}"


def side_by_side(tables: Tables) -> Section:
    """One row a method, one column a board, then the ranks and means over all of them."""
    labelled = list(boards(tables.leaderboard))
    by_board = [{row["method"]: row for row in records(rows)} for _, rows in labelled]
    overall = {row["method"]: row for row in records(tables.overall)}
    methods = dict.fromkeys([*overall, *tables.leaderboard.sort_values("reference", kind="stable")["method"]])
    rows, bold = [], set()
    for r, method in enumerate(methods):
        own = [board.get(method) for board in by_board]
        texts = [cell(row, tables.metric, tables.metric) if row else DASH for row in own]
        bold |= {(r, i + 1) for i, row in enumerate(own) if row and row["mark"] == "best"}
        rows.append([method, *texts, _over(overall.get(method), "mean_rank"), _over(overall.get(method), "mean")])
    name = COLUMNS[tables.metric].header
    notes = [
        f"{name[0].upper() + name[1:]} accuracy in percent, mean ± half of the 95 % t interval over seeds; "
        "marks, seeds, search budgets and failures as in the tables of the single datasets.",
        "Mean rank and mean: over all columns, of the methods in every column, references aside; brackets: 95 % "
        "stratified bootstrap intervals over seeds (too narrow for few seeds).",
    ]
    references = {r for r, method in enumerate(methods) if method in REFERENCES}
    header = ["method", *(label for label, _ in labelled), "mean rank", "mean"]
    return Section("All datasets", header, rows, bold, references, notes)


def _over(row: Row | None, name: str) -> str:
    if row is None:
        return DASH
    prefix = "mean_rank_" if name == "mean_rank" else ""
    return f"{number(row[name])} [{number(row[prefix + 'low'])}, {number(row[prefix + 'high'])}]"


def notes(tables: Tables, rows: pd.DataFrame) -> list[str]:
    """The footnotes of a board's table: what was measured, how it was tested, and what is missing."""
    first = rows.iloc[0]
    runs = on_board(tables.runs[tables.runs["state"] != "duplicate"], rows)
    used = runs[runs["chosen"] & (runs["state"] == "done")]
    name = COLUMNS[tables.metric].header
    return [
        f"{first['dataset']}, preset {first['preset']}, protocol version {first['protocol']}, "
        f"seeds {seed_list(used['seed']) or 'none done'}. "
        f"Accuracies in percent: mean ± half of the 95 % t interval over training seeds, on one fixed test set; "
        f"{DASH}: too few seeds.",
        *_tests(tables, rows, name),
        *(["References (untrained, supervised) neither win nor are tested."] if rows["reference"].any() else []),
        *_conditions(tables, rows),
        *_search(rows),
        *_missing(runs),
    ]


def _tests(tables: Tables, rows: pd.DataFrame, name: str) -> Iterator[str]:
    pairs = on_board(tables.pairs, rows)
    tested = pairs[pairs["p_holm"].notna()]
    untested = f" ?: not tested: fewer than {TESTED_FROM} seeds in common with the best, or differences all equal."
    mark = untested if rows["mark"].eq("untested").any() else ""
    if tested.empty:
        yield f"No differences tested: that takes two methods with at least {TESTED_FROM} common seeds.{mark}"
    else:
        pairs_of_methods = "the one pair of methods" if len(tested) == 1 else f"all {len(tested)} pairs of methods"
        few = tested["n"].min()
        limit = f" (An exact sign-flip test cannot go below p = {2 / 2**few:g} with {few} seeds.)" if few < 6 else ""
        yield (
            f"*: best {name}, or not shown to be worse, which does not mean equal: paired t-tests on common seeds, "
            f"Holm-adjusted over {pairs_of_methods}, 5 % level.{limit}{mark}"
        )
        yield (
            "Intervals of differences: 95 %, of that one difference, not adjusted as the tests are: beside a * one "
            "may exclude 0."
        )
    apart = rows.loc[rows["mark"] == "collapsed", "method"]
    if len(apart):
        yield f"No *, though best or not shown to be worse, for collapsed seeds: {', '.join(apart)}."
    own = rows.loc[rows["seeds"] != ""].groupby("seeds", sort=False)["method"].agg(", ".join)
    if len(own) > 1:
        listed = "; ".join(f"{methods}: {seeds_of}" for seeds_of, methods in own.items())
        yield f"Seeds differ ({listed}): a mean is of a method's own seeds, a difference of the common ones."


def _conditions(tables: Tables, rows: pd.DataFrame) -> Iterator[str]:
    """What was set beside the preset, and in what the methods were not trained alike."""
    own = rows[rows["points"] == 1].groupby("overrides", sort=False)["method"].agg(", ".join)
    if len(own) == 1 and (overrides := own.index[0]):
        yield f"Set beside the preset: {overrides}."
    elif len(own) > 1:
        told = "; ".join(f"{overrides or 'nothing'} ({methods})" for overrides, methods in own.items())
        yield f"Set beside the preset: {told}."
    found = unlike(on_board(tables.grid, rows), tables.configs)
    if found:
        by_key = []
        for key, values in found.items():
            methods: dict[str, list[str]] = {}
            for method, value in values.items():
                methods.setdefault(value, []).append(method)
            by_key.append(f"{key} = " + ", ".join(f"{value} ({', '.join(names)})" for value, names in methods.items()))
        yield (
            f"NOT TRAINED ALIKE: {'; '.join(by_key)}. Differences are of these settings too, not of the methods alone"
            + (": no method is marked." if rows["mark"].eq("unlike").any() else ".")
        )


def _search(rows: pd.DataFrame) -> Iterator[str]:
    """The search budget of every method, and what was chosen where there was a choice."""
    by_budget: dict[str, list[str]] = {}
    for _, row in rows.iterrows():
        points, runs = row["points"], row["budget_runs"]
        text = f"{points} configuration{'s' * (points > 1)}, {runs} run{'s' * (runs > 1)}"
        by_budget.setdefault(text, []).append(row["method"])
    whole = len(by_budget) == 1
    parts = [f"{'every method' if whole else ', '.join(m)}: {text}" for text, m in by_budget.items()]
    yield f"Search budget: {'; '.join(parts)}."
    for _, row in rows[rows["points"] > 1].iterrows():
        chosen = f"{row['method']}: chosen by mean validation linear accuracy: {row['overrides'] or 'preset'}"
        partly = "" if row["done"] == row["planned"] else ", no such configuration complete"
        if row["points_competing"] < row["points"]:
            rest = row["points"] - row["points_competing"]
            chosen += f", among those with the most seeds done ({row['done']}{partly}); {rest} not competing"
        elif partly:
            chosen += f" ({row['done']} seeds done of {row['planned']}{partly})"
        yield f"{chosen}."


def _missing(runs: pd.DataFrame) -> Iterator[str]:
    """Runs of the chosen points that are not what was planned, by reason; then those of the other points."""
    standing, others = runs[runs["chosen"]], runs[~runs["chosen"]]
    by_reason: dict[tuple[str, str], list[int]] = {}
    columns = ["method", "state", "reason", "seed"]
    for method, state, reason, seed in standing[columns].itertuples(index=False):
        if state != "done":
            what = state if state in ("failed", "damaged") else f"missing ({state})"
            by_reason.setdefault((method, f"{what}: {reason}" if reason else what), []).append(seed)
    for method, seed in standing.loc[standing["collapsed"], ["method", "seed"]].itertuples(index=False):
        by_reason.setdefault((method, "collapsed"), []).append(seed)
    for (method, what), seeds_of in by_reason.items():
        yield f"{method} seed {seed_list(seeds_of)} {what}."
    counts = others["state"].where(~others["collapsed"], "collapsed").groupby(others["method"]).value_counts()
    for key, n in counts.items():
        method, state = cast(tuple[str, str], key)
        if state != "done":
            yield f"{method}, configurations not chosen: {n} {state}."
