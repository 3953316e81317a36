"""What runs need before they can begin: data in the cache, backbones that can be built. Imports torch."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench import backbone
from bench.config import presets
from bench.config.schema import RunConfig
from bench.config.sections import DataConfig, judged_on
from bench.data import datasets
from bench.errors import UserError
from bench.evaluation import EVALUATIONS, Evaluation, parse
from bench.planning.doubts import doubts
from bench.planning.request import architecture
from bench.planning.settled import told
from methods import METHODS
from methods.base import batch_norms


def read_datasets(wanted: Mapping[DataConfig, Sequence[Evaluation]], data_dir: Path) -> list[str]:
    """Read (fetch, resize and cache) data sets, before any run needs them; returns warnings.

    wanted: data sets, and by what encoders are judged on each. Raises UserError, also where that cannot be.
    """
    warnings = []
    for config, evaluations in wanted.items():
        dataset = datasets.load(config, data_dir)
        for evaluation in evaluations:
            evaluation.check(dataset)
        warnings += _remarks(dataset)
    return warnings


def _check_sizes(config: RunConfig) -> None:
    """Raises UserError if the backbone cannot take views of a size of their own."""
    others = {view.size for view in config.augment.views()} - {0, config.data.size}
    if not others:
        return
    network = backbone.create(config.backbone, config.data.size, channels=config.data.channels)
    for size in sorted(others):
        try:
            with backbone.frozen(network):
                network(torch.zeros(1, config.data.channels, size, size))
        except Exception as error:  # timm's models say in many ways that they cannot take a size
            raise UserError(
                f"augment: {config.backbone.name} cannot take views of {size} pixels and of {config.data.size} "
                f"({' '.join(str(error).split())}); vision transformers can with backbone.args.dynamic_img_size=true"
            ) from error


def _remarks(dataset: datasets.Dataset) -> list[str]:
    """What its check says, with its name."""
    return [f"{dataset.name}: {line}" for line in dataset.check()]


def prepare(
    planned: Sequence[Mapping[str, Any]], data_dir: Path, proven: Collection[str] = (), device: str = ""
) -> list[str]:
    """Read (fetch, resize and cache) every dataset once, before any run needs it; returns warnings.

    proven: architectures (`request.architecture`) that need not be built, as runs have trained them.
    device: as asked for, where runs are executed on this machine.
    Raises UserError if data are missing, a batch is larger than its set, or a backbone cannot be built.
    """
    warnings = []
    built = set(proven)
    loaded: dict[DataConfig, datasets.Dataset] = {}
    for run in {run["config_hash"]: run for run in planned}.values():
        config = RunConfig(**run["config"])
        for data in (config.data, _judged_on(config)):
            if data not in loaded:
                loaded[data] = datasets.load(data, data_dir)
                warnings += _remarks(loaded[data])
        own, judged = loaded[config.data], loaded[judged_on(config.data, config.eval)]
        for name in parse(config.eval.at_end):
            EVALUATIONS[name]().check(judged)
        network = architecture(config.model_dump(mode="json"))
        if network not in built or config.train.accumulate > 1:
            made: Any = backbone.create(config.backbone, config.data.size, channels=config.data.channels)
            if config.train.accumulate > 1:
                _check_accumulate(config, made, len(own.classes))
            built.add(network)
            if config.backbone.weights:
                warnings += [f"{config.backbone.weights}: {line}" for line in made.weights_told]
        _check_sizes(config)
        size = len(own.images)
        if config.train.batch_size > size:
            raise UserError(
                f"train.batch_size={config.train.batch_size}: {own.name} has {size} pre-training images; "
                f"use a batch of 2 to {size}"
            )
        n_labelled = len(judged.train) + len(judged.validation)
        cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
        lines = [
            *told(config, run["overrides"], presets.values(run["preset"], run["method"])),
            *doubts(config, size, n_labelled, cpu, run["overrides"]),
        ]
        warnings += [line for line in lines if line not in warnings]
    return warnings


def _check_accumulate(config: RunConfig, network: torch.nn.Module, n_classes: int) -> None:
    """Raises UserError for empty slices, and where the network has statistics of a batch, which no slice has."""
    slices, batch = config.train.accumulate, config.train.batch_size
    if slices > batch:
        raise UserError(f"train.accumulate={slices}: a batch has {batch} images; use 1 to {batch} slices")
    kind = METHODS[config.method_name]
    method = kind(network, config.method, **({"n_classes": n_classes} if kind.uses_labels else {}))
    if names := batch_norms(method):
        raise UserError(
            f"train.accumulate={slices}: {config.method_name} on {config.backbone.name} has batch norm "
            f"({len(names)} layers, {names[0]} first), whose statistics are of the batch and would be of a slice: "
            "use --devices-per-run N, where they stay the batch's, or a smaller train.batch_size"
        )


def _judged_on(config: RunConfig) -> DataConfig:
    """The data set that a run's encoder is to be judged on. Raises UserError where labels are missing."""
    judged = judged_on(config.data, config.eval)
    for data in (config.data, judged):
        datasets.check_channels(data)
    if not datasets.labelled(judged):
        asked = f"eval.data={judged.name}" if config.eval.data else f"data.name={config.data.name}"
        raise UserError(
            f"{asked}: its images have no labels to judge encoders by; name a labelled data set with --set "
            "eval.data=NAME, e.g. eval.data=cifar10 or eval.data=folder:PATH"
        )
    if METHODS[config.method_name].uses_labels and not datasets.labelled(config.data):
        raise UserError(
            f"method {config.method_name}: learns from labels, which {config.data.name} lacks; leave it out, or train "
            "it on a labelled data set in another experiment"
        )
    return judged
