"""A worker that is one rank of two, and meets with trouble in its run's third epoch: for test_trouble.py.

TROUBLE is JSON, {seed of a run: kind}; PATIENCE the seconds after which a rank that is silent is taken for dead.
"""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.evaluation import protocol
from bench.runs.claim import newest_claim
from bench.runs.store import RunDir
from bench.training import checkpoint, distributed, worker
from bench.training.livelog import LiveLog
from bench.training.trainer import Trainer

AT = 13  # steps; an epoch has 5
WORDS = "the device is no longer there"


def raises(job: Trainer, logged: dict[str, Tensor]) -> None:
    raise RuntimeError(WORDS)


def nan(job: Trainer, logged: dict[str, Tensor]) -> None:
    logged["loss"] = torch.tensor(float("nan"))


def disk_full(job: Trainer, logged: dict[str, Tensor]) -> None:
    def save(run: RunDir, state: dict[str, Any]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoint.save = save


def loses_claim(job: Trainer, logged: dict[str, Tensor]) -> None:
    claim = newest_claim(job.dir.path)
    assert claim is not None
    (job.dir.path / f"claim-{claim.number + 1}.json").write_text('{"released": true}')


def hangs(job: Trainer, logged: dict[str, Tensor]) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def slow_features(job: Trainer, logged: dict[str, Tensor]) -> None:
    _once_slow(protocol, "outputs")


def slow_logger(job: Trainer, logged: dict[str, Tensor]) -> None:
    _once_slow(LiveLog, "_each")


def _once_slow(owner: Any, name: str) -> None:
    function = getattr(owner, name)

    def later(*words: Any) -> Any:
        setattr(owner, name, function)
        time.sleep(distributed.TIMEOUT + 2)
        return function(*words)

    setattr(owner, name, later)


Kind = Callable[[Trainer, dict[str, Tensor]], None]
KINDS: dict[str, list[tuple[int, Kind]]] = {
    "raises": [(1, raises)],
    "nan": [(1, nan)],
    "disk full": [(0, disk_full)],
    "loses claim": [(0, loses_claim)],
    "hangs": [(1, hangs)],
    "slow": [(1, slow_features), (0, slow_logger)],
}
"""Which rank does what."""


def main() -> None:
    """As bench.training.worker, but for the trouble."""
    trouble = json.loads(os.environ["TROUBLE"])
    distributed.TIMEOUT = int(os.environ["PATIENCE"])
    distributed.SETTLE_SECONDS = distributed.TIMEOUT // 2
    learn = Trainer.learn

    def troubled(job: Trainer, *batch: Tensor) -> dict[str, Tensor]:
        logged = learn(job, *batch)
        for rank, kind in KINDS.get(trouble.get(str(job.seed)), []):
            if job.team.rank == rank and job.step == AT:
                kind(job, logged)
        return logged

    Trainer.learn = troubled  # type: ignore[assignment, method-assign]
    worker.main()


if __name__ == "__main__":
    main()
