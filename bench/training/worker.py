"""Works off a list of planned runs: claims one, trains or resumes it, writes its result, goes on.

Any number of workers may have the same list, on any machines that share the results: each run is executed once.
Started by bench.training.workers, for the command line or in a SLURM job; orders come on standard input.
"""

import errno
import logging
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from bench.config.schema import DataConfig, RunConfig
from bench.data import datasets
from bench.errors import Interrupted, UserError
from bench.files import dump_json, parse_json, write_atomic
from bench.runs import provenance, store
from bench.runs.claim import Claim, LostClaim
from bench.runs.identity import completed, dataset_label, run_id
from bench.runs.result import Provenance, Result
from bench.training import checkpoint, trainer
from bench.training.evaluating import at_end
from bench.training.livelog import LiveLog
from bench.training.machine import keep_freed_memory, set_determinism
from bench.training.orders import Orders

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

log = logging.getLogger("bench")


class StopRequest:
    """Whether this worker was asked to stop: by SIGTERM, SIGINT, SIGUSR2, or by its parent's death.

    The handler only notes the signal; the training loop asks after every step.
    """

    def __init__(self, parent: int) -> None:
        self.signal: int = 0
        self.parent = parent
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, self._note)

    def __call__(self) -> bool:
        return bool(self.signal) or bool(self.parent and os.getppid() != self.parent)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number


def work(orders: Orders, stop: Callable[[], bool]) -> None:
    """Execute every run of the list that is not done, failed or claimed by a live process.

    A run that fails does not stop the others. Returns early when asked to stop, or when the disk is full.
    Raises UserError, before any run, if the device does not exist, or if the code is not what it has to be.
    """
    if orders.code and (changed := provenance.code_changes(orders.code)):
        raise UserError(f"the code is not what was submitted: {', '.join(changed)} changed")
    device = _device(orders)
    attempt = provenance.attempt(provenance.fingerprints(), orders.commit, orders.dirty, device)
    for path in orders.runs:
        if stop():
            return
        run = store.RunDir(Path(path))
        try:
            _execute(run, orders, device, attempt, stop)
        except OSError as error:
            print(
                f"{run.path}: {error.strerror}; finished runs are intact, and the same command resumes the others",
                file=sys.stderr,
            )
            if error.errno in DISK_FULL:
                return


def _execute(
    run: store.RunDir,
    orders: Orders,
    device: torch.device,
    attempt: Mapping[str, Any],
    stop: Callable[[], bool],
) -> None:
    state = store.read_run(run).state
    if state in ("done", "damaged", "failed"):
        return
    claim = Claim.acquire(run.path)
    if claim is None:
        return
    with claim, _logging_to(run.log):
        record = store.read_run(run)  # again, as the owner: it may have ended in between
        if record.state in ("done", "damaged") or run.error.exists():
            return
        try:
            _to_the_end(run, record.config, orders, device, {**attempt, "started": _now()}, claim, stop)
        except Interrupted:
            log.info("stopped, to be resumed")
        except LostClaim as error:
            log.warning("%s", error)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise  # no fault of this run: it stays to be resumed
            reason = (
                str(error) if isinstance(error, (UserError, trainer.NonFinite)) else f"{type(error).__name__}: {error}"
            )
            if not claim.owned():
                log.warning("taken over by another process; not noted as failed here: %s", reason)
                return
            details = "" if isinstance(error, UserError) else traceback.format_exc()
            log.error("failed: %s", reason)
            write_atomic(run.error, f"{' '.join(reason.split())}\n{details}".encode())


def _to_the_end(
    run: store.RunDir,
    planned: dict[str, Any],
    orders: Orders,
    device: torch.device,
    attempt: Mapping[str, Any],
    claim: Claim,
    stop: Callable[[], bool],
) -> None:
    try:
        config, seed = RunConfig(**completed(planned["config"])), int(planned["seed"])
        known = run_id(config.model_dump(mode="json"), seed) == run.run_id
    except (KeyError, TypeError, AttributeError, ValueError):
        known = False
    if not known:
        raise UserError(
            f"config.json does not belong to {run.run_id}: it was edited, or written by another version of the program"
        )
    set_determinism(config.train.threads)
    log.info("%s on %s, %d threads", run.run_id, device, config.train.threads)
    dataset = _dataset(config.data, orders.data_dir)
    job = trainer.Trainer(config, seed, dataset, device, run, attempt)
    live = LiveLog(orders.log, run, planned)
    try:
        job.train(claim, stop, live.add)
        outcome = at_end(job, claim, stop)
    except Interrupted:
        claim.owner["step"] = job.step  # for those who ask whether there is progress
        raise
    finally:
        live.close()
    result = Result(
        **{key: planned[key] for key in ("schema", "run_id", "experiment", "method", "preset", "seed", "config_hash")},
        dataset=dataset_label(planned["config"]["data"]),
        backbone=config.backbone.name,
        protocol=config.protocol,
        overrides=planned["overrides"],
        metrics=outcome.metrics,
        collapsed=outcome.collapsed,
        timing=outcome.timing,
        provenance=Provenance(
            **{key: attempt[key] for key in ("git_commit", "git_dirty", "versions", "device", "host", "started")},
            attempts=provenance.told(job.attempts),
            threads=config.train.threads,
            compiled=job.compiled,
            restarts=claim.number - 1,
            finished=_now(),
            command=orders.command,
        ),
    )
    claim.check()
    write_atomic(run.result, dump_json(result.stored()).encode())
    checkpoint.discard(run)
    log.info("done: %s", result.metrics.told())


def _device(orders: Orders) -> torch.device:
    if orders.device not in ("auto", "cuda"):
        return torch.device(orders.device)
    if count := torch.cuda.device_count():
        return torch.device(f"cuda:{orders.slot % count}")
    if orders.device == "cuda":
        raise UserError(f"{platform.node()} shows no CUDA device")
    return torch.device("cpu")


@lru_cache(maxsize=1)
def _dataset(config: DataConfig, data_dir: str) -> datasets.Dataset:
    """Runs of one worker that follow each other on the same data share them."""
    return datasets.load(config, Path(data_dir))


class _logging_to:
    """Send the log to a file while a run is executed."""

    def __init__(self, path: Path) -> None:
        self.handler = logging.FileHandler(path, encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def __enter__(self) -> None:
        log.setLevel(logging.INFO)
        log.addHandler(self.handler)

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self.handler)
        self.handler.close()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def main() -> None:
    """`python .../start.py bench.training.worker < orders.json`."""
    keep_freed_memory()
    orders = Orders(**parse_json(sys.stdin.read()))
    to_parent = logging.StreamHandler()
    to_parent.setLevel(logging.WARNING)
    log.addHandler(to_parent)
    logging.raiseExceptions = False  # a log that cannot be written (a full disk) must not hide what matters
    try:
        work(orders, StopRequest(orders.parent))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
