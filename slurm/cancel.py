"""`bench cancel`: end the jobs of an experiment; their runs keep their checkpoints."""

from pathlib import Path

from rich.console import Console

from slurm import commands, submission


def cancel(experiment: Path, console: Console) -> None:
    """Cancel every job of an experiment. Running ones write checkpoints first. Raises UserError if SLURM cannot."""
    submissions, problems = submission.read_all(experiment)
    for problem in problems:
        console.print(f"note: {problem}", style="yellow", soft_wrap=True)
    if submissions:
        here = commands.configuration().get("ClusterName", "")
        submissions = [s for s in submissions if s.slurm_cluster == here]
    jobs = [array.job for s in submissions for array in s.arrays]
    states = commands.task_states(jobs, [s.job_name for s in submissions])
    alive = {job for (job, _), state in states.items() if not state.ended}
    for each in submissions:
        if own := [array.job for array in each.arrays if array.job in alive] + each.orphans():
            before = each.cancelled()
            each.mark_cancelled("bench cancel")  # first: a job that is told to end looks for it
            try:
                commands.cancel(own)
            except commands.SlurmError:
                if not before:
                    each.unmark_cancelled()
                raise
    tasks = sum(not state.ended for state in states.values())
    console.print(f"cancelled {tasks} jobs of {experiment.name}; the same `bench sweep` submits their runs again")
