"""Small finished runs on digits of 8 x 8 pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.planning import plan
from bench.planning.entries import Entry
from bench.runs.store import RunDir
from bench.training import worker
from bench.training.orders import Orders

TINY = {"data.size": "8", "train.epochs": "1", "train.batch_size": "256", "eval.every_epochs": "1"}


def execute(experiment: Path, entries: Sequence[Entry | str], seeds: Sequence[int] = (0,), **set: Any) -> list[RunDir]:
    """Plan and execute runs in this process."""
    chosen = {**TINY, **{key.replace("__", "."): str(value) for key, value in set.items()}}
    runs = plan.write(plan.plan(entries, seeds, "quick", chosen, {}, experiment.name), experiment.parent)
    orders = Orders([str(run.path) for run in runs], str(experiment.parent / "data"), "cpu", "test", "", False)
    worker.work(orders, lambda: False)
    return runs
