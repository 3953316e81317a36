"""What a finished run leaves, ready for use: its encoder, and the images that it was trained on. Imports torch."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bench import backbone
from bench.config.schema import RunConfig
from bench.config.sections import judged_on
from bench.data import datasets
from bench.data.datasets import Dataset
from bench.errors import UserError
from bench.runs.identity import completed, run_id
from bench.runs.store import RunRecord


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    record: RunRecord
    config: RunConfig
    seed: int
    encoder: nn.Module
    """Images [N, 3, S, S] -> features [N, D]; on the CPU, in eval mode."""
    dataset: Dataset
    judged_on: Dataset
    """The data set of the probes, `dataset` unless eval.data names another."""


def load(record: RunRecord, data_dir: Path) -> Trained:
    """A finished run with its encoder and its data, which are fetched if need be. Raises UserError."""
    run = record.dir
    try:
        config, seed = RunConfig(**completed(record.config["config"])), int(record.config["seed"])
        known = run_id(config.model_dump(mode="json"), seed) == run.run_id
    except (KeyError, TypeError, AttributeError, ValueError):
        known = False
    if not known:
        raise UserError(
            f"config.json does not belong to {run.run_id}: it was edited, or written by another version of the program"
        )
    encoder = backbone.load(run.encoder)
    dataset = datasets.load(config.data, data_dir)
    judged = datasets.load(judged_on(config.data, config.eval), data_dir) if config.eval.data else dataset
    return Trained(record, config, seed, encoder, dataset, judged)
