"""The leaderboard in a terminal."""

import contextlib
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.report.columns import COLUMNS, boards, cell, records, select
from bench.report.notes import notes
from bench.tables.leaderboard import Tables

CONSOLE_NOTES = 12


METHOD_WIDTH = 16  # of the terminal's columns; longer names are folded


def print_leaderboard(tables: Tables, console: Console, columns: list[str] | None = None) -> None:
    """Print every board as a table of at most the console's width, with its footnotes; plain text in a file."""
    shown = select(columns, tables.metric, ("effective_rank", "train_seconds", "flags"))
    speak = _speech(console)
    for label, rows in boards(tables.leaderboard):
        table = Table(box=None, pad_edge=False, title=Text(speak(label)), title_justify="left")
        for column in shown:
            header, numeric = COLUMNS[column].header, column not in ("method", "flags")
            longest = max(map(len, rows["method"])) if column == "method" else 0
            table.add_column(
                Text(speak(header.replace(" ", "\n") if numeric else header)),
                justify="right" if numeric else "left",
                no_wrap=numeric,
                min_width=min(longest, METHOD_WIDTH),
                overflow="fold",
            )
        for row in records(rows):
            style = "bold" if row["mark"] == "best" else "dim" if row["reference"] else ""
            texts = (cell(row, column, tables.metric) for column in shown)
            table.add_row(*(Text(speak(text), style) for text in texts))
        console.print(table)
        footnotes = notes(tables, rows)
        for note in footnotes[:CONSOLE_NOTES]:
            console.print(Text(speak(note), "dim"))
        if len(footnotes) > CONSOLE_NOTES:
            console.print(Text(f"and {len(footnotes) - CONSOLE_NOTES} more notes, in the report", "dim"))
        console.print()
    if len(tables.problems):
        files = f"{len(tables.problems)} file{'s' * (len(tables.problems) > 1)}"
        console.print(Text(f"warning: {files} could not be used as found; reasons in problems.csv", "yellow"))


def _speech(console: Console) -> Callable[[str], str]:
    """Text as the console's encoding can show it."""
    plain = str.maketrans({"±": "+/-", "–": "-", "×": "x"})

    def speak(text: str) -> str:
        with contextlib.suppress(UnicodeEncodeError):
            return text.encode(console.encoding).decode(console.encoding)
        return text.translate(plain).encode(console.encoding, "backslashreplace").decode(console.encoding)

    return speak
