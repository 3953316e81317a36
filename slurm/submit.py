"""Sends planned runs to SLURM as job arrays, or only says what would be sent. Returns at once: SLURM does the rest."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from bench.errors import UserError
from bench.files import write_atomic
from bench.planning import plan, stages
from bench.planning.request import Request
from bench.runs import status, store
from bench.runs.claim import newest_claim
from bench.runs.experiment import NAME
from bench.runs.work import retry
from slurm import arrays, commands, following, submission
from slurm.clusters import Profile
from slurm.estimate import estimate
from slurm.sweep import Sweep, print_runs, select

LOCK_SECONDS = 60


def dry(request: Request, console: Console) -> int:
    """Print what `submit` would do: runs, jobs, script, estimate. Changes nothing, and works without SLURM."""
    sweep = Sweep.of(request)
    _check_path(request.experiment)
    selection = select(request)
    print_runs(request, selection, console)
    tasks = selection.tasks(sweep.runs_per_job)
    if not tasks:
        return 0
    try:
        size = _array_size(commands.configuration(), sweep.profile)
        if sweep.profile.partition:
            commands.check_partition(sweep.profile.partition)
    except commands.SlurmError as error:
        size = _array_size({}, sweep.profile)
        console.print(f"note: {error}; arrays of at most {size} tasks, as profile {request.options.cluster!r} says")
    chunks = _chunks(len(tasks), size)
    shape = f"{len(chunks)} array{'s' * (len(chunks) > 1)}"
    console.print(f"{len(tasks)} jobs in {shape}, {min(sweep.runs_per_job, len(selection.todo))} runs a job")
    todo = set(selection.todo)
    runs = [run for run in request.planned if run["run_id"] in todo]
    if not request.work.keys:
        console.print(estimate(request.results, runs, sweep.profile.n_gpus))
    if request.searches:
        console.print("and a job that goes on with the search when these have ended")
    console.print("script of the first array:", style="bold")
    folder = request.experiment.absolute() / "jobs" / "SUBMISSION"
    console.print(arrays.script(sweep, folder, len(chunks[0])), soft_wrap=True)
    return 0


def submit(request: Request, console: Console) -> int:
    """Submit what is not done, queued or running; returns 1 if nothing was left to submit and some run failed.

    Of a search the stage that is due, and a job that submits the next one when it is over (slurm.following).
    If SLURM refuses the first array, nothing is left behind; if it refuses a later one, those before are cancelled.
    Raises UserError (of SLURM: with its own message).
    """
    sweep = Sweep.of(request)
    _check_path(request.experiment)
    commands.require("sbatch", "srun", "squeue", "scancel", "scontrol")
    facts = commands.configuration()
    if sweep.profile.partition:
        commands.check_partition(sweep.profile.partition)
    with _alone(request.experiment):
        code = _submit(sweep, facts, console)
        while after := stages.following(sweep.request):  # asked to retry what failed, of which there was nothing
            sweep = replace(sweep, request=after)
            code = max(code, _submit(sweep, facts, console))
        if sweep.request.searches:
            following.ensure(sweep, facts.get("ClusterName", ""), console)
    return code


def _submit(sweep: Sweep, facts: dict[str, str], console: Console) -> int:
    request = sweep.request
    for folder, orphans in _orphans(request.experiment, facts.get("ClusterName", "")):
        commands.cancel(orphans)
        listed = ", ".join(orphans)
        console.print(f"note: {folder.name} was interrupted while it was submitted; cancelled its {listed}")
    selection = select(request)
    tasks = selection.tasks(sweep.runs_per_job)
    if not tasks:
        if not request.work.keys:
            plan.write(request.planned, request.results)  # another label reaches runs that are done
        print_runs(request, selection, console)
        console.print("nothing to submit")
        return int(bool(status.BAD & set(selection.states.values())))
    chunks = _chunks(len(tasks), _array_size(facts, sweep.profile))
    ready = request.make_ready()
    new = [run for run in ready.runs if selection.states[run.run_id] == "new"]
    try:
        made = submission.create(
            request.experiment,
            **sweep.recorded(facts.get("ClusterName", ""), ready.commit, ready.dirty),
            tasks=tasks,
            minutes=sweep.profile.minutes,
            evaluations=[*request.work.keys],
        )
    except UserError:
        _unplan(request.experiment, new)
        raise
    todo = set(selection.todo)
    again = [run for run in ready.runs if run.run_id in todo] if request.retry_failed else []
    errors = [path for run in again for path in request.work.errors(run)]
    with arrays.outside_of_jobs(), _unplanned_if_refused(made, new), _failures_forgotten(errors):
        retry(request.work, again)
        made = arrays.submit_all(sweep, made, chunks)
    for line in ready.warnings:
        console.print(f"note: {line}", style="yellow", soft_wrap=True)
    print_runs(request, selection, console)
    jobs = ", ".join(f"{array.job} ({array.tasks} tasks)" for array in made.arrays)
    console.print(f"submitted {len(selection.todo)} runs in {len(tasks)} jobs: {jobs}")
    console.print(f"bench status {request.experiment.name} shows how they do; logs: {made.folder}", soft_wrap=True)
    return 0


def _array_size(facts: dict[str, str], profile: Profile) -> int:
    """Tasks that one array may have: indices go from 0 to MaxArraySize - 1."""
    told = facts.get("MaxArraySize", "")
    return max(1, int(told) if told.isdigit() else profile.max_array_size)


def _chunks(n: int, size: int) -> list[range]:
    """0 .. n-1 in as few ranges as possible."""
    return [range(first, min(first + size, n)) for first in range(0, n, size)]


def _check_path(experiment: Path) -> None:
    """Raises UserError if SLURM could not write logs there: in their paths it replaces %j, and drops backslashes."""
    path = str(experiment.absolute())
    for character in path:
        if character in "%\\" or not character.isprintable():
            problem = f"SLURM takes no path of logs with {character!r} in it"
            raise UserError(f"{path!r}: {problem}; choose other --results, or a link to that folder by another name")


@contextlib.contextmanager
def _alone(experiment: Path) -> Iterator[None]:
    """One process of this machine at a time submits an experiment: two would submit the same runs. Raises UserError."""
    digest = hashlib.sha256(str(experiment.absolute()).encode()).hexdigest()[:16]
    try:
        lock = FileLock(Path(tempfile.gettempdir()) / f"bench-{os.getuid()}-{digest}.lock")
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise UserError(f"another process is submitting {experiment.name}; try again when it is done") from None
    except (OSError, NotImplementedError) as error:
        problem = f"cannot lock a file in the folder for temporary files ({error})"
        raise UserError(f"{problem}: point TMPDIR to a folder that can be written") from None
    try:
        yield
    finally:
        lock.release()


def _orphans(experiment: Path, here: str) -> Iterator[tuple[Path, list[str]]]:
    """(a submission's folder, its arrays that were never written down), where there are any."""
    for made in submission.read_all(experiment)[0]:
        if made.slurm_cluster == here and not made.cancelled() and (orphans := made.orphans()):
            yield made.folder, orphans


@contextlib.contextmanager
def _unplanned_if_refused(made: submission.Submission, runs: Sequence[store.RunDir]) -> Iterator[None]:
    """If SLURM accepts not even the first array, leave nothing behind. (`sbatch --test-only` would not do: it refuses
    what no node can run now, which sbatch accepts.)"""
    try:
        yield
    except BaseException:
        if not submission.read(made.folder).arrays:
            shutil.rmtree(made.folder)
            _unplan(made.experiment, runs)
        raise


def _unplan(experiment: Path, runs: Sequence[store.RunDir]) -> None:
    """Take away the directories of runs that were planned just now, and those around them that are empty then."""
    for run in runs:
        with contextlib.suppress(OSError):
            if newest_claim(run.path) is None:  # else another process has begun it in the meantime
                run.config.unlink()
                run.path.rmdir()
    for folder in (experiment / "jobs", experiment / "runs"):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    if not (experiment / "runs").exists():
        (experiment / NAME).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        experiment.rmdir()


@contextlib.contextmanager
def _failures_forgotten(errors: Sequence[Path]) -> Iterator[None]:
    """Take these files away, so that workers try once more what they tell of; put them back if we fail."""
    reasons = {path: path.read_bytes() for path in errors}
    for path in reasons:
        path.unlink()
    try:
        yield
    except BaseException:
        for path, content in reasons.items():
            write_atomic(path, content)
        raise
