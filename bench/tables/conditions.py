"""Whether entries were trained under the same conditions: if not, a difference is not theirs alone.

Conditions are settings, but for those that an entry is about, and what the runs were made with: code, versions,
devices, threads.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.runs.identity import NOT_HASHED, PATHS

COMPARED = ("data", "backbone", "augment", "train", "eval")
NOT_SET = "not set"
"""A setting that a run's configuration does not have, as of runs planned before the setting existed."""
NOT_RECORDED = "not recorded"
"""What a result does not say, as one of an older version."""


def unlike(tried: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Settings in which the chosen points of a board differ without saying so: dotted key -> entry -> value.

    tried: the board's points, with entry, config_hash, stands, chosen and entry_keys. Optimizers and methods' own
    hyperparameters may differ; so may what was searched alike, over the same values for every entry, and what an entry
    is about (entry_keys): such an entry is left out where its key is looked at, the others have to be alike.
    """
    known = tried[tried["config_hash"].isin(configs.keys())]
    chosen = _standing(tried, configs)
    declared = {str(entry): _keys(own) for entry, own in known.groupby("entry")}
    for named in declared.values():
        named |= {content for path, content in PATHS.items() if path in named}
    keys = dict.fromkeys(key for config in chosen.values() for key in config if key.split(".")[0] in COMPARED)
    space = {part.partition("=")[0] for own in set(known["search_space"]) for part in own.split(" ")}
    untrained = set(known.loc[known["method"] == "random", "entry"])  # which no search looks at
    found = {}
    for key in keys:
        apart = untrained if key in space else set()
        values = {e: _value(config, key) for e, config in chosen.items() if key not in declared[e] and e not in apart}
        free = key in NOT_HASHED or key in PATHS  # what is there may be moved: its content's hash is another key
        if free or len(set(values.values())) < 2:
            continue
        searched = {
            frozenset(str(configs[digest].get(key, NOT_SET)) for digest in own["config_hash"])
            for entry, own in known.groupby("entry")
            if entry in values
        }
        if len(searched) > 1:
            found[key] = values
    return found


def compared(tried: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Conditions that entries of a board are about, and in which chosen points differ: dotted key -> entry -> value.

    Not paths, which are this machine's.
    """
    known = tried[tried["chosen"] & tried["config_hash"].isin(configs.keys())]
    chosen = _standing(tried, configs)
    found = {}
    for key in sorted(_keys(known) - PATHS.keys()):
        values = {entry: _value(config, key) for entry, config in chosen.items()}
        if key.split(".")[0] in COMPARED and len(set(values.values())) > 1:
            found[key] = values
    return found


def _standing(tried: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The configuration that stands for each entry, of those that have run."""
    chosen = tried[tried["chosen"] & tried["stands"].isin(configs.keys())]
    return {str(row.entry): configs[str(row.stands)] for row in chosen.itertuples()}


def _value(config: Mapping[str, Any], key: str) -> str:
    return str(config.get(key, NOT_SET)) or "none"


def _keys(points: pd.DataFrame) -> set[str]:
    return set(" ".join(points["entry_keys"].fillna("")).split())


def mixed(runs: pd.DataFrame) -> dict[str, dict[str, list[tuple[str, int]]]]:
    """What these runs were not all made with: "torch" -> "2.9.0" -> [(entry, seed), ...]; the most frequent first.

    runs: with entry, seed and provenance. Empty if all are alike; hosts and times may differ.
    """
    said = runs.reindex(columns=["git_commit", "git_dirty", "versions", "device", "threads", "compiled"])
    made_with = [_made_with(row) for row in said.astype(object).fillna("").astype(str).to_dict("records")]
    found: dict[str, dict[str, list[tuple[str, int]]]] = {}
    for name in dict.fromkeys(name for own in made_with for name in own):
        by_value: dict[str, list[tuple[str, int]]] = {}
        for own, entry, seed in zip(made_with, runs["entry"], runs["seed"], strict=True):
            by_value.setdefault(own.get(name) or NOT_RECORDED, []).append((str(entry), int(seed)))
        if len(by_value) > 1:
            found[name] = dict(sorted(by_value.items(), key=lambda item: (-len(item[1]), item[0])))
    return found


def _made_with(run: Mapping[Any, str]) -> dict[str, str]:
    commit = run["git_commit"][:8]
    changed = " with uncommitted changes" if run["git_dirty"] == "True" else ""
    versions = (part.partition(" ") for part in run["versions"].split(", ") if part)
    compiled = {"True": "compiled", "False": "not compiled"}.get(run["compiled"], "")
    return {
        "commit": f"{commit or NOT_RECORDED}{changed}",
        **{name: version for name, _, version in versions},
        "device": run["device"],
        "threads": run["threads"],
        "backbone": compiled,
    }
