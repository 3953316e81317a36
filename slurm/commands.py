"""What SLURM says: its limits and partitions, the states of jobs, and why jobs ended. All calls to its commands.

Sites wrap these commands: banners, notices and colours stand before, after and among the lines that were asked for. So
every answer is read line by line, each line in one known form; a line of another form is a notice, which is told once,
unless it may be about a job of ours: then nothing is known, which is better than a job that looks lost.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError, unknown

TIMEOUT_SECONDS = 60  # a controller that is down makes its clients wait for some seconds, then fail
SUBMIT_SECONDS = 600  # sbatch: a controller that is busy makes it try again for minutes

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
WAITING = {"PENDING", "CONFIGURING", "REQUEUED"}
CANCELLED = "CANCELLED"

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


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\].*?(?:\x07|\x1b\\)|[@-Z\\^_])")  # colours, titles of terminals
_told: set[str] = set()
"""Commands whose notices were told already."""


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

    @property
    def waiting(self) -> bool:
        """Whether the task has yet to start."""
        return self.state in WAITING


TaskId = tuple[str, int]
"""(job id of the array, index in it)."""


def call(*command: str, seconds: float = TIMEOUT_SECONDS) -> str:
    """Standard output of a SLURM command, uncoloured. Raises SlurmError with the command's own words, on one line.

    The user's defaults for these commands are hidden from them: a filter on a partition would make jobs look lost.
    """
    require(command[0])
    own = {name: value for name, value in os.environ.items() if not name.startswith(DEFAULTS)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, errors="replace", env=own)
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} gave no answer within {seconds:g} s") from None
    except OSError as error:  # e.g. a wrapper without an interpreter
        raise SlurmError(f"{command[0]} cannot be started: {error.strerror}") from None
    if done.returncode:
        problem = one_line(done.stderr or done.stdout) or f"ended with status {done.returncode}, without a word"
        raise SlurmError(f"{command[0]}: {problem}")
    if not done.stdout.strip():  # a site's wrapper may lose the status
        for line in filter(re.compile("error: ").search, done.stderr.splitlines()):
            if (silent := SlurmError(f"{command[0]}: {one_line(line)}")).unreachable:
                raise silent
    return _ESCAPES.sub("", done.stdout)


def require(*commands: str) -> None:
    """Raises SlurmError if one of these commands of SLURM is not here."""
    for name in commands:
        if shutil.which(name) is None:
            raise SlurmError(f"SLURM is not installed here: no {name!r} on the PATH")


def one_line(text: str) -> str:
    """SLURM's complaints without their repeated prefixes, joined: "sbatch: error: x\\n..." -> "x; ..."."""
    lines = (re.sub(r"^(\w+: )?(error: |fatal: )?", "", line.strip()) for line in _ESCAPES.sub("", text).splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))


def _rows(command: str, output: str, form: str, ours: Collection[str] = ()) -> Iterator[re.Match[str]]:
    """The lines of the known form, a regular expression; other lines are told once, as notices of the site.

    Raises SlurmError if another line names one of `ours` (job ids, names of jobs) where a row of a table would, or if
    there is nothing but an error, which a site's wrapper printed and forgot.
    """
    notices, rows = [], 0
    for line in filter(None, map(str.strip, output.splitlines())):
        if row := re.fullmatch(form, line):
            rows += 1
            yield row
            continue
        cells = [cell.strip() for cell in line.split("|")] if "|" in line else line.split()
        heads = cells if "|" in line else cells[:1]  # "Your previous job 101 ran" is no row
        ids = {number[0] for cell in heads if (number := re.match(r"\d+", cell))}
        if not ids.union(cell for cell in cells if not cell.isdigit()).isdisjoint(ours):
            raise SlurmError(f"{command} prints other columns than it was asked for: {line[:200]!r}")
        notices.append(line)
    errors = [line for line in notices if re.search(r"\b(error|fatal): ", line)]
    if errors and not rows and command != "sbatch":  # of whose answer the queue tells
        raise SlurmError(f"{command}: {one_line(errors[0])[:200]}")
    if notices and command not in _told:
        _told.add(command)
        more = f" (and {len(notices) - 1} more lines)" if notices[1:] else ""
        print(f"note: {command} also printed: {notices[0][:200]}{more}", file=sys.stderr)


def configuration() -> dict[str, str]:
    """SLURM's configuration, e.g. MaxArraySize; ClusterName is always there. Raises SlurmError."""
    output = call("scontrol", "show", "config")
    found = {key: value.strip() for key, value in re.findall(r"^[ \t]*(\w+)[ \t]*=(.*)$", output, re.MULTILINE)}
    if not found.get("ClusterName"):
        raise SlurmError("scontrol show config names no ClusterName")
    return found


