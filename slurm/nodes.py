"""Runs that span the nodes of a job: the first node's task leads, pass by pass, and those of the others join.

A pass is one start of workers. The first task writes down what is to be done in it, in a file of the pass, and its
launcher where to meet, in another; both are named by the job and its restart, so that no job and no start of one takes
another's for its own.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from bench.files import dump_json, parse_json, write_atomic
from bench.runs.store import RunDir
from bench.training.orders import Orders
from bench.training.workers import LocalWorkers
from slurm.submission import Submission

POLL_SECONDS = 0.2


class Stop(Protocol):
    """Whether a signal came."""

    def __bool__(self) -> bool: ...


def orders_of(submission: Submission, runs: Sequence[RunDir]) -> Orders:
    """What the workers of a job are told."""
    return Orders(
        runs=[str(run.path) for run in runs],
        code=submission.code if submission.on_code_change == "refuse" else {},
        data_dir=submission.data_dir,
        device=submission.device,
        log=submission.log,
        evaluations=submission.evaluations,
        command=submission.command,
        commit=submission.commit,
        dirty=submission.dirty,
        devices=submission.devices_per_run,
        nodes=submission.nodes,
    )


class Passes:
    """The passes of one start of a task, numbered from 1."""

    def __init__(self, submission: Submission, index: int) -> None:
        job, restart = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
        self._name = str(submission.folder / "tasks" / f"{index}.{job}.{restart}")
        self._nodes, self._number = submission.nodes, 0

    def begin(self, orders: Orders) -> Orders:
        """The orders of the next pass, which the other nodes find too."""
        self._number += 1
        told = replace(orders, meeting=f"{self._name}.{self._number}.meeting")
        write_atomic(self._file(self._number), dump_json(asdict(told)).encode())
        return told

    def end(self) -> None:
        """Tell the other nodes that no pass follows."""
        if self._nodes > 1:
            write_atomic(self._file(self._number + 1), dump_json(None).encode())

    def next(self) -> Orders | None:
        """On another node: wait for the next pass and for where to meet; None when none follows."""
        self._number += 1
        orders = Orders(**told) if (told := parse_json(_wait(self._file(self._number)))) else None
        if orders:
            _wait(Path(orders.meeting))
        return orders

    def _file(self, number: int) -> Path:
        return Path(f"{self._name}.{number}.orders")


def _wait(path: Path) -> str:
    """The content of a file that another node is going to write. If that node fails, SLURM ends us."""
    while True:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            time.sleep(POLL_SECONDS)


def join(submission: Submission, index: int, node: int, stop: Stop) -> str:
    """What the task of another node than the first does: its part of every pass."""
    passes = Passes(submission, index)
    while orders := passes.next():
        workers = LocalWorkers(replace(orders, node=node), 1, [submission.device])
        told = False
        while workers.running():
            if stop and not told:
                workers.signal(signal.SIGUSR2)
                told = True
            for line in workers.said():
                print(line, flush=True)
            time.sleep(POLL_SECONDS)
        for line in workers.said():
            print(line, flush=True)
    return "the first node's task tells"
