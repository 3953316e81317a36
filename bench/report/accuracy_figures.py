"""Figures of what training ended with: accuracies, their differences, and what they cost."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.columns import COLUMNS, DASH, p_value, records
from bench.report.names import entry_name
from bench.report.palette import looks
from bench.report.style import plain
from bench.tables.comparison import scores
from bench.tables.grid import on_board
from bench.tables.leaderboard import Tables, standing
from bench.tables.statistics import DIGITS

MAX_PAIRS = 15
MAX_DEVICES = 3
LINE = 40  # letters of two names; longer ones stand on two lines
BELOW = 0.24  # where the seeds' dots are, in rows below the mean: not hidden by its interval


def leaderboard_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Means with 95 % intervals, and every seed's dot; the best on top, references at the bottom."""
    metric = tables.metric
    rows = rows[rows[f"{metric}_n"] > 0]
    if rows.empty:
        return None
    figure = Figure(figsize=(6.4, 1.1 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    points, look = scores(standing(tables, rows), metric), looks(tables.leaderboard)
    for y, row in enumerate(records(rows)):
        own, mean = look[row["entry"]], row[f"{metric}_mean"]
        if not row["source"]:
            _dots(axes, points[row["entry"]], y, own.colour)
        ends = [[mean - row[f"{metric}_low"]], [row[f"{metric}_high"] - mean]]
        axes.errorbar(mean, y, xerr=ends, ls="", ms=7, capsize=3, lw=1.5, **own.marked())
    labels = map(plain, map(entry_name, rows["entry"]))
    aside = rows["reference"].map({True: " (reference)", False: ""}).where(rows["source"] == "", " (not trained here)")
    names = [name + told for name, told in zip(labels, aside, strict=True)]
    marks = rows["mark"].map({"best": " *", "candidate": " *", "untested": " ?"}).fillna("")
    axes.set_yticks(range(len(rows)), [name + mark for name, mark in zip(names, marks, strict=True)])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(max(0, axes.get_xlim()[0]), min(100.5, axes.get_xlim()[1]))
    if rows["reference"].any() and not rows["reference"].all():
        axes.axhline((~rows["reference"]).sum() - 0.5, color="#999999", lw=0.8)
    axes.set_xlabel(f"{COLUMNS[metric].header} accuracy (%), mean, 95 % interval, seeds")
    return figure


def difference_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Differences between entries, with a dot a common seed; with many entries, those from the best only."""
    pairs = on_board(tables.pairs, rows)
    pairs = pairs[~pairs["reference"] & pairs["difference"].notna()]
    if len(pairs) > MAX_PAIRS:
        pairs = pairs[pairs["with_best"]]
    if pairs.empty:
        return None
    figure = Figure(figsize=(6.4, 1.1 + 0.32 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    points = scores(standing(tables, rows), tables.metric)
    for y, pair in enumerate(records(pairs)):
        shade = "#222222" if pair["significant"] else "#8a8a8a"
        differences = (points[pair["entry_a"]] - points[pair["entry_b"]]).dropna()
        _dots(axes, differences, y, shade)
        half = pair["high_simultaneous"] - pair["difference"]
        face = shade if pair["significant"] else "white"
        axes.errorbar(pair["difference"], y, xerr=half, fmt="o", ms=6, capsize=3, lw=1.5, color=shade, mfc=face)
        p = p_value(pair["p_holm"])
        text = " not tested" if p == DASH else f" Holm p = {p}".replace("= <", "<")
        axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=shade)
    axes.axvline(0, color="#555555", lw=1)
    first, second = ([plain(entry_name(e)) for e in pairs[column]] for column in ("entry_a", "entry_b"))
    names = [f"{a} − {b}" if len(a + b) <= LINE else f"{a}\n− {b}" for a, b in zip(first, second, strict=True)]
    axes.set_yticks(range(len(pairs)), names)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlabel(
        f"difference in {COLUMNS[tables.metric].header} accuracy (points), 95 % intervals of all pairs at once"
    )
    return figure


def cost_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Accuracy against the training time of one run, in GPU-hours where all ran on GPUs."""
    metric = tables.metric
    rows = rows[(rows[f"{metric}_n"] > 0) & rows["train_seconds_mean"].notna()]
    if rows.empty:
        return None
    longest = rows["train_seconds_mean"].max()
    devices = sorted(set(standing(tables, rows)["device"].dropna()) - {""})
    on_gpu = bool(devices) and not any(device.startswith("cpu") for device in devices)
    unit, seconds = ("minutes", 60) if longest >= 120 else ("seconds", 1)
    if on_gpu or longest >= 3600:
        unit, seconds = ("GPU-hours" if on_gpu else "hours"), 3600
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes, handles, look = figure.subplots(), [], looks(tables.leaderboard)
    for row in records(rows):
        entry, half = row["entry"], row[f"{metric}_high"] - row[f"{metric}_mean"]
        x = row["train_seconds_mean"] / seconds
        drawn: dict[str, Any] = {**look[entry].marked(), "ms": 8, "ls": "", "label": plain(entry_name(entry))}
        axes.errorbar(x, row[f"{metric}_mean"], yerr=half, capsize=3, **drawn)
        handles.append(Line2D([], [], **drawn))  # without the bars of the interval
    axes.set_ylim(max(0, axes.get_ylim()[0]), min(100.5, axes.get_ylim()[1]))
    axes.set_xlim(-0.04 * longest / seconds, 1.1 * longest / seconds or 1)  # an untrained backbone's marker is whole
    told = [plain(device, 60) for device in devices[:MAX_DEVICES]]
    told += [f"and {len(devices) - MAX_DEVICES} more"] * (len(devices) > MAX_DEVICES)
    axes.set_xlabel("\n".join([f"training time of one run, as measured ({unit})", *told]))
    axes.set_ylabel(f"{COLUMNS[metric].header} accuracy (%)")
    figure.legend(handles=handles, loc="outside right upper")
    return figure


def _dots(axes: Axes, values: pd.Series, y: float, shade: str) -> None:
    """A dot a seed, below the mean; those of equal numbers in a stack."""
    rounded = values.round(DIGITS)
    above = rounded.groupby(rounded).cumcount()
    step = min(0.07, 0.2 / max(1, above.max()))
    axes.plot(values, y + BELOW + step * above, "o", ms=4, alpha=0.55, color=shade, mew=0)
