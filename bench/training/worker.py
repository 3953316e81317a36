"""Works off a list of planned runs: claims one, trains or resumes it, writes its result, goes on.

Any number of workers may have the same list, on any machines that share the results: each run is executed once.
Started by bench.training.workers, for the command line or in a SLURM job; orders come on standard input.
"""

import contextlib
import logging
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from bench.config import backbones
from bench.config.sections import judged_on
from bench.errors import Interrupted, UserError
from bench.files import dump_json, parse_json, write_atomic
from bench.runs import provenance, store
from bench.runs.claim import Claim, LostClaim
from bench.runs.identity import dataset_label
from bench.runs.result import Provenance, Result
from bench.team import ALONE, LOST, ElsewhereError, Lost, Team
from bench.training import checkpoint, judging, trainer
from bench.training.evaluating import at_end
from bench.training.livelog import LiveLog
from bench.training.machine import keep_freed_memory, set_determinism
from bench.training.orders import Orders
from bench.training.records import DISK_FULL, logging_to, note_failure, now, plan_of
from methods.plugins import PluginError

log = logging.getLogger("bench")

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class StopRequest:
    """Whether this worker was asked to stop: by one of STOPS, or by its parent's death.

    The handler only notes the signal; the training loop asks after every step.
    """

    def __init__(self, parent: int) -> None:
        self.signal: int = 0
        self.parent = parent
        for number in STOPS:
            signal.signal(number, self._note)

    def __call__(self) -> bool:
        return bool(self.signal) or bool(self.parent and os.getppid() != self.parent)

    def over(self) -> None:
        """There is nothing left to stop. Without this a late signal would kill Python while it ends."""
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number


def work(orders: Orders, stop: Callable[[], bool], team: Team = ALONE) -> None:
    """Execute every run of the list that is not done, failed or claimed by a live process; or make its evaluations.

    A run that fails does not stop the others. Returns early when asked to stop, or when the disk is full. The processes
    of a `team` call it all, with the same orders but for their devices; the first claims, and writes what is written.
    Raises UserError, before any run, if the device does not exist, or if the code is not what it has to be; Lost, if
    another process of the team died or hangs.
    """
    if orders.code and (changed := provenance.code_changes(orders.code)):
        raise UserError(f"the code is not what was submitted: {', '.join(changed)} changed")
    device = device_of(orders)
    attempt = provenance.attempt(provenance.fingerprints(), orders.commit, orders.dirty, device, team.world)
    for path in orders.runs:
        if team.any(stop()):
            return
        run, disk_full = store.RunDir(Path(path)), False
        try:
            if orders.evaluations:
                judging.execute(run, orders, device, attempt, stop)
            else:
                _execute(run, orders, device, attempt, stop, team)
        except OSError as error:
            print(
                f"{run.path}: {error.strerror}; finished runs are intact, and the same command resumes the others",
                file=sys.stderr,
            )
            disk_full = error.errno in DISK_FULL
        except ElsewhereError:
            pass  # the first process has told
        if team.any(disk_full):
            return


def _execute(
    run: store.RunDir,
    orders: Orders,
    device: torch.device,
    attempt: Mapping[str, Any],
    stop: Callable[[], bool],
    team: Team,
) -> None:
    with contextlib.ExitStack() as ours:
        claimed = _claim(run, ours, team)
        if claimed is None:
            return
        claim, planned = claimed
        problem: Exception | None = None
        try:
            _to_the_end(run, planned, orders, device, {**attempt, "started": now()}, claim, stop, team)
        except Exception as error:
            problem = error
        team.settle(problem)
        if problem and team.rank == 0:
            _note(run, claim, problem)


def _claim(run: store.RunDir, ours: contextlib.ExitStack, team: Team) -> tuple[Claim, dict[str, Any]] | None:
    """The run's claim, held until `ours` is closed, and its config.json; None if there is nothing to do for us."""
    claim: Claim | None = None

    def take() -> list[Any] | None:
        nonlocal claim
        if store.read_run(run).state in ("done", "damaged", "failed") or (claim := Claim.acquire(run.path)) is None:
            return None
        ours.enter_context(claim)
        ours.enter_context(logging_to(run.log))
        record = store.read_run(run)  # again, as the owner: it may have ended in between
        ended = record.state in ("done", "damaged") or run.error.exists()
        return None if ended else [claim.number, record.config]

    found = team.first(take)
    if found is None:
        return None
    number, planned = found
    return claim or Claim(run.path, number, {}), planned  # the others can look whether it was lost, no more


