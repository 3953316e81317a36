"""A search in stages: points on the search's seeds, then the best of each entry on the report's, which it never used.

A point that is chosen and reported on the same seeds looks better than it is, the more so the more points there are.

[search]
points = 20       # drawn from the ranges below; without it, all of [grid]
seeds = 2         # how many, from 10000 on, or a list of others than the report's
epochs = 10       # of the search's runs; by default the report's
halving = 3       # only the best third of the points goes on, to three times the epochs, and so on

[search.from]
optim.lr = { log = [0.03, 3] }         # equally likely on a logarithmic scale
method.tau = { uniform = [0.9, 1] }
train.batch_size = [64, 128, 256]      # one of these

Every entry searches the same points, but for the untrained reference, which has nothing to search. Points are a Sobol
sequence: evenly spread, the same on every machine, and more of them later keep the earlier ones.

A run of fewer epochs is a whole training, its schedule and its warm-up shortened alike, not the beginning of a longer
one: halfway down a longer cosine the rate is still high, which would let small rates win.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import UserError, unknown
from bench.planning import plan
from bench.planning.entries import Entry
from bench.planning.options import SweepOptions
from bench.runs.identity import config_hash, run_id, seed_list

FROM = "from."
KINDS = ("log", "uniform")
NUMBERS = ("points", "epochs", "halving")
KEYS = (*NUMBERS, "seeds")
FIRST_SEED = plan.MAX_SEEDS  # no number of seeds gives it
MAX_POINTS = 10_000
MAX_DRAWS = 100  # for each point, before there are taken to be no more
WARMUP = "optim.warmup_epochs"
DIGITS = 4  # significant ones of a value that is drawn


@dataclass(frozen=True)
class Range:
    """Values that a setting may have."""

    kind: str
    """log, uniform, or "" for one of `values`."""
    values: tuple[str, ...]
    """For log and uniform the two ends."""

    @classmethod
    def parse(cls, key: str, text: str) -> "Range":
        """ "log:0.03,3", "uniform:0,1" or "64,128". Raises UserError."""
        kind, colon, rest = text.partition(":")
        kind = kind.strip() if colon and kind.strip() in KINDS else ""
        values = tuple(value.strip() for value in (rest if kind else text).split(",") if value.strip())
        problem = (
            f"search {key}={text}: should be log:LOW,HIGH, uniform:LOW,HIGH or values to choose from, e.g. 0.1,0.3"
        )
        if not values or values in [(name,) for name in KINDS]:
            raise UserError(problem)
        if kind:
            try:
                low, high = map(float, values)
            except ValueError:
                raise UserError(problem) from None
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UserError(f"search {key}={text}: its lower end should come first, and both be numbers")
            if kind == "log" and low <= 0:
                raise UserError(f"search {key}={text}: a logarithmic range begins above zero")
        return cls(kind, values)

    def at(self, share: float) -> str:
        """The value at `share` (0 to below 1) of the range."""
        if not self.kind:
            return self.values[int(share * len(self.values))]
        low, high = map(float, self.values)
        value = low * (high / low) ** share if self.kind == "log" else low + share * (high - low)
        return f"{value:.{DIGITS}g}"


@dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    seeds: list[int]
    points: int
    """Drawn from `ranges`; 0: all combinations of a grid."""
    ranges: Mapping[str, Range]
    epochs: int
    """Of the search's longest runs; 0: those of the report."""
    halving: int
    """One of so many points goes on, to so many times the epochs; 0: all points have all epochs."""

    @classmethod
    def of(cls, asked: SweepOptions) -> "Search":
        """Raises UserError."""
        given = asked.search
        for key in given:
            if key not in KEYS and not key.startswith(FROM):
                raise unknown("key of [search]", key, (*KEYS, "from.KEY"))
        numbers = {key: _number(key, given[key]) if key in given else 0 for key in NUMBERS}
        keys = {key.removeprefix(FROM): key for key in given if key.startswith(FROM)}
        ranges = {name: Range.parse(key, given[key]) for name, key in sorted(keys.items())}
        if ranges and asked.grid:
            raise UserError("[grid] is searched whole, [search.from] at some points: name one of them")
        if not ranges and not asked.grid:
            raise UserError("[search] of nothing: give ranges in [search.from], or values in [grid]")
        if ranges and not numbers["points"]:
            raise UserError("[search.from] needs a number of points to draw, e.g. points = 20 in [search]")
        if asked.grid and numbers["points"]:
            raise UserError(
                f"search points={given['points']}: of [grid] all are searched; give ranges in [search.from]"
            )
        if given.get("halving") == "1":
            raise UserError("search halving=1: should be 2 or more: one of so many points goes on")
        return cls(_seeds(given.get("seeds", "2"), plan.parse_seeds(asked.seeds)), ranges=ranges, **numbers)

    def drawn(self) -> list[dict[str, str]]:
        """The points, each a value for every key. Raises UserError if there are not so many."""
        from scipy.stats import qmc  # slow to import, and needed for searches alone

        sequence = qmc.Sobol(len(self.ranges), scramble=False)
        sequence.fast_forward(1)  # the first point is a corner
        found: dict[tuple[str, ...], None] = {}
        for _ in range(MAX_DRAWS * self.points):
            (shares,) = sequence.random(1)
            found[tuple(own.at(share) for own, share in zip(self.ranges.values(), shares, strict=True))] = None
            if len(found) == self.points:
                return [dict(zip(self.ranges, values, strict=True)) for values in found]
        raise UserError(
            f"search points={self.points}: there are only {len(found)} different ones, which [grid] takes whole"
        )

    def rungs(self, points: int, epochs: int) -> list[int]:
        """The epochs of each stage of a search of so many points for a report of so many epochs. Raises UserError."""
        if self.epochs > epochs:
            raise UserError(f"search epochs={self.epochs}: more than the {epochs} of the runs that are reported")
        longest, stages = self.epochs or epochs, len(self.sizes(points))
        found = [round(longest / self.halving ** (stages - 1 - k)) if self.halving else longest for k in range(stages)]
        if found[0] < 1 or len(set(found)) < stages:
            raise UserError(
                f"search halving={self.halving}: {points} points take {stages} stages, too many for {longest} epochs"
            )
        return found

    def sizes(self, points: int) -> list[int]:
        """How many of so many points are in each stage of the search: the last has no more than one is chosen of."""
        found = [points]
        while self.halving and found[-1] > self.halving:
            found.append(math.ceil(found[-1] / self.halving))
        return found


