"""Accuracy over the number of labels: what `few` found, and `linear` with all of them."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from bench.report.columns import records
from bench.report.evaluated import judged_by
from bench.report.names import dataset_name, entry_name
from bench.report.palette import looks
from bench.report.style import plain
from bench.tables.evaluated import Measure
from bench.tables.leaderboard import Tables


def few_labels_figure(tables: Tables, rows: pd.DataFrame) -> Figure | None:
    """A line an entry, means with 95 % intervals; a panel a data set that was judged with few labels."""
    panels: dict[tuple[str, str], list[str]] = {}
    for name in judged_by(tables, rows):
        measure = Measure.of_column(name)
        if measure.variant == "linear" or measure.variant.startswith("few_"):
            panels.setdefault((measure.dataset, measure.key), []).append(name)
    panels = {panel: names for panel, names in panels.items() if any("_few_" in name for name in names)}
    if not panels:
        return None
    figure = Figure(figsize=(1.4 + 3.9 * len(panels), 3.4), layout="constrained")
    labels = tables.evaluations.groupby("column", observed=True)["n_labels"].mean()
    look = looks(tables.leaderboard)
    handles: dict[str, Line2D] = {}
    for i, ((dataset, key), names) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1)
        ordered = sorted(names, key=lambda name: labels.get(name, 0))
        for row in sorted(records(rows), key=lambda row: list(look).index(row["entry"])):
            shown = [name for name in ordered if name in labels and row[f"{name}_n"]]
            x = [labels[name] for name in shown]
            mean, low, high = ([row[f"{name}_{part}"] for name in shown] for part in ("mean", "low", "high"))
            ends = [
                [m - end for m, end in zip(mean, low, strict=True)],
                [end - m for m, end in zip(mean, high, strict=True)],
            ]
            own = look[row["entry"]]
            drawn = {"ls": own.line, "lw": 1.2, "ms": 5, "label": plain(entry_name(row["entry"])), **own.marked()}
            axes.errorbar(x, mean, yerr=ends, capsize=2, **drawn)
            handles[row["entry"]] = Line2D([], [], **drawn)  # without the bars of the interval
        ticks: list[int] = []
        for tick in sorted(round(labels[name]) for name in ordered if name in labels):
            ticks += [tick] * (not ticks or tick > 1.3 * ticks[-1])  # numbers do not overlap
        axes.set_xscale("log")
        axes.set_xticks(ticks, list(map(str, ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("labelled images")
        axes.set_ylabel("test accuracy (%)")
        title = dataset_name(dataset or rows.iloc[0]["dataset"])
        axes.set_title(plain(title + f" #{key}" * bool(key)))
    figure.legend(handles=list(handles.values()), loc="outside right upper")
    return figure
