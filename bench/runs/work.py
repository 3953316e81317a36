"""What is done to runs, as those see it who start processes for it and follow them: training, or judging afterwards.

Either way a process claims a folder of the run, works, and leaves files that say what came of it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bench.files import first_line, is_number
from bench.runs import evaluations, store
from bench.runs.claim import ClaimFile, is_alive, newest_claim
from bench.runs.evaluations import EvaluationFiles
from bench.runs.identity import RUN_NAME
from bench.runs.progress import duration, planned, remaining
from bench.runs.store import RunDir, RunRecord


class Work(Protocol):
    """How far runs are."""

    @property
    def keys(self) -> Sequence[str]:
        """Of the evaluations that are to be made; none: runs are trained."""

    @property
    def done(self) -> str:
        """What runs are then."""

    def place(self, experiment: Path, name: str) -> RunDir:
        """The directory of a run, by its id."""

    def places(self, experiment: Path) -> list[RunDir]:
        """All directories that there are."""

    def owner(self, run: RunDir) -> ClaimFile | None:
        """The newest claim on it for this work."""

    def read(self, run: RunDir, content: bool = True) -> RunRecord:
        """How far it is; without `content` by the names of files alone (bench.runs.store.read_run)."""

    def again(self, before: RunRecord) -> RunRecord:
        """The run of a record as it is now, as cheaply as that can be told."""

    def steps(self, run: RunDir) -> tuple[int, int]:
        """(What of it has ended, steps within what has not): both only grow while there is progress."""

    def errors(self, run: RunDir) -> list[Path]:
        """The files that say what failed of it: without them it is tried once more."""

    def unreadable(self, record: RunRecord) -> list[Path]:
        """The files that are no results, though they should be: without them it is tried once more."""

    def told(self, record: RunRecord) -> str:
        """A line on what came of a run that is done."""

    def cells(self, record: RunRecord) -> list[str]:
        """What there is to say about a running run, in columns."""


@dataclass(frozen=True)
class Training:
    """Runs are trained, and judged in the end."""

    keys: Sequence[str] = ()
    done: str = "done"

    def place(self, experiment: Path, name: str) -> RunDir:
        return RunDir(experiment / "runs" / name)

    def places(self, experiment: Path) -> list[RunDir]:
        return store.run_dirs(experiment)

    def owner(self, run: RunDir) -> ClaimFile | None:
        return newest_claim(run.path)

    def read(self, run: RunDir, content: bool = True) -> RunRecord:
        return store.read_run(run, content)

    def again(self, before: RunRecord) -> RunRecord:
        """Plans do not change any more, and there may be thousands: results are read."""
        record = store.read_run(before.dir, content=False)
        if record.state == "done" or before.state == "damaged":
            return store.read_run(before.dir)
        return replace(record, config=before.config)

    def steps(self, run: RunDir) -> tuple[int, int]:
        newest = newest_claim(run.path)
        noted = newest.owner.get("step") if newest else 0
        return int(run.ended()), int(max(run.last_epoch().get("step", 0), noted if is_number(noted) else 0))

    def errors(self, run: RunDir) -> list[Path]:
        return [run.error] if run.error.exists() and not run.result.exists() else []

    def unreadable(self, record: RunRecord) -> list[Path]:
        return [record.dir.result] if record.state == "damaged" and record.config else []

    def told(self, record: RunRecord) -> str:
        assert record.result is not None
        timing = record.result.timing
        flag = "  COLLAPSED" if record.result.collapsed else ""
        took = duration(timing.train_seconds + timing.eval_seconds)
        return f"{record.dir.run_id}  done in {took}: {record.result.metrics.told()}{flag}"

    def cells(self, record: RunRecord) -> list[str]:
        """run id, epoch, loss, images/s, online accuracy, time left; what is not known yet is left out."""
        row = record.dir.last_epoch()
        epochs = planned(record.config, "epochs")
        cells = [record.dir.run_id, f"epoch {row.get('epoch', 0)}/{epochs}"]
        if "loss" in row and "images_per_second" in row:
            cells += [f"loss {row['loss']:.4f}", f"{row['images_per_second']:.0f} images/s"]
            online = _latest(record.dir, "online_linear_top1")
            cells.append(f"online {online:.1f} %" if online is not None else "")
            cells.append(remaining(row, epochs))
        return cells


@dataclass(frozen=True)
class Judging:
    """Evaluations are made of runs that are done, and of encoders from elsewhere."""

    keys: Sequence[str]
    done: str = "judged"

    def place(self, experiment: Path, name: str) -> RunDir:
        """The directory of a run by its id, or of an encoder by its name, which is no run's id."""
        return RunDir(experiment / ("runs" if RUN_NAME.fullmatch(name) else evaluations.ENCODERS) / name)

    def places(self, experiment: Path) -> list[RunDir]:
        return [*store.run_dirs(experiment), *store.run_dirs(experiment, evaluations.ENCODERS)]

    def owner(self, run: RunDir) -> ClaimFile | None:
        return newest_claim(run.evaluations) if run.evaluations.exists() else None

    def states(self, run: RunDir) -> tuple[dict[str, store.State], ClaimFile | None]:
        """The state of each evaluation, by the names of its files, and the newest claim. Raises OSError."""
        try:
            names = set(os.listdir(run.evaluations))
        except FileNotFoundError:
            names = set()
        owner = newest_claim(run.evaluations, names) if names else None
        missing: store.State | None = None  # known when it is needed: that takes reading the claim's time stamp
        found: dict[str, store.State] = {}
        for files in self.files(run):
            if files.result.name in names:
                found[files.key] = "done"
            elif files.error.name in names:
                found[files.key] = "failed"
            else:
                missing = missing or _without_result(owner)
                found[files.key] = missing
        return found, owner

    def read(self, run: RunDir, content: bool = True) -> RunRecord:
        """planned, interrupted, running: some are missing; failed, damaged: none is, but of some there is no result."""
        try:
            states, owner = self.states(run)
        except OSError as error:
            return RunRecord(run, "damaged", error=f"cannot be read: {error.strerror}")
        if missing := {*states.values()} - {"done", "failed"}:
            return RunRecord(run, missing.pop(), owner=owner)
        problems = {files: _problem(files, run) for files in self.files(run) if content and states[files.key] == "done"}
        damaged = [f"{f.result.name}: {what} (--retry-failed makes it again)" for f, what in problems.items() if what]
        failed = [f"{f.key}: {first_line(f.error)}" for f in self.files(run) if states[f.key] == "failed"]
        state: store.State = "damaged" if damaged else "failed" if failed else "done"
        return RunRecord(run, state, error="; ".join([*damaged, *failed]), owner=owner)

    def again(self, before: RunRecord) -> RunRecord:
        record = self.read(before.dir, content=False)
        return self.read(before.dir) if record.state == "done" else record

    def steps(self, run: RunDir) -> tuple[int, int]:
        return sum(files.state() != "missing" for files in self.files(run)), 0

    def errors(self, run: RunDir) -> list[Path]:
        return [files.error for files in self.files(run) if files.state() == "failed"]

    def unreadable(self, record: RunRecord) -> list[Path]:
        done = (files for files in self.files(record.dir) if files.state() == "done")
        return [files.result for files in done if _problem(files, record.dir)]

    def told(self, record: RunRecord) -> str:
        """ "raft-01234567-s0  few_1pct 71.20 %, few_10pct 88.05 %; linear 60.10 % on cifar100"."""
        parts = []
        for files in self.files(record.dir):
            try:
                parts.append(evaluations.read(files.result).told())
            except (ValueError, RecursionError):
                parts.append(f"{files.key}: cannot be read")
        return f"{record.dir.run_id}  {'; '.join(parts)}"

    def cells(self, record: RunRecord) -> list[str]:
        n = len(self.keys)
        ended, _ = self.steps(record.dir)
        return [record.dir.run_id, f"evaluation {min(ended + 1, n)}/{n}"]

    def files(self, run: RunDir) -> list[EvaluationFiles]:
        """Those of every evaluation that is wanted."""
        return [EvaluationFiles(run.evaluations, key) for key in self.keys]


