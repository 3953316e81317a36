"""What to run: methods x seeds x grid points -> planned runs, each the content of a config.json."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from bench import evaluation
from bench.config import encoders, presets
from bench.config.schema import RunConfig, resolve
from bench.config.sections import BackboneConfig
from bench.data import datasets
from bench.data.classes import place
from bench.data.rows import Choice
from bench.errors import UserError, unknown
from bench.planning.entries import Entry
from bench.planning.settled import settled
from bench.runs import store
from bench.runs.identity import FOLDER, FOLDER_PATH, SCHEMA, config_hash, run_id
from methods import METHODS

MAX_SEED = 2**31 - 1
MAX_SEEDS = 10_000  # at once: more is a seed that was meant, not a number of seeds
WRITERS = 16  # run directories made at a time: a disk syncs many files in the time that one takes


def parse_methods(text: str) -> list[str]:
    """ "raft,byol" -> ["raft", "byol"]. Raises UserError on an unknown or repeated name."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"--method {text!r}: name one or more of {', '.join(sorted(METHODS))}")
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, METHODS)
    return list(dict.fromkeys(names))


def parse_seeds(text: str) -> list[int]:
    """ "5" -> seeds 0..4; "3,7" -> those two; "3," -> seed 3 alone. Raises UserError otherwise."""
    problem = UserError(
        f"--seeds {text!r}: give a number of seeds (5 is seeds 0 to 4) or a list (3,7 is those two; 3, is seed 3 alone)"
    )
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*,?\s*", text):
        raise problem
    numbers = [int(part) for part in text.split(",") if part.strip()]
    if max(numbers) > MAX_SEED:
        raise UserError(f"--seeds {text!r}: a seed is at most {MAX_SEED}")
    if "," in text:
        return list(dict.fromkeys(numbers))
    if numbers[0] == 0:
        raise problem
    if numbers[0] > MAX_SEEDS:
        raise UserError(
            f"--seeds {text!r}: that is {numbers[0]} seeds; for seed {numbers[0]} alone write {numbers[0]},"
        )
    return list(range(numbers[0]))


def plan(
    entries: Sequence[Entry | str],
    seeds: Sequence[int],
    preset: str,
    overrides: Mapping[str, str],
    grid: Mapping[str, Sequence[str]],
    experiment: str,
    points: Sequence[Mapping[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Contents of the config.json of every run, validated; seeds vary slowest, so a stopped sweep has whole seeds.

    entries: rows of the leaderboard; a method's name is the entry of that name. An entry's own settings win over
    `overrides`. points: settings of each configuration; by default all combinations of `grid`, which maps a dotted key
    to its values. Raises UserError.
    """
    points = combinations(grid) if points is None else points
    fingerprint, found = cache(datasets.fingerprint), cache(_weights)  # read once, not once a method
    configs: list[tuple[dict[str, Any], dict[str, str], Entry]] = []
    known: dict[str, Entry] = {}
    for entry in (Entry(given) if isinstance(given, str) else given for given in entries):
        for point in points:
            chosen = {**overrides, **entry.overrides, **point}
            config = _with_hashes(presets.values(preset, entry.method), chosen, fingerprint, found)
            values = config.model_dump(mode="json")
            other = known.setdefault(config_hash(values), entry)
            if other is not entry:
                raise UserError(
                    f"entries {other.name!r} and {entry.name!r} have the same settings: these are the same runs"
                )
            configs.append((values, chosen, entry))
    return [
        {
            "schema": SCHEMA,
            "run_id": run_id(config, seed),
            "experiment": experiment,
            "method": config["method_name"],
            "preset": preset,
            "seed": seed,
            "config_hash": config_hash(config),
            "overrides": chosen,
            **({"entry": entry.label} if entry.label else {}),
            **({"entry_keys": list(entry.overrides)} if entry.overrides else {}),
            "config": config,
        }
        for seed in seeds
        for config, chosen, entry in configs
    ]


def combinations(grid: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """The points of a grid: all combinations of its values; of no keys one, which sets nothing."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _with_hashes(
    settings: dict[str, Any],
    overrides: dict[str, str],
    fingerprint: Callable[[str, str, Choice], str],
    found: Callable[[BackboneConfig, int, int], BackboneConfig],
) -> RunConfig:
    """The config with the content's hash of what it names by a path: a folder of images, weights to begin with."""
    config = settled(resolve(settings, overrides), overrides)
    evaluation.parse(config.eval.at_end)
    data, backbone, judged = config.data, config.backbone, config.eval
    if data.name == FOLDER_PATH:
        raise UserError(
            f"data.name={data.name}: this preset is for a folder of images of yours: --set data.name={FOLDER}..., with "
            "train/<class>/ and test/<class>/ (or val/) in it"
        )
    name, classes = datasets.located(data.name, "data.name="), place(data.classes)
    content = fingerprint(name, classes, Choice.of(data))
    data = data.model_copy(update={"name": name, "classes": classes, "fingerprint": content})
    if judged.data:
        other = datasets.located(judged.data, "eval.data=")
        where = {"data": other, "data_fingerprint": fingerprint(other, "", Choice())}
        if tuple(where.values()) == (name, content):  # what is trained on: as if it were not named
            where = dict.fromkeys(where, "")
        judged = judged.model_copy(update=where)
    if backbone.weights:
        backbone = found(backbone, data.size, data.channels)
    return config.model_copy(update={"data": data, "backbone": backbone, "eval": judged})


def _weights(config: BackboneConfig, size: int, channels: int) -> BackboneConfig:
    """With the weights' place made absolute and their hash. Raises UserError if they are not this backbone's."""
    from bench import backbone  # torch with it

    absolute = config.model_copy(update={"weights": str(encoders.parse(config.weights, "backbone.weights"))})
    made = backbone.create(absolute, size, channels=channels)
    return absolute.model_copy(update={"weights_hash": made.weights_hash})


def write(planned: Sequence[Mapping[str, Any]], results: Path) -> list[store.RunDir]:
    """Make the run directory of every planned run that has none. Raises UserError if it cannot write."""

    def write_one(run: Mapping[str, Any]) -> store.RunDir:
        return store.plan_run(store.experiment_dir(results, run["experiment"]), run)

    with ThreadPoolExecutor(max_workers=WRITERS) as pool:
        return list(pool.map(write_one, planned))
