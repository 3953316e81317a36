"""Which runs of a search are due: those of its first stage that is not over, by what the stages before it found.

All is told by the run directories: whatever was killed, the same command finds the same stage again.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.planning.options import SweepOptions
from bench.planning.request import Request
from bench.runs import store
from bench.runs.identity import seed_list

if TYPE_CHECKING:
    import pandas as pd

Runs = Sequence[dict[str, Any]]


def first(request: Request) -> Request:
    """A request for all runs that a search may come to -> one for the first of its stages that is not over.

    Of a search that is over the last stage; without a search the request itself. Raises UserError.
    """
    if not any("search" in run for run in request.planned):
        return request
    runs = _stage(request.planned, 0)
    stage = replace(request, planned=runs, candidates=request.planned, told=_outlook(runs, request.planned))
    while not stage.open() and (after := following(stage)):
        stage = after
    return stage


def following(request: Request) -> Request | None:
    """The stage after this one; None if this is the last or not over, or left nothing to go on with. Raises UserError.

    A stage is over when all its runs are done or failed: a point that fails is out, like one that is worse.
    """
    runs = request.experiment / "runs"
    if not request.searches or not all(store.RunDir(runs / run["run_id"]).ended() for run in request.planned):
        return None
    from bench.tables import inventory  # pandas: slow, and needed for searches alone
    from bench.tables.grid import points

    found = inventory.take(request.results, [request.experiment.name])
    grid = points(found.runs, found.configs)
    number = _number(request.planned[0], _lengths(request.candidates))
    if upper := _stage(request.candidates, number + 1):
        kept = _best(request, grid)
        planned: Runs = [run for run in upper if run["search"]["for"] in kept]
        told = [f"search: the best {len(kept)} configurations go on to more epochs"]
    else:
        planned, told = _winners(request, grid)
    return replace(request, planned=planned, told=told) if planned else None


def _lengths(candidates: Runs) -> dict[str, list[int]]:
    """The epochs of the stages of the search, by what a run stands for."""
    found: dict[str, set[int]] = {}
    for run in candidates:
        if "search" in run:
            found.setdefault(run["search"]["for"], set()).add(_epochs(run))
    return {digest: sorted(lengths) for digest, lengths in found.items()}


def _number(run: dict[str, Any], lengths: dict[str, list[int]]) -> int:
    return lengths[run["search"]["for"]].index(_epochs(run))


def _stage(candidates: Runs, number: int) -> list[dict[str, Any]]:
    """All runs that a stage of the search may have; none beyond the last."""
    lengths = _lengths(candidates)
    return [run for run in candidates if "search" in run and _number(run, lengths) == number]


def _epochs(run: dict[str, Any]) -> int:
    epochs: int = run["config"]["train"]["epochs"]
    return epochs


def _entry(run: dict[str, Any]) -> str:
    return str(run.get("entry") or run["method"])


def _outlook(runs: Runs, candidates: Runs) -> list[str]:
    seeds = seed_list(run["seed"] for run in runs)
    reported = seed_list(run["seed"] for run in candidates if "search" not in run)
    points = len({run["search"]["for"] for run in runs})
    return [f"search: {points} configurations on seeds {seeds}; the best of each entry then runs on seeds {reported}"]


def _best(request: Request, grid: "pd.DataFrame") -> set[str]:
    """What stands for the points of a stage that go on: of each entry the best of those with the most seeds done."""
    from bench.tables.grid import CHOICE

    assert isinstance(request.options, SweepOptions)
    halving = int(request.options.search["halving"])
    kept: set[str] = set()
    by_entry: dict[str, set[str]] = {}
    for run in request.planned:
        by_entry.setdefault(_entry(run), set()).add(run["config_hash"])
    for digests in by_entry.values():
        own = grid[grid["config_hash"].isin(digests) & (grid["done"] > 0)]
        order = own.sort_values(["done", f"{CHOICE}_mean"], ascending=False, kind="stable")
        kept |= set(order["stands"].head(math.ceil(len(digests) / halving)))
    return kept


def _winners(request: Request, grid: "pd.DataFrame") -> tuple[Runs, list[str]]:
    """The runs of the report, and who won. Raises UserError if what is best was searched by another file."""
    from bench.tables.grid import CHOICE, edges

    searched = [run for run in request.candidates if "search" in run]
    standing, space = {run["search"]["for"]: _entry(run) for run in searched}, searched[0]["search"]["space"]
    won = grid[grid["chosen"] & (grid["done"] > 0) & (grid["search_for"] != "")].set_index("stands")
    report = [run for run in request.candidates if "search" not in run]
    planned = [run for run in report if run["config_hash"] in won.index or run["config_hash"] not in standing]
    told = [f"search over; its winners run on seeds {seed_list(run['seed'] for run in report)}:"]
    for entry in dict.fromkeys(standing.values()):
        own = [digest for digest in standing if standing[digest] == entry and digest in won.index]
        others = won[won["entry"] == entry]
        if not own and len(others):
            raise UserError(
                f"{entry}: the best that was searched is none of these points: {others.iloc[0]['overrides']}; search "
                "these in another --experiment"
            )
        if not own:
            told.append(f"  {entry}: none, as no run of its search is done")
            continue
        run = next(run for run in report if run["config_hash"] == own[0])
        tried = grid[grid["entry"] == won.loc[own[0], "entry"]]
        shown = " ".join(f"{key}={run['overrides'][key]}" for key in space)
        edge = "".join(f", {key} at the edge" for key in edges(tried))
        points = f"best of {tried['stands'].nunique()} by validation, {won.loc[own[0], f'{CHOICE}_mean']:.2f}{edge}"
        told.append(f"  {entry}: {shown} ({points})")
    return planned, told
