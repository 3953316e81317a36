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
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.files import dump_json, file_system_time, parse_json, write_atomic
from slurm import commands

SCHEMA = 1
OTHER_VERSION = "written by another version of this program"
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
    devices_per_run: int = 1
    nodes: int = 1
    """Nodes of a job."""
    evaluations: Sequence[str] = ()
    """Keys of the evaluations that its jobs make of the runs; none: they train them."""
    follows: dict[str, Any] = field(default_factory=dict)
    """Of the job that goes on with a search (slurm.following): what was asked for; its one task is that search."""
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
        now = file_system_time(self.folder) or time.time()
        return now - (self.folder / "submission.json").stat().st_mtime < SUBMITTING_SECONDS

    def orphans(self) -> list[str]:
        """Arrays that SLURM took from a submitter who died before it could write them down. Raises SlurmError.

        Their tasks can only fail, as submitit gives them what they are to do after SLURM has named them.
        """
        if self.complete() or self.in_progress():
            return []
        return sorted(commands.named(self.job_name) - {array.job for array in self.arrays})

    def cancelled(self) -> bool:
        """Whether `bench cancel` ended it."""
        return (self.folder / "cancelled.json").exists()

    def write(self) -> None:
        """Write submission.json, whole or not at all."""
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_atomic(self.folder / "submission.json", dump_json(content).encode())

    def mark_cancelled(self, reason: str) -> None:
        """Note that its jobs were cancelled on purpose."""
        content = dump_json({"when": _now(), "reason": reason})
        write_atomic(self.folder / "cancelled.json", content.encode())

    def unmark_cancelled(self) -> None:
        """SLURM did not cancel them."""
        (self.folder / "cancelled.json").unlink(missing_ok=True)


def create(experiment: Path, **content: Any) -> Submission:
    """A new submission in a folder of its own. Raises UserError, and leaves nothing behind, if it cannot write."""
    folder = experiment.absolute() / "jobs" / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
    who: dict[str, Any] = {"user": _user(), "host": platform.node(), "pid": os.getpid()}
    submission = Submission(folder, created=_now(), **who, **content)
    try:
        (folder / "tasks").mkdir(parents=True)
        submission.write()
    except (OSError, UnicodeError) as error:  # the latter from a path that is no text
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"cannot write {folder}: {getattr(error, 'strerror', None) or error}") from None
    return submission


def _user() -> str:
    """Name of the user, or the number: in a container it may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def read(folder: Path) -> Submission:
    """Raises ValueError or OSError if submission.json cannot be read."""
    from pydantic import TypeAdapter, ValidationError  # a third of a second, only where there are submissions

    content = parse_json((folder / "submission.json").read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(OTHER_VERSION)
    try:
        return TypeAdapter(Submission).validate_python({**content, "folder": folder})
    except ValidationError:
        raise ValueError(OTHER_VERSION) from None


def read_all(experiment: Path) -> tuple[list[Submission], list[str]]:
    """All submissions of an experiment, oldest first, and a line on each folder that cannot be read."""
    jobs = experiment / "jobs"
    submissions, problems = [], []
    try:
        folders = sorted(jobs.iterdir())
    except FileNotFoundError:
        folders = []
    except OSError as error:
        return [], [f"{jobs} cannot be read ({error.strerror}): jobs are not known"]
    for folder in folders:
        if folder.is_dir():
            try:
                submissions.append(read(folder))
            except (OSError, ValueError) as error:
                problems.append(f"{folder}: submission.json cannot be read ({error}): its jobs are not known")
    return submissions, problems


def with_array(submission: Submission, job: str, first: int, tasks: int) -> Submission:
    """The submission with one more job array, written down."""
    extended = replace(submission, arrays=(*submission.arrays, Array(job, first, tasks)))
    extended.write()
    return extended


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
