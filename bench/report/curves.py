"""Figures of training: what was logged, epoch by epoch."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.columns import COLUMNS
from bench.report.names import method_name
from bench.report.palette import Look, in_order, looks
from bench.report.style import plain
from bench.tables.leaderboard import Tables, standing


def loss_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Training loss; methods' losses are not comparable, so each has its own panel and scale."""
    history = _history(tables, rows).dropna(subset=["loss"])
    methods = in_order(set(history["method"]))
    if not methods:
        return None
    look = looks(tables.leaderboard["method"])
    columns = min(4, len(methods))
    lines = -(-len(methods) // columns)
    figure = Figure(figsize=(1.9 * columns + 0.6, 1.7 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for axes, method in zip(panels, methods, strict=False):
        _band(axes, history[history["method"] == method], "loss", look[method])
        axes.set_title(plain(method_name(method), length=18))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for axes, over in zip(panels[len(methods) :], panels[len(methods) - columns :], strict=False):
        axes.set_axis_off()
        over.tick_params(labelbottom=True)  # the lowest panel of its column
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    return figure


def accuracy_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Online linear and kNN accuracy on the validation split."""
    titles = {name: COLUMNS[name].header for name in ("online_linear_top1", "val_knn_top1")}
    look = looks(tables.leaderboard["method"])
    return _curves(_history(tables, rows), look, titles, "validation accuracy (%)")


def rank_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Effective rank of the features; collapsed runs are drawn singly, ending in a cross."""
    history = _history(tables, rows)
    collapsed = history[history["collapsed"]].dropna(subset=["effective_rank"])
    look = looks(tables.leaderboard["method"])
    figure = _curves(history, look, {"effective_rank": ""}, "effective rank (RankMe)", crossed=True)
    if figure is not None:
        for (method, _), run in collapsed.groupby(["method", "seed"]):
            shade = look[str(method)].colour
            figure.axes[0].plot(run["epoch"], run["effective_rank"], ":", color=shade, lw=1.2)
            figure.axes[0].plot(run["epoch"].iloc[-1:], run["effective_rank"].iloc[-1:], "x", ms=8, mew=2, color=shade)
    return figure


def plane_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Alignment against uniformity (Wang & Isola 2020) during training: thin lines are seeds, the marker is the end."""
    history = _history(tables, rows).dropna(subset=["alignment", "uniformity"])
    methods = in_order(set(history["method"]))
    if not methods:
        return None
    look = looks(tables.leaderboard["method"])
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    for method in methods:
        own, shade = history[history["method"] == method], look[method].colour
        for _, run in own.groupby("seed"):
            axes.plot(run["uniformity"], run["alignment"], color=shade, lw=0.6, alpha=0.45)
        mean = own.groupby("epoch")[["uniformity", "alignment"]].mean()
        axes.plot(mean["uniformity"], mean["alignment"], color=shade, lw=1.8)
        axes.plot(
            mean["uniformity"].iloc[-1:],
            mean["alignment"].iloc[-1:],
            look[method].marker,
            color=shade,
            ms=8,
            mec="w",
            label=plain(method_name(method)),
        )
    axes.set_xlabel("uniformity (lower: more uniform)")
    axes.set_ylabel("alignment (lower: views closer)")
    figure.legend(loc="outside right upper")
    return figure


def _history(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """Epochs of the runs that stand for the board's methods: of finished ones, or of all if a method has none."""
    runs = standing(tables, rows)
    done = runs["state"] == "done"
    runs = runs[done | ~runs["method"].isin(runs.loc[done, "method"])]
    names = ["epoch", "loss", "online_linear_top1", "val_knn_top1", "alignment", "uniformity", "effective_rank"]
    history = tables.history.loc[tables.history["run_id"].isin(runs["run_id"]), ["experiment", "run_id"]].astype(str)
    for name in names:
        history[name] = tables.history.get(name, np.nan)
    return history.merge(runs[["experiment", "run_id", "method", "seed", "collapsed"]], on=["experiment", "run_id"])


def _band(axes: Axes, own: pd.DataFrame, name: str, look: Look) -> None:
    """The mean over seeds by epoch, in a band from the lowest to the highest."""
    by_epoch = own.dropna(subset=[name]).groupby("epoch")[name].agg(["mean", "min", "max"])
    axes.fill_between(by_epoch.index, by_epoch["min"], by_epoch["max"], color=look.colour, alpha=0.18, lw=0)
    every = max(1, len(by_epoch) // 6)
    drawn: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markevery": every, "ms": 4, "lw": 1.4}
    axes.plot(by_epoch.index, by_epoch["mean"], **drawn)


def _curves(
    history: pd.DataFrame, look: dict[str, Look], titles: dict[str, str], ylabel: str, crossed: bool = False
) -> Figure | None:
    """One panel a metric, one line a method; `crossed`: not of collapsed runs, which the caller draws."""
    shown = [name for name in titles if history[name].notna().any()]
    if not shown:
        return None
    figure = Figure(figsize=(2.9 * len(shown) + 2.1, 3.0), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True).ravel()
    methods = in_order(set(history["method"]))
    banded = history[~history["collapsed"]] if crossed else history
    for axes, name in zip(panels, shown, strict=True):
        for method in methods:
            _band(axes, banded[banded["method"] == method], name, look[method])
        axes.set_title(titles[name])
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    panels[0].set_ylabel(ylabel)
    handles = [
        Line2D([], [], color=look[m].colour, marker=look[m].marker, ms=4, label=plain(method_name(m))) for m in methods
    ]
    if len(banded) < len(history):
        handles.append(Line2D([], [], color="#555555", ls=":", marker="x", ms=7, label="collapsed run"))
    figure.legend(handles=handles, loc="outside right upper")
    return figure
