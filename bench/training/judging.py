"""Evaluations made afterwards, of runs that are done: one process a run, each evaluation a file of its own.

What was made at the end of training would be made here again with the same bits, on the same threads and device.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench import backbone
from bench.config.sections import DataConfig, EvalConfig, judged_on
from bench.config.views import AugmentConfig
from bench.data import datasets
from bench.data.split import Channels
from bench.errors import Interrupted, UserError
from bench.evaluation.encoders import load
from bench.evaluation.subject import Subject
from bench.runs import evaluations, store
from bench.runs.claim import Claim, LostClaim
from bench.runs.encoders import Encoder
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
        judged = _judged(run, orders, device)
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
                subject = subject or judged.on(asked, orders, device, stop)
                made = carry_out(asked, subject, files, {**attempt, "threads": judged.threads}, claim)
            except (Interrupted, LostClaim):
                raise
            except Exception as error:
                note_failure(error, files.error, claim)
            else:
                log.info("%s in %.1f s: %s", files.key, made.seconds, made.told())


@dataclass(frozen=True)
class _Judged:
    """An encoder, ready to be judged like a run of `config`."""

    name: str
    seed: int
    backbone: nn.Module
    mean: Channels
    std: Channels
    size: int
    data: DataConfig
    label: str
    """What tables call its data."""
    eval: EvalConfig
    augment: AugmentConfig
    threads: int

    def on(self, asked: Asked, orders: Orders, device: torch.device, stop: Callable[[], bool]) -> Subject:
        """The encoder on a data set; images of any are normalised as the encoder wants them."""
        section = asked.data or self.data.model_dump()
        return Subject(
            name=self.name,
            backbone=self.backbone,
            dataset=dataset(
                DataConfig(**{**section, "size": self.size, "channels": self.data.channels}), orders.data_dir
            ),
            dataset_label=dataset_label(section) if asked.data else self.label,
            mean=self.mean,
            std=self.std,
            size=self.size,
            device=device,
            seed=self.seed,
            eval=self.eval,
            augment=self.augment,
            should_stop=stop,
        )


def _judged(run: store.RunDir, orders: Orders, device: torch.device) -> _Judged:
    """The encoder of a run, or one from elsewhere. Raises UserError if it is not what stands written beside it."""
    judged = _foreign(run.path) if run.path.parent.name == evaluations.ENCODERS else _of_run(run, orders)
    set_determinism(judged.threads)
    judged.backbone.to(device).to(memory_format=memory_format(judged.backbone, device))
    return judged


def _of_run(run: store.RunDir, orders: Orders) -> _Judged:
    record = store.read_run(run)
    if record.state != "done":
        raise UserError(f"{run.run_id} is {record.state}: only the encoders of runs that are done are judged")
    config, seed = plan_of(record.config, run.run_id)
    network = backbone.load(run.encoder)
    own = config.backbone
    told, planned = network.architecture, (own.name, own.stem, config.data.size, own.args, config.data.channels)
    if told != planned:
        raise UserError(f"{run.encoder} is of another run: its backbone is {told}, the run's {planned}")
    images = dataset(config.data, orders.data_dir)
    return _Judged(
        name=run.run_id,
        seed=seed,
        backbone=network,
        mean=images.mean,
        std=images.std,
        size=config.data.size,
        data=judged_on(config.data, config.eval),
        label=dataset_label(config.data.model_dump(), config.eval.model_dump()),
        eval=config.eval,
        augment=config.augment,
        threads=config.train.threads,
    )


def _foreign(folder: Path) -> _Judged:
    try:
        encoder = Encoder.read(folder)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from None
    sections = encoder.judged_as
    judging = EvalConfig(**sections["eval"])
    return _Judged(
        name=encoder.name,
        seed=0,
        backbone=load(encoder),
        mean=encoder.mean,
        std=encoder.std,
        size=encoder.size,
        data=judged_on(DataConfig(**sections["data"]), judging),
        label=dataset_label(sections["data"], sections["eval"]),
        eval=judging,
        augment=AugmentConfig(**sections["augment"]),
        threads=sections["train"]["threads"],
    )


@lru_cache(maxsize=4)
def dataset(config: DataConfig, data_dir: str) -> datasets.Dataset:
    """Runs of one worker share data sets, which are mapped into memory."""
    return datasets.load(config, Path(data_dir))
