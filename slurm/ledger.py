"""How far a task of a submission is, and how often it was tried for nothing.

An attempt is a time limit, workers that died, or a start that ended without a word: its node failed, or all of the job
was killed. After MAX_IDLE attempts without progress the job gives up; a run that takes its node down would be requeued
by SLURM for ever. A job that was told to stop ends with a word, so preemption does not count.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.files import dump_json, parse_json, write_atomic
from bench.runs import store
from bench.runs.work import TRAINING, Work
from slurm.submission import OTHER_VERSION

MAX_IDLE = 3  # further attempts after one without progress


class GiveUp(RuntimeError):
    """The job ends here, as failed; the message says why."""


@dataclass(frozen=True)
class Progress:
    """How far the runs of a task are; both numbers only grow while there is progress."""

    ended: int
    """Runs done or failed; of runs that are judged, evaluations."""
    steps: int
    """Optimizer steps, over all runs."""

    def beyond(self, best: "Progress") -> bool:
        """Whether anything was achieved that had not been before (work lost and done again is not)."""
        return self.ended > best.ended or self.steps > best.steps

    def best(self, other: "Progress") -> "Progress":
        """The farthest of both."""
        return Progress(max(self.ended, other.ended), max(self.steps, other.steps))


def measure(runs: Sequence[store.RunDir], work: Work = TRAINING) -> Progress:
    """Progress of runs, from their directories."""
    found = [work.steps(run) for run in runs]
    return Progress(sum(ended for ended, _ in found), sum(steps for _, steps in found))


class Ledger:
    """tasks/<index>.json: the farthest progress of a task, and how many attempts in a row did not add to it.

    A start that has not ended with a word (`open`) counts as such an attempt when the next one finds it.
    """

    def __init__(self, folder: Path, index: int, now: Progress) -> None:
        """Note a start. Raises GiveUp if those before it ended without a word, and without progress, too often."""
        self.path, self.best, self.idle, self.starts = _path(folder, index), now, 0, 1
        was_open = False
        try:
            old = parse_json(self.path.read_text(encoding="utf-8"))
            best = Progress(int(old["best"]["ended"]), int(old["best"]["steps"]))
            self.best, self.idle, self.starts = best, int(old["idle"]), int(old["starts"]) + 1
            was_open = old.get("open") is True
        except FileNotFoundError:
            pass  # the first start
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            print(f"{_unreadable(self.path)}: attempts are counted anew", flush=True)
        self.open = True
        if was_open:
            self.attempt(now, "the node failed, or all of the job was killed")
        else:
            self._write()

    def attempt(self, now: Progress, what: str) -> None:
        """Count an attempt that ended early for a reason of ours (`what`). Raises GiveUp after MAX_IDLE for nothing."""
        self.idle = 0 if now.beyond(self.best) else self.idle + 1
        self.best = now.best(self.best)
        if self.idle > MAX_IDLE:
            raise self.give_up(f"{what}: tried {self.idle} times without progress")
        self._write()

    def close(self) -> None:
        """This start ends with a word: whatever ends its process from now on was asked for."""
        if self.open:
            self.open = False
            with contextlib.suppress(OSError):  # a full disk: the next start counts this one
                self._write()

    def give_up(self, reason: str) -> GiveUp:
        """Note for `bench status` why this task ends; the caller raises what this returns."""
        self.open = False
        self._write(gave_up=reason)
        return GiveUp(reason)

    def _write(self, **more: str) -> None:
        content = {"best": asdict(self.best), "idle": self.idle, "starts": self.starts, "open": self.open, **more}
        write_atomic(self.path, dump_json(content).encode())


def gave_up(folder: Path, index: int) -> str:
    """Why a task of the submission in `folder` stopped trying, "" if it did not."""
    path = _path(folder, index)
    try:
        return str(parse_json(path.read_text(encoding="utf-8")).get("gave_up", ""))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError, RecursionError):
        return _unreadable(path)


def _path(folder: Path, index: int) -> Path:
    return folder / "tasks" / f"{index}.json"


def _unreadable(path: Path) -> str:
    return f"tasks/{path.name} is damaged, or was {OTHER_VERSION}"
