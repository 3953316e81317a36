"""Tables -> report.html: one file with everything in it, that opens from disk and asks nothing of the network."""

import base64
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from bench.report.columns import COLUMNS, DASH, boards, name_column, number, p_value, records, select
from bench.report.figures import render
from bench.report.markup import TEXT
from bench.report.names import dataset_name, entry_name
from bench.report.pictures import pictures
from bench.report.power import aimed
from bench.report.section import Section
from bench.report.sections import sections
from bench.runs.result import METRICS, PROVENANCE, TIMINGS
from bench.tables.grid import BOARD, CHOICE, varying
from bench.tables.leaderboard import Tables
from bench.tables.statistics import TESTED_FROM

PAGE_COLUMNS = ("difference", "p_value", "effective_rank", "train_seconds", "budget", "flags")
INTERVALS = {"this pair": "", "all pairs": "_simultaneous", "new images too": "_seeds_images"}
"""Headings of intervals -> the ends of their columns."""
WIDE = ("flags", "reason", "configuration", "versions", "path")


@dataclass(frozen=True)
class Heading:
    text: str
    numeric: bool = False
    wide: bool = False
    """Long text, which may be broken into lines."""


@dataclass(frozen=True)
class Line:
    cells: list[str]
    kind: str = ""
    """CSS class of the row."""
    bold: Collection[int] = ()


@dataclass
class Sheet:
    """A sortable, filterable table of the page."""

    label: str
    header: list[Heading]
    rows: list[Line]
    notes: list[str] = field(default_factory=list)


def html(
    tables: Tables,
    experiments: list[str],
    columns: list[str] | None,
    drawn: list[tuple[str, str, Figure]],
    folder: Path,
) -> str:
    """The page; `columns`: for the leaderboard; `drawn`: from figures(); `folder`: of other commands' pictures.

    The template engine escapes all text.
    """
    templates = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    differing, shared = _settings(tables)
    shown = select(columns, tables.metric, PAGE_COLUMNS, name_column(tables))
    return environment.get_template("report.html").render(
        title=f"ssl-bench: {', '.join(experiments)}",
        summary=_summary(tables),
        sections=[_section(section) for section in sections(tables, shown, more=True)],
        figures=[*(_image(*figure) for figure in drawn), *pictures(folder)],
        pairs=_pairs(tables),
        differing=differing,
        shared=shared,
        grid=_grid(tables),
        runs=_runs(tables),
        problems=_sheet("Problems", tables.problems, ["experiment", "path", "reason"]),
        provenance=_provenance(tables),
        commands=sorted(set(tables.runs["command"].dropna()) - {""}),
    )


def _summary(tables: Tables) -> str:
    states = tables.runs["state"].value_counts()
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    finished = tables.runs["finished"].dropna()
    last = f"; the last finished {max(finished)}" if len(finished) else ""
    return f"{len(tables.runs)} runs: {counts}{last}."


def _section(section: Section) -> Sheet:
    header = [Heading(name, name not in TEXT, name in WIDE) for name in section.header]
    rows = [
        Line(cells, "reference" if r in section.references else "", [c for row, c in section.bold if row == r])
        for r, cells in enumerate(section.rows)
    ]
    return Sheet(section.title, header, rows, section.notes)


def _image(name: str, caption: str, figure: Figure) -> dict[str, Any]:
    """A figure as an image that is part of the page; an image, since the ids of inline SVGs would clash."""
    svg = base64.b64encode(render(figure, "svg")).decode()
    width = round(figure.get_figwidth() * 96)  # CSS pixels an inch
    return {"name": name, "caption": caption, "data": f"data:image/svg+xml;base64,{svg}", "width": width}


def _sheet(label: str, frame: pd.DataFrame, columns: list[str]) -> Sheet:
    """A table of raw values: dashes for what does not exist."""
    numeric = {name: frame[name].dtype.kind in "iuf" for name in columns}
    header = [Heading(name, numeric[name], name in WIDE) for name in columns]
    measured = {name: name.endswith(("_mean", "_sd")) or name in (*METRICS, *TIMINGS) for name in columns}
    cells = zip(*([_text(value, measured[name]) for value in frame[name]] for name in columns), strict=True)
    kinds = frame["state"] if "state" in frame else [""] * len(frame)
    return Sheet(label, header, [Line(list(row), kind) for row, kind in zip(cells, kinds, strict=True)])


def _text(value: Any, measured: bool = False) -> str:
    """A value as text: a measurement with 4 digits, a setting as it was written."""
    if value is None or value == "" or value != value:
        return DASH
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:{'#.4g' if measured else 'g'}}" if isinstance(value, float) else str(value)


