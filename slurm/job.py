"""What runs inside a SLURM job: workers over the job's runs, watched by a process that imports no torch.

All state is in run directories, so a job may be killed at any moment and start again. It is requeued
    by SLURM         after a node failure, and when it is killed because of a preemption;
    by itself        on USR2 (preemption, or SLURM's warning before the time limit) and on its own clock, `margin`
                     seconds before the limit: the workers write checkpoints, then `scontrol requeue`;
    never            after SIGTERM alone: that may be `scancel`. It writes checkpoints and lets SLURM decide.
Timeouts, dead workers and failures of nodes may follow each other as often as there is progress (slurm.ledger).
"""

import os
import signal
import sys
import time
from enum import Enum, auto
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from bench.runs import claim, store
from bench.runs.provenance import code_changes
from bench.runs.work import work
from bench.training.workers import LocalWorkers
from slurm import commands
from slurm.ledger import Ledger, measure
from slurm.nodes import Passes, join, orders_of
from slurm.submission import CANCELLED, Submission, read

POLL_SECONDS = 0.2
EARLY_SECONDS = 60  # SLURM may send its warning so much earlier than it was asked to
LAST_SECONDS = 5  # before the time limit: requeue, even if a worker has not stopped yet
SCANCEL_SECONDS = 300  # after SIGTERM alone: killed within KillWait or GraceTime if SLURM meant it


class Signals:
    """Signals that came: the handlers note them and do no more."""

    def __init__(self) -> None:
        self.requeue = False
        """USR2: preempted, or near the time limit."""
        self.end = False
        """TERM: cancelled, or preempted."""
        signal.signal(signal.SIGUSR2, self._requeue)
        signal.signal(signal.SIGTERM, self._end)

    def __bool__(self) -> bool:
        return self.requeue or self.end

    def _requeue(self, number: int, frame: FrameType | None) -> None:
        self.requeue = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.end = True


