"""Submissions: one folder for each `bench sweep --on slurm`, never written again but for what its own jobs note in it.

results/<experiment>/jobs/<time>/
    submission.json      what was asked for, by whom, from which code; run ids of every array task; job ids
    tasks/<index>.json   how far the runs of a task are and how often it was requeued (slurm.job)
    cancelled.json       `bench cancel` was here
    *_log.out, ...       submitit's: standard output and error of every task, its pickle, its script
"""

import getpass
import os
import platform
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.runs import store
from bench.runs.status import Job
from slurm import commands as queue
from slurm.commands import SlurmError, TaskId, TaskState

SCHEMA = 1
CANCELLED = "cancelled"  # what a task notes that stops because of `bench cancel`
SUBMITTING_SECONDS = 120  # without a further array, from another host: its submitter is dead


@dataclass(frozen=True)
class Array:
    """A job array: its tasks are the submission's tasks from `first` on."""

    job: str
    first: int
    tasks: int


@dataclass(frozen=True)
class Submission:
    """Content of submission.json."""

    folder: Path
    slurm_cluster: str
    """SLURM's own name of the cluster: job ids mean nothing elsewhere."""
    tasks: list[list[str]]
    """Run ids of every array task."""
    concurrent: int
    """Runs side by side in a job."""
    minutes: int
    """Time limit of a job."""
    margin: int
    """Seconds before the limit at which a job stops and is requeued."""
    data_dir: str
    device: str
    command: str
    commit: str
    dirty: bool
    code: dict[str, str]
    """Hash of every source file, by its path in the repository."""
    on_code_change: str
    cluster: str
    """Name of the cluster profile."""
    profile: dict[str, Any]
    arrays: tuple[Array, ...] = ()
    created: str = ""
    user: str = ""
    host: str = ""
    log: Sequence[str] = ()
    """Loggers (bench.training.livelog)."""
    pid: int = 0
    """The process that submits, on `host`."""
    schema: int = SCHEMA

    @property
    def experiment(self) -> Path:
        """Directory of the experiment that this submission belongs to."""
        return self.folder.parent.parent

    @property
    def job_name(self) -> str:
        """Name of its jobs; no other submission's jobs have it."""
        return f"bench-{self.experiment.name}-{self.folder.name}"

    def complete(self) -> bool:
        """Whether SLURM has taken every task, as far as was written down."""
        return sum(array.tasks for array in self.arrays) == len(self.tasks)

    def in_progress(self) -> bool:
        """Whether a process is submitting it right now; of another host's process its age tells."""
        if self.complete() or self.cancelled():
            return False
        if self.host == platform.node():
            return Path(f"/proc/{self.pid}").exists()
        return time.time() - (self.folder / "submission.json").stat().st_mtime < SUBMITTING_SECONDS

    def orphans(self) -> list[str]:
        """Arrays that SLURM took from a submitter who died before it could write them down. Raises SlurmError.

        Their tasks can only fail, as submitit gives them what they are to do after SLURM has named them.
        """
        if self.complete() or self.in_progress():
            return []
        return sorted(queue.named(self.job_name) - {array.job for array in self.arrays})

    def cancelled(self) -> bool:
        """Whether `bench cancel` ended it."""
        return (self.folder / "cancelled.json").exists()

    def write(self) -> None:
        """Write submission.json, whole or not at all."""
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        store.write_atomic(self.folder / "submission.json", store.dump_json(content).encode())

    def mark_cancelled(self, reason: str) -> None:
        """Note that its jobs were cancelled on purpose."""
        content = store.dump_json({"when": _now(), "reason": reason})
        store.write_atomic(self.folder / "cancelled.json", content.encode())

    def unmark_cancelled(self) -> None:
        """SLURM did not cancel them."""
        (self.folder / "cancelled.json").unlink(missing_ok=True)


def create(experiment: Path, **content: Any) -> Submission:
    """A new submission in a folder of its own. Raises OSError."""
    folder = experiment.absolute() / "jobs" / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
    (folder / "tasks").mkdir(parents=True)
    who: dict[str, Any] = {"user": getpass.getuser(), "host": platform.node(), "pid": os.getpid()}
    submission = Submission(folder, created=_now(), **who, **content)
    submission.write()
    return submission


def read(folder: Path) -> Submission:
    """Raises ValueError or OSError if submission.json cannot be read."""
    content = store.parse_json((folder / "submission.json").read_text(encoding="utf-8"))
    try:
        arrays = tuple(Array(**array) for array in content.pop("arrays"))
        submission = Submission(folder, arrays=arrays, **content)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a submission of this program's version: {error}") from None
    return submission


def read_all(experiment: Path) -> tuple[list[Submission], list[str]]:
    """All submissions of an experiment, oldest first, and a line on each folder that cannot be read."""
    jobs = experiment / "jobs"
    submissions, problems = [], []
    for folder in sorted(jobs.iterdir()) if jobs.is_dir() else []:
        if folder.is_dir():
            try:
                submissions.append(read(folder))
            except (OSError, ValueError) as error:
                problems.append(f"{folder}: submission.json cannot be read ({error}): its jobs are not known")
    return submissions, problems


