"""Batch scripts, and how SLURM is given the job arrays of a submission: all of them, or none."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import _make_sbatch_string

from bench.errors import UserError
from bench.training.workers import START
from slurm import commands, submission
from slurm.job import Task
from slurm.sweep import Sweep

# Python takes a second to start; a signal in it would end the task as failed. Ignored signals stay so through exec.
DEAF = shlex.join(["bash", "-c", 'trap "" USR2 TERM; exec "$0" "$@"'])
PYTHON = f"{DEAF} {shlex.join([sys.executable, '-u', START])}"
CONTROLLER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")  # what it takes to reach it
UNLIMITED = 10**6  # submitit's own limit of timeouts: ours counts progress instead


def script(sweep: Sweep, folder: Path, tasks: int, **changes: Any) -> str:
    """The batch script, as submitit makes it."""
    parallel = sweep.request.options.max_parallel or tasks
    command = f"{PYTHON} submitit.core._submit {shlex.quote(str(folder))}"
    array: dict[str, Any] = {"map_count": tasks, "array_parallelism": parallel} if tasks > 1 else {}
    return _make_sbatch_string(command=command, folder=folder, **array, **{**sweep.parameters(), **changes})


def submit_all(sweep: Sweep, made: submission.Submission, chunks: list[range], **asked: Any) -> submission.Submission:
    """One array after the other. With --max-parallel each waits for the one before: %N holds within an array only.

    asked: what its jobs ask for otherwise than the sweep's, by submitit's names.
    """
    try:
        for chunk in chunks:
            changes = {"job_name": made.job_name, **asked}
            if sweep.request.options.max_parallel and made.arrays:
                changes["dependency"] = f"afterany:{made.arrays[-1].job}"
            text = script(sweep, made.folder, len(chunk), **changes)
            with _undisturbed():
                made = submission.with_array(made, _send(text, made, chunk), chunk.start, len(chunk))
    except BaseException as error:
        told = _taken_back(made)
        if isinstance(error, commands.SlurmError):
            raise commands.SlurmError(f"{error}{told}") from None
        if isinstance(error, OSError):
            raise UserError(f"cannot write {made.folder}: {error.strerror or error}{told}") from None
        raise
    return made


def _send(script: str, made: submission.Submission, chunk: range) -> str:
    """Give SLURM one array; returns its job id. Its tasks wait for their pickles, which are named by it.

    This is what submitit's executor does, but for reading sbatch's answer: that takes any number for the job's.
    """
    path = made.folder / f".{chunk.start}.sh"
    path.write_text(script, encoding="utf-8")
    pickles = [made.folder / f".{index}.pkl" for index in chunk]
    for index, pickle in zip(chunk, pickles, strict=True):
        task = DelayedSubmission(Task(str(made.folder), index))
        task.set_timeout(made.minutes, UNLIMITED)
        task.dump(pickle)
    job = commands.submit(path, made.job_name, [array.job for array in made.arrays])
    for i, pickle in enumerate(pickles):
        pickle.rename(JobPaths(made.folder, f"{job}_{i}" if len(chunk) > 1 else job).submitted_pickle)
    path.rename(JobPaths(made.folder, job).submission_file)
    return job


def _taken_back(made: submission.Submission) -> str:
    """Cancel what SLURM has of a submission, written down or not; what to tell of it."""
    with contextlib.suppress(OSError):  # a full disk
        made.mark_cancelled("not every array was accepted")
    try:
        commands.cancel(sorted({array.job for array in made.arrays} | commands.named(made.job_name)))
    except commands.SlurmError as problem:
        made.unmark_cancelled()
        told = f"the {len(made.arrays)} arrays before it are queued and could not be cancelled ({problem})"
    else:
        told = f"cancelled the {len(made.arrays)} arrays before it"
    return f"; {told}" if made.arrays else ""


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that would end us wait: an array that SLURM has taken is written down."""
    came: list[int] = []
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def outside_of_jobs() -> Iterator[None]:
    """Hide variables that sbatch or the job's srun would take for options: SBATCH_*, which win over the script's own,
    and SLURM_*, the user's or those of an interactive job that we are in."""
    names = [name for name in os.environ if name.startswith(("SBATCH_", "SLURM_")) and name not in CONTROLLER]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)