class Task:
    """The callable that submitit pickles for an array task."""

    def __init__(self, folder: str, index: int) -> None:
        self.folder, self.index = folder, index

    def __call__(self) -> str:
        made = read(Path(self.folder))
        if made.follows:
            from slurm.following import go_on  # which submits such tasks

            return go_on(made)
        node = int(os.environ.get("SLURM_PROCID", "0"))
        if node:
            return join(made, self.index, node, Signals())
        return Execution(made, self.index, time.time(), Signals()).to_the_end()

    def checkpoint(self) -> Any:
        """submitit calls this if a signal comes before our handlers are there: nothing is lost, start again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Task(self.folder, self.index))


class Left(Enum):
    """What there is to do for a task."""

    NOW = auto()
    """A run can be worked at."""
    LATER = auto()
    """A run may become so: wait."""
    NONE = auto()


class Execution:
    """One start of a task."""

    def __init__(self, submission: Submission, index: int, started: float, stop: Signals) -> None:
        self.submission, self.stop = submission, stop
        self.work = work(submission.evaluations)
        self.runs = [self.work.place(submission.experiment, run_id) for run_id in submission.tasks[index]]
        self.job = os.environ["SLURM_JOB_ID"]
        self.limit = commands.end_of(self.job) or started + 60 * submission.minutes
        """When SLURM will kill us, seconds since the epoch."""
        self.ledger = Ledger(submission.folder, index, measure(self.runs, self.work))
        self.passes = Passes(submission, index)
        self.seen: dict[str, claim.ClaimFile] = {}
        """Others' claims on our runs, as first seen."""

    def to_the_end(self) -> str:
        """Work until every run has ended; else requeue (SystemExit) or give up (ledger.GiveUp)."""
        while (left := self._left()) is not Left.NONE:
            if self._near_the_limit() or self.stop:
                break
            if left is Left.LATER:
                time.sleep(POLL_SECONDS)
                continue
            deaths = self._pass()
            if not (self.stop or self._near_the_limit()) and self._left() is Left.NOW:
                died = f"workers ended with status {', '.join(map(str, deaths))}" if deaths else "workers stopped early"
                self.ledger.attempt(measure(self.runs, self.work), died)
        if self._left() is Left.NONE:
            return self._summary()
        timeout = self._near_the_limit(EARLY_SECONDS)
        if timeout:
            self.ledger.attempt(measure(self.runs, self.work), f"time limit of {self.submission.minutes} minutes")
        self.ledger.close()
        if not timeout and not self.stop.requeue:
            self._wait_for_scancel()
        if self.submission.cancelled():
            raise self.ledger.give_up(CANCELLED)
        self._requeue()

    def _check_code(self) -> None:
        changed = code_changes(self.submission.code)
        if not changed:
            return
        files = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        say(f"the code is not what was submitted: {files} changed")
        if self.submission.on_code_change == "refuse":
            raise self.ledger.give_up(f"code changed since submission ({files}); submit again to use it")

    def _left(self) -> Left:
        waiting = False
        for run in self.runs:
            state = self.work.read(run).state
            if state in store.CLAIMABLE:
                return Left.NOW
            if state == "running" and (owner := self.work.owner(run)):
                waiting |= self._may_end(run, owner)
        return Left.LATER if waiting else Left.NONE

    def _may_end(self, run: store.RunDir, owner: claim.ClaimFile) -> bool:
        """Whether to wait for another's claim: it may be dead (no beat yet since we look), or be our former self's.

        A run that a live stranger trains is left to it; one that judges it may be at other evaluations than ours.
        """
        first = self.seen.setdefault(run.run_id, owner)
        job = owner.owner.get("job")
        ours = isinstance(job, dict) and job.get("id") == self.job
        return ours or bool(self.work.keys) or (first.number == owner.number and first.modified == owner.modified)

    def _near_the_limit(self, early: float = 0) -> bool:
        return time.time() > self.limit - self.submission.margin - early

    def _pass(self) -> list[str]:
        """Start workers over the runs and wait for them; returns exit status and reason of those that died.

        Workers look at the code too, once they have read it: it may be edited while they start.
        """
        self._check_code()
        orders = orders_of(self.submission, sorted(self.runs, key=self._left_by_the_dead))
        if orders.nodes > 1:
            orders = self.passes.begin(orders)
        jobs = min(self.submission.concurrent, len(self.runs))
        workers = LocalWorkers(orders, jobs, [self.submission.device])
        told = False
        while workers.running():
            if not told and (self.stop or self._near_the_limit()):
                say("stopping: checkpoints are written")
                workers.signal(signal.SIGUSR2)
                told = True
                if self.stop:
                    self.ledger.close()
            if time.time() > self.limit - LAST_SECONDS:
                say("a worker has not stopped in time")
                break
            for line in workers.said():
                say(line)
            time.sleep(POLL_SECONDS)
        for line in workers.said():
            say(line)
        return workers.deaths()

    def _wait_for_scancel(self) -> None:
        """Told to end without being told to come back: if SLURM means it, it kills us soon."""
        say("SIGTERM: cancelled or preempted; SLURM decides")
        end = min(time.time() + SCANCEL_SECONDS, self.limit - LAST_SECONDS)
        while time.time() < end and not self.stop.requeue:
            time.sleep(POLL_SECONDS)

    def _requeue(self) -> NoReturn:
        """Put this job back into the queue; SLURM then ends this process. Raises GiveUp if SLURM refuses."""
        while True:
            try:
                commands.requeue(self.job)
            except commands.SlurmError as error:
                say(str(error))
                if not error.unreachable:
                    raise self.ledger.give_up(f"SLURM refused to requeue: {error}") from None
                time.sleep(5)  # the controller is away: it will be back
            else:
                say(f"requeued job {self.job}")
                sys.exit(1)

    def _summary(self) -> str:
        states = [self.work.read(run).state for run in self.runs]
        text = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        self.ledger.close()
        self.passes.end()
        say(f"nothing left to do: {text}")
        return text

    def _left_by_the_dead(self, run: store.RunDir) -> bool:
        """Whether its last owner died, of it or with it: such a run waits until others of its job had their turn."""
        owner = self.work.owner(run)
        return owner is not None and not owner.owner.get("released") and not claim.is_alive(owner)


def say(message: str) -> None:
    """A line in the job's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}", flush=True)
