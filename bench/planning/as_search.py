"""Runs of a search -> what its table [search] said: which runs there are tells points, seeds, epochs and halving."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import UserError
from bench.planning.plan import combinations
from bench.planning.search import FIRST_SEED, Range, Search
from bench.planning.toml import array_of

Run = Mapping[str, Any]
Settings = tuple[tuple[str, str], ...]
Row = tuple[str, str, Settings]
"""Of a leaderboard: method, label, its own settings."""


@dataclass(frozen=True)
class Searched:
    """What the entries of one sweep file with a search have in common."""

    preset: str
    fixed: Settings
    """What all of them were set to, beside what was searched."""
    tables: tuple[str, ...]
    """[search] and [search.from] or [grid], as lines of the file."""
    seeds: tuple[int, ...]
    """Of the runs that are reported."""


def split(run: Run) -> tuple[Settings, Settings]:
    """What a run's entry sets, and what else was set."""
    keys = run.get("entry_keys", [])
    overrides = run.get("overrides", {}).items()
    own = tuple((key, value) for key, value in overrides if key in keys)
    return own, tuple((key, value) for key, value in overrides if key not in keys)


def searches(planned: Iterable[Run]) -> tuple[dict[Searched, list[Row]], list[Run]]:
    """The searches that plan these runs, with their entries, and the runs that none of them plans.

    planned: contents of config.json files of one experiment. What entries left in it cannot be told from the runs of a
    search alone (which epochs and seeds are the report's) is taken from others that were searched alike.
    """
    by_entry: dict[tuple[str, str, str], list[Run]] = {}
    for run in planned:
        by_entry.setdefault((run["preset"], run["method"], run.get("entry", "")), []).append(run)
    found: dict[Searched, list[Row]] = {}
    alike: dict[Any, Searched] = {}
    others: list[Run] = []
    entries = [(key, _Stages.of(runs), runs) for key, runs in by_entry.items()]
    entries.sort(key=lambda entry: not (entry[1] and entry[1].reported))
    for (preset, method, label), stages, runs in entries:
        known = stages.of_report(preset) if stages and stages.reported else None
        known = known or (alike.get((preset, stages.evidence)) if stages else None)
        if not stages or not known:
            others += runs
            continue
        alike.setdefault((preset, stages.evidence), known)
        found.setdefault(known, []).append((method, label, stages.own))
        others += stages.besides
    return found, _without_untrained(found, others)


@dataclass(frozen=True)
class _Stages:
    """The runs of one entry that was searched."""

    own: Settings
    """What the entry sets."""
    space: Settings
    of_search: Sequence[Run]
    reported: Sequence[Run]
    besides: Sequence[Run]
    """Of configurations that were not searched."""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "_Stages | None":
        """None if nothing was searched, or more than one space, or by entries of one name."""
        of_search = [run for run in runs if "search" in run]
        spaces = {tuple(run["search"]["space"].items()) for run in of_search}
        stood_for = {run["search"]["for"] for run in of_search}
        rest = [run for run in runs if "search" not in run]
        reported = [run for run in rest if run["config_hash"] in stood_for]
        own = {split(run)[0] for run in reported or of_search}
        if len(spaces) != 1 or len(own) != 1:
            return None
        besides = [run for run in rest if run["config_hash"] not in stood_for]
        return cls(own.pop(), spaces.pop(), of_search, reported, besides)

    @property
    def points(self) -> frozenset[tuple[str, ...]]:
        return frozenset(tuple(run["overrides"].get(key, "") for key, _ in self.space) for run in self.of_search)

    @property
    def sizes(self) -> dict[int, int]:
        """Epochs of each stage -> how many points are in it."""
        of_stage: dict[int, set[str]] = {}
        for run in self.of_search:
            of_stage.setdefault(run["config"]["train"]["epochs"], set()).add(run["search"]["for"])
        return {epochs: len(of_stage[epochs]) for epochs in sorted(of_stage)}

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({run["seed"] for run in self.of_search}))

    @property
    def evidence(self) -> tuple[Any, ...]:
        """What entries of one search have alike."""
        return self.space, self.points, tuple(self.sizes), self.seeds

    def of_report(self, preset: str) -> Searched | None:
        """What the runs of the report, of which there are some, tell beside; None if no search plans these runs."""
        searched = {key for key, _ in self.space}
        fixed = {tuple(item for item in split(run)[1] if item[0] not in searched) for run in self.reported}
        wholes = {run["config"]["train"]["epochs"] for run in self.reported}
        if len(fixed) != 1 or len(wholes) != 1 or not (asked := self._asked(wholes.pop())):
            return None
        seeds = tuple(sorted({run["seed"] for run in self.reported}))
        return Searched(preset, fixed.pop(), _tables(asked, self.space), seeds)

    def _asked(self, whole: int) -> Search | None:
        """The search of a report of `whole` epochs that has these points in these stages."""
        ranges = {key: Range.parse(key, text) for key, text in self.space}
        n, rungs = len(self.points), list(self.sizes)
        every = math.prod(0 if own.kind else len(own.values) for own in ranges.values())
        epochs = 0 if rungs[-1] == whole else rungs[-1]
        fitting = []
        for halving in range(2, n + 1) if len(rungs) > 1 else [0]:
            search = Search(list(self.seeds), 0 if every == n else n, {} if every == n else ranges, epochs, halving)
            try:
                if search.rungs(n, whole) == rungs:
                    fitting.append(search)
            except UserError:  # more stages than epochs
                continue
        points = combinations({key: own.values for key, own in ranges.items()}) if every == n else None
        for search in sorted(fitting, key=lambda each: each.sizes(n) != list(self.sizes.values())):
            drawn = points or search.drawn()
            if {tuple(point[key] for key, _ in self.space) for point in drawn} == self.points:
                return search
        return None


def _tables(search: Search, space: Settings) -> tuple[str, ...]:
    counted = list(range(FIRST_SEED, FIRST_SEED + len(search.seeds)))
    seeds = len(search.seeds) if search.seeds == counted else search.seeds
    numbers = {"points": search.points, "seeds": seeds, "epochs": search.epochs, "halving": search.halving}
    lines = ["", "[search]", *(f"{key} = {value}" for key, value in numbers.items() if value)]
    lines += ["", "[search.from]" if search.ranges else "[grid]"]
    for key, text in space:
        own = Range.parse(key, text)
        values = array_of(own.values)
        lines.append(f"{key} = {{ {own.kind} = {values} }}" if own.kind else f"{key} = {values}")
    return tuple(lines)


def _without_untrained(found: dict[Searched, list[Row]], others: list[Run]) -> list[Run]:
    """Untrained networks join the search that would plan them beside it, as there is nothing to search of them."""
    by_row: dict[Row, list[Run]] = {}
    for run in others:
        if run["method"] == "random":
            by_row.setdefault((run["method"], run.get("entry", ""), split(run)[0]), []).append(run)
    for row, runs in by_row.items():
        seeds = tuple(sorted(run["seed"] for run in runs))
        said = {(run["preset"], split(run)[1]) for run in runs}
        for search, rows in found.items():
            if said == {(search.preset, search.fixed)} and seeds == search.seeds:
                rows.append(row)
                others = [run for run in others if run not in runs]
                break
    return others
