"""A table of a report, as texts: what markup, page and terminal show."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace


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
    divisible: bool = False
    """Whether it may be shown as several tables of fewer columns, all of numbers but the first."""

    def parts(self, fits: Callable[["Section"], bool]) -> Iterator["Section"]:
        """Itself, or tables that fit of as many columns as possible, the first in each, the notes below the last."""
        columns = list(range(1, len(self.header)))
        if not self.divisible or fits(self):
            columns = []
            yield self
        found = []
        while columns:
            n = len(columns)
            while n > 1 and not fits(self._of(columns[:n])):
                n -= 1
            found.append(self._of(columns[:n]))
            columns = columns[n:]
        for i, part in enumerate(found, 1):
            notes = self.notes if i == len(found) else []
            yield replace(part, title=f"{self.title} ({i} of {len(found)})", notes=notes)

    def _of(self, columns: list[int]) -> "Section":
        """The first column and these."""
        kept = [0, *columns]
        header, *rows = ([line[c] for c in kept] for line in (self.header, *self.rows))
        bold = {(row, kept.index(c)) for row, c in self.bold if c in kept}
        return replace(self, header=header, rows=rows, bold=bold)
