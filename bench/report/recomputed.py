"""The tables of a published folder against those that its runs.csv gives: which cells differ, what was not compared.

Numbers are equal that have 9 digits in common: other processors round sums in other ways.
"""

import contextlib
import difflib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.errors import UserError
from bench.files import write_atomic
from bench.report import style
from bench.report.columns import name_column, select
from bench.report.markup import latex, markdown
from bench.report.write import MD_COLUMNS, TEX_COLUMNS, csv, frames
from bench.runs.experiment import Until
from bench.tables.comparison import LOOKS, Aim
from bench.tables.grid import BOARD, POINT
from bench.tables.inventory import Inventory
from bench.tables.leaderboard import Tables, tell
from bench.tables.published import RUNS, number, text_table

KEYS = {
    "runs": ["experiment", "run_id"],
    "grid": [*POINT],
    "leaderboard": [*BOARD, "entry"],
    "pairs": [*BOARD, "entry_a", "entry_b"],
    "overall": ["entry"],
    "improvements": ["entry_a", "entry_b"],
}
"""Computed tables: what a row is."""
OLDER = {"entry": "method", "entry_a": "method_a", "entry_b": "method_b"}
"""Columns that tables of a version without entries do not have -> what stood for them."""
GIVEN = ("history.csv", "evaluations.csv", "problems.csv")
BY_IMAGE = "_seeds_images"
"""Ends the columns that take the predictions of every image."""
TEXTS = ("leaderboard.md", "leaderboard.tex")
EQUAL, ZERO = 1e-9, 1e-12
"""Relative, and absolute for what may be 0."""


@dataclass
class Recomputed:
    """A published folder's tables, computed again."""

    tables: Tables
    checked: dict[str, int] = field(default_factory=dict)
    """File -> how many of its cells (CSV) or lines were compared."""
    differing: dict[str, list[str]] = field(default_factory=dict)
    """File -> a line for each cell that differs."""
    unchecked: list[str] = field(default_factory=list)
    """What was not compared, and why."""

    @property
    def differences(self) -> list[str]:
        """Every difference, with its file before it."""
        return [f"{name}: {line}" for name, lines in self.differing.items() for line in lines]


def recomputed(folder: Path, found: Inventory, margin: float | None = None, untils: Sequence[Until] = ()) -> Recomputed:
    """found: what its runs.csv says (`bench.tables.published.inventory`); margin, untils: what its sweep files name.

    By which number it ranks, and what no sweep file names, pairs.csv says. Raises UserError on a file that is no table.
    """
    there = {name: _texts(folder / f"{name}.csv") for name in KEYS if (folder / f"{name}.csv").is_file()}
    pairs = _first(there.get("pairs"))
    metric = pairs.get("metric") or "test_linear_top1"
    if metric not in found.runs:
        raise UserError(f"{folder / 'pairs.csv'}: its metric is {metric!r}, which {RUNS} does not have")
    told = {name: _number(pairs.get(name, "")) for name in ("margin", "seeds_needed_for")}
    margin, untils = told["margin"] if margin is None else margin, untils or _untils(there.get("pairs"))
    tables = tell(found, folder, metric, Aim(margin, told["seeds_needed_for"], untils))
    done = Recomputed(tables)
    _take_over(done, there)
    for name, frame in frames(tables).items():
        if name in there:
            again = pd.read_csv(io.BytesIO(csv(frame)), dtype=str, keep_default_na=False)
            _compare(done, f"{name}.csv", KEYS[name], there[name], again)
    for name in sorted(set(KEYS) & set(there) - set(frames(tables))):
        done.differing[f"{name}.csv"] = [f"is no table of these runs: {RUNS} gives none"]
    for name in TEXTS:
        if (folder / name).is_file():
            _compare_text(done, folder / name)
    others = [name for name in GIVEN if (folder / name).is_file()]
    others += ["figures/"] * (folder / "figures").is_dir() + ["report.html"] * (folder / "report.html").is_file()
    if others:
        done.unchecked.append(f"{', '.join(others)}: taken as they are, not computed from {RUNS} or not compared")
    return done


