"""metrics.jsonl of many runs -> one compact table, read as a stream: smaller in memory than on disk."""

import math
from array import array
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pandas as pd

from bench.files import parse_json
from bench.runs.store import RunDir

CHUNK = 2048  # rows held as Python objects at a time


class HistoryColumns:
    """History as one compact array a column: 8 bytes a number, where Python objects would take some 30."""

    def __init__(self) -> None:
        self.columns: dict[str, array[float]] = {}
        self.run: array[int] = array("q")

    def read(self, run: RunDir, number: int, torn_is_news: bool) -> Iterator[str]:
        """Add the metrics.jsonl of run `number`; yields what was wrong with it."""
        bad = 0
        try:
            with run.metrics.open("rb") as lines:
                while chunk := list(islice(lines, CHUNK)):
                    if not chunk[-1].endswith(b"\n"):
                        chunk.pop()
                        if torn_is_news:
                            yield "the last line is torn: left out"
                    bad += self._add(chunk, number)
        except FileNotFoundError:
            return
        except OSError as error:
            yield f"cannot be read: {error.strerror}"
        if bad:
            yield f"{bad} damaged line{'s' * (bad > 1)} left out"

    def _add(self, lines: list[bytes], number: int) -> int:
        """Parse complete lines; returns how many had to be left out."""
        rows = []
        for line in lines:
            try:
                row = parse_json(line.decode())
                if row["epoch"] is None or not math.isfinite(sum(v for v in row.values() if v is not None)):
                    raise ValueError("a history row holds finite numbers, and its epoch")
                rows.append(row)
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                continue  # counted below
        before = len(self.run)
        self.run.extend([number] * len(rows))
        for name in dict.fromkeys(name for row in rows for name in row):
            if name not in self.columns:
                self.columns[name] = array("d", [math.nan]) * before
        for name, column in self.columns.items():
            column.extend([math.nan if (value := row.get(name)) is None else value for row in rows])
        return len(lines) - len(rows)

    def frame(self, runs: pd.DataFrame) -> pd.DataFrame:
        """The history table; what identifies a run is categorical: a small number a row."""
        codes = np.frombuffer(self.run, dtype=np.int64) if self.run else np.empty(0, dtype=np.int64)
        frame = {}
        for key in ("experiment", "run_id", "entry", "method", "config_hash", "seed"):
            frame[key] = runs[key].astype("category").iloc[codes].array
        first = [name for name in ("epoch", "step") if name in self.columns] or ["epoch"]
        for name in [*first, *(name for name in self.columns if name not in first)]:
            values = np.frombuffer(self.columns.get(name, array("d")), dtype=np.float64)
            whole = name in first and bool(np.all(values == np.floor(values)))
            frame[name if name not in frame else f"logged_{name}"] = values.astype(int) if whole else values
        return pd.DataFrame(frame, copy=False)
