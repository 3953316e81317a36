"""Which classes are taken for which: confusion matrices of the linear probe, from the predictions stored with a run."""

import logging
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from bench.report.columns import records
from bench.report.names import entry_name
from bench.report.palette import looks
from bench.report.style import plain
from bench.runs.evaluations import FOLDER, Asked, EvaluationFiles
from bench.tables import predictions
from bench.tables.leaderboard import Tables, standing

KEY = Asked(evaluation="linear").key
"""On the run's own data set, with the settings that it has by default."""
NUMBERED = 10  # classes: of more, cells are too small for numbers, and not every class is named
MAX_CLASSES = 1000  # pixels of a panel's side, at most
TICKS = (0, 1, 5, 20, 50, 100)
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counted:
    """What one run's classifiers said."""

    counts: npt.NDArray[np.int64]
    """[K, K]: test images of a class (row) that were taken for another (column); K: the largest that occurs, plus 1."""
    classes: tuple[str, ...]
    """Their names; () in a file of a version that stored none."""


def confusion_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """A panel an entry: all seeds together, each row in percent of the test images of its class."""
    runs = standing(tables, rows)
    runs = runs[runs["state"] == "done"]
    made = tables.evaluations[(tables.evaluations["key"] == KEY) & (tables.evaluations["state"] == "done")]
    judged = set(made[["experiment", "run_id"]].astype(str).itertuples(index=False, name=None))
    found: dict[str, list[Counted]] = {entry: [] for entry in looks(tables.leaderboard)}
    for run in records(runs):
        if (run["experiment"], run["run_id"]) in judged:
            folder = tables.results / run["experiment"] / "runs" / run["run_id"] / FOLDER
            found[run["entry"]] += _read(EvaluationFiles(folder, KEY).predictions)
    shown = {entry: own for entry, own in found.items() if own}
    if not shown:
        return None
    every = [each for own in shown.values() for each in own]
    n = max(max(len(each.counts), len(each.classes)) for each in every)
    named = {each.classes for each in every if each.classes}
    names = named.pop() if len(named) == 1 else ()
    labels = [plain(name, 14) for name in (names if len(names) == n else map(str, range(n)))]
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    longest = 0.07 * max(map(len, labels))  # inches
    figure = Figure(figsize=(2.3 * columns + 1.4 + longest, 2.6 * lines + 1 + longest), layout="compressed")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    norm = PowerNorm(0.5, 0, 100)  # the square root: rare mistakes are seen beside what is right
    for axes, (entry, own) in zip(panels, shown.items(), strict=False):
        counts = sum(np.pad(each.counts, (0, n - len(each.counts))) for each in own)
        _panel(axes, np.asarray(counts), labels, norm)
        done = int((runs["entry"] == entry).sum())
        few = [f"{len(own)} of {done} seeds"] * (len(own) < done)
        axes.set_title("\n".join([*wrap(plain(entry_name(entry), 36), 22), *few]))
    for axes, over in zip(panels[len(shown) :], panels[len(shown) - columns :], strict=False):
        axes.set_axis_off()
        over.tick_params(labelbottom=True)  # the lowest panel of its column
    figure.colorbar(panels[0].images[0], ax=panels, ticks=TICKS, label="% of the class", shrink=min(1, 1.2 / lines))
    without = [plain(entry_name(entry)) for entry in found if entry in set(runs["entry"]) - set(shown)]
    told = wrap(f"without predictions: {', '.join(without)}", 30 * columns) if without else []
    figure.supxlabel("\n".join(["predicted class", *told]), fontsize=9)
    figure.supylabel("class", fontsize=9)
    return figure


def _panel(axes: Axes, counts: npt.NDArray[np.int64], labels: list[str], norm: PowerNorm) -> None:
    n, total = len(counts), counts.sum(axis=1, keepdims=True)
    percent = np.where(total, 100 * counts / np.maximum(total, 1), np.nan)  # no image of a class: an empty row
    axes.imshow(percent, cmap="Blues", norm=norm)
    axes.grid(False)
    ticks = range(0, n, 1 if n <= NUMBERED else -(-n // NUMBERED))
    upright = max(len(labels[tick]) for tick in ticks) > 2
    axes.set_xticks(ticks, [labels[tick] for tick in ticks], rotation=90 if upright else 0, fontsize=7)
    axes.set_yticks(ticks, [labels[tick] for tick in ticks], fontsize=7)
    if n <= NUMBERED:
        for (y, x), value in np.ndenumerate(percent):
            if value >= 0.5:
                shade = "white" if norm(value) > 0.6 else "#222222"
                axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=6, color=shade)


def _read(path: Path) -> list[Counted]:
    """A file's predictions, those of all its classifiers together; [] with a warning if it cannot be used."""
    try:
        predicted, labels, classes = predictions.read(path)
        n = 1 + int(max(predicted.max(), labels.max()))
        if n > (len(classes) or MAX_CLASSES) or len(classes) > MAX_CLASSES:
            raise ValueError(f"{n} classes, {len(classes)} named; at most {MAX_CLASSES} are drawn")
    except ValueError as error:
        LOG.warning("left out of the confusion matrices: %s: %s", path, error)
        return []
    places = np.broadcast_to(labels, predicted.shape).astype(np.int64) * n + predicted
    return [Counted(np.bincount(places.ravel(), minlength=n * n).reshape(n, n), classes)]
