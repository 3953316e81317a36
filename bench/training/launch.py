"""Carries planned runs out on this machine."""

from collections.abc import Mapping

from rich.console import Console

from bench.errors import UserError
from bench.planning import stages
from bench.planning.request import Request
from bench.report import write
from bench.runs.work import retry
from bench.training import livelog, workers
from bench.training.orders import Orders


def local(request: Request, console: Console) -> int:
    """Do what a request asks for and is not done, show how it goes, print the leaderboard; returns the exit code.

    Of a search all stages, one after the other.
    0: all are done; 1: some are not, each told with its reason, or the report could not be written; 128 + n: signal n
    stopped it. Raises UserError.
    """
    code = _execute(request, console)
    while code < 128 and (following := stages.following(request)):
        request = following
        code = max(code, _execute(request, console))
    return code


def _execute(request: Request, console: Console) -> int:
    asked = request.options
    loggers = livelog.parse(request.log)
    names = workers.devices(asked.device) if request.open() else []  # looking for GPUs imports torch
    if names == ["cpu"]:
        request = request.for_cpu(workers.available_cores())
    elif asked.devices_per_run > len(names) > 0:
        raise UserError(f"--devices-per-run {asked.devices_per_run}: this machine shows {len(names)} CUDA devices")
    ready = request.make_ready()
    code = ["--on-code-change refuse: not on this machine; a run that other code goes on with says so in its log"]
    for warning in ready.warnings + code * (asked.on_code_change == "refuse"):
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    for line in request.told:
        console.print(line, soft_wrap=True)
    orders = Orders(
        runs=[str(run.path.absolute()) for run in ready.runs],
        data_dir=str(request.data_dir.absolute()),
        device=names[0] if names else "cpu",
        command=request.command,
        commit=ready.commit,
        dirty=ready.dirty,
        log=loggers,
        evaluations=request.work.keys,
        devices=asked.devices_per_run,
    )
    if request.retry_failed:
        retry(request.work, ready.runs)
    outcome = workers.execute(ready.runs, orders, names or ["cpu"], request.threads(), asked.jobs, console)
    reported = _report(request, console)
    if outcome.signal:
        console.print("interrupted: the same command resumes where the runs stopped")
        return 128 + outcome.signal
    if outcome.unfinished:
        failed = outcome.failed and not request.retry_failed
        hint = " (--retry-failed tries what failed again)" if failed else ": the same command resumes them"
        what = "runs were not judged whole" if request.work.keys else "runs did not finish"
        console.print(f"{len(outcome.unfinished)} of {len(ready.runs)} {what}{hint}", style="bold")
        for line in _reasons(outcome.unfinished):
            console.print(f"  {line}", soft_wrap=True)
    return int(bool(outcome.unfinished) or not reported)


def _reasons(unfinished: Mapping[str, str]) -> list[str]:
    """A line for each reason: "raft-0123abcd-s0 and 4 more: its worker ended with status 1 (...)"."""
    runs: dict[str, list[str]] = {}
    for run_id, reason in unfinished.items():
        runs.setdefault(reason, []).append(run_id)
    more = {reason: f" and {len(ids) - 1} more" if len(ids) > 1 else "" for reason, ids in runs.items()}
    return [f"{ids[0]}{more[reason]}: {reason}" for reason, ids in runs.items()]


def _report(request: Request, console: Console) -> bool:
    """Write the tables and, but for a search's, print the leaderboard; False if they could not be written."""
    try:
        shown = None if request.searches else console
        written = write.write(request.results, [request.experiment.name], ["csv"], console=shown)
    except UserError as error:  # a full disk: the command was right, and the results are there
        console.print(f"warning: {error}", style="yellow", soft_wrap=True)
        return False
    console.print("wrote " + ", ".join(str(path) for path in written), soft_wrap=True)
    return True
