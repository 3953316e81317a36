"""The tables of a report, as texts with their footnotes."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from bench.report.columns import COLUMNS, DASH, Row, boards, cell, name_column, number, records, seeds
from bench.report.evaluated import evaluations, more_numbers
from bench.report.names import entry_name
from bench.report.notes import notes
from bench.report.section import Section
from bench.tables.grid import CHOICE, grid_column, on_board, varying
from bench.tables.leaderboard import Tables
from bench.tables.statistics import half_interval


def sections(tables: Tables, columns: list[str], every_point: bool = False, more: bool = False) -> Iterator[Section]:
    """Several boards side by side, if there are several; then every board by itself, and its evaluations.

    every_point: after each board that was swept, all its configurations. more: further scores of each evaluation.
    """
    labelled = list(boards(tables.leaderboard))
    if len(labelled) > 1:
        yield side_by_side(tables)
        if len(tables.improvements):
            yield improvements(tables)
    for label, rows in labelled:
        own = records(rows)
        texts = [[cell(row, column, tables.metric) for column in columns] for row in own]
        shown = tables.metric in columns
        bold = {(i, columns.index(tables.metric)) for i, row in enumerate(own) if shown and row["mark"] == "best"}
        references = {i for i, row in enumerate(own) if row["reference"]}
        yield Section(label, [COLUMNS[c].header for c in columns], texts, bold, references, notes(tables, rows))
        if judged := evaluations(tables, label, rows):
            yield judged
        if more and (numbers := more_numbers(tables, label, rows)):
            yield numbers
        if every_point and (tried := configurations(tables, rows)):
            yield tried if len(labelled) == 1 else replace(tried, title=f"{tried.title}: {label}")


def configurations(tables: Tables, rows: pd.DataFrame) -> Section | None:
    """Every point of a board's swept entries, whether it was chosen or not; None if nothing was swept."""
    grid = on_board(tables.grid, rows)
    swept = grid[grid["entry"].isin(rows.loc[rows["points"] > 1, "entry"])]
    if swept.empty:
        return None
    keys = [grid_column(key) for key in varying([tables.configs.get(digest, {}) for digest in swept["config_hash"]])]
    keys = [key for key in keys if key in swept]  # entries differ among themselves in others
    metrics = [CHOICE, *dict.fromkeys([tables.metric, "test_knn_top1"])]
    diagnosed = {"alignment": 2, "uniformity": 2, "effective_rank": 1}
    texts, bold = [], set()
    for r, point in enumerate(records(swept)):
        means = [_mean_of_point(point, name, 2) for name in metrics]
        means += [_mean_of_point(point, name, digits) for name, digits in diagnosed.items()]
        values = [f"{point[key]:g}" if isinstance(point[key], float) else str(point[key]) for key in keys]
        collapsed = f"{point['collapsed']} collapsed" if point["collapsed"] else ""
        told = ", ".join(part for part in ("chosen" if point["chosen"] else "", collapsed) if part)
        texts.append([entry_name(point["entry"]), *values, seeds(point), *means, told])
        bold |= {(r, 0)} if point["chosen"] else set()
    header = [COLUMNS[name].header for name in (*metrics, *diagnosed)]
    notes = [
        "Mean ± half of the 95 % t interval over seeds. Chosen: by mean validation linear accuracy, among the "
        "configurations with the most seeds; test numbers choose nothing."
    ]
    if own := list(dict.fromkeys(filter(None, rows["search_seeds"]))):
        seeds_of = "; ".join(own)
        notes.append(f"Of a search in stages: numbers on its own seeds ({seeds_of}), which are not those of the table.")
    return Section(
        "Every configuration", [name_column(tables), *keys, "seeds", *header, "flags"], texts, bold, set(), notes
    )


def _mean_of_point(point: Row, name: str, digits: int) -> str:
    mean, half = point[f"{name}_mean"], half_interval(point[f"{name}_sd"], point["done"])
    return DASH if math.isnan(mean) else f"{mean:.{digits}f} ± {number(half, digits)}"


def side_by_side(tables: Tables) -> Section:
    """One row an entry, one column a board, then the ranks and means over all of them."""
    labelled = list(boards(tables.leaderboard))
    by_board = [{row["entry"]: row for row in records(rows)} for _, rows in labelled]
    overall = {row["entry"]: row for row in records(tables.overall)}
    entries = dict.fromkeys([*overall, *tables.leaderboard.sort_values("reference", kind="stable")["entry"]])
    rows, bold = [], set()
    for r, entry in enumerate(entries):
        own = [board.get(entry) for board in by_board]
        texts = [cell(row, tables.metric, tables.metric) if row else DASH for row in own]
        bold |= {(r, i + 1) for i, row in enumerate(own) if row and row["mark"] == "best"}
        rows.append(
            [entry_name(entry), *texts, _over(overall.get(entry), "mean_rank"), _over(overall.get(entry), "mean")]
        )
    name = COLUMNS[tables.metric].header
    notes = [
        f"{name[0].upper() + name[1:]} accuracy in percent, mean ± half of the 95 % t interval over seeds; "
        "marks, seeds, search budgets and failures as in the tables of the single datasets.",
        "Mean rank and mean: over all columns, of the rows in every column, references aside; brackets: 95 % intervals "
        "over seeds, these data sets being given: of the mean by Welch-Satterthwaite, of the mean rank from what is "
        "shown to be better or worse on each (it holds at least so often).",
    ]
    aside = set(tables.leaderboard.loc[tables.leaderboard["reference"], "entry"])
    references = {r for r, entry in enumerate(entries) if entry in aside}
    header = [name_column(tables), *(label for label, _ in labelled), "mean rank", "mean"]
    return Section("All datasets", header, rows, bold, references, notes)


def improvements(tables: Tables) -> Section:
    """A row and a column an entry that is on every board: the probability that a run of the row's is the better one."""
    entries = list(tables.overall["entry"])
    found = {(row["entry_a"], row["entry_b"]): row for row in records(tables.improvements)}
    texts, bold = [], set()
    for r, a in enumerate(entries):
        texts.append([entry_name(a)])
        for b in entries:
            row = found.get((a, b))
            low, high = (number(row[end]) if row else DASH for end in ("low", "high"))
            texts[-1].append(f"{number(row['probability'])} [{low}, {high}]" if row else DASH)
            bold |= {(r, len(texts[-1]) - 1)} if row and row["low"] > 0.5 else set()
    name = COLUMNS[tables.metric].header
    notes = [
        f"The probability that a run of the row's has a higher {name} accuracy than one of the column's, mean over the "
        "data sets (as rliable's), equal accuracies half. Brackets: 95 % bounds (Hoeffding's, of one pair) that hold "
        "with any number of seeds, and are wide with few; bold: above 1/2."
    ]
    header = [name_column(tables), *map(entry_name, entries)]
    return Section("Probability of improvement", header, texts, bold, set(), notes, divisible=True)


def _over(row: Row | None, name: str) -> str:
    if row is None:
        return DASH
    prefix = "mean_rank_" if name == "mean_rank" else ""
    return f"{number(row[name])} [{number(row[prefix + 'low'])}, {number(row[prefix + 'high'])}]"
