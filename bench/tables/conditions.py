"""Whether methods were trained under the same conditions: if not, a difference is not theirs alone."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.runs.identity import NOT_HASHED

COMPARED = ("data", "backbone", "augment", "train", "eval")
NOT_SET = "not set"
"""A setting that a run's configuration does not have, as of runs planned before the setting existed."""


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
        values = {method: str(config.get(key, NOT_SET)) for method, config in chosen.items()}
        free = key in NOT_HASHED or key == "data.name"  # of one dataset: a folder may be moved
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