def _pairs(tables: Tables) -> Sheet:
    frame = _named(tables.pairs)
    frame["difference"] = [f"{value:+.2f}" for value in frame["difference"]]
    for title, end in INTERVALS.items():
        both = (map(number, frame[f"{side}{end}"]) for side in ("low", "high"))
        frame[title] = [f"[{a}, {b}]" if DASH not in (a, b) else DASH for a, b in zip(*both, strict=True)]
    for name in ("p_holm", "p_equivalent"):
        frame[name] = [p_value(value) for value in frame[name]]
    frame["detectable"] = [number(value, 1) for value in frame["detectable"]]
    frame["seeds_needed"] = [number(value, 0) for value in frame["seeds_needed"]]
    name = name_column(tables)
    shown = [title for title in INTERVALS if (frame[title] != DASH).any()]
    columns = ["dataset", "preset", f"{name}_a", f"{name}_b", "n", "difference", *shown, "p_holm"]
    columns += ["p_equivalent"] * (tables.aim.margin is not None)
    sheet = _sheet("Differences", frame, [*columns, "verdict", "detectable", "seeds_needed"])
    numeric = ("n", "difference", "p_holm", "p_equivalent", "detectable", "seeds_needed")
    names = {"p_holm": "p (Holm)", "p_equivalent": "p (margin)", "n": "seeds"}
    names |= {"seeds_needed": "seeds needed"}
    sheet.header = [Heading(names.get(column.text, column.text), column.text in numeric) for column in sheet.header]
    sheet.notes = [
        f"{name}_a − {name}_b on common seeds. 95 % intervals: of this pair alone, over seeds; of all "
        "tested pairs at once (Bonferroni); of this pair for new seeds and new test images, where predictions of all "
        "its runs are stored.",
        "p (Holm): Welch's tests, adjusted over all pairs of a dataset; pairs with a reference, with fewer than "
        f"{TESTED_FROM} common seeds, or without any spread are not tested. Better: p (Holm) below 0.05. Paired tests "
        "stand in pairs.csv.",
        "Detectable: the true difference that so many seeds find with 80 % probability, Holm at its worst. Seeds "
        f"needed: of each, to find {aimed(tables)} as surely.",
    ]
    return sheet


def _settings(tables: Tables) -> tuple[Sheet, list[tuple[str, str]]]:
    """Settings in which the chosen configurations differ, a column a configuration; and those that all share."""
    several = len(list(boards(tables.leaderboard))) > 1
    configs, names = [], []
    for row in records(tables.leaderboard[tables.leaderboard["source"] == ""]):
        configs.append(tables.configs.get(row["config_hash"], {}))
        board = f" ({dataset_name(row['dataset'])}, {row['preset']})"
        names.append(entry_name(row["entry"]) + board * several)
    keys = [key for key in varying(configs) if key != "method_name"]
    rows = [Line([key, *(_text(config.get(key)) for config in configs)]) for key in keys]
    known = next((config for config in configs if config), {})
    shared = [(key, _text(value)) for key, value in known.items() if key not in keys and key != "method_name"]
    return Sheet("Configurations", [Heading("setting"), *map(Heading, names)], rows), shared


def _grid(tables: Tables) -> Sheet:
    grid = tables.grid
    swept = grid[grid.groupby([*BOARD, "entry"])["entry"].transform("size") > 1]
    varied = list(grid.columns)[list(grid.columns).index("chosen") + 1 :]
    columns = [name_column(tables), "dataset", *varied, "done", "planned", f"{CHOICE}_mean", f"{CHOICE}_sd"]
    columns += [f"{tables.metric}_mean", f"{tables.metric}_sd", "collapsed", "competes", "chosen"]
    sheet = _sheet("Grid", _named(swept), list(dict.fromkeys(columns)))
    words = {CHOICE: COLUMNS[CHOICE].header, tables.metric: COLUMNS[tables.metric].header}
    for name, word in words.items():
        for i, column in enumerate(sheet.header):
            if column.text in (f"{name}_mean", f"{name}_sd"):
                sheet.header[i] = Heading(column.text.replace(f"{name}_", f"{word} "), numeric=True)
    sheet.rows = [
        Line(line.cells, bold=range(len(line.cells)) if chosen else ())
        for line, chosen in zip(sheet.rows, swept["chosen"], strict=True)
    ]
    return sheet


def _runs(tables: Tables) -> Sheet:
    measured = ("test_linear_top1", "test_knn_top1", "effective_rank", "train_seconds")
    names = {**{name: COLUMNS[name].header for name in measured}, "overrides": COLUMNS["config"].header}
    columns = [name_column(tables), "seed", "experiment", "dataset", "state", *names, "collapsed", "reason", "run_id"]
    shown = {"collapsed": tables.runs["collapsed"].map({True: "yes", False: ""})}
    shown["overrides"] = tables.runs["overrides"].replace("", "preset")
    sheet = _sheet("Runs", _named(tables.runs).assign(**shown), columns)
    sheet.header = [
        Heading(names.get(c.text, c.text), c.numeric, names.get(c.text, c.text) in WIDE) for c in sheet.header
    ]
    return sheet


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """With the names of entries and datasets that readers know, in place of their ids."""
    named: dict[str, Callable[[str], str]] = {"dataset": dataset_name}
    named |= {f"{kind}{end}": entry_name for kind in ("entry", "method") for end in ("", "_a", "_b")}
    return frame.assign(**{column: frame[column].map(name) for column, name in named.items() if column in frame})


def _provenance(tables: Tables) -> Sheet:
    """What the finished runs were made with; more than one row: they are not all alike."""
    names = [name for name in PROVENANCE if name not in ("restarts", "started", "finished", "command")]
    done = tables.runs[tables.runs["state"] == "done"]
    if done.empty:
        return Sheet("Provenance", [*map(Heading, names), Heading("runs", True)], [])
    counts = done[names].fillna("").astype(str).value_counts(sort=False).reset_index(name="runs")
    return _sheet("Provenance", counts, [*names, "runs"])
