"""A published table: a folder with runs.csv, from which the rest is computed; no run directory is needed."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import UserError, few
from bench.runs.identity import RUN_NAME
from bench.runs.result import CHOICES, METRICS, TIMINGS
from bench.tables import evaluated
from bench.tables.evaluated import measures
from bench.tables.inventory import RUN_COLUMNS, Inventory

RUNS = "runs.csv"
NEEDED = ("run_id", "method", "seed", "config_hash", "preset", "dataset", "protocol", "state", "test_linear_top1")
IDENTITY = tuple(name for name in evaluated.IDENTITY if name != "seed")
WHOLE = ("seed", "protocol")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes text for a formula by: tables have an apostrophe before it."""


@dataclass(frozen=True)
class Published:
    """Runs that a folder says were made."""

    folder: Path
    runs: pd.DataFrame
    """One row a run, as `bench.tables.inventory` has it; what its version did not store is empty."""

    @property
    def sweeps(self) -> list[Path]:
        """The sweep files beside it."""
        return sorted(self.folder.glob("*.toml"))

    @property
    def done(self) -> pd.DataFrame:
        """The finished runs, by run_id."""
        done = self.runs[self.runs["state"] == "done"]
        return done.set_index(pd.Index(done["run_id"], name="run"))

    @property
    def name(self) -> str:
        """The folder's name, and 8 hex digits of which runs it has: folders of one name are told apart."""
        told = "\n".join(sorted(self.done["run_id"] + " " + self.done["threads"].astype(str)))
        return f"{self.folder.resolve().name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def read(place: Path) -> Published:
    """A folder with runs.csv, or that file. Raises UserError."""
    if place.suffix == ".zip" and place.is_file():
        raise UserError(f"{place}: unpack it, and name the folder in it")
    folder = place if place.is_dir() else place.parent
    if not (folder / RUNS).is_file():
        raise UserError(f"{place}: there is no {RUNS}, which a published table has")
    try:
        texts = text_table(folder / RUNS)
        if missing := [name for name in NEEDED if name not in texts]:
            raise ValueError(f"no column {', '.join(missing)}")
        runs = _runs(texts)
    except (ValueError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / RUNS}: no table of runs as this program writes it ({reason})") from None
    counted = runs[runs["state"] != "duplicate"]
    if twice := list(dict.fromkeys(counted.loc[counted["run_id"].duplicated(), "run_id"])):
        raise UserError(f"{folder / RUNS}: a run counts once, and these are there twice: {few(twice)}")
    if not runs["state"].eq("done").any():
        raise UserError(f"{folder / RUNS}: no run is done")
    return Published(folder, runs)


def text_table(path: Path) -> pd.DataFrame:
    """A CSV file as text, "" where a field is empty. Raises ValueError."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    if not table.columns.is_unique:
        raise ValueError("two columns of one name")
    return table.map(lambda text: text[1:] if text[:1] == "'" and text[1:].startswith(FORMULA) else text)


def number(text: str) -> float:
    """A field of a table; NaN where it is empty. Raises ValueError."""
    return float(text) if text else np.nan


def _runs(texts: pd.DataFrame) -> pd.DataFrame:
    """Raises ValueError on what is no number where one should be, and on a run_id that is another row's."""
    found: dict[str, Any] = {}
    empty = pd.Series("", index=texts.index)
    for name in (*RUN_COLUMNS, *measures(texts)):
        own = texts[name] if name in texts else texts["method"] if name == "entry" else empty
        if name in (*METRICS, *CHOICES, *TIMINGS) or name not in RUN_COLUMNS:
            found[name] = own.map(number).astype(float)
        elif name in WHOLE:
            found[name] = own.astype(int)
        else:
            found[name] = own.eq("True") if name == "collapsed" else own.astype(object)
    runs = pd.DataFrame(found)
    for run_id, *identity in runs[["run_id", "method", "config_hash", "seed"]].itertuples(index=False):
        parsed = RUN_NAME.fullmatch(run_id)
        if not parsed or list(map(str, identity)) != list(parsed.groups()):
            raise ValueError(f"the run {run_id!r} is {' '.join(map(str, identity))} by its other columns")
    return runs


def inventory(published: Published, configs: dict[str, dict[str, Any]]) -> Inventory:
    """What `bench.tables.inventory.take` reads from run directories, of a published folder alone.

    configs: config_hash -> config with dotted keys, of those that are known. History, evaluations and encoders from
    elsewhere are as the other files say. Raises UserError if one cannot be used.
    """
    folder = published.folder
    history = _table(folder / "history.csv", (*IDENTITY, "seed", "epoch"), IDENTITY)
    rows = _table(
        folder / "evaluations.csv", (*IDENTITY, "seed", *evaluated.COLUMNS), (*IDENTITY, "column", *evaluated.TEXTS)
    )
    known = ("entry", "source", "content_hash")
    board = _table(folder / "leaderboard.csv", known)
    encoders = rows.loc[rows["run_id"] == "", ["experiment", "entry"]].drop_duplicates()
    encoders = encoders.merge(board.loc[board["source"] != "", [*known]], on="entry")
    problems = _table(folder / "problems.csv", ("experiment", "path", "reason"))
    return Inventory(published.runs, history, rows, encoders, problems, configs)


def _table(path: Path, columns: Collection[str], texts: Collection[str] | None = None) -> pd.DataFrame:
    """A file's table; without the file an empty one. texts: what is text in it, None: all. Raises UserError."""
    try:
        table = text_table(path) if path.is_file() else pd.DataFrame(columns=list(columns), dtype=object)
        if "entry" not in table and "method" in table:  # of a version without entries
            table["entry"] = table["method"]
        table = table.reindex(columns=list(dict.fromkeys([*columns, *table])), fill_value="")
        for name in table:
            if texts is not None and name not in texts:
                table[name] = table[name].map(number).astype(float)
    except ValueError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    return table
