"""Evaluations made afterwards, of runs that are done: one process a run, each evaluation a file of its own.

What was made at the end of training would be made here again with the same bits, on the same threads and device.
"""

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from bench import backbone
from bench.config.schema import DataConfig
from bench.data import datasets
from bench.errors import Interrupted, UserError
from bench.evaluation.subject import Subject
from bench.runs import evaluations, store
from bench.runs.claim import Claim, LostClaim
from bench.runs.evaluations import Asked, EvaluationFiles
from bench.runs.identity import dataset_label
from bench.runs.work import Judging
from bench.training.evaluating import carry_out
from bench.training.machine import memory_format, set_determinism
from bench.training.orders import Orders
from bench.training.records import logging_to, note_failure, now, plan_of

log = logging.getLogger("bench")


def execute(
    run: store.RunDir, orders: Orders, device: torch.device, attempt: Mapping[str, Any], stop: Callable[[], bool]
) -> None:
    """Make the evaluations of a run that are missing, unless another process is at it.

    One that fails does not stop the others. Raises OSError on a full disk.
    """
    work = Judging(orders.evaluations)
    if work.read(run).state not in store.CLAIMABLE:
        return
    run.evaluations.mkdir(exist_ok=True)
    claim = Claim.acquire(run.evaluations)
    if claim is None:
        return
    with claim, logging_to(run.evaluations / "log.txt"):
        todo = [files for files in work.files(run) if files.state() == "missing"]  # now, as the owner
        try:
            _make(run, todo, orders, device, {**attempt, "started": now(), "command": orders.command}, claim, stop)
        except Interrupted:
            log.info("stopped, to be resumed")
        except LostClaim as error:
            log.warning("%s", error)


def _make(
    run: store.RunDir,
    todo: list[EvaluationFiles],
    orders: Orders,
    device: torch.device,
    attempt: Mapping[str, Any],
    claim: Claim,
    stop: Callable[[], bool],
) -> None:
    try:
        known = {asked.key: asked for asked in evaluations.asked(run.path.parent.parent)}
        wanted = [(known[files.key], files) for files in todo]
        judged = _Judged(run, orders.data_dir, device, stop)
    except Exception as error:
        for files in todo:
            note_failure(error, files.error, claim)
        return
    by_data = sorted(wanted, key=lambda pair: repr(sorted(pair[0].data.items())))  # {}, its own, first
    for _, group in groupby(by_data, key=lambda pair: pair[0].data):
        pairs = list(group)
        subject: Subject | None = None  # its features serve all of the group
        for asked, files in pairs:
            if stop():
                raise Interrupted
            try:
                subject = subject or judged.on(asked)
                made = carry_out(asked, subject, files, {**attempt, "threads": judged.config.train.threads}, claim)
            except (Interrupted, LostClaim):
                raise
            except Exception as error:
                note_failure(error, files.error, claim)
            else:
                log.info("%s in %.1f s: %s", files.key, made.seconds, made.told())


class _Judged:
    """A run's encoder, ready to be judged. Raises UserError if it is not what the run's plan says."""

    def __init__(self, run: store.RunDir, data_dir: str, device: torch.device, stop: Callable[[], bool]) -> None:
        record = store.read_run(run)
        if record.state != "done":
            raise UserError(f"{run.run_id} is {record.state}: only the encoders of runs that are done are judged")
        self.config, self.seed = plan_of(record.config, run.run_id)
        set_determinism(self.config.train.threads)
        self.name, self.data_dir, self.device, self.stop = run.run_id, data_dir, device, stop
        self.backbone = backbone.load(run.encoder)
        own = self.config.backbone
        told, planned = self.backbone.architecture, (own.name, own.stem, self.config.data.size)
        if told != planned:
            raise UserError(f"{run.encoder} is of another run: its backbone is {told}, the run's {planned}")
        self.backbone.to(device).to(memory_format=memory_format(self.backbone, device))

    def on(self, asked: Asked) -> Subject:
        """The encoder on a data set; images of any are normalised as those that it was trained on."""
        own = dataset(self.config.data, self.data_dir)
        other = DataConfig(**{**asked.data, "size": self.config.data.size}) if asked.data else None
        return Subject(
            name=self.name,
            backbone=self.backbone,
            dataset=dataset(other, self.data_dir) if other else own,
            dataset_label=dataset_label(asked.data or self.config.data.model_dump()),
            mean=own.mean,
            std=own.std,
            size=self.config.data.size,
            device=self.device,
            seed=self.seed,
            eval=self.config.eval,
            augment=self.config.augment,
            should_stop=self.stop,
        )


@lru_cache(maxsize=4)
def dataset(config: DataConfig, data_dir: str) -> datasets.Dataset:
    """Runs of one worker share data sets, which are mapped into memory."""
    return datasets.load(config, Path(data_dir))
