"""Which row of the tables a run belongs to: that of its label, or of its method."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.files import printable
from methods import METHODS


def stored(planned: Mapping[str, Any]) -> tuple[str, str]:
    """Of a config.json: the label, "" for none, and the settings that the entry is about (dotted, spaces between)."""
    label, keys = planned.get("entry"), planned.get("entry_keys")
    told = [printable(str(key)) for key in keys] if isinstance(keys, list) else []
    return printable(label) if isinstance(label, str) else "", " ".join(told)


def searched(planned: Mapping[str, Any]) -> tuple[str, str]:
    """Of a config.json: the configuration that a run of a search stands for, "" for others, and what is searched.

    "optim.lr=log:0.03,3 method.tau=uniform:0.9,1".
    """
    search = planned.get("search")
    if not isinstance(search, dict) or not isinstance(search.get("for"), str):
        return "", ""
    space = search.get("space")
    parts = [f"{key}={value}" for key, value in space.items()] if isinstance(space, dict) else []
    return printable(search["for"]), printable(" ".join("".join(part.split()) for part in parts))


def assign(runs: pd.DataFrame) -> list[tuple[Any, str]]:
    """Make `entry` the key of the tables' rows: one a configuration, of one method. Returns rows with another label.

    A configuration has the label of the first run that has one; without any it belongs to its method.
    """
    first: dict[str, tuple[str, str]] = {}
    for digest, label, keys in runs[["config_hash", "entry", "entry_keys"]].itertuples(index=False):
        if label:
            first.setdefault(digest, (label, keys))
    methods: dict[str, set[str]] = {}
    chosen, others = [], []
    for index, digest, label, keys, method in runs[["config_hash", "entry", "entry_keys", "method"]].itertuples():
        own, own_keys = first.get(digest, (method, keys))
        if label not in ("", own):
            told = f"its label is {label!r}; that of other runs of this configuration is used: {own!r}"
            others.append((index, told))
        methods.setdefault(own, {own} if own in METHODS else set()).add(method)
        chosen.append((own, own_keys, method))
    names = [own if own == method or len(methods[own]) == 1 else f"{own} ({method})" for own, _, method in chosen]
    runs["entry"] = pd.Series(names, index=runs.index, dtype=object)
    runs["entry_keys"] = pd.Series([keys for _, keys, _ in chosen], index=runs.index, dtype=object)
    return others