TRAINING = Training()


def work(keys: Sequence[str]) -> Work:
    """Making the evaluations `keys`, or training if there are none."""
    return Judging(tuple(keys)) if keys else TRAINING


def retry(doing: Work, runs: Sequence[RunDir]) -> None:
    """Forget that runs failed, or left results that cannot be read: workers execute them once more.

    Done before workers start: if they did it, each in turn would execute the run again.
    """
    for run in runs:
        record = doing.read(run)
        if record.state != "running":
            for path in doing.errors(run):
                path.unlink()
            for path in doing.unreadable(record):
                path.replace(path.with_name(f"{path.stem}.damaged.json"))


def _without_result(owner: ClaimFile | None) -> store.State:
    """The state of evaluations that are missing, by the newest claim on their folder."""
    if owner is None or owner.owner.get("released"):
        return "planned"
    return "running" if is_alive(owner) else "interrupted"


def _problem(files: EvaluationFiles, run: RunDir) -> str:
    """Why an evaluation's file is no result of this run; "" if it is one."""
    try:
        found = evaluations.read(files.result)
    except (ValueError, RecursionError) as error:
        return str(error)
    return "" if found.subject == run.run_id else f"of another run, {found.subject}"


def _latest(run: RunDir, name: str) -> Any:
    """The newest value of a metric that is not measured every epoch."""
    return next((row[name] for row in reversed(run.history()) if is_number(row.get(name))), None)
