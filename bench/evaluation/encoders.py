"""Encoders from elsewhere: the network, its weights, and the images that it wants."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from bench import backbone
from bench.config import backbones
from bench.config.encoders import TIMM, EncoderConfig, Source, parse
from bench.config.sections import BackboneConfig, DataConfig
from bench.data import datasets
from bench.data.rows import Choice
from bench.data.split import Channels
from bench.errors import UserError
from bench.files import parse_json
from bench.runs.encoders import Encoder
from bench.runs.identity import completed
from bench.weights import files
from bench.weights.find import told_by_timm

IMAGENET = "mean=0.485,0.456,0.406 and std=0.229,0.224,0.225"  # of torchvision's and most of timm's


def load(encoder: Encoder) -> nn.Module:
    """The network on the CPU, in eval mode: images [N, 3, size, size] -> features [N, num_features].

    Raises UserError if the weights cannot be read, or are no longer those of its content's hash.
    """
    return backbone.create(encoder.backbone, encoder.size, f"{encoder.name}={encoder.source}").eval()


@dataclass
class _Known:
    """What a checkpoint tells of its encoder, or what lies beside it."""

    name: str = ""
    stem: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    size: int | None = None
    mean: Channels | None = None
    std: Channels | None = None
    origin: str = ""
    """Where mean and std are from."""


def foreign(name: str, config: EncoderConfig, experiments: BackboneConfig, data_dir: Path) -> Encoder:
    """The encoder `name` that `config` describes, its weights read and found complete.

    experiments: the experiment's backbone, for files that do not tell theirs. data_dir: of the data sets, where an
    encoder of this program is normalised as its own. Raises UserError, one line, if weights, normalisation or size
    cannot be told; it says what to set.
    """
    source = parse(config.source, f"--encoder {name}")
    known = _of_timm(source, name) if source.kind == TIMM else _beside(Path(source.place), data_dir)
    mean, std, size = config.mean or known.mean, config.std or known.std, config.size or known.size
    lacking = [key for key, value in {"mean": mean, "std": std, "size": size}.items() if value is None]
    if mean is None or std is None or size is None:
        keys = " ".join(f"--set encoder.{name}.{key}=..." for key in lacking)
        raise UserError(
            f"--encoder {name}={config.source}: the file does not tell its {', '.join(lacking)}: say {keys} "
            f"(ImageNet's are {IMAGENET}; size: the side of its images in pixels)"
        )
    model = config.backbone or known.name or experiments.name
    same = not known.name and model == experiments.name
    args = config.args or known.args or (experiments.args if same else {})
    backbones.check_arguments(model, args, f"encoder.{name}.args.")
    stem = config.stem or known.stem or experiments.stem
    network = BackboneConfig.model_validate({"name": model, "stem": stem, "weights": str(source), "args": args})
    made: Any = backbone.create(network, size, f"{name}={source}")
    told = [*made.weights_told, *[f"normalised as {known.origin} says"] * (not (config.mean and config.std))]
    return Encoder(
        name=name,
        source=str(source),
        content_hash=made.weights_hash,
        backbone=network.model_copy(update={"weights_hash": made.weights_hash}),
        size=size,
        mean=mean,
        std=std,
        told=tuple(told),
    )


def _of_timm(source: Source, name: str) -> _Known:
    told = told_by_timm(source.place, f"{name}={source}")
    return _Known(
        name=source.place.partition(".")[0],
        stem="imagenet",
        size=told.input_size[-1],
        mean=_channels(told.mean),
        std=_channels(told.std),
        origin="timm",
    )


def _beside(path: Path, data_dir: Path) -> _Known:
    """What an `encoder.safetensors` of ours and its run's config.json tell, or the config.json of a timm folder."""
    files.check(path)
    own, config = files.metadata(path), _config(path)
    known = _Known(
        own.get("name", ""), own.get("stem", ""), size=int(size) if (size := own.get("size", "")).isdigit() else None
    )
    known.args = _arguments(own.get("args", "{}"))
    described = config.get("pretrained_cfg")
    if isinstance(described, Mapping):  # as timm.models.push_to_hf_hub writes it
        known.origin = str(path.with_name("config.json"))
        if not known.name:
            known.name = str(config.get("architecture", ""))
            known.args = _arguments(json.dumps(config.get("model_args")))
        known.mean, known.std = _channels(described.get("mean")), _channels(described.get("std"))
        if known.size is None and (sides := described.get("input_size")):
            known.size = int(sides[-1])
    elif path.name == "encoder.safetensors" and own and "config" in config and "run_id" in config:
        data = DataConfig(**completed(config["config"])["data"])
        if data.fingerprint not in ("", datasets.fingerprint(data.name, data.classes, Choice.of(data))):
            return known  # another folder of images than it was trained on
        dataset = datasets.load(data, data_dir)
        known.mean, known.std, known.origin = dataset.mean, dataset.std, f"its data set {data.name}"
    return known


def _arguments(text: str) -> dict[str, Any]:
    """Arguments of timm's model that a user may set: words and numbers; {} if it is no JSON object."""
    try:
        values = parse_json(text)
    except ValueError:
        return {}
    given = values.items() if isinstance(values, dict) else ()
    ours = {*backbones.SET_BY_US, "img_size"}  # the size of its images is told apart
    return {key: value for key, value in given if isinstance(value, (str, int, float)) and key not in ours}


def _config(path: Path) -> dict[str, Any]:
    """The config.json in the file's folder; {} if there is none that can be read."""
    try:
        values = parse_json(path.with_name("config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _channels(values: Any) -> Channels | None:
    """Three numbers, or None: an encoder of other channels cannot be judged on ours."""
    try:
        red, green, blue = map(float, values)
    except (TypeError, ValueError):
        return None
    return red, green, blue