def jobs_of(experiment: Path, runs: Collection[str]) -> tuple[dict[str, Job], list[str]]:
    """What SLURM says about these runs of an experiment: {run id: job}, and notes on what could not be asked.

    A run that was never submitted has no entry. A job that is queued or running counts before one that ended, then
    the newest does.
    """
    submissions, notes = read_all(experiment)
    wanted = set(runs)
    submissions = [s for s in submissions if not wanted.isdisjoint(run for task in s.tasks for run in task)]
    if not submissions:
        return {}, notes
    states, reachable, problem = _states(submissions)
    if problem:
        notes.append(problem)
    submitting = {s.folder for s in submissions if s.in_progress()}
    found: dict[str, Job] = {}
    over: dict[str, tuple[Submission, TaskId, TaskState | None]] = {}
    for submission in submissions:
        for task, index, members in _tasks(submission):
            state = states.get(task)
            for run in wanted.intersection(members):
                if not task[0] and submission.folder in submitting:
                    job = Job("queued", "being submitted")
                elif submission.folder not in reachable:
                    job = Job("unknown", f"in {submission.folder.name}, which cannot be asked about here")
                elif state is None or state.ended:
                    over[run] = submission, (task[0], index), state
                    continue
                else:
                    pending = state.state in ("PENDING", "CONFIGURING", "REQUEUED")
                    reason = f" ({state.reason})" if pending and state.reason else ""
                    job = Job("queued" if pending else "running", f"job {_name(task, submission)}{reason}")
                found[run] = job
    over = {run: end for run, end in over.items() if run not in found}
    reasons: dict[TaskId, str] = {}
    try:
        reasons = queue.ends(sorted({array.job for s, _, _ in over.values() for array in s.arrays}))
    except SlurmError as error:
        notes.append(f"SLURM's accounting does not answer ({error}): why jobs ended is known in part")
    gone = {s.folder for s, _, _ in over.values()}
    traces = {s.folder: _Traces(s) for s in submissions if s.folder in gone}
    for run, (submission, (job_id, index), state) in over.items():
        task = (job_id, index - next((a.first for a in submission.arrays if a.job == job_id), 0))
        reason = reasons.get(task) or (state.state if state else "")
        found[run] = _end(submission, index, task, reason, traces[submission.folder])
    return found, notes


def _states(submissions: list[Submission]) -> tuple[dict[TaskId, TaskState], set[Path], str]:
    """(states of the tasks, folders of the submissions that could be asked about, why others could not)."""
    try:
        here = queue.settings().get("ClusterName", "")
        asked = [s for s in submissions if s.slurm_cluster == here]
        jobs = [array.job for s in asked for array in s.arrays]
        states = queue.task_states(jobs, (s.job_name for s in asked))
    except SlurmError as error:
        return {}, set(), f"SLURM cannot be asked ({error}): queued and lost runs cannot be told apart"
    others = sorted({s.slurm_cluster for s in submissions} - {here})
    problem = f"submitted on cluster {', '.join(others)}, this is {here}: ask there" if others else ""
    return states, {s.folder for s in asked}, problem


def _tasks(submission: Submission) -> Iterator[tuple[TaskId, int, list[str]]]:
    """(SLURM's task, index in the submission, run ids); job "" for tasks that never reached SLURM."""
    submitted = {a.first + i: (a.job, i) for a in submission.arrays for i in range(a.tasks)}
    for index, members in enumerate(submission.tasks):
        yield submitted.get(index, ("", 0)), index, members


def _name(task: TaskId, submission: Submission) -> str:
    array = next(a for a in submission.arrays if a.job == task[0])
    return f"{task[0]}_{task[1]}" if array.tasks > 1 else task[0]


class _Traces:
    """What the tasks of a submission left in its folder, listed once: there may be thousands."""

    def __init__(self, submission: Submission) -> None:
        logs = (re.fullmatch(r"(\d+(?:_\d+)?)_\d+_log\.out", name) for name in os.listdir(submission.folder))
        self.logs = {log[1]: log[0] for log in logs if log}
        """File name by the name of the job."""
        self.noted = set(os.listdir(submission.folder / "tasks"))


def _end(submission: Submission, index: int, task: TaskId, reason: str, traces: _Traces) -> Job:
    """Why a task is over. A loss before `bench cancel` stays one."""
    if not task[0]:
        return Job("cancelled" if submission.cancelled() else "ended", "was not submitted")
    name = _name(task, submission)
    given_up = gave_up(submission.folder, index) if f"{index}.json" in traces.noted else ""
    on_purpose = given_up == CANCELLED or (not given_up and reason in ("", "CANCELLED"))
    if submission.cancelled() and on_purpose:
        return Job("cancelled", f"job {name}")
    where = f"; see jobs/{submission.folder.name}/{traces.logs[name]}" if name in traces.logs else ""
    return Job("ended", f"job {name}: {given_up or reason or 'SLURM does not know it any more'}{where}")


def gave_up(folder: Path, index: int) -> str:
    """Why a task stopped trying, "" if it did not."""
    try:
        return str(store.parse_json((folder / "tasks" / f"{index}.json").read_text())["gave_up"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def with_array(submission: Submission, job: str, first: int, tasks: int) -> Submission:
    """The submission with one more job array, written down."""
    extended = replace(submission, arrays=(*submission.arrays, Array(job, first, tasks)))
    extended.write()
    return extended


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
