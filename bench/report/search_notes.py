"""Footnotes on how configurations were chosen: what was searched, on which seeds, at what cost, and what came of it."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.runs.progress import duration
from bench.tables.grid import EPOCHS, grid_column, on_board
from bench.tables.leaderboard import SPACES, Tables

GROUP = ["search_space", "points", "search_seeds", "epochs"]


def searches(tables: Tables, rows: pd.DataFrame, every: str) -> Iterator[str]:
    """The search budget of every entry, and what was chosen where there was a choice.

    rows: of one board, with entries as they stand in lists; every: what all rows are called.
    """
    by_budget: dict[str, list[str]] = {}
    for _, row in rows.iterrows():
        points, runs = row["points"], row["budget_runs"]
        text = f"{points} configuration{'s' * (points > 1)}, {runs} run{'s' * (runs > 1)}"
        by_budget.setdefault(text, []).append(row["entry"])
    parts = [f"{every if len(by_budget) == 1 else ', '.join(names)}: {text}" for text, names in by_budget.items()]
    yield f"Search budget: {'; '.join(parts)}."
    grid = on_board(tables.grid, rows)
    yield from _spaces(rows[rows["search_seeds"] != ""], grid, tables.configs)
    best = {point["stands"]: point for _, point in grid[grid["chosen"]].iterrows()}
    chosen = []
    for _, row in rows[(rows["points"] > 1) | (rows["search_seeds"] != "")].iterrows():
        point = best[row["config_hash"]]
        tried = grid[grid["entry"] == point["entry"]]
        if none := _nothing_chosen(row, point, tried):
            yield f"{row['entry']}: {none}."
        else:
            chosen.append((row, point, tried))
    if chosen:
        common = _common([row["overrides"] for row, _, _ in chosen], grid)
        alike = f", all with {' '.join(common)}" if common else ""
        told = "; ".join(f"{row['entry']}: {_choice(row, point, tried, common)}" for row, point, tried in chosen)
        edge = any(row["edges"] for row, _, _ in chosen)
        beyond = " At an edge of what was tried: the best may lie beyond." * edge
        yield f"Chosen by mean validation linear accuracy{alike}: {told}.{beyond}"


def _spaces(searched: pd.DataFrame, grid: pd.DataFrame, configs: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What was searched on seeds of its own, by groups of entries that were searched alike."""
    epochs = {str(entry): _epochs(own, configs) for entry, own in grid.groupby("stands")["config_hash"]}
    told = searched[["entry", "config_hash", "search_runs", "search_seconds", *GROUP[:-1]]]
    told = told.assign(epochs=told["config_hash"].map(lambda digest: epochs.get(digest, "")))
    by_group = told.groupby(GROUP, sort=False)
    for (space, points, seeds, lengths), own in by_group:
        names = f" of {', '.join(own['entry'])}" if len(by_group) > 1 else ""
        ranges = " and ".join(", ".join(map(_range, each.split(" "))) for each in str(space).split(SPACES))
        took = duration(float(own["search_seconds"].sum()))
        yield (
            f"Search{names}: {points} points of {ranges}, {lengths}, on seeds {seeds}, of which no number here is; "
            f"{own['search_runs'].sum()} runs, {took} of training and judging."
        )


def _epochs(digests: pd.Series, configs: dict[str, dict[str, Any]]) -> str:
    """ "10 epochs", or "3, 10, 30 epochs" where the best went on to more."""
    found = sorted({configs[digest][EPOCHS] for digest in digests if EPOCHS in configs.get(digest, {})})
    return f"{', '.join(map(str, found))} epoch{'s' * (found != [1])}"


def _range(part: str) -> str:
    """ "optim.lr=log:0.03,3" -> "optim.lr (0.03 to 3, log)"."""
    key, _, text = part.partition("=")
    kind, colon, ends = text.partition(":")
    return f"{key} ({ends.replace(',', ' to ')}, {kind})" if colon else f"{key} ({text.replace(',', ', ')})"


def _common(overrides: list[str], grid: pd.DataFrame) -> list[str]:
    """What was set for all of these, and is no choice: "data.size=16"."""
    first, *others = (text.split(" ") for text in overrides)
    shared = [part for part in first if part and others and all(part in other for other in others)]
    return [part for part in shared if grid_column(part.partition("=")[0]) not in grid]


def _nothing_chosen(row: pd.Series, point: pd.Series, tried: pd.DataFrame) -> str:
    """Why a search has no result yet; "" if it has."""
    if row["search_seeds"] and tried["unfinished"].any():
        return f"its search is not over: {tried['unfinished'].sum()} of {tried['planned'].sum()} runs are missing"
    return "no run of its search is done, so none is reported" if row["search_seeds"] and not point["done"] else ""


def _choice(row: pd.Series, point: pd.Series, tried: pd.DataFrame, common: list[str]) -> str:
    """What was chosen for an entry, without what is common to all. point: the chosen one of those that were tried."""
    own = " ".join(part for part in row["overrides"].split(" ") if part not in common)
    partly = "" if point["done"] == point["planned"] else "no such configuration complete"
    rest = row["points"] - row["points_competing"]
    remarks = [partly]
    if rest > 0 and len(tried) == row["points"]:  # not in the last stage of several
        remarks = [f"among those with the most seeds done ({point['done']})", partly, f"{rest} not competing"]
    elif partly:
        remarks = [f"{point['done']} seeds done of {point['planned']}", partly]
    if row["edges"]:
        remarks.append(f"edge of {', '.join(row['edges'].split())}")
    if row["search_seeds"] and not row["planned"]:
        remarks.append("not run on other seeds yet")
    told = ", ".join(filter(None, remarks))
    return (own or "preset") + (f" ({told})" if told else "")
