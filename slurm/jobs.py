"""What became of the jobs of an experiment: SLURM's answers, and what the jobs left in their folders."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from bench.runs.status import Job
from slurm import commands
from slurm.commands import SlurmError, TaskId, TaskState
from slurm.ledger import gave_up
from slurm.submission import CANCELLED, Submission, read_all


def jobs_of(experiment: Path, runs: Collection[str], keys: Collection[str] = ()) -> tuple[dict[str, Job], list[str]]:
    """What SLURM says about these runs of an experiment: {run id: job}, and notes on what could not be asked.

    keys: of evaluations; then only jobs count that make all of them, and otherwise only jobs that train.
    A run that was never submitted has no entry. A job that is queued or running counts before one that ended, then
    the newest does.
    """
    submissions, notes = read_all(experiment)
    wanted = set(runs)
    submissions = [s for s in submissions if (set(keys) <= {*s.evaluations} if keys else not s.evaluations)]
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
                    reason = f" ({state.reason})" if state.waiting and state.reason else ""
                    job = Job("queued" if state.waiting else "running", f"job {_name(task, submission)}{reason}")
                found[run] = job
    over = {run: end for run, end in over.items() if run not in found}
    reasons: dict[TaskId, str] = {}
    try:
        reasons = commands.ends(sorted({array.job for s, _, _ in over.values() for array in s.arrays}))
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
        here = commands.configuration().get("ClusterName", "")
        asked = [s for s in submissions if s.slurm_cluster == here]
        jobs = [array.job for s in asked for array in s.arrays]
        states = commands.task_states(jobs, (s.job_name for s in asked))
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
        logs = (re.fullmatch(r"(\d+(?:_\d+)?)_\d+_log\.out", name) for name in _names(submission.folder))
        self.logs = {log[1]: log[0] for log in logs if log}
        """File name by the name of the job."""
        self.noted = set(_names(submission.folder / "tasks"))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # nothing to be told of it
        return []


def _end(submission: Submission, index: int, task: TaskId, reason: str, traces: _Traces) -> Job:
    """Why a task is over. A loss before `bench cancel` stays one."""
    if not task[0]:
        return Job("cancelled" if submission.cancelled() else "ended", "was not submitted")
    name = _name(task, submission)
    given_up = gave_up(submission.folder, index) if f"{index}.json" in traces.noted else ""
    on_purpose = given_up == CANCELLED or (not given_up and reason in ("", commands.CANCELLED))
    if submission.cancelled() and on_purpose:
        return Job("cancelled", f"job {name}")
    where = f"; see jobs/{submission.folder.name}/{traces.logs[name]}" if name in traces.logs else ""
    return Job("ended", f"job {name}: {given_up or reason or 'SLURM does not know it any more'}{where}")
