"""What SLURM says: its limits and partitions, the states of jobs, and why jobs ended. All calls to its commands."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.errors import UserError, unknown

_TIME = "%Y-%m-%dT%H:%M:%S"  # local time, as SLURM prints it
TIMEOUT_SECONDS = 60  # a controller that is down makes its clients wait for some seconds, then fail

ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
"""States a job does not leave by itself. (A requeued job is PENDING again at once.)"""


DEFAULTS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SCONTROL_", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS")
"""Variables by which users change what SLURM's commands show."""

AWAY = (
    *("ontact", "onnect", "ommunication", "gave no answer", "timed out"),
    *("Zero Bytes", "temporarily unavailable", "standby mode"),
)
"""Words of SLURM's errors that pass when its controller is back."""


class SlurmError(UserError):
    """SLURM is not installed, does not answer, or refuses; the message is its own."""

    @property
    def unreachable(self) -> bool:
        """Whether it did not answer at all: it may do so later."""
        return any(words in str(self) for words in AWAY)


@dataclass(frozen=True)
class TaskState:
    """State of one array task, as squeue names it, e.g. PENDING, RUNNING, TIMEOUT."""

    state: str
    reason: str = ""
    """Why it is pending, e.g. Resources."""

    @property
    def ended(self) -> bool:
        """Whether the task is over for good."""
        return self.state in ENDED


TaskId = tuple[str, int]
"""(job id of the array, index in it)."""


def call(*command: str) -> str:
    """Standard output of a SLURM command. Raises SlurmError with the command's own words, on one line.

    The user's defaults for these commands are hidden from them: a filter on a partition would make jobs look lost.
    """
    require(command[0])
    own = {name: value for name, value in os.environ.items() if not name.startswith(DEFAULTS)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, errors="replace", env=own
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} gave no answer within {TIMEOUT_SECONDS} s") from None
    if done.returncode:
        raise SlurmError(f"{command[0]}: {one_line(done.stderr or done.stdout)}")
    return done.stdout


def require(*commands: str) -> None:
    """Raises SlurmError if one of these commands of SLURM is not here."""
    for name in commands:
        if shutil.which(name) is None:
            raise SlurmError(f"SLURM is not installed here: no {name!r} on the PATH")


def one_line(text: str) -> str:
    """SLURM's complaints without their repeated prefixes, joined: "sbatch: error: x\\n..." -> "x; ..."."""
    lines = (re.sub(r"^(\w+: )?(error: |fatal: )?", "", line.strip()) for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))


def configuration() -> dict[str, str]:
    """SLURM's configuration, e.g. MaxArraySize, ClusterName. Raises SlurmError."""
    pairs = (line.partition("=") for line in call("scontrol", "show", "config").splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def check_partition(names: str) -> None:
    """Raises UserError if one of these (separated by commas) is no partition; sbatch alone would say no more."""
    known = call("sinfo", "--all", "--noheader", "--format=%R").split()
    for name in names.split(","):
        if name not in known:
            raise unknown("partition", name, known)


def task_states(jobs: Iterable[str], names: Iterable[str]) -> dict[TaskId, TaskState]:
    """States of the array tasks of `jobs` that the controller still knows: all that are not over, and the newest ended.

    `names`: the names these jobs were given; another job that has come by an old number is not ours. Raises SlurmError.
    """
    wanted, ours = list(jobs), set(names)
    if not wanted:
        return {}
    command = ("squeue", "--array", "--noheader", "--states=all", "--format=%F|%K|%T|%r|%j")
    try:
        output = call(*command, f"--jobs={','.join(wanted)}")
    except SlurmError as error:
        if "Invalid job id" not in str(error):
            raise
        return {}  # what squeue says if it has forgotten the only job that it was asked for
    states: dict[TaskId, TaskState] = {}
    for line in output.splitlines():
        job, index, state, reason, name = line.split("|", 4)
        if name in ours:
            states[job, int(index) if index.isdigit() else 0] = TaskState(state, "" if reason == "None" else reason)
    return states


def ends(jobs: Sequence[str]) -> dict[TaskId, str]:
    """How tasks that are over ended, e.g. "TIMEOUT", "FAILED, exit code 9:0". Raises SlurmError without accounting."""
    if not jobs:
        return {}
    output = call("sacct", "-X", "-n", "-P", "-o", "JobID,State,ExitCode", "-j", ",".join(jobs))
    found: dict[TaskId, str] = {}
    for line in output.splitlines():
        identity, state, code = line.split("|", 2)
        job, _, index = identity.partition("_")
        name = state.split()[0]  # "CANCELLED by 1000"
        if name in ENDED and (index.isdigit() or not index):
            found[job, int(index or 0)] = name + (f", exit code {code}" if name == "FAILED" else "")
    return found


def named(name: str) -> set[str]:
    """Ids of the job arrays of this name that are not over. Raises SlurmError."""
    return set(call("squeue", "--noheader", f"--name={name}", "--format=%F").split())


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs, with all their tasks; those that ended already do not matter. Raises SlurmError."""
    if jobs:
        call("scancel", "--quiet", *jobs)


def requeue(job: str) -> None:
    """Put a running job back into the queue; SLURM ends its processes. Raises SlurmError."""
    call("scontrol", "requeue", job)


def end_of(job: str) -> float | None:
    """When a running job reaches its time limit, seconds since the epoch; None if SLURM does not tell."""
    try:
        return time.mktime(time.strptime(call("squeue", "--noheader", f"--jobs={job}", "--format=%e").strip(), _TIME))
    except (SlurmError, ValueError):
        return None
