"""Runs -> the sweep files that plan them: what a reader needs to make a table's runs again."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

Settings = tuple[tuple[str, str], ...]
Row = tuple[str, str, Settings]
"""Of a leaderboard: method, label, its own settings."""


def sweeps(planned: Iterable[Mapping[str, Any]], experiment: str, margin: float | None = None) -> list[str]:
    """planned: contents of config.json files of one experiment -> the texts of sweep files, as few as plan just them.

    Several where configurations were not run on the same seeds, or were not searched alike.
    """
    seeds: dict[str, set[int]] = {}
    first: dict[str, Mapping[str, Any]] = {}
    for run in planned:
        seeds.setdefault(run["config_hash"], set()).add(run["seed"])
        first.setdefault(run["config_hash"], run)
    tried: dict[tuple[str, tuple[int, ...]], dict[Row, list[Settings]]] = {}
    for digest, run in first.items():
        own, rest = _split(run)
        by_row = tried.setdefault((run["preset"], tuple(sorted(seeds[digest]))), {})
        by_row.setdefault((run["method"], run.get("entry", ""), own), []).append(rest)
    texts = []
    for (preset, of), by_row in tried.items():
        head = [f"seeds = {_seeds(of)}", f"preset = {json.dumps(preset)}", f"experiment = {json.dumps(experiment)}"]
        head += [] if margin is None else [f"margin = {margin!r}"]
        alike: dict[frozenset[Settings], list[Row]] = {}
        for row, points in by_row.items():
            alike.setdefault(frozenset(points), []).append(row)
        for rows in alike.values():
            points = by_row[rows[0]]
            grid = _grid(points)
            searched = [grid] if grid else [{key: [value] for key, value in point} for point in points]
            texts += [_text(head, rows, settings) for settings in searched]
    return texts


def _split(run: Mapping[str, Any]) -> tuple[Settings, Settings]:
    """What a run's entry sets, and what else was set."""
    keys = run.get("entry_keys", [])
    overrides = run.get("overrides", {}).items()
    own = tuple((key, value) for key, value in overrides if key in keys)
    return own, tuple((key, value) for key, value in overrides if key not in keys)


def _grid(points: Sequence[Settings]) -> dict[str, list[str]] | None:
    """The values of every key, if these are all combinations of them."""
    tables = [dict(point) for point in points]
    keys = list(tables[0])
    if any(set(table) != set(keys) for table in tables):
        return None
    values = {key: list(dict.fromkeys(table[key] for table in tables)) for key in keys}
    every = {tuple(zip(keys, combination, strict=True)) for combination in product(*values.values())}
    return values if every == {tuple((key, table[key]) for key in keys) for table in tables} else None


def _text(head: list[str], rows: list[Row], settings: Mapping[str, list[str]]) -> str:
    methods = [method for method, label, own in rows if not label and not own]
    lines = ([f"method = {json.dumps(methods)}"] if methods else []) + head
    fixed = {key: values[0] for key, values in settings.items() if len(values) == 1}
    searched = {key: values for key, values in settings.items() if len(values) > 1}
    if fixed:
        lines += ["", "[set]", *(f"{key} = {_value(value)}" for key, value in fixed.items())]
    if searched:
        lines += ["", "[grid]"]
        lines += [f"{key} = [{', '.join(map(_value, values))}]" for key, values in searched.items()]
    for method, label, own in rows:
        if label or own:
            lines += ["", "[[entry]]", *([f"label = {_quoted(label)}"] if label else [])]
            lines += [f"method = {json.dumps(method)}"]
            told = ", ".join(f"{json.dumps(key)} = {_value(value)}" for key, value in own)
            lines += [f"set = {{ {told} }}"] if own else []
    return "\n".join(lines) + "\n"


def _seeds(seeds: tuple[int, ...]) -> str:
    return str(len(seeds)) if seeds == tuple(range(len(seeds))) else str(list(seeds))


def _value(text: str) -> str:
    """A number or a truth value as such where the file would give the same text back, else text in quotes."""
    if text in ("true", "false"):
        return text
    for kind in (int, float):
        try:
            if str(kind(text)) == text and text not in ("nan", "inf", "-inf"):
                return text
        except ValueError:
            continue
    return _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
