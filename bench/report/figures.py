"""Tables -> figures: for print (PNG, PDF) and for the page (SVG). Every function draws one board and returns a Figure.

Seeds are always shown: as dots, as thin lines, or as a band from the lowest to the highest.
"""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.columns import COLUMNS, DASH, boards, p_value, records
from bench.report.grid_figures import grid_figure, grid_plane_figure
from bench.report.palette import colour, in_order, marker
from bench.tables.leaderboard import Tables, on_board, scores
from bench.tables.statistics import DIGITS

STYLE: Any = {
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
MAX_PAIRS = 15
BELOW = 0.24  # where the seeds' dots are, in rows below the mean: not hidden by its interval


def figures(tables: Tables) -> Iterator[tuple[str, str, Figure]]:
    """(file name without suffix, caption, figure) of every figure that the tables have data for."""
    labelled = list(boards(tables.leaderboard))
    for label, rows in labelled:
        suffix = f"-{slug(label)}" if len(labelled) > 1 else ""
        for name, (caption, draw) in DRAWERS.items():
            with mpl.rc_context(STYLE):
                figure = draw(tables, rows)
            if figure is not None:
                yield name + suffix, f"{label}: {caption}", figure
        with mpl.rc_context(STYLE):
            plane = grid_plane_figure(tables, rows)
        if plane is not None:
            caption = "alignment and uniformity of every configuration during training; a cross: seeds collapsed"
            yield f"grid-alignment-uniformity{suffix}", f"{label}: {caption}", plane
        for method in rows.loc[rows["points"] > 1, "method"]:
            with mpl.rc_context(STYLE):
                figure = grid_figure(tables, rows, method)
            if figure is not None:
                caption = "validation linear accuracy over the configurations tried; the chosen one is marked"
                yield f"grid-{slug(method)}{suffix}", f"{label}: {method}, {caption}", figure


def render(figure: Figure, suffix: str) -> bytes:
    """The figure as a file: suffix png, pdf or svg. No dates in it: the same runs give the same bytes."""
    buffer = io.BytesIO()
    metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[suffix]
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def is_ours(name: str) -> bool:
    """Whether a file of this name (without suffix) in `figures/` is one that `figures` may have given."""
    return any(name == ours or name.startswith(f"{ours}-") for ours in (*DRAWERS, "grid"))


def slug(text: str) -> str:
    """Part of a file name; a long one keeps both ends, as a folder's fingerprint stands last."""
    name = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"
    return name if len(name) <= 60 else f"{name[:40]}-{name[-19:]}"


def plain(text: str, length: int = 30) -> str:
    """Text as matplotlib can draw it: no mathematics, no hidden labels, not too long, in its font's letters."""
    half = length // 2 - 1
    text = text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
    text = "".join(
        c if get_font(findfont(FontProperties())).get_char_index(ord(c)) else f"[U+{ord(c):04X}]" for c in text
    )
    return re.sub(r"^_", " _", text.replace("$", r"\$"))


def leaderboard_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Means with 95 % intervals, and every seed's dot; the best on top, references at the bottom."""
    metric = tables.metric
    rows = rows[rows[f"{metric}_n"] > 0]
    if rows.empty:
        return None
    figure = Figure(figsize=(6.4, 1.1 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    points = scores(_runs(tables, rows), metric)
    for y, row in enumerate(records(rows)):
        method, mean = row["method"], row[f"{metric}_mean"]
        half = row[f"{metric}_high"] - mean
        _dots(axes, points[method], y, colour(method))
        axes.errorbar(mean, y, xerr=half, fmt=marker(method), ms=7, capsize=3, lw=1.5, color=colour(method), mec="w")
    names = [plain(m) + (" (reference)" if r else "") for m, r in zip(rows["method"], rows["reference"], strict=True)]
    marks = rows["mark"].map({"best": " *", "tie": " *", "untested": " ?"}).fillna("")
    axes.set_yticks(range(len(rows)), [name + mark for name, mark in zip(names, marks, strict=True)])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(max(0, axes.get_xlim()[0]), min(100.5, axes.get_xlim()[1]))
    if rows["reference"].any() and not rows["reference"].all():
        axes.axhline((~rows["reference"]).sum() - 0.5, color="#999999", lw=0.8)
    axes.set_xlabel(f"{COLUMNS[metric].header} accuracy (%), mean, 95 % interval, seeds")
    return figure


def loss_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Training loss; methods' losses are not comparable, so each has its own panel and scale."""
    history = _history(tables, rows).dropna(subset=["loss"])
    methods = in_order(set(history["method"]))
    if not methods:
        return None
    columns = min(4, len(methods))
    lines = -(-len(methods) // columns)
    figure = Figure(figsize=(1.9 * columns + 0.6, 1.7 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for axes, method in zip(panels, methods, strict=False):
        _band(axes, history[history["method"] == method], "loss", method)
        axes.set_title(plain(method, length=18))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for axes, over in zip(panels[len(methods) :], panels[len(methods) - columns :], strict=False):
        axes.set_axis_off()
        over.tick_params(labelbottom=True)  # the lowest panel of its column
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    return figure


def accuracy_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Online linear and kNN accuracy on the validation split."""
    titles = {"online_linear_top1": "online linear", "val_knn_top1": "kNN"}
    return _curves(_history(tables, rows), titles, "validation accuracy (%)")


def rank_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Effective rank of the features; collapsed runs are drawn singly, ending in a cross."""
    history = _history(tables, rows)
    collapsed = history[history["collapsed"]].dropna(subset=["effective_rank"])
    figure = _curves(history, {"effective_rank": ""}, "effective rank (RankMe)", crossed=True)
    if figure is not None:
        for (method, _), run in collapsed.groupby(["method", "seed"]):
            shade = colour(str(method))
            figure.axes[0].plot(run["epoch"], run["effective_rank"], ":", color=shade, lw=1.2)
            figure.axes[0].plot(run["epoch"].iloc[-1:], run["effective_rank"].iloc[-1:], "x", ms=8, mew=2, color=shade)
    return figure


def difference_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Paired differences between methods on common seeds; with many methods, those from the best only."""
    pairs = on_board(tables.pairs, rows)
    pairs = pairs[~pairs["reference"] & (pairs["n"] > 0)]
    if len(pairs) > MAX_PAIRS:
        pairs = pairs[pairs["with_best"]]
    if pairs.empty:
        return None
    figure = Figure(figsize=(6.4, 1.1 + 0.32 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    points = scores(_runs(tables, rows), tables.metric)
    for y, pair in enumerate(records(pairs)):
        shade = "#222222" if pair["significant"] else "#8a8a8a"
        differences = (points[pair["method_a"]] - points[pair["method_b"]]).dropna()
        _dots(axes, differences, y, shade)
        half = pair["high"] - pair["difference"]
        face = shade if pair["significant"] else "white"
        axes.errorbar(pair["difference"], y, xerr=half, fmt="o", ms=6, capsize=3, lw=1.5, color=shade, mfc=face)
        p = p_value(pair["p_holm"])
        text = " not tested" if p == DASH else f" Holm p = {p}".replace("= <", "<")
        axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=shade)
    axes.axvline(0, color="#555555", lw=1)
    labels = [f"{plain(a, 20)} − {plain(b, 20)}" for a, b in zip(pairs["method_a"], pairs["method_b"], strict=True)]
    axes.set_yticks(range(len(pairs)), labels)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlabel(f"difference in {COLUMNS[tables.metric].header} accuracy (points), 95 % interval, seeds")
    return figure


def plane_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Alignment against uniformity (Wang & Isola 2020) during training: thin lines are seeds, the marker is the end."""
    history = _history(tables, rows).dropna(subset=["alignment", "uniformity"])
    methods = in_order(set(history["method"]))
    if not methods:
        return None
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    for method in methods:
        own = history[history["method"] == method]
        for _, run in own.groupby("seed"):
            axes.plot(run["uniformity"], run["alignment"], color=colour(method), lw=0.6, alpha=0.45)
        mean = own.groupby("epoch")[["uniformity", "alignment"]].mean()
        axes.plot(mean["uniformity"], mean["alignment"], color=colour(method), lw=1.8)
        axes.plot(
            mean["uniformity"].iloc[-1:],
            mean["alignment"].iloc[-1:],
            marker(method),
            color=colour(method),
            ms=8,
            mec="w",
            label=plain(method),
        )
    axes.set_xlabel("uniformity (lower: more uniform)")
    axes.set_ylabel("alignment (lower: views closer)")
    figure.legend(loc="outside right upper")
    return figure


def cost_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Accuracy against the training time of one run, in GPU-hours where all ran on GPUs."""
    metric = tables.metric
    rows = rows[(rows[f"{metric}_n"] > 0) & rows["train_seconds_mean"].notna()]
    if rows.empty:
        return None
    longest = rows["train_seconds_mean"].max()
    devices = sorted(set(_runs(tables, rows)["device"].dropna()) - {""})
    on_gpu = bool(devices) and not any(device.startswith("cpu") for device in devices)
    unit, seconds = ("minutes", 60) if longest >= 120 else ("seconds", 1)
    if on_gpu or longest >= 3600:
        unit, seconds = ("GPU-hours" if on_gpu else "hours"), 3600
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes, handles = figure.subplots(), []
    for row in records(rows):
        method, half = row["method"], row[f"{metric}_high"] - row[f"{metric}_mean"]
        x = row["train_seconds_mean"] / seconds
        style: dict[str, Any] = {"marker": marker(method), "color": colour(method), "ms": 8, "mec": "w", "ls": ""}
        style["label"] = plain(method)
        axes.errorbar(x, row[f"{metric}_mean"], yerr=half, capsize=3, **style)
        handles.append(Line2D([], [], **style))  # without the bars of the interval
    axes.set_ylim(max(0, axes.get_ylim()[0]), min(100.5, axes.get_ylim()[1]))
    axes.set_xlim(-0.04 * longest / seconds, 1.1 * longest / seconds or 1)  # an untrained backbone's marker is whole
    axes.set_xlabel(f"training time of one run, as measured ({unit})\n{plain(', '.join(devices))}")
    axes.set_ylabel(f"{COLUMNS[metric].header} accuracy (%)")
    figure.legend(handles=handles, loc="outside right upper")
    return figure


Drawer = Callable[[Tables, pd.DataFrame], Figure | None]
DRAWERS: dict[str, tuple[str, Drawer]] = {
    "leaderboard": (
        "accuracy with 95 % intervals over training seeds on one test set, every seed a dot; *: best, or not shown to "
        "be worse; ?: not tested",
        leaderboard_figure,
    ),
    "differences": (
        "paired differences on common seeds; 95 % intervals, each of one difference (not adjusted); p Holm-adjusted; "
        "filled: significant",
        difference_figure,
    ),
    "curves-accuracy": ("validation accuracy in training, band: lowest to highest seed", accuracy_figure),
    "curves-loss": ("loss in training, band: lowest to highest seed", loss_figure),
    "alignment-uniformity": ("alignment and uniformity in training", plane_figure),
    "effective-rank": ("effective rank in training, band: lowest to highest seed", rank_figure),
    "cost": ("accuracy against training time", cost_figure),
}


def _dots(axes: Axes, values: pd.Series, y: float, shade: str) -> None:
    """A dot a seed, below the mean; those of equal numbers in a stack."""
    rounded = values.round(DIGITS)
    above = rounded.groupby(rounded).cumcount()
    step = min(0.07, 0.2 / max(1, above.max()))
    axes.plot(values, y + BELOW + step * above, "o", ms=4, alpha=0.55, color=shade, mew=0)


def _runs(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that stand for the board's methods."""
    return on_board(tables.runs[tables.runs["chosen"]], rows)


def _history(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """Epochs of the runs that stand for the board's methods: of finished ones, or of all if a method has none."""
    runs = _runs(tables, rows)
    done = runs["state"] == "done"
    runs = runs[done | ~runs["method"].isin(runs.loc[done, "method"])]
    names = ["epoch", "loss", "online_linear_top1", "val_knn_top1", "alignment", "uniformity", "effective_rank"]
    history = tables.history.loc[tables.history["run_id"].isin(runs["run_id"]), ["experiment", "run_id"]].astype(str)
    for name in names:
        history[name] = tables.history.get(name, np.nan)
    return history.merge(runs[["experiment", "run_id", "method", "seed", "collapsed"]], on=["experiment", "run_id"])


def _band(axes: Axes, own: pd.DataFrame, name: str, method: str) -> None:
    """The mean over seeds by epoch, in a band from the lowest to the highest."""
    by_epoch = own.dropna(subset=[name]).groupby("epoch")[name].agg(["mean", "min", "max"])
    axes.fill_between(by_epoch.index, by_epoch["min"], by_epoch["max"], color=colour(method), alpha=0.18, lw=0)
    every = max(1, len(by_epoch) // 6)
    axes.plot(
        by_epoch.index,
        by_epoch["mean"],
        color=colour(method),
        marker=marker(method),
        markevery=every,
        ms=4,
        lw=1.4,
        label=plain(method),
    )


def _curves(history: pd.DataFrame, titles: dict[str, str], ylabel: str, crossed: bool = False) -> Figure | None:
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
            _band(axes, banded[banded["method"] == method], name, method)
        axes.set_title(titles[name])
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    panels[0].set_ylabel(ylabel)
    handles = [Line2D([], [], color=colour(m), marker=marker(m), ms=4, label=plain(m)) for m in methods]
    if len(banded) < len(history):
        handles.append(Line2D([], [], color="#555555", ls=":", marker="x", ms=7, label="collapsed run"))
    figure.legend(handles=handles, loc="outside right upper")
    return figure
