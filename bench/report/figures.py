"""Tables -> figures: for print (PNG, PDF) and for the page (SVG). Every function draws one board and returns a Figure.

Seeds are always shown: as dots, as thin lines, or as a band from the lowest to the highest.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count

import pandas as pd
from matplotlib.figure import Figure

from bench.report import style
from bench.report.accuracy_figures import cost_figure, difference_figure, leaderboard_figure
from bench.report.columns import boards
from bench.report.confusion import confusion_figure
from bench.report.curves import accuracy_figure, loss_figure, plane_figure, rank_figure
from bench.report.grid_figures import grid_figure, grid_plane_figure
from bench.report.label_figures import few_labels_figure
from bench.report.names import entry_name
from bench.tables.leaderboard import Tables

Drawer = Callable[[Tables, pd.DataFrame], Figure | None]
DRAWERS: dict[str, tuple[str, Drawer]] = {
    "leaderboard": (
        "accuracy with 95 % intervals over training seeds on one test set, every seed a dot; *: may be the best; "
        "?: not tested",
        leaderboard_figure,
    ),
    "differences": (
        "differences on common seeds, a dot a seed; 95 % intervals of all pairs at once; Welch's p, Holm-adjusted; "
        "filled: significant",
        difference_figure,
    ),
    "curves-accuracy": ("validation accuracy in training, band: lowest to highest seed", accuracy_figure),
    "curves-loss": ("loss in training, band: lowest to highest seed", loss_figure),
    "alignment-uniformity": ("alignment and uniformity in training", plane_figure),
    "effective-rank": ("effective rank in training, band: lowest to highest seed", rank_figure),
    "few-labels": (
        "accuracy over labelled images, means with 95 % intervals over training seeds; the most: all labels (linear)",
        few_labels_figure,
    ),
    "cost": ("accuracy against training time", cost_figure),
    "confusion": (
        "what the linear probe takes the test images of each class for, in percent of the class, all seeds together; "
        "shades by the square root",
        confusion_figure,
    ),
}


def figures(tables: Tables) -> Iterator[tuple[str, str, Figure]]:
    """(file name without suffix, caption, figure) of every figure that the tables have data for."""
    ids = [label for label, _ in boards(tables.leaderboard, named=False)]
    for board, (label, rows) in zip(ids, boards(tables.leaderboard), strict=True):
        suffix = f"-{slug(board)}" if len(ids) > 1 else ""
        for name, (caption, draw) in DRAWERS.items():
            with style.applied():
                figure = draw(tables, rows)
            if figure is not None:
                yield name + suffix, f"{label}: {caption}", figure
        with style.applied():
            plane = grid_plane_figure(tables, rows)
        if plane is not None:
            caption = "alignment and uniformity of every configuration during training; a cross: seeds collapsed"
            yield f"grid-alignment-uniformity{suffix}", f"{label}: {caption}", plane
        for entry, name in _file_names(rows.loc[rows["points"] > 1, "entry"]):
            with style.applied():
                figure = grid_figure(tables, rows, entry)
            if figure is not None:
                caption = "validation linear accuracy over the configurations tried; the chosen one is marked"
                yield f"{name}{suffix}", f"{label}: {entry_name(entry)}, {caption}", figure


def _file_names(entries: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(entry, name of its grid's figure): labels that differ in signs alone have the same slug, files must not."""
    taken = {"grid-alignment-uniformity"}
    for entry in entries:
        first = f"grid-{slug(entry)}"
        name = next(name for i in count(1) if (name := first if i == 1 else f"{first}-{i}") not in taken)
        taken.add(name)
        yield entry, name


def render(figure: Figure, suffix: str) -> bytes:
    """The figure as a file: suffix png, pdf or svg. No dates in it: the same runs give the same bytes."""
    buffer = io.BytesIO()
    metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[suffix]
    with style.applied():
        figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def is_ours(name: str) -> bool:
    """Whether a file of this name (without suffix) in `figures/` is one that `figures` may have given."""
    return any(name == ours or name.startswith(f"{ours}-") for ours in (*DRAWERS, "grid"))


def slug(text: str) -> str:
    """Part of a file name; a long one keeps both ends, as a folder's fingerprint stands last."""
    name = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"
    return name if len(name) <= 60 else f"{name[:40]}-{name[-19:]}"
