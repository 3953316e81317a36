"""What a run is called, and what makes two runs one.

run_id = <method>-<config_hash>-s<seed>. The hash is of the resolved settings that decide a run's result: not of the
seed, nor of paths, devices or anything in NOT_HASHED. A setting that a later version of the program adds has a row in
ADDED: at the value that means "as before" it is left out of the hash, so that finished runs keep their names.
"""

import hashlib
import json
import os
import re
import reprlib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

SCHEMA = 1  # version of config.json and result.json

NOT_HASHED = (
    "train.threads",
    "train.checkpoint_epochs",
    "data.skip_bad",
    "eval.at_end",
)  # they change no encoder, and no number of an evaluation

ADDED: dict[str, Any] = {
    "data.channels": 3,
    "data.classes": "",
    "data.image_column": "",
    "data.label_column": "",
    "data.train_split": "",
    "data.test_split": "",
    "data.store": 0,
    "data.cache": "pixels",
    "data.eval_crop": 1.0,
    "data.normalize": "own",
    "backbone.weights": "",
    "backbone.weights_hash": "",
    "backbone.args": {},
    "augment.interpolation": "bilinear",
    "augment.blur_kernel": "tenth",
    "augment.view3": {},
    "augment.view4": {},
    "train.accumulate": 1,
    "optim.loss_scale": 1.0,
    "optim.warmup_peak": "after",
    "optim.clip_norm": 0.0,
    "optim.beta1": 0.9,
    "optim.beta2": 0.999,
    "optim.decay_embeddings": True,
    "method.freeze_patch_embed": False,
    "method.projector_layers": 2,
    "method.projector_norm": True,
    "method.tau_end": 1.0,
    "method.head": "mlp",
    "method.teacher_temperature_start": 0.04,
    "method.temperature_warmup": 0.0,
    "method.freeze_prototypes": 0.0,
    "method.predictor_frozen": False,
    "eval.data": "",
    "eval.data_fingerprint": "",
}
"""Dotted key of a setting that the first version did not have -> its value that means "as before"."""

HAD = {"simsiam": ("method.projector_layers",)}
"""Methods that the first version had such a setting of."""

PATHS = {
    "data.name": "data.fingerprint",
    "data.classes": "data.fingerprint",
    "backbone.weights": "backbone.weights_hash",
    "eval.data": "eval.data_fingerprint",
}
"""Dotted key of a setting that may be a path -> that of its content's hash, "" if it is none. The content counts."""

FOLDER = "folder:"  # and a path: an image folder as a dataset
FOLDER_PATH = f"{FOLDER}PATH"  # how lists write that, and presets that leave the path to their users
PARQUET = "parquet:"  # and a path: a folder of parquet files
HUB = "hf:"  # and a name on the Hugging Face Hub
PROBED_ON = ", probed on "  # between the two datasets of a run

RUN_NAME = re.compile(r"(?P<method>.+)-(?P<config_hash>[0-9a-f]{8})-s(?P<seed>\d{1,18})")


def other_version(values: Mapping[str, Any]) -> str:
    """Why a JSON file without our schema version cannot be read."""
    if "schema" not in values:
        return "it has no schema version: not a file of this program, or edited"
    theirs = reprlib.repr(values["schema"])
    return f"written by another version of the program (its schema is {theirs}, the one here {SCHEMA})"


def config_hash(config: Mapping[str, Any]) -> str:
    """8 hex digits of a resolved config, as `RunConfig.model_dump(mode="json")` gives it."""
    values = deepcopy(dict(config))
    for key in NOT_HASHED:
        _remove(values, key)
    for key, as_before in ADDED.items():
        if _get(values, key) == as_before and key not in HAD.get(values["method_name"], ()):
            _remove(values, key)
    if values["data"]["fingerprint"]:  # the content counts, not where the folder lies
        values["data"]["name"] = "folder"
        _remove(values, "data.classes")
    if values["backbone"].get("weights_hash"):
        _remove(values, "backbone.weights")
    if values["eval"].get("data_fingerprint"):
        values["eval"]["data"] = "folder"
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_id(config: Mapping[str, Any], seed: int) -> str:
    """The name of a run's directory."""
    return f"{config['method_name']}-{config_hash(config)}-s{seed}"


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json's settings with those that were added since it was written, at what they were then."""
    values = deepcopy(dict(config))
    for key, as_before in ADDED.items():
        *sections, name = key.split(".")
        if sections == ["method"]:
            continue  # of one method: as before is the default of its Config
        table = values
        for section in sections:
            table = table.setdefault(section, {})
        table.setdefault(name, as_before)
    return values


def data_path(name: str) -> Path | None:
    """The folder that a dataset's name stands for (`folder:PATH`, `parquet:PATH`), a leading ~ expanded; else None."""
    kind, colon, path = name.partition(":")
    # not Path.expanduser, which raises where a home cannot be told
    return Path(os.path.expanduser(path)) if kind + colon in (FOLDER, PARQUET) else None  # noqa: PTH111


def at_path(name: str, path: object) -> str:
    """`name` (`folder:PATH`, `parquet:PATH`) with another path."""
    return f"{name.partition(':')[0]}:{path}"


def dataset_label(section: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None) -> str:
    """What tables call a dataset, from a config's `data`: its name; of a folder or table, with @<8 hex> of its hash.

    The fingerprint tells folders apart that have the same name; of a path only the last name is shown, as the rest is
    this machine's and no one else's. With the config's `eval`, what they call a run's data: "stl10, probed on cifar10"
    where it is judged on another set.
    """
    if evaluation and evaluation.get("data"):
        judged = {"name": evaluation["data"], "fingerprint": evaluation.get("data_fingerprint", "")}
        return f"{dataset_label(section)}{PROBED_ON}{dataset_label(judged)}"
    name, fingerprint = str(section["name"]), str(section.get("fingerprint", ""))
    path = data_path(name)
    shown = at_path(name, path.name) if path else name
    return f"{shown}@{fingerprint[:8]}" if ":" in name else shown


def weights_label(source: str, digest: str) -> str:
    """What tables call weights from elsewhere, by their source and their content's hash; "" without a source.

    "timm:resnet18.a1_in1k@<8 hex>", "file:moco.pth#teacher@<8 hex>": a path is this machine's and no one else's.
    """
    kind, colon, place = source.partition(":")
    return f"{kind}{colon}{place.rpartition('/')[2]}@{digest[:8]}" if source else ""


def seed_list(seeds: Iterable[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5" """
    ordered = sorted(set(map(int, seeds)))
    parts: list[list[int]] = []
    for seed in ordered:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def _get(values: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values.get(part, {})
    return values


def _remove(values: dict[str, Any], key: str) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values.get(section, {})
    values.pop(name, None)
