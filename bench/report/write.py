"""Tables -> files and the terminal: CSV here, Markdown and LaTeX; figures and the HTML page on demand."""

import io
import logging
from collections.abc import Collection
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench.errors import UserError, unknown
from bench.files import write_atomic
from bench.report import FORMATS, style
from bench.report.columns import COLUMNS, name_column, of_tables, select
from bench.report.markup import latex, markdown
from bench.report.terminal import print_leaderboard
from bench.runs import experiment, store
from bench.tables.comparison import Aim
from bench.tables.grid import BOARD
from bench.tables.leaderboard import Tables, collect

MD_COLUMNS = ("difference", "effective_rank", "train_seconds", "budget", "flags")
TEX_COLUMNS = ("difference", "effective_rank")  # what fits a page; search budgets and failures are in the notes
PAGES = {"md": "leaderboard.md", "tex": "leaderboard.tex", "html": "report.html", "png": "figures"}
WARNINGS = 10
LOG = logging.getLogger(__name__)


def write(
    results: Path,
    experiments: list[str],
    formats: Collection[str],
    out: Path | None = None,
    columns: list[str] | None = None,
    metric: str = "test_linear_top1",
    console: Console | None = None,
    difference: float | None = None,
    powers: bool = False,
) -> list[Path]:
    """Write the reports of some experiments, all of them if none is named; returns the files written.

    console: where to print the leaderboard too; powers: and how many seeds each difference needs.

    formats: of FORMATS; columns: of columns.COLUMNS, for the leaderboard; metric: the accuracy that ranks; difference:
    the points that seeds are counted for, by default those that were seen.
    out: a folder, by default that of the one experiment, or results/reports/A+B of several.
    Raises UserError on an unknown name, or if `out` cannot be written.
    """
    names, tables = gather(results, experiments, formats, columns, metric, console, difference, powers)
    folder = out or (results / names[0] if len(names) == 1 else results / "reports" / _joined(names))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = files(tables, names, formats, folder, columns)
    except OSError as error:
        raise UserError(f"cannot write the report to {folder}: {error.strerror or error}") from error
    older = [name for kind, name in PAGES.items() if kind not in formats and (folder / name).exists()]
    if console and older and "csv" in formats:
        told = f"{', '.join(older)}: older than these numbers; `bench report` writes all anew"
        console.print(Text(told, "dim"), soft_wrap=True)
    return written


def gather(
    results: Path,
    experiments: list[str],
    formats: Collection[str],
    columns: list[str] | None = None,
    metric: str = "test_linear_top1",
    console: Console | None = None,
    difference: float | None = None,
    powers: bool = False,
) -> tuple[list[str], Tables]:
    """The experiments of a report and their tables, with warnings of what could not be used; arguments as of `write`.

    Raises UserError on an unknown name.
    """
    if not formats:
        raise UserError(f"no format named: one of {', '.join(FORMATS)}")
    if columns is not None and not columns:
        raise UserError(f"no column named: one of {', '.join(COLUMNS)}")
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    names = list(dict.fromkeys(experiments or store.experiments(results)))
    select(columns, metric, ())  # before the work: a wrong name is told at once
    untils = [until for name in names for until in experiment.read(results / name).untils]
    tables = collect(results, names, metric, Aim(_margin(results, names), difference, untils))
    of_tables(columns, tables)
    for problem in tables.problems.head(WARNINGS).itertuples():
        LOG.warning("cannot be used as found: %s/%s: %s", problem.experiment, problem.path, problem.reason)
    if len(tables.problems) > WARNINGS:
        LOG.warning("and %d more such files, all in problems.csv", len(tables.problems) - WARNINGS)
    if console:
        print_leaderboard(tables, console, columns, powers)  # before the files: a full disk does not hide it
    return names, tables


def _margin(results: Path, experiments: list[str]) -> float | None:
    """The margin that all these experiments were planned with; None, with a warning, where they differ."""
    margins = {experiment.read(results / name).margin for name in experiments}
    if len(margins) > 1:
        LOG.warning("these experiments were not planned with one margin: equivalence is not tested")
    return margins.pop() if len(margins) == 1 else None


def _joined(names: list[str]) -> str:
    """A folder's name for several experiments, short enough for any file system."""
    joined = "+".join(names)
    return joined if len(joined) <= 100 else f"{names[0][:80]}+{len(names) - 1}-more"


def files(
    tables: Tables,
    names: list[str],
    formats: Collection[str],
    folder: Path,
    columns: list[str] | None,
    pictures: Path | None = None,
) -> list[Path]:
    """Write the files of a report; pictures: where other commands' are that the page shows, by default figures/ there.

    Raises OSError.
    """
    written = []

    def save(name: str, content: bytes) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomic(folder / name, content)
        written.append(folder / name)

    if "csv" in formats:
        found = frames(tables, columns)
        for name, frame in found.items():
            save(f"{name}.csv", csv(frame))
        for name in {"overall", "improvements", "evaluations"} - set(found):  # what was written of others must not stay
            (folder / f"{name}.csv").unlink(missing_ok=True)
    if "md" in formats:
        save(
            "leaderboard.md",
            markdown(tables, names, select(columns, tables.metric, MD_COLUMNS, name_column(tables))).encode(),
        )
    if "tex" in formats:
        save(
            "leaderboard.tex", latex(tables, select(columns, tables.metric, TEX_COLUMNS, name_column(tables))).encode()
        )
    if {"png", "pdf", "html"} & set(formats):
        with style.importing():  # drawing libraries are slow to import
            from bench.report.figures import figures, is_ours, render

        drawn = list(figures(tables))
        for name, _, figure in drawn:
            for suffix in ("png", "pdf"):
                if suffix in formats:
                    save(f"figures/{name}.{suffix}", render(figure, suffix))
        for path in (folder / "figures").glob("*"):  # of datasets and grids that are no more
            if path.suffix[1:] in {"png", "pdf"} & set(formats) and is_ours(path.stem) and path not in written:
                path.unlink()
        if "html" in formats:
            from bench.report.page import html

            save("report.html", html(tables, names, columns, drawn, pictures or folder / "figures").encode())
    return written


def frames(tables: Tables, columns: list[str] | None = None) -> dict[str, pd.DataFrame]:
    """The CSV files of a report by name; `columns` narrows the leaderboard."""
    board = tables.leaderboard
    if columns:
        wanted = [*BOARD, *(key for column in columns for key in COLUMNS[column].csv)]
        board = board[list(dict.fromkeys(wanted))]
    found = {"runs": tables.runs, "history": tables.history, "grid": tables.grid, "leaderboard": board}
    found["pairs"] = tables.pairs
    found |= {"evaluations": tables.evaluations} if len(tables.evaluations) else {}
    found |= {"overall": tables.overall} if len(tables.overall) else {}
    found |= {"improvements": tables.improvements} if len(tables.improvements) else {}
    return found | {"problems": tables.problems}  # written when empty too: an older one must not stay


def csv(frame: pd.DataFrame) -> bytes:
    """UTF-8 CSV, unrounded; an empty field is a number that does not exist.

    Text that a spreadsheet would run as a formula (=, +, -, @ first) gets an apostrophe before it.
    """
    safe = frame.copy(deep=False)
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            safe[name] = column.cat.rename_categories([_harmless(value) for value in column.cat.categories])
        elif not pd.api.types.is_numeric_dtype(column.dtype):
            safe[name] = pd.Series([_harmless(value) for value in column], index=column.index, dtype=object)
    buffer = io.BytesIO()
    safe.to_csv(buffer, index=False, lineterminator="\n", encoding="utf-8")
    return buffer.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
