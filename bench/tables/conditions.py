"""Whether methods were trained under the same conditions: if not, a difference is not theirs alone.

Conditions are settings, and what the runs were made with: code, versions, devices, threads.
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
    """Settings in which the chosen points of a board differ: dotted key -> method -> value.

    tried: the board's points, with method, config_hash and chosen. Optimizers and methods' own hyperparameters may
    differ; so may what was searched alike, over the same values for every method.
    """
    known = tried[tried["config_hash"].isin(configs.keys())]
    chosen = {str(m): configs[digest] for m, digest in known.loc[known["chosen"], ["method", "config_hash"]].to_numpy()}
    keys = dict.fromkeys(key for config in chosen.values() for key in config if key.split(".")[0] in COMPARED)
    found = {}
    for key in keys:
        values = {method: str(config.get(key, NOT_SET)) or "none" for method, config in chosen.items()}
        free = key in NOT_HASHED or key in PATHS  # what is there may be moved: its content's hash is another key
        if free or len(set(values.values())) < 2:
            continue
        searched = {
            frozenset(str(configs[digest].get(key, NOT_SET)) for digest in own["config_hash"])
            for method, own in known.groupby("method")
            if method in chosen
        }
        if len(searched) > 1:
            found[key] = values
    return found


def mixed(runs: pd.DataFrame) -> dict[str, dict[str, list[tuple[str, int]]]]:
    """What these runs were not all made with: "torch" -> "2.9.0" -> [(method, seed), ...]; the most frequent first.

    runs: with method, seed and provenance. Empty if all are alike; hosts and times may differ.
    """
    said = runs.reindex(columns=["git_commit", "git_dirty", "versions", "device", "threads", "compiled"])
    made_with = [_made_with(row) for row in said.astype(object).fillna("").astype(str).to_dict("records")]
    found: dict[str, dict[str, list[tuple[str, int]]]] = {}
    for name in dict.fromkeys(name for own in made_with for name in own):
        by_value: dict[str, list[tuple[str, int]]] = {}
        for own, method, seed in zip(made_with, runs["method"], runs["seed"], strict=True):
            by_value.setdefault(own.get(name) or NOT_RECORDED, []).append((str(method), int(seed)))
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
