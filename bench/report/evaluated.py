"""The evaluations of a board: accuracies side by side, each column tested by itself; and further scores of each."""

from collections.abc import Iterator, Mapping

import pandas as pd

from bench.report.columns import COLUMNS, DASH, chances, interval, marked, name_column, records
from bench.report.names import entry_name
from bench.report.notes import fewer_seeds
from bench.report.section import Section
from bench.runs.identity import seed_list
from bench.tables.evaluated import SCORES, Measure, measures
from bench.tables.leaderboard import Tables, marks, standing
from bench.tables.statistics import TESTED_FROM

SHOWN_ANYWAY = ("test_linear_top1", "test_knn_top1")
"""What the leaderboard shows."""
HEADERS = {"top1": "top-1", "top5": "top-5", "balanced": "balanced", "f1": "F1"}


def judged_by(tables: Tables, rows: pd.DataFrame) -> list[str]:
    """The test accuracies that a board's entries have of evaluations: `linear` and `knn` first."""
    others = [
        name for name in measures(tables.runs) if name.startswith("test_") and Measure.of_column(name).score == "top1"
    ]
    return [name for name in (*SHOWN_ANYWAY, *others) if (rows[f"{name}_n"] > 0).any()]


def evaluations(tables: Tables, label: str, rows: pd.DataFrame) -> Section | None:
    """A row an entry, a column an evaluation; None if there are only those that the leaderboard shows."""
    names = judged_by(tables, rows)
    if set(names) <= set(SHOWN_ANYWAY):
        return None
    own = records(rows)
    found = {name: marks(tables, rows, name) for name in names}
    texts, bold = [], set()
    for r, row in enumerate(own):
        cells = []
        for c, name in enumerate(names, 1):
            mark = found[name][row["entry"]]
            cells.append(marked(row, name, mark))
            bold |= {(r, c)} if mark == "best" else set()
        texts.append([entry_name(row["entry"]), *cells])
    header = [name_column(tables), *(COLUMNS[name].header for name in names)]
    references = {r for r, row in enumerate(own) if row["reference"]}
    notes = list(_notes(tables, rows, names, found))
    return Section(f"Evaluations: {label}", header, texts, bold, references, notes, divisible=True)


def _notes(
    tables: Tables, rows: pd.DataFrame, names: list[str], found: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    runs = standing(tables, rows)[["experiment", "run_id"]]
    encoders = runs[["experiment"]].assign(run_id="")
    made = tables.evaluations.merge(pd.concat([runs, encoders.drop_duplicates()]))
    done = made[made["state"] == "done"]
    yield (
        f"Test accuracies in percent, mean ± half of the 95 % interval{chances(rows, tables.metric)}; of several "
        "draws of labelled images a seed's number is their mean."
    )
    given = {mark for by_entry in found.values() for mark in by_entry.values()}
    if given & {"best", "candidate", "collapsed"}:
        yield (
            "*: of each column by itself: may be the best; with 95 % confidence the truly best is among the * (Hsu's "
            "comparison with the best, Welch's tests over seeds), references aside. It does not mean equal. Columns "
            "are not adjusted for each other. bench report --metric with a column's name, as in runs.csv, tells "
            "differences."
        )
    if "untested" in given:
        yield f"?: not tested: fewer than {TESTED_FROM} seeds in common with the best, or no seed differs."
    yield from fewer_seeds(rows, names)
    told = []
    for name in names:
        own = done[done["column"] == name]
        if len(own):
            draws = own["draw"].nunique()
            told.append(f"{COLUMNS[name].header}: {_range(own['n_labels'])}" + f" ({draws} draws)" * (draws > 1))
    if told:
        yield f"Labelled images: {'; '.join(told)}."
    for name, settings in done[["column", "settings"]].drop_duplicates().itertuples(index=False):
        if settings and name in names:
            yield f"{COLUMNS[name].header}: set beside the defaults: {settings}."
    failed = made[made["state"] == "failed"]
    for told_of, own in failed.groupby(["entry", "key", "reason"], observed=True):
        entry, key, reason = (str(part) for part in told_of)
        seeds = f" seed {seed_list(own['seed'])}" if own["seed"].notna().any() else ""
        yield f"{key} failed of {entry_name(entry)}{seeds}: {reason}."


def _range(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low}" if low == high else f"{low}–{high}"


def more_numbers(tables: Tables, label: str, rows: pd.DataFrame) -> Section | None:
    """A row an entry and evaluation, a column a score; None if there are no further scores."""
    by_score = {
        name: {score: Measure.of_column(name).of(score) for score in SCORES} for name in judged_by(tables, rows)
    }
    by_score = {name: scores for name, scores in by_score.items() if scores["balanced"] in tables.runs}
    shown = [score for score in SCORES if any(scores[score] in tables.runs for scores in by_score.values())]
    if not by_score:
        return None
    texts: list[list[str]] = []
    references = set()
    for row in records(rows):
        for name, scores in by_score.items():
            if row[f"{name}_n"]:
                references |= {len(texts)} if row["reference"] else set()
                cells = [interval(row, scores[s], images=False) if scores[s] in tables.runs else DASH for s in shown]
                texts.append([entry_name(row["entry"]), COLUMNS[name].header, *cells])
    header = [name_column(tables), "evaluation", *(HEADERS[score] for score in shown)]
    notes = [
        "Test images, in percent, mean ± half of the 95 % t interval over training seeds. Top-5: the class is among "
        "the five most likely (of 10 classes or more). Balanced: mean over classes of their accuracy. F1: mean over "
        "classes. Nothing is tested here."
    ]
    return Section(f"More numbers: {label}", header, texts, set(), references, notes)
