"""Sweep files: a sweep as a TOML file kept with a paper. Keys are `bench sweep`'s flags, which override them.

method = ["raft", "byol"]
seeds = 5
preset = "cifar10"

[set]
train.epochs = 100

[grid]
optim.lr = [0.3, 1.0]

Instead of a grid, or with it, a search on seeds of its own: [search] and [search.from] (bench.planning.search).

Rows of the leaderboard beside, or in place of, `method`:

[[entry]]
label = "RAFT, no predictor"
method = "raft"
set = { "method.predictor" = "none" }

Encoders from elsewhere, judged with the same data by eval.at_end (settings as of `bench evaluate --set encoder.NAME.`):

[encoder]
r50 = "timm:resnet50.a1_in1k"
mine = { source = "file:mine.pth", mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5], size = 32 }
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from bench.config.schema import parse_overrides
from bench.errors import UserError, unknown
from bench.planning import entries, plan, search
from bench.planning.entries import Entry
from bench.planning.options import SweepOptions
from bench.planning.toml import line_of, read_toml
from methods import METHODS, plugins
from methods.plugins import PluginError

FIELDS = SweepOptions.model_fields
WORDS_OR_NUMBERS = ("seeds", "gpus", "time")
ENTRY_KEYS = ("label", "method", "set")


def options(file: Path | None, flags: Mapping[str, Any]) -> SweepOptions:
    """What a sweep was asked for: flags (None: not given) over the file over defaults.

    `set` and `grid` are overridden key by key; a key that the flags fix is no longer searched, and the other way round.
    `--method` selects among the entries of a file that has some; what an entry sets, no flag changes.
    Raises UserError, naming file and line where the file is wrong.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    plugins.use(given.get("plugin", []))
    own: dict[str, dict[str, Any]] = {
        "set": parse_overrides(given.pop("set", [])),
        "grid": parse_grid(given.pop("grid", [])),
        "search": parse_overrides(given.pop("search", []), "--search from.optim.lr=log:0.03,3"),
    }
    loaded = load(file) if file else {}
    values: dict[str, Any] = {**loaded, **given}
    ours = {key.removeprefix(search.FROM) for table in own.values() for key in table}  # which win over the file's
    for name, table in own.items():
        kept = {key: each for key, each in values.get(name, {}).items() if key.removeprefix(search.FROM) not in ours}
        values[name] = {**kept, **table}
    if not values["search"]:
        del values["search"]
    for key in [*values["grid"], *(key.removeprefix(search.FROM) for key in values.get("search", {}))]:
        if key in values["set"]:
            raise UserError(f"{key} is both set and searched: name it in --set or in --grid or --search")
    if file and values.get("entry"):
        if "method" in given:
            values |= _selected(file, loaded, given["method"])
        _check_named_once(file, loaded["entry"], values, own)
    elif not values.get("method"):
        raise UserError("which methods? give --method, or a sweep file with a line: method = [...]")
    return SweepOptions.of(values)


def planned(file: Path | None, asked: SweepOptions) -> list[dict[str, Any]]:
    """The runs of a sweep; with a search, all that it may come to (bench.planning.stages says which are due).

    Raises UserError, naming the line of `file` that it is about if there is one.
    """
    try:
        rows = _rows(asked.method, asked.entry)
        if asked.search:
            return search.planned(rows, asked)
        of_all = asked.preset, asked.set, asked.grid, asked.folder
        runs = plan.plan(rows, plan.parse_seeds(asked.seeds), *of_all)
    except UserError as error:
        line = _line_of_setting(file, asked, str(error)) if file else 0
        raise UserError(f"{file}:{line}: {error}" if line else str(error)) from None
    return list({run["run_id"]: run for run in runs}.values())  # 0.1 and 0.10 are one grid point


def _rows(methods: str, own: list[Entry]) -> list[Entry]:
    """All entries: methods are entries of their own name. Raises UserError."""
    return [*map(Entry, plan.parse_methods(methods) if methods else ()), *own]