def _texts(path: Path) -> pd.DataFrame:
    """As text, with the columns that stand for entries. Raises UserError."""
    try:
        table = text_table(path)
    except ValueError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    for name, older in OLDER.items():
        if name not in table and older in table:
            table[name] = table[older]
    return table


def _first(table: pd.DataFrame | None) -> dict[str, str]:
    return {} if table is None or table.empty else {str(name): str(value) for name, value in table.iloc[0].items()}


def _untils(pairs: pd.DataFrame | None) -> list[Until]:
    """What pairs.csv says decided how many seeds there are."""
    columns = [f"until_{key}" for key in LOOKS]
    if pairs is None or not {*columns, "entry_a", "entry_b"} <= set(pairs):
        return []
    found = []
    for _, row in pairs.iterrows():
        looks = {key: _number(row[column]) for key, column in zip(LOOKS, columns, strict=True)}
        if looks["width"] is None:
            continue
        whole = {key: int(value or 0) for key, value in looks.items() if key != "width"}
        with contextlib.suppress(ValueError):  # then its cells differ
            found.append(Until(entry_a=row["entry_a"], entry_b=row["entry_b"], width=looks["width"], **whole))
    return found


def _number(text: str) -> float | None:
    try:
        value = number(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _take_over(done: Recomputed, there: dict[str, pd.DataFrame]) -> None:
    """Put what only predictions of every image tell where it stands, so that texts that show it can be compared."""
    tables = done.tables
    for name, frame in (("leaderboard", tables.leaderboard), ("pairs", tables.pairs)):
        if name not in there or not set(KEYS[name]) <= set(there[name]):
            continue
        columns = [column for column in map(str, there[name]) if column.endswith(BY_IMAGE) and column in frame]
        by_key = there[name].drop_duplicates(KEYS[name]).set_index(KEYS[name])
        keys = pd.MultiIndex.from_frame(frame[KEYS[name]].astype(str))
        for column in columns:
            values = [_number(text) if isinstance(text, str) else None for text in by_key[column].reindex(keys)]
            frame[column] = pd.Series(values, index=frame.index, dtype=float)
        if columns and (n := int(frame[columns].notna().sum().sum())):
            done.unchecked.append(
                f"{name}.csv: {n} cells of {', '.join(columns)}: taken as they are, for they need the predictions of "
                "every image; around the same numbers, and not far narrower than over seeds alone"
            )
        for column in columns:
            if column.endswith(f"low{BY_IMAGE}"):
                done.differing.setdefault(f"{name}.csv", []).extend(_impossible(frame, KEYS[name], column))


def _impossible(frame: pd.DataFrame, keys: list[str], low: str) -> Iterator[str]:
    """Rows whose interval for new seeds and images, whose lower end is `low`, is none that any predictions give."""
    seeds = low.removesuffix(BY_IMAGE)
    middle = "difference" if seeds == "low" else seeds.removesuffix("low") + "mean"
    for _, row in frame[frame[low].notna()].iterrows():
        ends, over_seeds = ([row[column], row[column.replace("low", "high")]] for column in (low, seeds))
        told = f"{_row(tuple(str(row[key]) for key in keys))}: {low} to high is {ends[0]:.4g} to {ends[1]:.4g}"
        if not ends[0] - ZERO <= row[middle] <= ends[1] + ZERO:
            yield f"{told}, which is not around {row[middle]:.4g}"
        elif ends[1] - ends[0] < (over_seeds[1] - over_seeds[0]) / 2:  # which may reach beyond 0 to 100
            yield f"{told}, not half of {over_seeds[0]:.4g} to {over_seeds[1]:.4g} over seeds alone"


def _compare(done: Recomputed, name: str, keys: list[str], there: pd.DataFrame, again: pd.DataFrame) -> None:
    """Cells of a table; rows are told by their keys."""
    lines = done.differing.setdefault(name, [])
    if missing := [key for key in keys if key not in there]:
        lines.append(f"no column {', '.join(missing)}: not a table of this program")
        return
    theirs, own = (dict(_rows(table, keys)) for table in (there, again))
    if len(theirs) < len(there):
        lines.append(f"{len(there) - len(theirs)} rows are there twice")
    lines += [f"{_row(key)}: no such row by {RUNS}" for key in theirs if key not in own]
    lines += [f"{_row(key)}: missing, by {RUNS} it is there" for key in own if key not in theirs]
    common = [key for key in own if key in theirs]
    if common != [key for key in theirs if key in own]:
        lines.append("rows are in another order")
    columns = [column for column in map(str, again) if column in there and column not in keys]
    columns = [column for column in columns if not column.endswith(BY_IMAGE)]
    columns = [column for column in columns if name != RUNS or column == "chosen"]  # the others are what is given
    for key in common:
        for column in columns:
            if not _equal(theirs[key][column], own[key][column]):
                lines.append(
                    f"{_row(key)}: {column} is {_shown(theirs[key][column])}, by {RUNS} {_shown(own[key][column])}"
                )
    done.checked[name] = len(common) * len(columns)
    if name == RUNS:
        return
    unknown = [column for column in there if column not in again and column not in OLDER]
    if unknown:
        done.unchecked.append(f"{name}: columns that this version does not compute: {', '.join(map(str, unknown))}")
    if lacking := [column for column in again if column not in there]:
        done.unchecked.append(f"{name}: columns that it does not have: {', '.join(map(str, lacking))}")


def _rows(table: pd.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    for row in table.to_dict("records"):
        yield tuple(str(row[key]) for key in keys), {str(name): str(value) for name, value in row.items()}


def _row(key: tuple[str, ...]) -> str:
    """What tells a row, without what is mostly alike: the board before its entries."""
    return " ".join(key)


def _shown(text: str) -> str:
    return text or "empty"


def _equal(theirs: str, own: str) -> bool:
    if theirs == own:
        return True
    a, b = _number(theirs), _number(own)
    return a is not None and b is not None and math.isclose(a, b, rel_tol=EQUAL, abs_tol=ZERO)


def _compare_text(done: Recomputed, path: Path) -> None:
    """Lines of leaderboard.md or leaderboard.tex, but for the title, which names experiments."""
    if unknown := sorted(set(done.tables.runs["config_hash"]) - set(done.tables.configs)):
        done.unchecked.append(f"{path.name}: it shows settings, and those of {', '.join(unknown)} are not known")
        return
    texts = path.read_text(encoding="utf-8", errors="replace"), _text(done, path)
    theirs, own = (text.splitlines()[1:] for text in texts)
    if _header(theirs) != _header(own):
        done.unchecked.append(f"{path.name}: has other columns than by default, as --columns or another version gives")
        return
    done.checked[path.name] = len(own)
    changed = list(difflib.unified_diff(theirs, own, n=0, lineterm=""))[2:]
    said = {"-": "has", "+": f"by {RUNS}"}
    done.differing[path.name] = [f"{said[line[0]]}: {line[1:]}" for line in changed if line[0] in said]


def _text(done: Recomputed, path: Path) -> str:
    tables, name = done.tables, name_column(done.tables)
    if path.suffix == ".md":
        experiments = list(dict.fromkeys(tables.runs["experiment"]))
        return markdown(tables, experiments, select(None, tables.metric, MD_COLUMNS, name))
    return latex(tables, select(None, tables.metric, TEX_COLUMNS, name))


def _header(lines: list[str]) -> str:
    """The first table's line of headings."""
    return next((line for line in lines if line.startswith("| ") or " & " in line), "")


def rewrite(done: Recomputed, folder: Path) -> list[Path]:
    """Write anew what was computed, and draw what is there of figures; returns the files. runs.csv is never written."""
    written = []

    def save(path: Path, content: bytes) -> None:
        if path.is_file():
            write_atomic(path, content)
            written.append(path)

    for name, frame in frames(done.tables).items():
        if name in KEYS and name != "runs":
            save(folder / f"{name}.csv", csv(frame))
    for name in TEXTS:
        save(folder / name, _text(done, folder / name).encode())
    if (folder / "figures").is_dir():
        with style.importing():
            from bench.report.figures import figures, render
        for name, _, figure in figures(done.tables):
            for suffix in ("png", "pdf"):
                if (folder / "figures" / f"{name}.{suffix}").is_file():
                    save(folder / "figures" / f"{name}.{suffix}", render(figure, suffix))
    return written
