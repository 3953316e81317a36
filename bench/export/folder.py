"""An encoder as a folder: weights, a configuration that timm reads where the architecture is timm's own, a card."""

import shutil
import uuid
from pathlib import Path
from typing import Any

from timm.models import get_pretrained_cfg

from bench.backbone import timm_arguments
from bench.config import backbones
from bench.errors import UserError
from bench.export.card import card
from bench.export.trained import Trained, load
from bench.files import dump_json, sync_directory, write_atomic
from bench.runs.store import RunRecord

WEIGHTS = "model.safetensors"


def export(record: RunRecord, to: Path, data_dir: Path) -> list[Path]:
    """Write a finished run's encoder to `to`, a folder that is not there or empty; returns the files.

    The folder appears whole or not at all. Raises UserError if it cannot, or holds something.
    """
    assert record.result is not None  # as it is done
    check_target(to)
    run = load(record, data_dir)
    content = {
        WEIGHTS: record.dir.encoder.read_bytes(),
        "config.json": dump_json(config(run)).encode(),
        "README.md": card(run, record.result, is_timms(run)).encode(),
    }
    try:
        _write(to, content)
    except OSError as error:
        raise UserError(f"cannot write {to}: {error.strerror or error}") from error
    return [to / name for name in content]


def check_target(to: Path) -> None:
    """Raises UserError unless `to` is a folder that can be filled: not there, or empty."""
    try:
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            what = "holds other files" if to.is_dir() else "is a file"
            raise UserError(f"{to} {what}: name a new or an empty folder")
    except OSError as error:
        raise UserError(f"{to}: {error.strerror}") from None


def is_timms(run: Trained) -> bool:
    """Whether timm's registry builds this very network."""
    own = run.config.backbone
    return own.name not in backbones.OWN and own.stem == "imagenet"


def config(run: Trained) -> dict[str, Any]:
    """What config.json says: timm's hub format for timm's own architectures.

    For others `backbone` in place of `architecture`, which timm refuses, and how to rebuild it is in the card.
    """
    own, size, channels = run.config.backbone, run.config.data.size, run.config.data.channels
    known: Any = get_pretrained_cfg(own.name) if is_timms(run) else None
    arguments = timm_arguments(own, size, channels)
    images = {
        "input_size": [channels, size, size],
        "mean": list(run.dataset.mean),
        "std": list(run.dataset.std),
        "interpolation": "bilinear",  # of the shorter side, as bench.data.pictures resizes
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    features = {"num_classes": 0, "num_features": run.encoder.num_features}
    if not is_timms(run):
        network = {"name": own.name, "stem": own.stem, "size": size, **({"args": own.args} if own.args else {})}
        return {"backbone": network, **features, "pretrained_cfg": images}
    fixed = "img_size" in arguments
    layers = {"first_conv": known and known.first_conv, "classifier": known and known.classifier}
    told = {"tag": "ssl_bench", "custom_load": False, "num_classes": 0, **images, "fixed_input_size": fixed, **layers}
    made_with = {"model_args": arguments} if arguments else {}
    return {"architecture": own.name, **features, **made_with, "pretrained_cfg": told}


def _write(to: Path, content: dict[str, bytes]) -> None:
    """All files in a new folder beside, which then takes the place of `to`. Raises OSError."""
    place = to.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.mkdir()
        for name, data in content.items():
            write_atomic(temporary / name, data)
        temporary.rename(place)  # an empty folder is replaced, one with files is not
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(place.parent)
