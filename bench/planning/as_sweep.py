"""Runs -> the sweep files that plan them: what a reader needs to make a table's runs again."""

import json
from collections.abc import Iterable, Sequence
from itertools import product

from bench.planning.as_search import Row, Run, Settings, searches, split
from bench.planning.toml import array_of, quoted, value_of
from bench.runs.experiment import Until

PART = "# Runs of a search, planned as others: tables of what this makes count them with the runs that are reported.\n"


def sweeps(
    planned: Iterable[Run], experiment: str, margin: float | None = None, untils: Sequence[Until] = ()
) -> list[str]:
    """planned: contents of config.json files of one experiment -> the texts of sweep files, as few as plan just them.

    Several where configurations were not run on the same seeds, or were not searched alike. Those of a search in stages
    are planned as such. margin, untils: what was said of the whole experiment.
    """
    found, others = searches(planned)
    common = [f"experiment = {json.dumps(experiment)}", *([] if margin is None else [f"margin = {margin!r}"])]
    texts = []
    for search, rows in found.items():
        head = [f"seeds = {_seeds(search.seeds)}", f"preset = {json.dumps(search.preset)}", *common]
        texts.append(_text(head, rows, search.fixed, search.tables))
    return texts + _plain(others, common, untils)


def _plain(planned: Iterable[Run], common: list[str], untils: Sequence[Until]) -> list[str]:
    """The texts of files that plan these runs without a search in stages."""
    seeds: dict[str, set[int]] = {}
    first: dict[str, Run] = {}
    part: set[str] = set()  # of a search whose other runs are not known
    for run in planned:
        seeds.setdefault(run["config_hash"], set()).add(run["seed"])
        first.setdefault(run["config_hash"], run)
        if "search" in run:
            part.add(run["config_hash"])
    tried: dict[tuple[str, tuple[int, ...], bool], dict[Row, list[Settings]]] = {}
    for digest, run in first.items():
        own, rest = split(run)
        by_row = tried.setdefault((run["preset"], tuple(sorted(seeds[digest])), digest in part), {})
        by_row.setdefault((run["method"], run.get("entry", ""), own), []).append(rest)
    texts = []
    for (preset, of, of_search), by_row in tried.items():
        alike: dict[frozenset[Settings], list[Row]] = {}
        for row, points in by_row.items():
            alike.setdefault(frozenset(points), []).append(row)
        for rows in alike.values():
            points = by_row[rows[0]]
            grid = _grid(points)
            head = [*_how_many(of, rows, points, untils), f"preset = {json.dumps(preset)}", *common]
            for settings in [grid] if grid else [{key: [value] for key, value in point} for point in points]:
                fixed = tuple((key, values[0]) for key, values in settings.items() if len(values) == 1)
                tried_of = {key: values for key, values in settings.items() if len(values) > 1}
                lines = ["", "[grid]"] if tried_of else []
                lines += [f"{key} = {array_of(values)}" for key, values in tried_of.items()]
                texts.append(PART * of_search + _text(head, rows, fixed, lines))
    return texts


def _how_many(
    of: tuple[int, ...], rows: Sequence[Row], points: Sequence[Settings], untils: Sequence[Until]
) -> list[str]:
    """The lines that plan these seeds: how many or, where they were added until a difference was known, until when."""
    names = {label or method for method, label, _ in rows}
    for until in reversed(untils):
        whole = len(points) == 1 and of == tuple(range(len(of))) and len(of) >= until.first
        if whole and {until.entry_a, until.entry_b} <= names and (len(rows) == 2 or len(of) == until.first):
            return [f"seeds = {until.first}", f"until = {quoted(until.asked)}", f"max_seeds = {until.most}"]
    return [f"seeds = {_seeds(of)}"]


def _grid(points: Sequence[Settings]) -> dict[str, list[str]] | None:
    """The values of every key, if these are all combinations of them."""
    tables = [dict(point) for point in points]
    keys = list(tables[0])
    if any(set(table) != set(keys) for table in tables):
        return None
    values = {key: list(dict.fromkeys(table[key] for table in tables)) for key in keys}
    every = {tuple(zip(keys, combination, strict=True)) for combination in product(*values.values())}
    return values if every == {tuple((key, table[key]) for key in keys) for table in tables} else None


def _text(head: list[str], rows: list[Row], fixed: Settings, tables: Sequence[str]) -> str:
    methods = [method for method, label, own in rows if not label and not own]
    lines = ([f"method = {json.dumps(methods)}"] if methods else []) + head
    if fixed:
        lines += ["", "[set]", *(f"{key} = {value_of(value)}" for key, value in fixed)]
    lines += tables
    for method, label, own in rows:
        if label or own:
            lines += ["", "[[entry]]", *([f"label = {quoted(label)}"] if label else [])]
            lines += [f"method = {json.dumps(method)}"]
            told = ", ".join(f"{json.dumps(key)} = {value_of(value)}" for key, value in own)
            lines += [f"set = {{ {told} }}"] if own else []
    return "\n".join(lines) + "\n"


def _seeds(seeds: tuple[int, ...]) -> str:
    return str(len(seeds)) if seeds == tuple(range(len(seeds))) else str(list(seeds))
