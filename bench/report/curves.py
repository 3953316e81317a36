"""Figures of training: what was logged, epoch by epoch."""

from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.columns import COLUMNS
from bench.report.names import entry_name
from bench.report.palette import Look, looks
from bench.report.style import plain
from bench.tables.leaderboard import Tables, standing


def loss_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Training loss; methods' losses are not comparable, so each entry has its own panel and scale."""
    history = _history(tables, rows).dropna(subset=["loss"])
    look = _looks_of(tables, history)
    if not look:
        return None
    columns = min(4, len(look))
    lines = -(-len(look) // columns)
    figure = Figure(figsize=(1.9 * columns + 0.6, 1.7 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for axes, entry in zip(panels, look, strict=False):
        _band(axes, history[history["entry"] == entry], "loss", look[entry])
        axes.set_title("\n".join(wrap(plain(entry_name(entry), length=36), 18)))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for axes, over in zip(panels[len(look) :], panels[len(look) - columns :], strict=False):
        axes.set_axis_off()
        over.tick_params(labelbottom=True)  # the lowest panel of its column
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    return figure


def accuracy_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Online linear and kNN accuracy on the validation split."""
    titles = {name: COLUMNS[name].header for name in ("online_linear_top1", "val_knn_top1")}
    history = _history(tables, rows)
    return _curves(history, _looks_of(tables, history), titles, "validation accuracy (%)")


def rank_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Effective rank of the features; collapsed runs are drawn singly, ending in a cross."""
    history = _history(tables, rows)
    collapsed = history[history["collapsed"]].dropna(subset=["effective_rank"])
    look = _looks_of(tables, history)
    figure = _curves(history, look, {"effective_rank": ""}, "effective rank (RankMe)", crossed=True)
    if figure is not None:
        for (entry, _), run in collapsed.groupby(["entry", "seed"]):
            shade = look[str(entry)].colour
            figure.axes[0].plot(run["epoch"], run["effective_rank"], ":", color=shade, lw=1.2)
            figure.axes[0].plot(run["epoch"].iloc[-1:], run["effective_rank"].iloc[-1:], "x", ms=8, mew=2, color=shade)
    return figure


def plane_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Alignment against uniformity (Wang & Isola 2020) during training: thin lines are seeds, the marker is the end."""
    history = _history(tables, rows).dropna(subset=["alignment", "uniformity"])
    look = _looks_of(tables, history)
    if not look:
        return None
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    for entry, drawn in look.items():
        own, shade = history[history["entry"] == entry], drawn.colour
        for _, run in own.groupby("seed"):
            axes.plot(run["uniformity"], run["alignment"], color=shade, lw=0.6, alpha=0.45)
        mean = own.groupby("epoch")[["uniformity", "alignment"]].mean()
        axes.plot(mean["uniformity"], mean["alignment"], color=shade, ls=drawn.line, lw=1.8)
        end, label = mean.iloc[-1:], plain(entry_name(entry))
        axes.plot(end["uniformity"], end["alignment"], ls="", ms=8, label=label, **drawn.marked())
    axes.set_xlabel("uniformity (lower: more uniform)")
    axes.set_ylabel("alignment (lower: views closer)")
    figure.legend(loc="outside right upper")
    return figure


def _history(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """Epochs of the runs that stand for the board's entries: of finished ones, or of all if an entry has none."""
    runs = standing(tables, rows)
    done = runs["state"] == "done"
    runs = runs[done | ~runs["entry"].isin(runs.loc[done, "entry"])]
    names = ["epoch", "loss", "online_linear_top1", "val_knn_top1", "alignment", "uniformity", "effective_rank"]
    history = tables.history.loc[tables.history["run_id"].isin(runs["run_id"]), ["experiment", "run_id"]].astype(str)
    for name in names:
        history[name] = tables.history.get(name, np.nan)
    return history.merge(runs[["experiment", "run_id", "entry", "seed", "collapsed"]], on=["experiment", "run_id"])


def _looks_of(tables: Tables, history: pd.DataFrame) -> dict[str, Look]:
    """The looks of the entries in a history, in the order in which they are shown."""
    there = set(history["entry"])
    return {entry: look for entry, look in looks(tables.leaderboard).items() if entry in there}


def _band(axes: Axes, own: pd.DataFrame, name: str, look: Look) -> None:
    """The mean over seeds by epoch, in a band from the lowest to the highest."""
    by_epoch = own.dropna(subset=[name]).groupby("epoch")[name].agg(["mean", "min", "max"])
    axes.fill_between(by_epoch.index, by_epoch["min"], by_epoch["max"], color=look.colour, alpha=0.18, lw=0)
    every = max(1, len(by_epoch) // 6)
    drawn: dict[str, Any] = {**look.marked(edge=look.colour), "ls": look.line, "markevery": every, "ms": 4, "lw": 1.4}
    axes.plot(by_epoch.index, by_epoch["mean"], **drawn)


def _curves(
    history: pd.DataFrame, look: dict[str, Look], titles: dict[str, str], ylabel: str, crossed: bool = False
) -> Figure | None:
    """One panel a metric, one line an entry; `crossed`: not of collapsed runs, which the caller draws."""
    shown = [name for name in titles if history[name].notna().any()]
    if not shown:
        return None
    figure = Figure(figsize=(2.9 * len(shown) + 2.1, 3.0), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True).ravel()
    banded = history[~history["collapsed"]] if crossed else history
    for axes, name in zip(panels, shown, strict=True):
        for entry, own in look.items():
            _band(axes, banded[banded["entry"] == entry], name, own)
        axes.set_title(titles[name])
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    panels[0].set_ylabel(ylabel)
    handles = [
        Line2D([], [], ms=4, ls=own.line, label=plain(entry_name(entry)), **own.marked(edge=own.colour))
        for entry, own in look.items()
    ]
    if len(banded) < len(history):
        handles.append(Line2D([], [], color="#555555", ls=":", marker="x", ms=7, label="collapsed run"))
    figure.legend(handles=handles, loc="outside right upper")
    return figure