def check_partition(names: str) -> None:
    """Raises UserError if one of these (separated by commas) is no partition; sbatch alone would say no more."""
    output = call("sinfo", "--all", "--noheader", "--format=%R")
    known = [row[0].rstrip("*") for row in _rows("sinfo", output, r"\S+")]  # *: the default one
    for name in names.split(",") if known else ():
        if name not in known:
            raise unknown("partition", name, known)


def submit(script: Path, name: str, known: Collection[str]) -> str:
    """Send a batch script; returns the job id that SLURM gave it.

    `name`: the job's name; `known`: ids of former jobs of this name. If sbatch's answer is not clear, the queue tells.
    Raises SlurmError if SLURM refuses, or if it cannot be known which job this is.
    """
    output = call("sbatch", str(script), seconds=SUBMIT_SECONDS)
    rows = list(_rows("sbatch", output, r"(?:sbatch: )?Submitted batch job (\d+)\b.*|(\d+)(?:;\S*)?"))
    told = {row[1] for row in rows if row[1]} or {row[2] for row in rows}  # the latter from --parsable
    told = told if len(told) == 1 else named(name) - set(known)
    if len(told) != 1:
        raise SlurmError(f"sbatch: no job id in its answer: {one_line(output)[:200]!r}")
    return told.pop()


def task_states(jobs: Iterable[str], names: Iterable[str]) -> dict[TaskId, TaskState]:
    """States of the array tasks of `jobs` that the controller still knows: all that are not over, and the newest ended.

    `names`: the names these jobs were given; another job that has come by an old number is not ours. Raises SlurmError.
    """
    wanted, ours = list(jobs), set(names)
    if not wanted:
        return {}
    command = ("squeue", "--array", "--noheader", "--states=all", "--format=%F|%K|%T|%r|%j")
    form = r"(\d+)\|(\d+|N/A)\|([A-Z_]+)\|([^|]*)\|(.*)"
    try:
        rows = [*_rows("squeue", call(*command, f"--jobs={','.join(wanted)}"), form, {*wanted, *ours})]
    except SlurmError as error:
        if "Invalid job id" not in str(error):
            raise
        return {}  # what squeue says if it has forgotten the only job that it was asked for
    states: dict[TaskId, TaskState] = {}
    for row in rows:
        job, index, state, reason, name = row.groups()
        if not ours.isdisjoint(name.split("|")):  # a site's wrapper may add columns
            states[job, int(index) if index.isdigit() else 0] = TaskState(state, "" if reason == "None" else reason)
    return states


def ends(jobs: Sequence[str]) -> dict[TaskId, str]:
    """How tasks that are over ended, e.g. "TIMEOUT", "FAILED, exit code 9:0". Raises SlurmError without accounting."""
    if not jobs:
        return {}
    output = call("sacct", "-X", "-n", "-P", "-o", "JobID,State,ExitCode", "-j", ",".join(jobs))
    found: dict[TaskId, str] = {}
    form = r"(\d+)(?:_(\d+|\[.*?\]))?(\.\w+)?\|([A-Z_]*)[^|]*\|(\d+:\d+)?(?:\|.*)?"  # 101_2, 101_[3-5], 101_2.batch
    for row in _rows("sacct", output, form):
        job, index, step, state, code = row.groups(default="")
        if state in ENDED and not step and (index.isdigit() or not index):
            found[job, int(index or 0)] = state + (f", exit code {code}" if state == "FAILED" and code else "")
    return found


def named(name: str) -> set[str]:
    """Ids of the job arrays of this name that are not over. Raises SlurmError."""
    output = call("squeue", "--noheader", f"--name={name}", "--format=%F|%j")
    rows = _rows("squeue", output, r"(\d+)\|([^|]*)(?:\|.*)?", {name})
    return {row[1] for row in rows if row[2] == name}


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs, with all their tasks; those that ended already do not matter. Raises SlurmError."""
    if jobs:
        call("scancel", "--quiet", *jobs)


def requeue(job: str) -> None:
    """Put a running job back into the queue; SLURM ends its processes. Raises SlurmError."""
    call("scontrol", "requeue", job)


def end_of(job: str) -> float | None:
    """When a running job reaches its time limit, seconds since the epoch; None if SLURM does not tell.

    From the time that is left, not from the hour of its end: squeue prints local time, which a clock change repeats.
    """
    try:
        output = call("squeue", "--array", "--noheader", f"--jobs={job}", "--format=%A|%L")
        left = [row[2] for row in _rows("squeue", output, r"(\d+)\|(\S+)") if row[1] == job]
    except SlurmError:
        return None
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", left[0] if left else "")  # or UNLIMITED, INVALID
    if not found:
        return None
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return time.time() + 86400 * days + 3600 * hours + 60 * minutes + seconds
