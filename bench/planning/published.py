"""What runs of a published table were planned as: settings again from what each row says, proven by their hash."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench.config import presets
from bench.config.schema import resolve
from bench.errors import UserError
from bench.files import parse_json
from bench.planning import plan, sweep_file, until
from bench.planning.entries import Entry
from bench.planning.options import SweepOptions
from bench.planning.search import WARMUP, shortened
from bench.planning.settled import settled
from bench.planning.toml import read_toml
from bench.runs.experiment import Until
from bench.runs.identity import ADDED, PATHS, config_hash
from bench.tables.inventory import flatten
from bench.tables.published import Published

SEEDS, MAX_SEEDS = (SweepOptions.model_fields[key].default for key in ("seeds", "max_seeds"))
CONFIGS = "configs.json"
"""Of a bundle: config_hash -> the resolved config."""


def overrides(text: str) -> dict[str, str]:
    """ "data.name=folder:my photos optim.lr=0.1" -> what was set beside the preset, by dotted key."""
    parts = re.split(r" (?=\w+(?:\.\w+)+=)", text) if text else []
    return {key: value for key, _, value in (part.partition("=") for part in parts)}


def configs(published: Published) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """config_hash -> config with dotted keys of the configurations of a table, and what is not sure of them.

    From configs.json, or again from preset, method and overrides. A config is proven if it has the table's hash; one of
    data or weights at a path, whose content's hash is not known here, is taken as it is planned, and that is told; what
    a plan of now gives another hash is left out, and told.
    """
    stored = _stored(published.folder / CONFIGS)
    found: dict[str, dict[str, Any]] = {}
    doubts: dict[str, list[str]] = {}
    for digest, rows in published.runs.groupby("config_hash", sort=False):
        first = rows.iloc[0]
        known = stored.get(str(digest))
        if known is None:
            try:
                values = presets.values(first["preset"], first["method"])
                chosen = _exact(overrides(first["overrides"]), values)
                known = settled(resolve(values, chosen), chosen).model_dump(mode="json")
            except UserError as error:
                doubts.setdefault(f"unknown here ({error})", []).append(str(digest))
                continue
        if _hash(known) != digest:
            if not _elsewhere(known):
                doubts.setdefault("not those that are planned now, by their hash", []).append(str(digest))
                continue
            doubts.setdefault("taken from the preset, not proven by their hash: it is of files too", []).append(
                str(digest)
            )
        found[str(digest)] = flatten(ADDED) | flatten(known)
    return found, [f"settings of {', '.join(digests)}: {why}" for why, digests in doubts.items()]


def _exact(chosen: dict[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """What was set, with all digits of a warm-up that a search shortened: its runs used to tell six of them."""
    told, epochs, warmup = chosen.get(WARMUP, ""), chosen.get("train.epochs", ""), values["optim"].get("warmup_epochs")
    if not warmup or not epochs.isdecimal() or not re.fullmatch(r"\d*\.\d+", told) or not float(told):
        return chosen
    whole = max(1, round(warmup * int(epochs) / float(told)))  # epochs of the runs that it was shortened from
    exact = shortened(warmup, int(epochs), whole)
    return {**chosen, WARMUP: repr(exact)} if f"{exact:g}" == told else chosen


def _stored(path: Path) -> dict[str, dict[str, Any]]:
    """Raises UserError if the file is none of ours."""
    if not path.is_file():
        return {}
    try:
        stored = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or not all(isinstance(each, dict) for each in stored.values()):
            raise ValueError("not configs by their hash")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    return stored


def _hash(config: Mapping[str, Any]) -> str:
    """ "" of what is no config."""
    try:
        return config_hash(config)
    except (KeyError, TypeError, AttributeError, ValueError):
        return ""


def _elsewhere(config: Mapping[str, Any]) -> bool:
    """Whether settings name a file or a folder whose content's hash they lack."""
    flat = flatten(config)
    return any(":" in str(flat.get(path, "")) and not flat.get(content) for path, content in PATHS.items())


def planned(published: Published) -> dict[str, dict[str, Any]]:
    """The runs that its sweep files plan, or without one what its rows say, by run_id.

    Raises UserError on what cannot be planned here, as where data are missing.
    """
    runs: list[dict[str, Any]] = []
    for file in published.sweeps:
        asked = sweep_file.options(file, {"on": "local"})
        plan_of = partial(sweep_file.planned, file)
        runs += until.everything(asked, plan_of) if asked.until else plan_of(asked)
    if not published.sweeps:
        for _, rows in published.done.groupby("config_hash", sort=False):
            first = rows.iloc[0]
            label = first["entry"] if first["entry"] != first["method"] else ""
            entry = Entry(first["method"], label, overrides(first["overrides"]))
            seeds = sorted(map(int, rows["seed"]))
            runs += plan.plan([entry], seeds, first["preset"], {}, {}, published.name)
    return {run["run_id"]: run for run in runs}


def untils(published: Published) -> list[Until]:
    """What its sweep files say decides how many seeds two entries have. Executes no plug-in. Raises UserError."""
    names = set(published.runs["entry"])
    found = []
    for file in published.sweeps:
        given = read_toml(file)
        if "until" in given:
            seeds, most = given.get("seeds", SEEDS), given.get("max_seeds", MAX_SEEDS)
            try:
                found.append(until.parse(str(given["until"]), names, str(seeds), int(most)))
            except (UserError, ValueError, TypeError) as error:
                raise UserError(f"{file}: {error}") from None
    return found


def margin(published: Published) -> float | None:
    """The margin that its sweep files name; None if they name none, or several. Executes no plug-in that they name."""
    named = {read_toml(file).get("margin") for file in published.sweeps} - {None}
    return named.pop() if len(named) == 1 else None