def _note(run: store.RunDir, claim: Claim, problem: Exception) -> None:
    """Put down why a run did not come to its end. Raises OSError where the disk is full."""
    if isinstance(problem, Interrupted):
        log.info("stopped, to be resumed")
    elif isinstance(problem, LostClaim):
        log.warning("%s", problem)
    else:
        note_failure(problem, run.error, claim)


def _to_the_end(
    run: store.RunDir,
    planned: dict[str, Any],
    orders: Orders,
    device: torch.device,
    attempt: Mapping[str, Any],
    claim: Claim,
    stop: Callable[[], bool],
    team: Team,
) -> None:
    config, seed = plan_of(planned, run.run_id)
    set_determinism(config.train.threads)
    many = f"{team.world} devices, the first " if team.world > 1 else ""
    network = backbones.label(config.backbone.name, config.backbone.args)
    log.info("%s on %s%s, %d threads, %s", run.run_id, many, device, config.train.threads, network)
    dataset, other = judging.dataset(config.data, orders.data_dir), None
    if config.eval.data:
        other = judging.dataset(judged_on(config.data, config.eval), orders.data_dir)
    job = trainer.Trainer(config, seed, dataset, device, run, attempt, team, other)
    team.meet()  # one may have read the data faster than another
    live = LiveLog(orders.log if team.rank == 0 else (), run, planned)
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
        dataset=dataset_label(planned["config"]["data"], planned["config"]["eval"]),
        backbone=network,
        protocol=config.protocol,
        overrides=planned["overrides"],
        metrics=outcome.metrics,
        collapsed=outcome.collapsed,
        timing=outcome.timing,
        provenance=Provenance(
            **{key: attempt[key] for key in ("git_commit", "git_dirty", "versions", "device", "host", "started")},
            attempts=provenance.told(job.attempts),
            threads=config.train.threads,
            devices=list(dict.fromkeys(made.get("devices", 1) for made in job.attempts)),
            compiled=job.compiled,
            restarts=claim.number - 1,
            finished=now(),
            command=orders.command,
        ),
    )

    def write() -> None:
        claim.check()
        write_atomic(run.result, dump_json(result.stored()).encode())
        checkpoint.discard(run)

    team.first(write)
    log.info("done: %s", result.metrics.told())


def device_of(orders: Orders) -> torch.device:
    """The device of the process that is told these. Raises UserError if there is none."""
    if orders.device not in ("auto", "cuda"):
        return torch.device(orders.device)
    if count := torch.cuda.device_count():
        return torch.device(f"cuda:{orders.slot % count}")
    if orders.device == "cuda":
        raise UserError(f"{platform.node()} shows no CUDA device")
    return torch.device("cpu")


def main() -> None:
    """`python .../start.py bench.training.worker [orders.json]`; without a file they come on standard input."""
    keep_freed_memory()
    orders = Orders(**parse_json(Path(sys.argv[1]).read_text() if sys.argv[1:] else sys.stdin.read()))
    to_parent = logging.StreamHandler()
    to_parent.setLevel(logging.WARNING)
    log.addHandler(to_parent)
    logging.raiseExceptions = False  # a log that cannot be written (a full disk) must not hide what matters
    stop = StopRequest(orders.parent)
    try:
        team = _team(orders)
        work(orders, stop, team)
        stop.over()
        team.leave()
    except (UserError, PluginError) as error:
        sys.exit(str(error))
    except Exception as error:
        if orders.devices == 1:
            raise
        sys.stderr.write(f"{error}\n" if isinstance(error, Lost) else traceback.format_exc())
        sys.stderr.flush()
        os._exit(LOST if isinstance(error, Lost) else 1)  # at once: what waits for the others would wait for ever


def _team(orders: Orders) -> Team:
    if orders.devices == 1:
        return ALONE
    from bench.training.distributed import Ranks

    team = Ranks(device_of(orders))
    if team.rank:
        log.setLevel(logging.ERROR)  # the first process says what there is to say of the run
    return team


if __name__ == "__main__":
    main()
