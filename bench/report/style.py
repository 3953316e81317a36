"""How figures look, whatever the user's matplotlib is set to: the same runs give the same files everywhere."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text in a paper
    "svg.hashsalt": "ssl-bench",  # the same figure is the same file
}


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Where matplotlib may be imported for the first time.

    While importing, it reads a `matplotlibrc` in the working directory or where MATPLOTLIBRC says, and MPLBACKEND
    (Jupyter sets it for the programs that it starts); what is wrong there stops it.
    """
    if "matplotlib" in sys.modules:
        yield
        return
    before, there = dict(os.environ), _working_directory()
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    os.chdir(Path(__file__).parent)
    try:
        yield
    finally:
        for name in ("MPLBACKEND", "MATPLOTLIBRC"):
            os.environ.pop(name)
            os.environ |= {name: before[name]} if name in before else {}
        if there:
            os.chdir(there)


def _working_directory() -> Path | None:
    """None if it was deleted."""
    with contextlib.suppress(FileNotFoundError):
        return Path.cwd()
    return None


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """matplotlib's own defaults with STYLE, and afterwards again what the caller had set."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def plain(text: str, length: int = 30) -> str:
    """Text as matplotlib can draw it: no mathematics, no hidden labels, not too long, in its font's letters."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    half = length // 2 - 1
    text = text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
    text = "".join(
        c if get_font(findfont(FontProperties())).get_char_index(ord(c)) else f"[U+{ord(c):04X}]" for c in text
    )
    return re.sub(r"^_", " _", text.replace("$", r"\$"))
