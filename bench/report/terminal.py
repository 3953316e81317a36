"""The leaderboard in a terminal."""

import contextlib
from collections.abc import Callable

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.report.columns import COLUMNS, boards, cell, name_column, records, select
from bench.report.evaluated import evaluations
from bench.report.notes import notes
from bench.report.power import power
from bench.report.section import Section
from bench.tables.leaderboard import Tables

CONSOLE_NOTES = 12
WIDTH = 80  # of a terminal that does not know its own
GAP = 2  # columns of the terminal between two of the table
WORD_WIDTH = 16  # a longer word, as an entry's name may be, is broken
NAMES = ("entry", "method")  # headers of columns that say what a row is
WORDS = ("entry", "method", "flags", "config", "pair")  # columns that may take several lines; numbers are never broken


def print_leaderboard(tables: Tables, console: Console, columns: list[str] | None = None, powers: bool = False) -> None:
    """Print every board with its footnotes; plain text in a file. powers: and how many seeds each difference needs.

    A board is a table or, on a console that is too narrow for it, a list of each row's numbers: nothing is cut.
    """
    shown = select(columns, tables.metric, ("effective_rank", "train_seconds", "flags"), name_column(tables))
    console.width = console.width or WIDTH
    for label, rows in boards(tables.leaderboard):
        own = records(rows)
        styles = ["bold" if row["mark"] == "best" else "dim" if row["reference"] else "" for row in own]
        texts = [[cell(row, column, tables.metric) for column in shown] for row in own]
        board = Section(label, [COLUMNS[c].header for c in shown], texts, set(), set(), notes(tables, rows))
        _print(console, board, shown, styles)
        if judged := evaluations(tables, label, rows):
            styles = ["dim" if row["reference"] else "" for row in own]
            for part in judged.parts(lambda part: bool(_widths(part.header, _lines(part, part.header), console.width))):
                _print(console, part, part.header, styles)
    for section in power(tables) if powers else ():
        _print(console, section, section.header, [""] * len(section.rows))
    if len(tables.problems):
        files = f"{len(tables.problems)} file{'s' * (len(tables.problems) > 1)}"
        console.print(Text(f"warning: {files} could not be used as found; reasons in problems.csv", "yellow"))


def _print(console: Console, section: Section, columns: list[str], styles: list[str]) -> None:
    """columns: names, of which those in WORDS may take several lines; styles: one a row."""
    speak = _speech(console)
    console.print(Text(speak(section.title), "italic"))
    headers, *texts = ([speak(text) for text in line] for line in _lines(section, columns))
    widths = _widths(columns, [headers, *texts], console.width)
    if widths:
        console.print(_table(columns, headers, texts, styles, widths))
    else:
        _print_lists(console, headers, texts, styles)
    for note in section.notes[:CONSOLE_NOTES]:
        console.print(Text(speak(note), "dim"))
    if len(section.notes) > CONSOLE_NOTES:
        console.print(Text(f"and {len(section.notes) - CONSOLE_NOTES} more notes, in the report", "dim"))
    console.print()


def _lines(section: Section, columns: list[str]) -> list[list[str]]:
    """Header and rows; headers of numbers are broken at every space."""
    pairs = zip(columns, section.header, strict=True)
    return [[text if column in WORDS else text.replace(" ", "\n") for column, text in pairs], *section.rows]


def _widths(columns: list[str], lines: list[list[str]], available: int) -> list[int]:
    """The width of every column of a table with these lines, headers included; empty if it does not fit.

    Numbers take what they need. Text is broken, if it must: between words, and within those longer than WORD_WIDTH.
    """
    needed = [max(cell_len(part) for text in texts for part in text.split("\n")) for texts in zip(*lines, strict=True)]
    widths = needed.copy()
    for i, texts in enumerate(zip(*lines, strict=True)):
        if columns[i] in WORDS:
            widths[i] = min(WORD_WIDTH, max(cell_len(word) for text in texts for word in text.split() or [""]))
    left = available - sum(widths) - GAP * (len(columns) - 1)
    if left < 0:
        return []
    for i, width in enumerate(widths):
        widths[i] = min(needed[i], width + left)
        left -= widths[i] - width
    return widths


def _table(
    columns: list[str], headers: list[str], texts: list[list[str]], styles: list[str], widths: list[int]
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column, header, width in zip(columns, headers, widths, strict=True):
        table.add_column(Text(header), justify="left" if column in WORDS else "right", width=width, overflow="fold")
    for row, style in zip(texts, styles, strict=True):
        table.add_row(*(Text(text, style) for text in row))
    return table


def _print_lists(console: Console, headers: list[str], texts: list[list[str]], styles: list[str]) -> None:
    """What would be a row, line by line: the name, then each number behind what it is."""
    for row, style in zip(texts, styles, strict=True):
        for header, text in zip(headers, row, strict=True):
            if text:
                line = text if header in NAMES else f"{' '.join(header.split())} {text}"
                console.print(Text(line, style, overflow="fold"))
        console.print()


def _speech(console: Console) -> Callable[[str], str]:
    """Text as the console's encoding can show it."""
    plain = str.maketrans({"±": "+/-", "–": "-", "×": "x"})

    def speak(text: str) -> str:
        with contextlib.suppress(UnicodeEncodeError):
            return text.encode(console.encoding).decode(console.encoding)
        return text.translate(plain).encode(console.encoding, "backslashreplace").decode(console.encoding)

    return speak