def planned(entries: Sequence[Entry], asked: SweepOptions) -> list[dict[str, Any]]:
    """All runs that a search may come to: those of its stages, by seed, then every point on the report's seeds.

    A run of the search says in its config.json what it stands for: `search` = {"for": the config_hash that is reported
    if it wins, "space": what was searched}. Raises UserError.
    """
    search = Search.of(asked)
    points = search.drawn() if search.ranges else plan.combinations(asked.grid)
    space = {key: asked.search[FROM + key] for key in search.ranges}
    space |= {key: ",".join(values) for key, values in asked.grid.items()}
    fixed = [entry for entry in entries if entry.method == "random"]  # nothing is trained, so nothing searched
    grid: dict[str, list[str]] = {}  # `points` are in its place
    both = asked.preset, asked.set, grid, asked.folder
    report: list[dict[str, Any]] = []
    first, *_ = seeds = plan.parse_seeds(asked.seeds)
    searched = [entry for entry in entries if entry not in fixed]
    runs = plan.plan(searched, [first], *both, points=points) if searched else []
    runs = list({run["run_id"]: run for run in runs}.values())  # 0.1 and 0.10 are one point
    points_of = Counter(map(_entry, runs))
    of_search = []
    for run in runs:
        if "linear" not in run["config"]["eval"]["at_end"].split(","):
            raise UserError(f"eval.at_end={run['config']['eval']['at_end']}: a search chooses by linear; add it")
        for epochs in search.rungs(points_of[_entry(run)], run["config"]["train"]["epochs"]):
            of_search.append(_standing_for(run, epochs, space))
    report = runs + (plan.plan(fixed, [first], *both) if fixed else [])
    return [*_on(of_search, search.seeds), *_on(report, seeds)]


def _entry(run: Mapping[str, Any]) -> tuple[str, str]:
    return run.get("entry", ""), run["method"]


def _standing_for(run: dict[str, Any], epochs: int, space: Mapping[str, str]) -> dict[str, Any]:
    """The run of a search for what would be this run of the report."""
    config, overrides = run["config"], run["overrides"]
    whole: int = config["train"]["epochs"]
    if epochs != whole:
        warmup = shortened(config["optim"]["warmup_epochs"], epochs, whole)
        optim, train = {**config["optim"], "warmup_epochs": warmup}, {**config["train"], "epochs": epochs}
        config = {**config, "optim": optim, "train": train}
        overrides = {**overrides, "train.epochs": str(epochs), WARMUP: repr(warmup)}
    own = {"config_hash": config_hash(config), "overrides": overrides}
    own["search"] = {"for": run["config_hash"], "space": dict(space)}
    return {**{key: value for key, value in run.items() if key != "config"}, **own, "config": config}


def shortened(warmup: float, epochs: int, whole: int) -> float:
    """The warm-up of a run of fewer epochs, in epochs."""
    return warmup * epochs / whole


def _on(runs: Sequence[dict[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Each run on each seed; seeds vary slowest."""
    return [{**run, "run_id": run_id(run["config"], seed), "seed": seed} for seed in seeds for run in runs]


def _number(key: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_POINTS:
        raise UserError(f"search {key}={text}: should be a whole number from 1 to {MAX_POINTS}")
    return int(text)


def _seeds(text: str, reported: Sequence[int]) -> list[int]:
    try:
        seeds = plan.parse_seeds(text)
    except UserError:
        raise UserError(
            f"search seeds={text}: give a number of seeds (2 is {FIRST_SEED} and {FIRST_SEED + 1}), or which (7,8)"
        ) from None
    seeds = seeds if "," in text else [FIRST_SEED + seed for seed in seeds]
    if common := sorted({*seeds}.intersection(reported)):
        raise UserError(
            f"search seeds={text}: seed {seed_list(common)} is also the report's (--seeds {seed_list(reported)}): the "
            "search would choose what is lucky there; take others"
        )
    return seeds
