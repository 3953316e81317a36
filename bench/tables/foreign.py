"""Encoders from elsewhere: rows of the leaderboard that were not trained here. They have no seeds.

results/<experiment>/encoders/<name>/encoder.json says where one is from; its `evaluations/` are as a run's.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.files import parse_json
from bench.runs.encoders import Encoder
from bench.runs.evaluations import ENCODERS
from bench.tables.evaluated import SCORES, Measure
from bench.tables.grid import BOARD
from bench.tables.statistics import summarise, wilson


def found(experiment: Path) -> Iterator[tuple[str, Encoder | str]]:
    """(name, encoder, or why it cannot be shown) of every encoder of an experiment, by name."""
    try:
        names = sorted(os.listdir(experiment / ENCODERS))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield "", f"cannot be read: {error.strerror}"
        return
    for name in names:
        try:
            encoder = Encoder.of(
                parse_json((experiment / ENCODERS / name / "encoder.json").read_text(encoding="utf-8"))
            )
            yield name, encoder if encoder.name == name else f"of another encoder, {encoder.name}: left out"
        except OSError as error:
            yield name, f"encoder.json: {error.strerror}: left out"
        except (ValueError, RecursionError) as error:
            yield name, f"encoder.json: {' '.join(str(error).split())}: left out"


def joined(board: pd.DataFrame, encoders: pd.DataFrame, evaluations: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard with a row for every encoder on the boards of its experiment, below the references.

    `source` and `content_hash` are "" of what was trained here. An encoder that was judged on some board's data set
    stands on the boards of that; one that was judged on further data sets only, on all of them.
    """
    board = board.assign(source="", content_hash="")
    parts = []
    for key, own in board.groupby(BOARD, sort=False):
        there = runs.loc[(runs[BOARD] == list(key)).all(axis=1), "experiment"]
        rows = list(_rows(own, encoders[encoders["experiment"].isin(there)], evaluations))
        parts += [own, pd.DataFrame(rows, columns=own.columns).astype(own.dtypes)] if rows else [own]
    return pd.concat(parts, ignore_index=True) if parts else board


def _rows(board: pd.DataFrame, encoders: pd.DataFrame, evaluations: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows of these encoders on a board, by name; a name that is taken has its experiment's behind it."""
    first = board.iloc[0]
    empty = {"f": np.nan, "i": 0, "b": False}
    nothing = {str(name): empty.get(dtype.kind, "") for name, dtype in board.dtypes.items()}
    taken = set(board["entry"])
    for experiment, entry, source, content_hash in encoders.sort_values(["entry", "experiment"]).itertuples(
        index=False
    ):
        made = evaluations[(evaluations["run_id"] == "") & (evaluations["entry"] == entry)]
        done = made[(made["experiment"] == experiment) & (made["state"] == "done")]
        own = done.loc[[not Measure.of_column(column).dataset for column in done["column"]], "dataset"]
        if len(own) and first["dataset"] not in set(own):
            continue
        name = entry
        while name in taken:
            name = f"{name} ({experiment})"
        taken.add(name)
        identity = {**{key: first[key] for key in BOARD}, "entry": name, "reference": True}
        yield {**nothing, **identity, "source": source, "content_hash": content_hash, **_numbers(done)}


def _numbers(done: pd.DataFrame) -> dict[str, Any]:
    """Summaries: of several draws, over these (t); of one classifier, shares of test images over these (Wilson)."""
    told: dict[str, Any] = {}
    for column, draws in done.groupby("column", observed=True):
        measure = Measure.of_column(str(column))
        names = {measure.of(score): field for score, field in SCORES.items()}
        for name, field in {**names, measure.of("top1", "val"): "val_top1"}.items():
            summary = summarise(draws[field].dropna())
            if summary.n == 1 and field in ("test_top1", "test_top5"):
                low, high = wilson(summary.mean, int(draws["n_test"].iloc[0]))
                summary = replace(summary, low=low, high=high)
            told |= {f"{name}_{key}": value for key, value in vars(summary).items()}
    return told
