"""A published table against runs that are made again from nothing."""

import math
import random
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from scipy import stats

from bench.errors import UserError, few
from bench.runs.result import METRICS
from bench.tables.published import RUNS, Published

ORIGIN = ("git_commit", "versions", "device", "devices", "threads", "compiled")
RANKING = "test_linear_top1"
Kind = Literal["same", "close", "different", "missing"]


@dataclass(frozen=True)
class Verdict:
    """What became of a run that was made again."""

    run_id: str
    kind: Kind
    """same: every number, to its last digit; close: no further off than two seeds may be; different."""
    text: str


def drawn(published: Published, planned: list[str], n: int) -> list[str]:
    """`n` of its runs that are planned now, always the same ones. Raises UserError if none is."""
    done = published.done
    there = sorted(done.index.intersection(planned))
    if not there:
        by = ", ".join(map(str, published.sweeps)) or f"what {published.folder / RUNS} says of its settings"
        raise UserError(
            f"{by} plans none of the runs of {RUNS} ({few(list(done.index))}): other settings, data or protocol version"
        )
    return sorted(random.Random(published.name).sample(there, min(n, len(there))))


def compared(published: Published, again: pd.DataFrame, run_ids: list[str]) -> list[Verdict]:
    """again: the runs that were made, as in `Published.runs`."""
    before, made = published.done, again.loc[again["state"] == "done"]
    made.index = pd.Index(made["run_id"], name="run")
    return [
        _compared(before, before.loc[[run_id]].iloc[0], made.loc[[run_id]].iloc[0])
        if run_id in made.index
        else Verdict(run_id, "missing", "was not made again")
        for run_id in run_ids
    ]


def _compared(table: pd.DataFrame, before: pd.Series, now: pd.Series) -> Verdict:
    numbers = [name for name in METRICS if pd.notna(before[name])]
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
        if not pd.isna(before[name]) and before[name] != "" and str(before[name]) != str(now.get(name))
    ]
    where = "; ".join(origins) or "nothing that is recorded differs"
    return Verdict(before["run_id"], kind, f"{against}; {numbers_told}; {where}")
