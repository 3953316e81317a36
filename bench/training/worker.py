"""Works off a list of planned runs: claims one, trains or resumes it, writes its result, goes on.

Any number of workers may have the same list, on any machines that share the results: each run is executed once.
Started by bench.training.workers, for the command line or in a SLURM job; orders come on standard input.
"""

import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from bench.errors import Interrupted, UserError
from bench.files import dump_json, parse_json, write_atomic
from bench.runs import provenance, store
from bench.runs.claim import Claim, LostClaim
from bench.runs.identity import dataset_label
from bench.runs.result import Provenance, Result
from bench.training import checkpoint, judging, trainer
from bench.training.evaluating import at_end
from bench.training.livelog import LiveLog
from bench.training.machine import keep_freed_memory, set_determinism
from bench.training.orders import Orders
from bench.training.records import DISK_FULL, logging_to, note_failure, now, plan_of

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
    """Execute every run of the list that is not done, failed or claimed by a live process; or make its evaluations.

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
            (judging.execute if orders.evaluations else _execute)(run, orders, device, attempt, stop)
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
    with claim, logging_to(run.log):
        record = store.read_run(run)  # again, as the owner: it may have ended in between
        if record.state in ("done", "damaged") or run.error.exists():
            return
        try:
            _to_the_end(run, record.config, orders, device, {**attempt, "started": now()}, claim, stop)
        except Interrupted:
            log.info("stopped, to be resumed")
        except LostClaim as error:
            log.warning("%s", error)
        except Exception as error:
            note_failure(error, run.error, claim)


def _to_the_end(
    run: store.RunDir,
    planned: dict[str, Any],
    orders: Orders,
    device: torch.device,
    attempt: Mapping[str, Any],
    claim: Claim,
    stop: Callable[[], bool],
) -> None:
    config, seed = plan_of(planned, run.run_id)
    set_determinism(config.train.threads)
    log.info("%s on %s, %d threads", run.run_id, device, config.train.threads)
    dataset = judging.dataset(config.data, orders.data_dir)
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
            finished=now(),
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
