"""Seeds until a difference is known well enough: `bench sweep --until "raft,byol: 0.5"`.

The two entries run on FIRST seeds, then on EACH more at a time, until the 95 % interval of their difference in linear
accuracy (Welch's, that of the table) is narrower than that, or `max_seeds` are done. Only the interval's width decides,
not where it lies: differences are sought in no direction. Stopping so still leaves an interval that is too narrow by
chance a little more often than one of as many seeds fixed before (Chow and Robbins 1965); the later the first look, the
less. In simulations (tests/bench/planning/test_until.py: equal spreads to twentyfold ones, 10 to 50 seeds) it covers
the true difference as often as COVERED of bench.tables.differences says; with a first look at 3 seeds 90.7 % of the
time. What decided is noted in experiment.json before the first run: every table tells it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.errors import UserError, unknown
from bench.planning.options import SweepOptions
from bench.planning.plan import parse_seeds
from bench.planning.request import Request
from bench.runs.experiment import Until
from bench.runs.store import RunDir, read_run
from methods import REFERENCES

FIRST, EACH = 10, 5
"""Seeds at the first look, and more before every further one."""
Runs = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class State:
    """How far it is."""

    request: Request
    """With the seeds that are due."""
    seeds: int
    """Of the two entries."""
    settled: bool
    """Whether no further seed is due."""
    told: str


def state(request: Request, planned: Callable[[SweepOptions], Runs]) -> State:
    """Where a sweep with --until stands, by what is on disk.

    planned: options -> the runs of such a sweep. Raises UserError on a pair that is none.
    """
    options = request.options
    assert isinstance(options, SweepOptions)
    asked = _parse(options, request.planned)
    for seeds in [*range(asked.first, asked.most, EACH), asked.most]:
        every = planned(options.model_copy(update={"seeds": str(seeds)}))
        pair = [[run for run in every if _name(run) == name] for name in (asked.entry_a, asked.entry_b)]
        both = {run["run_id"]: run for run in [*request.planned, *pair[0], *pair[1]]}
        due = replace(request, planned=list(both.values()), until=asked)
        runs = [[RunDir(request.experiment / "runs" / run["run_id"]) for run in own] for own in pair]
        open_runs = sum(not run.ended() for own in runs for run in own)
        if open_runs:
            told = f"until {options.until}: {open_runs} runs of the {seeds} seeds of each are due"
            return State(due, seeds, False, told)
        told, narrow = _look(runs, options.until, asked.width)
        if narrow:
            break
    limit = ": narrow enough" if narrow else f"; not reached, with all of max_seeds = {asked.most}"
    return State(due, seeds, True, told + limit)


def everything(options: SweepOptions, planned: Callable[[SweepOptions], Runs]) -> list[dict[str, Any]]:
    """All runs that a sweep with --until may come to. planned: as for `state`. Raises UserError."""
    runs = planned(options)
    asked = _parse(options, runs)
    most = planned(options.model_copy(update={"seeds": str(asked.most)}))
    return [*runs, *(run for run in most if _name(run) in asked.pair)]


def carry_out(
    request: Request,
    planned: Callable[[SweepOptions], Runs],
    launch: Callable[[Request], int],
    tell: Callable[[str], None],
) -> int:
    """Launch what is due until nothing more is, or what was launched goes on elsewhere; returns the exit code.

    On a cluster the same command goes on when the jobs have ended. Raises UserError.
    """
    now, code = state(request, planned), 0
    while True:
        code = max(code, launch(now.request))
        after = state(request, planned)
        tell(after.told)
        if after.settled or code >= 128 or after.seeds == now.seeds:
            return code
        now = after


def _look(runs: Sequence[Sequence[RunDir]], until: str, width: float) -> tuple[str, bool]:
    """What the finished runs of two entries say of their difference, and whether its interval is narrow enough."""
    from bench.tables.differences import difference  # numpy and scipy: slow, and needed for this alone

    scores: list[dict[int, float]] = []
    for own in runs:
        results = (read_run(run).result for run in own)
        numbers = ((result.seed, result.metrics.test_linear_top1) for result in results if result)
        scores.append({seed: number for seed, number in numbers if number is not None})
    common = sorted(scores[0].keys() & scores[1].keys())
    seen = difference(*([own[seed] for seed in common] for own in scores))
    low, high = seen.interval()
    told = f"until {until}: {seen.mean:+.2f} [{low:.2f}, {high:.2f}], {high - low:.2f} wide, on {len(common)} seeds"
    return told, high - low < width


def _parse(options: SweepOptions, planned: Runs) -> Until:
    """What is asked for, of entries that have one configuration each. Raises UserError."""
    if options.search:
        raise UserError(
            f"--until {options.until!r}: not in one command with a search; add seeds to its winners' settings"
        )
    asked = parse(options.until, {_name(run) for run in planned}, options.seeds, options.max_seeds)
    for name in (asked.entry_a, asked.entry_b):
        settings = {run["config_hash"] for run in planned if _name(run) == name}
        if len(settings) > 1:
            raise UserError(
                f"--until {options.until!r}: {name} has {len(settings)} configurations here; fix its settings"
            )
    if all(run["method"] in REFERENCES for run in planned if _name(run) in (asked.entry_a, asked.entry_b)):
        raise UserError(f"--until {options.until!r}: both are references, which no table compares with each other")
    return asked


def parse(until: str, names: Collection[str], seeds: str, max_seeds: int) -> Until:
    """ "raft,byol: 0.5" -> two entries of `names`, either of which may have commas in it, and points. Raises UserError.

    seeds: those that were asked for beside.
    """
    (entry_a, entry_b), width = _names(until, names)
    given = parse_seeds(seeds)
    if given != list(range(len(given))):
        raise UserError(f"--seeds {seeds}: --until adds seeds from 0 on; give a number of them, e.g. --seeds 5")
    first = max(FIRST, len(given))
    if max_seeds < first:
        raise UserError(f"--max-seeds {max_seeds}: --until looks after {first} seeds for the first time; give more")
    return Until(entry_a=entry_a, entry_b=entry_b, width=width, first=first, each=EACH, most=max_seeds)


def _names(until: str, names: Collection[str]) -> tuple[tuple[str, str], float]:
    text, _, number = until.rpartition(":")
    try:
        width = float(number)
    except ValueError:
        width = 0.0
    if not 0 < width < 100 or not text.strip():
        raise UserError(f"--until {until!r}: expected two entries and points of accuracy, e.g. raft,byol: 0.5")
    there = sorted(names)
    parts = text.split(",")
    splits = [(",".join(parts[:i]).strip(), ",".join(parts[i:]).strip()) for i in range(1, len(parts))]
    for first, second in splits:
        if first in there and second in there and first != second:
            return (first, second), width
    wrong = next((name.strip() for name in parts if name.strip() not in there), "")
    if len(splits) == 1 and wrong:
        raise unknown("entry in --until", wrong, there)
    raise UserError(f"--until {until!r}: expected two of {', '.join(there)}, e.g. {','.join(there[:2])}: 0.5")


def _name(run: dict[str, Any]) -> str:
    return str(run.get("entry") or run["method"])