def _check_named_once(
    file: Path, of_file: list[Entry], values: Mapping[str, Any], flags: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raises UserError if a flag or the grid has what an entry sets: its label would not say what it is."""
    for entry in values["entry"]:
        for key in entry.overrides:
            for name, named in (("set", key), ("grid", key), ("search", search.FROM + key)):
                if named in flags[name]:
                    raise UserError(f"--{name} {key}: entry {entry.name!r} of {file} sets it; change it there")
            for table, name in (("[grid]", key), ("[search.from]", search.FROM + key)):
                if name in values["grid"] or name in values.get("search", {}):
                    line = line_of(file, key.rpartition(".")[2], "entry", 1 + of_file.index(entry))
                    told = f"entry {entry.name!r} sets {key}, which {table} searches: name it once"
                    raise UserError(f"{file}:{line}: {told}")


def _selected(file: Path, loaded: Mapping[str, Any], methods: str) -> dict[str, Any]:
    """Of a file's rows those of these methods. Raises UserError if a method has none."""
    wanted = plan.parse_methods(methods)
    rows = _rows(loaded.get("method", ""), loaded["entry"])
    for method in wanted:
        if not any(row.method == method for row in rows):
            there = ", ".join(dict.fromkeys(row.method for row in rows))
            raise UserError(f"--method {method}: no entry of {file} has it; they have {there}")
    plain = [row.method for row in rows if row.method in wanted and row not in loaded["entry"]]
    return {"method": ",".join(plain), "entry": [row for row in loaded["entry"] if row.method in wanted]}


def _line_of_setting(file: Path, asked: SweepOptions, problem: str) -> int:
    """The line of the setting that a problem is about; 0 if it is about none in the file."""
    for entry in asked.entry:
        for key, value in entry.overrides.items():
            signs = (f"{key}={value!r}", f"key {key!r}", f"key of {entry.method} {key!r}")
            if any(sign in problem for sign in signs):
                return line_of(file, key.rpartition(".")[2], "entry", 1 + load(file)["entry"].index(entry))
    for table, keys in (("set", asked.set), ("grid", asked.grid), ("search", asked.search)):
        for key in (key.removeprefix(search.FROM) for key in keys):
            if repr(key) in problem or f"{key}=" in problem:
                return line_of(file, key.rpartition(".")[2], table)
    return 0


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
    for key, value in sorted(values.items(), key=lambda item: item[0] != "plugin"):  # which others may need
        try:
            found[key] = _tables(key, value) if key == "entry" else _flag(key, value)
            if key == "plugin":
                plugins.use(found[key], path.parent)
        except (ValueError, PluginError) as error:
            inner = str(error).partition(" = ")[0].rpartition(".")[2]  # of [set] or [grid]
            raise UserError(f"{path}:{line_of(path, inner, key) or line_of(path, key)}: {error}") from None
    if "entry" in found:
        found["entry"] = _entries(path, found["entry"], found.get("method", ""))
    return found


def _entries(path: Path, tables: list[dict[str, Any]], methods: str) -> list[Entry]:
    """The [[entry]] tables of a file, whose `method` is given too. Raises UserError naming file and line."""
    plain = _rows(methods, [])
    found: list[Entry] = []
    for number, table in enumerate(tables, start=1):
        key = "entry"
        try:
            for key in table:
                if key not in ENTRY_KEYS:
                    raise unknown("key of [[entry]]", key, ENTRY_KEYS)
            key = "method" if "method" in table else "entry"
            method = _word(table, "method").strip()
            if method not in METHODS:
                raise unknown("method", method, METHODS)
            key = "set"
            overrides = {name: _scalar(name, each) for name, each in _dotted("set", table.get("set", {})).items()}
            key = "label"
            label = entries.label_of(_word(table, "label"), method) if "label" in table else ""
            found.append(Entry(method, label, overrides))
            entries.check_names([*plain, *found])
        except ValueError as error:
            raise UserError(f"{path}:{line_of(path, key, 'entry', number)}: {error}") from None
    return found


def _flag(key: str, value: Any) -> Any:
    """A file's value as the flag would give it. Raises ValueError."""
    if key not in FIELDS:
        raise unknown("key", key, FIELDS)
    if key == "set":
        return {name: _scalar(name, each) for name, each in _dotted(key, value).items()}
    if key == "grid":
        return {name: _values(name, each) for name, each in _dotted(key, value).items()}
    if key == "search":
        return _search(_dotted(key, value))
    if key == "encoder":
        return _encoders(value)
    if key == "method" and isinstance(value, list):
        return ",".join(_scalar(key, each) for each in value)
    if key == "plugin":
        return [_scalar(key, each) for each in (value if isinstance(value, list) else [value])]
    if key == "seeds" and isinstance(value, list):
        return "".join(f"{_scalar(key, each)}," for each in value)
    if int in (FIELDS[key].annotation, *get_args(FIELDS[key].annotation)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{key} = {value!r}: should be a whole number above zero")
        return value
    if key == "margin":
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"{key} = {value!r}: should be a number of points above zero")
        return float(value)
    if isinstance(value, str) or (key in WORDS_OR_NUMBERS and isinstance(value, int)):
        return _scalar(key, value)
    raise ValueError(f"{key} = {value!r}: should be a text in quotes")


def _encoders(value: Any) -> dict[str, dict[str, str]]:
    """[encoder] -> name -> its source and settings. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("encoder should be a table: [encoder]")
    found = {}
    for name, each in value.items():
        settings = each if isinstance(each, dict) else {"source": each}
        if not isinstance(settings.get("source"), str):
            raise ValueError(f'{name} = {each!r}: should be a source, e.g. {name} = "timm:resnet50.a1_in1k"')
        found[name] = {
            key: ",".join(_scalar(key, part) for part in given) if isinstance(given, list) else _scalar(key, given)
            for key, given in settings.items()
        }
    return found


def _dotted(key: str, table: Any, prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}."""
    if not isinstance(table, dict):
        raise ValueError(f"{key} should be a table: [{key}]")
    found = {}
    for name, value in table.items():
        dotted = f"{prefix}{name}"
        found.update(_dotted(key, value, f"{dotted}.") if isinstance(value, dict) else {dotted: value})
    return found


def _search(table: Mapping[str, Any]) -> dict[str, str]:
    """[search], as --search gives it: {"from.optim.lr.log": [0.1, 1]} -> {"from.optim.lr": "log:0.1,1"}."""
    found = {}
    for key, value in table.items():
        name, _, kind = key.rpartition(".")
        if key.startswith(search.FROM) and kind in search.KINDS:
            if name in found:
                raise ValueError(f"{name} has two ranges: give one of {', '.join(search.KINDS)}")
            found[name] = f"{kind}:{','.join(_values(name, value))}"
        else:
            given = _values(key, value) if isinstance(value, list) else [_scalar(key, value)]
            found[key] = ",".join(given) + "," * (key == "seeds" and isinstance(value, list))
    return found


def _tables(key: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{key} should be tables: [[{key}]]")
    return value


def _word(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise ValueError(
            "an entry needs a method" if value is None else f"{key} = {value!r}: should be a text in quotes"
        )
    return value


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
