"""A published table against runs that are made again from nothing."""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from scipy import stats

from bench.errors import UserError, few
from bench.runs.result import METRICS

SWEEP, RUNS = "experiment.toml", "runs.csv"
ORIGIN = ("git_commit", "versions", "device", "devices", "threads", "compiled")
RANKING = "test_linear_top1"
Kind = Literal["same", "close", "different", "missing"]


@dataclass(frozen=True)
class Published:
    """Runs that a folder says were made, and what planned them."""

    name: str
    sweep: Path
    runs: pd.DataFrame
    """Of runs.csv those that are done, by run_id."""


@dataclass(frozen=True)
class Verdict:
    """What became of a run that was made again."""

    run_id: str
    kind: Kind
    """same: every number, to its last digit; close: no further off than two seeds may be; different."""
    text: str


def read(place: Path) -> Published:
    """A folder with runs.csv and experiment.toml, or one of the two. Raises UserError."""
    folder = place if place.is_dir() else place.parent
    for name in (RUNS, SWEEP):
        if not (folder / name).is_file():
            raise UserError(f"{place}: there is no {name}; a published table has {RUNS}, and {SWEEP} that planned it")
    try:
        runs = pd.read_csv(folder / RUNS, dtype={"git_commit": str, "overrides": str})
        runs = runs.loc[runs["state"] == "done"]
        runs.index = pd.Index(runs["run_id"], name="run")
        runs[RANKING].astype(float)
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / RUNS}: no table of runs as this program writes it ({error})") from None
    if runs.empty:
        raise UserError(f"{folder / RUNS}: no run is done")
    return Published(folder.resolve().name, folder / SWEEP, runs)


def drawn(published: Published, planned: list[str], n: int) -> list[str]:
    """`n` of its runs that are planned now, always the same ones. Raises UserError if none is."""
    there = sorted(published.runs.index.intersection(planned))
    if not there:
        theirs = few(list(published.runs.index))
        raise UserError(
            f"{published.sweep} plans none of the runs of {RUNS} ({theirs}): other settings, data or protocol version"
        )
    return sorted(random.Random(published.name).sample(there, min(n, len(there))))


def compared(published: Published, again: pd.DataFrame, run_ids: list[str]) -> list[Verdict]:
    """again: the runs that were made, as in `Published.runs`."""
    made = again.loc[again["state"] == "done"]
    made.index = pd.Index(made["run_id"], name="run")
    return [
        _compared(published.runs, published.runs.loc[[run_id]].iloc[0], made.loc[[run_id]].iloc[0])
        if run_id in made.index
        else Verdict(run_id, "missing", "was not made again")
        for run_id in run_ids
    ]


def _compared(table: pd.DataFrame, before: pd.Series, now: pd.Series) -> Verdict:
    numbers = [name for name in METRICS if pd.notna(before.get(name)) and name in now]
    differing = [name for name in numbers if float(before[name]) != float(now[name])]
    if not differing:
        return Verdict(before["run_id"], "same", f"the same {len(numbers)} numbers")
    same = (table["config_hash"] == before["config_hash"]) & (table["run_id"] != before["run_id"])
    others = table.loc[same, RANKING]  # without the run itself, whose number is in question
    change = float(now[RANKING]) - float(before[RANKING])
    kind: Kind = "different"
    against = f"{change:+.2f} points, and too few other seeds to say how far two may be apart"
    if len(others) > 1:
        apart = float(stats.t.ppf(0.975, len(others) - 1)) * math.sqrt(2) * float(others.std())
        kind = "close" if abs(change) <= apart else "different"
        against = f"{change:+.2f} points, where two seeds may be {apart:.2f} apart (95 %, by the {len(others)} others)"
    numbers_told = ", ".join(f"{name} {float(before[name]):.6g} -> {float(now[name]):.6g}" for name in differing)
    origins = [
        f"{name}: {before[name]} -> {now[name]}"
        for name in ORIGIN
        if pd.notna(before.get(name)) and str(before[name]) != str(now.get(name))
    ]
    where = "; ".join(origins) or "nothing that is recorded differs"
    return Verdict(before["run_id"], kind, f"{against}; {numbers_told}; {where}")
