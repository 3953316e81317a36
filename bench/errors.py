"""Errors that are the user's to mend: one clear line, never a traceback."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class UserError(ValueError):
    """The command, a setting or the data is wrong; the message says what, and what would be right."""


class Interrupted(Exception):
    """The work was asked to stop; what can be resumed is written."""


def unknown(kind: str, value: str, valid: Iterable[str]) -> UserError:
    """`unknown method 'rapt': did you mean 'raft'? one of byol, raft, ...`"""
    names = sorted(valid)
    close = get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return UserError(f"unknown {kind} {value!r}: {hint}" + (f"one of {', '.join(names)}" if names else "it has none"))


def few(names: Sequence[str], most: int = 3) -> str:
    """The first `most` names, for a one-line message; what cannot be printed (line breaks, no text) is escaped."""
    shown = [name if name.isprintable() else name.encode("unicode_escape").decode("ascii") for name in names[:most]]
    return ", ".join(shown) + (", ..." if len(names) > most else "")
