"""Entries: rows of the leaderboard. A method is one by its own name; others are a method with settings, and a label."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from methods import METHODS, NAMES

MAX_LABEL = 60  # characters: what tables and figures can hold


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard: a method with settings of its own."""

    method: str
    label: str = ""
    """What tables call it; "": as its method is called."""
    overrides: dict[str, str] = field(default_factory=dict)
    """Dotted keys -> values: what the entry changes, and so what it is compared in."""

    @property
    def name(self) -> str:
        """What errors call it: its label, or its method."""
        return self.label or self.method


def label_of(text: str, method: str) -> str:
    """The label as it is stored; "" for the method's own name. Raises ValueError on one that no table can hold."""
    label = " ".join(text.split(" ")).strip()
    if not label or not label.isprintable():
        raise ValueError(f"label = {text!r}: should be printable text on one line")
    if label[0] in "=+-@":  # spreadsheets take such a cell of a CSV file for a formula
        raise ValueError(f"label = {label!r}: should not begin with = + - or @")
    if len(label) > MAX_LABEL:
        raise ValueError(f"label = {label[:20]!r}...: {len(label)} characters; use at most {MAX_LABEL}")
    for other in METHODS:
        if label.casefold() in (other.casefold(), NAMES.get(other, other).casefold()):
            if other != method:
                raise ValueError(f"label = {label!r}: that is the name of the method {other!r}")
            return ""
    return label


def check_names(entries: Sequence[Entry]) -> None:
    """Raises ValueError if two entries have one name."""
    seen: dict[str, Entry] = {}
    for entry in entries:
        other = seen.setdefault(entry.name.casefold(), entry)
        if other is not entry:
            advice = "give them other labels" if entry.label else "give one of them a label"
            raise ValueError(f"two entries are called {entry.name!r}: {advice}")
