"""Figures of an entry's grid: a line over one key, a heat map over two, a panel a key over more."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.report.names import entry_name
from bench.report.palette import LINES, SPARE_COLOURS, looks
from bench.report.style import plain
from bench.tables.grid import CHOICE, grid_column, is_number, levels, of_choice, on_board, varying
from bench.tables.leaderboard import Tables

YLABEL = "validation linear accuracy (%)"
PLANE_COLOURS = ("#222222", *SPARE_COLOURS)
MAX_LINES = len(PLANE_COLOURS)  # more cannot be told apart


def grid_figure(tables: Tables, rows: pd.DataFrame, entry: str) -> Figure | None:
    """All points of an entry on a board by what they are chosen by; None if no point is done, or none differ."""
    grid = tables.grid
    own = on_board(grid[grid["entry"] == entry], rows)
    keys = [grid_column(key) for key in varying([tables.configs.get(digest, {}) for digest in own["config_hash"]])]
    if not keys or own[f"{CHOICE}_mean"].isna().all():
        return None
    if len(keys) == 2 and not own.duplicated(keys).any():
        return _heat_map(own, *keys)
    figure = Figure(figsize=(min(2.9 * len(keys) + 0.5, 11), 3.0), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False, sharey=True).ravel()
    shade = looks(tables.leaderboard)[entry].colour
    for axes, name in zip(panels, keys, strict=True):
        _line(axes, own, name, shade)
    panels[0].set_ylabel(YLABEL)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=8)
    return figure


def grid_plane_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """Alignment against uniformity of every point of the swept entries: a line is a point's mean over its seeds.

    A panel an entry; a cross at the end where a seed collapsed. None if nothing was swept, or an entry has more than
    MAX_LINES points.
    """
    swept = rows[rows["points"] > 1]
    if swept.empty or swept["points"].max() > MAX_LINES or "uniformity" not in tables.history:
        return None
    runs = on_board(tables.runs[(tables.runs["state"] == "done") & of_choice(tables.runs)], rows)
    history = tables.history[["run_id", "epoch", "alignment", "uniformity"]].dropna()
    history = history.astype({"run_id": str}).merge(runs[["run_id", "entry", "config_hash", "collapsed"]], on="run_id")
    there = set(swept["entry"]) & set(history["entry"])  # those with diagnostics
    entries = [entry for entry in looks(tables.leaderboard) if entry in there]
    if not entries:
        return None
    points = {entry: on_board(tables.grid[tables.grid["entry"] == entry], rows) for entry in entries}
    configs = {entry: [tables.configs.get(digest, {}) for digest in points[entry]["config_hash"]] for entry in entries}
    drawn = _looks(configs)
    figure = Figure(figsize=(2.9 * len(entries) + 0.6, 3.9), layout="constrained")
    panels = figure.subplots(1, len(entries), squeeze=False, sharex=True, sharey=True).ravel()
    for axes, entry in zip(panels, entries, strict=True):
        names = _names(configs[entry])
        for digest, name, (shade, line) in zip(points[entry]["config_hash"], names, drawn[entry], strict=True):
            own = history[(history["entry"] == entry) & (history["config_hash"] == digest)]
            if own.empty:
                continue
            mean = own.groupby("epoch")[["uniformity", "alignment"]].mean()
            axes.plot(
                mean["uniformity"],
                mean["alignment"],
                color=shade,
                ls=line,
                lw=1.4,
                marker="X" if own["collapsed"].any() else "o",
                markevery=[-1],
                ms=7,
                mec=shade,
                mfc=shade if line == LINES[0] else "w",
                label=name or digest,
            )
        axes.set_title(plain(entry_name(entry)))
        axes.set_xlabel("uniformity (lower: more uniform)")
        if axes.get_lines():
            axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), handlelength=3)
    panels[0].set_ylabel("alignment (lower: views closer)")
    return figure


def _looks(configs: dict[str, list[dict[str, Any]]]) -> dict[str, list[tuple[str, str]]]:
    """Colour and line style of every configuration of every entry.

    The keys that all entries vary give the colour, the same in every panel; an entry's other keys the line style.
    """
    keys = {entry: varying(own) for entry, own in configs.items()}
    shared = set.intersection(*map(set, keys.values()))
    found: dict[str, list[tuple[str, str]]] = {}
    colours: dict[str, int] = {}
    for entry, own in configs.items():
        found[entry] = []
        coloured = shared or set(keys[entry])
        styles: dict[str, int] = {}
        for config in own:
            common = repr([(key, config.get(key)) for key in keys[entry] if key in coloured])
            rest = repr([(key, config.get(key)) for key in keys[entry] if key not in coloured])
            shade = colours.setdefault(common, len(colours)) % len(PLANE_COLOURS)
            line = styles.setdefault(rest, len(styles)) % len(LINES)
            found[entry].append((PLANE_COLOURS[shade], LINES[line]))
    return found


def _names(configs: list[dict[str, Any]]) -> list[str]:
    """What tells configurations apart, e.g. "predictor=mlp, beta=0"."""
    keys = varying(configs)
    return [", ".join(f"{key.rpartition('.')[2]}={_text(config.get(key))}" for key in keys) for config in configs]


def _line(axes: Axes, own: pd.DataFrame, key: str, shade: str) -> None:
    """Every point as a dot, with its sd over seeds; the line joins the best competing ones at each value of the key."""
    values = levels(own[key])
    positions = _positions(values)
    x = own[key].map(lambda value: positions[values.index(value)])
    mean, sd = own[f"{CHOICE}_mean"], own[f"{CHOICE}_sd"]
    axes.errorbar(x, mean, yerr=sd.fillna(0), fmt="o", ms=5, lw=1, color=shade, alpha=0.6, label="mean, sd")
    part = own["done"] < own["planned"]
    if part.any():
        axes.plot(x[part], mean[part], "o", ms=5, mfc="w", mec=shade, label="seeds missing")
    best = mean[own["competes"]].groupby(x).max()
    axes.plot(best.index, best, color=shade, lw=1.5)
    chosen = own["chosen"]
    axes.plot(x[chosen], mean[chosen], "o", ms=11, mfc="none", mec="#222222", label="chosen")
    if positions == values and min(values) > 0 and max(values) >= 10 * min(values):
        axes.set_xscale("log")
    if len(values) <= 8:
        axes.set_xticks(positions, [f"{value:g}" if isinstance(value, float) else str(value) for value in values])
        axes.minorticks_off()
    axes.set_xlabel(key)


def _heat_map(own: pd.DataFrame, first: str, second: str) -> Figure:
    import seaborn as sns

    rows, columns = levels(own[first]), levels(own[second])
    means = np.full((len(rows), len(columns)), np.nan)
    texts = np.full(means.shape, "–", dtype=object)
    figure = Figure(figsize=(1.6 + 0.9 * len(columns), 1.2 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for point in own.to_dict("records"):
        at = rows.index(point[first]), columns.index(point[second])
        means[at] = point[f"{CHOICE}_mean"]
        if point["done"]:
            texts[at] = f"{means[at]:.1f}"
        if point["done"] < point["planned"]:
            texts[at] += f"\n{point['done']}/{point['planned']}"
        if point["chosen"]:
            axes.add_patch(Rectangle((at[1], at[0]), 1, 1, fill=False, ec="#D55E00", lw=2.5, zorder=3, clip_on=False))
    frame = pd.DataFrame(means, index=list(map(_text, rows)), columns=list(map(_text, columns)))
    sns.heatmap(frame, annot=texts, fmt="", cmap="cividis", ax=axes, cbar_kws={"label": YLABEL}, linewidths=0.5)
    axes.set_facecolor("#dddddd")
    axes.grid(False)
    axes.invert_yaxis()
    axes.tick_params(rotation=0)
    axes.set_ylabel(first)
    axes.set_xlabel(second)
    return figure


def _positions(values: list[Any]) -> list[Any]:
    """Numbers stand where they are; names, and numbers that would stand on each other's labels, side by side."""
    if not all(map(is_number, values)):
        return list(range(len(values)))
    near = min(np.diff(values), default=1.0) < 0.1 * (values[-1] - values[0])
    return list(range(len(values))) if near and values[0] <= 0 else values  # a logarithm would set them apart


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
