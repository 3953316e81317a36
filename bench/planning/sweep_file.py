"""Sweep files: a sweep as a TOML file kept with a paper. Keys are `bench sweep`'s flags, which override them.

method = ["raft", "byol"]
seeds = 5
preset = "cifar10"

[set]
train.epochs = 100

[grid]
optim.lr = [0.3, 1.0]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from bench.config.schema import parse_overrides
from bench.errors import UserError, unknown
from bench.planning import plan
from bench.planning.options import SweepOptions
from bench.planning.toml import line_of, read_toml

FIELDS = SweepOptions.model_fields
WORDS_OR_NUMBERS = ("seeds", "gpus", "time")


def options(file: Path | None, flags: Mapping[str, Any]) -> SweepOptions:
    """What a sweep was asked for: flags (None: not given) over the file over defaults.

    `set` and `grid` are overridden key by key; a key that the flags fix is no longer searched, and the other way round.
    Raises UserError, naming file and line where the file is wrong.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    own: dict[str, dict[str, Any]] = {
        "set": parse_overrides(given.pop("set", [])),
        "grid": parse_grid(given.pop("grid", [])),
    }
    values: dict[str, Any] = {**(load(file) if file else {}), **given}
    for name, other in (("set", "grid"), ("grid", "set")):
        kept = {key: value for key, value in values.get(name, {}).items() if key not in own[other]}
        values[name] = {**kept, **own[name]}
    for key in values["grid"]:
        if key in values["set"]:
            raise UserError(f"{key} is both set and searched: name it in --set or in --grid")
    if not values.get("method"):
        raise UserError("which methods? give --method, or a sweep file with a line: method = [...]")
    for key, field in FIELDS.items():
        if get_origin(field.annotation) is Literal and values.get(key, field.default) not in get_args(field.annotation):
            raise unknown(f"--{key}", values[key], get_args(field.annotation))
    try:
        return SweepOptions(**values)
    except ValidationError as error:  # a number out of range that did not come through the command line
        problem = error.errors()[0]
        raise UserError(f"{problem['loc'][0]} = {problem['input']!r}: {problem['msg'].lower()}") from None


def planned(file: Path | None, asked: SweepOptions) -> list[dict[str, Any]]:
    """The runs of a sweep. Raises UserError, naming the line of `file` that it is about if there is one."""
    try:
        runs = plan.plan(
            plan.parse_methods(asked.method),
            plan.parse_seeds(asked.seeds),
            asked.preset,
            asked.set,
            asked.grid,
            asked.experiment or asked.preset,
        )
    except UserError as error:
        for table, keys in (("set", asked.set), ("grid", asked.grid)) if file else ():
            for key in keys:
                if file and (repr(key) in str(error) or f"{key}=" in str(error)):
                    line = line_of(file, key.rpartition(".")[2], table)
                    raise UserError(f"{file}:{line}: {error}" if line else str(error)) from None
        raise
    return list({run["run_id"]: run for run in runs}.values())  # 0.1 and 0.10 are one grid point


def parse_grid(settings: list[str]) -> dict[str, list[str]]:
    """["optim.lr=0.3,1.0", ...] -> {"optim.lr": ["0.3", "1.0"]}. Raises UserError."""
    grid: dict[str, list[str]] = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        values = [value.strip() for value in text.split(",") if value.strip()]
        if not key.strip() or not values:
            raise UserError(f"--grid {setting!r}: expected KEY=VALUE,VALUE, e.g. optim.lr=0.3,1.0")
        if key.strip() in grid:
            raise UserError(f"--grid {setting!r}: {key.strip()} is searched already: give all its values at once")
        grid[key.strip()] = values
    return grid


def load(path: Path) -> dict[str, Any]:
    """A sweep file's content, in the types of the flags. Raises UserError naming file and line."""
    values = read_toml(path)
    found: dict[str, Any] = {}
    for key, value in values.items():
        try:
            found[key] = _flag(key, value)
        except ValueError as error:
            inner = str(error).partition(" = ")[0].rpartition(".")[2]  # of [set] or [grid]
            raise UserError(f"{path}:{line_of(path, inner, key) or line_of(path, key)}: {error}") from None
    return found


def _flag(key: str, value: Any) -> Any:
    """A file's value as the flag would give it. Raises ValueError."""
    if key not in FIELDS:
        raise unknown("key", key, FIELDS)
    if key == "set":
        return {name: _scalar(name, each) for name, each in _dotted(key, value).items()}
    if key == "grid":
        return {name: _values(name, each) for name, each in _dotted(key, value).items()}
    if key == "method" and isinstance(value, list):
        return ",".join(_scalar(key, each) for each in value)
    if key == "seeds" and isinstance(value, list):
        return "".join(f"{_scalar(key, each)}," for each in value)
    if int in (FIELDS[key].annotation, *get_args(FIELDS[key].annotation)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{key} = {value!r}: should be a whole number above zero")
        return value
    if isinstance(value, str) or (key in WORDS_OR_NUMBERS and isinstance(value, int)):
        return _scalar(key, value)
    raise ValueError(f"{key} = {value!r}: should be a text in quotes")


def _dotted(key: str, table: Any, prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}."""
    if not isinstance(table, dict):
        raise ValueError(f"{key} should be a table: [{key}]")
    found = {}
    for name, value in table.items():
        dotted = f"{prefix}{name}"
        found.update(_dotted(key, value, f"{dotted}.") if isinstance(value, dict) else {dotted: value})
    return found


def _values(key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{key} = {value!r}: should be a list of values to search, e.g. [0.3, 1.0]")
    return [_scalar(key, each) for each in value]


def _scalar(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"{key} = {value!r}: should be a text, a number, true or false")
