"""The job that goes on with a search: SLURM starts it when the jobs of one stage have ended, and it submits the next.

So no login shell has to live. It is a submission of its own, whose one task is called SEARCH in place of a run, and it
does what the same command again would do. It needs sbatch on the compute nodes; where there is none, `bench status`
tells, and the same command on the login node goes on.
"""

import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.errors import UserError
from bench.planning import stages, sweep_file
from bench.planning.options import SweepOptions
from bench.planning.request import Request
from bench.runs import provenance
from bench.runs.status import SEARCH
from bench.runs.store import RunDir
from slurm import arrays, commands, submission
from slurm.ledger import Ledger, Progress
from slurm.submission import CANCELLED, Submission
from slurm.sweep import Sweep

MINUTES = 30  # at most: it plans, reads data sets from the cache, and submits
WARNING_SECONDS = 30
MEMORY = "4G"
AGAIN_SECONDS = 10  # a controller that is away will be back


def ensure(sweep: Sweep, here: str, console: Console) -> None:
    """See that a job goes on when this stage of a search is over. here: SLURM's name of the cluster."""
    try:
        told = _ensure(sweep, here)
    except commands.SlurmError as error:
        told = f"note: no job goes on with the search ({error}): give the same command again when this stage is over"
    console.print(told, soft_wrap=True)


def _ensure(sweep: Sweep, here: str) -> str:
    """What to tell of the job that goes on. Raises SlurmError."""
    request = sweep.request
    made = [s for s in submission.read_all(request.experiment)[0] if s.slurm_cluster == here and not s.evaluations]
    states = commands.task_states([array.job for s in made for array in s.arrays], [s.job_name for s in made])
    alive = {job for (job, _), state in states.items() if not state.ended}
    before = [array.job for s in made if not s.follows for array in s.arrays if array.job in alive]
    if not before:
        return "no job executes this stage: the same command goes on with the search when it is over"
    asked = _asked(request, before)
    newest = next((s for s in reversed(made) if s.follows), None)
    if newest and newest.follows == asked and alive.intersection(array.job for array in newest.arrays):
        return f"job {newest.arrays[0].job} goes on with the search when these have ended"
    minutes = min(MINUTES, sweep.profile.minutes)
    content = sweep.recorded(here, *provenance.git_state())
    content |= {"concurrent": 1, "devices_per_run": 1, "nodes": 1, "minutes": minutes, "follows": asked}
    follower = submission.create(request.experiment, **content, tasks=[[SEARCH]])
    small: dict[str, Any] = {"nodes": 1, "cpus_per_task": 1, "gpus_per_node": None, "srun_args": None}
    small |= {"time": minutes, "signal_delay_s": WARNING_SECONDS, "mem": MEMORY if sweep.profile.mem else None}
    try:
        with arrays.outside_of_jobs():
            after = f"afterany:{':'.join(before)}"
            (array,) = arrays.submit_all(sweep, follower, [range(1)], dependency=after, **small).arrays
    except commands.SlurmError:
        shutil.rmtree(follower.folder, ignore_errors=True)
        raise
    return f"job {array.job} goes on with the search when these have ended"


def _asked(request: Request, before: list[str]) -> dict[str, Any]:
    """What a job has to know to go on. before: the jobs that it waits for."""
    assert isinstance(request.options, SweepOptions)
    return {
        "options": request.options.model_dump(mode="json"),
        "results": str(request.results.absolute()),
        "stage": [run["run_id"] for run in request.planned],
        "before": before,
    }


def go_on(made: Submission) -> str:
    """Submit the next stage, in the job; returns what came of it. Raises GiveUp, which `bench status` then tells."""
    ledger = Ledger(made.folder, 0, Progress(0, 0))
    if made.cancelled():
        raise ledger.give_up(CANCELLED)
    newer = [
        s for s in submission.read_all(made.experiment)[0] if s.follows and s.folder > made.folder and not s.cancelled()
    ]
    if newer:
        ledger.close()
        return f"left to {newer[-1].folder.name}, which was asked for later"
    changed = provenance.code_changes(made.code)
    if changed and made.on_code_change == "refuse":
        raise ledger.give_up(f"code changed since submission ({', '.join(changed[:3])}); submit again to use it")
    runs = [RunDir(made.experiment / "runs" / run_id) for run_id in made.follows["stage"]]
    if left := [run.run_id for run in runs if not run.ended()]:
        raise ledger.give_up(f"the search is not over: {len(left)} runs have no result, e.g. {left[0]}")
    while True:
        try:
            code = _submit(made)
        except commands.SlurmError as error:
            if not error.unreachable:
                raise ledger.give_up(str(error)) from None
            print(error, flush=True)
            time.sleep(AGAIN_SECONDS)
        except UserError as error:
            raise ledger.give_up(str(error)) from None
        else:
            ledger.close()
            return f"ended with {code}"


def _submit(made: Submission) -> int:
    from slurm.submit import submit  # which submits this job

    options = SweepOptions.of(made.follows["options"])
    results, data = Path(made.follows["results"]), Path(made.data_dir)
    request = Request(sweep_file.planned(None, options), results, data, options, made.command)
    return submit(stages.first(request), Console(highlight=False, markup=False, soft_wrap=True))
