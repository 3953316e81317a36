"""A sweep for a cluster: its runs, what a job asks for, and which runs there is anything to submit for."""

import os
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench.errors import UserError
from bench.planning.request import Request
from bench.runs import provenance, status, store
from bench.runs.identity import seed_list
from bench.training import livelog
from methods import plugins
from slurm import clusters
from slurm.clusters import Profile
from slurm.jobs import jobs_of

SHOWN = 30
"""Configurations that have a line of their own where what is submitted is told."""


@dataclass(frozen=True)
class Sweep:
    """Work on the runs of one experiment and how to send it to a cluster."""

    request: Request
    profile: Profile

    @classmethod
    def of(cls, request: Request) -> "Sweep":
        """With the cluster profile that the request names. Raises UserError."""
        asked = request.options
        changes = {key: getattr(asked, key) for key in ("partition", "time", "gpus", "on_code_change")}
        n, nodes = asked.devices_per_run, asked.nodes
        if n % nodes:
            raise UserError(f"--devices-per-run {n}: cannot be shared equally among --nodes {nodes}")
        if nodes > 1 and asked.concurrent > 1:
            raise UserError(f"--concurrent {asked.concurrent}: a run that has --nodes {nodes} has them for itself")
        return cls(request, clusters.load(asked.cluster, changes))

    @property
    def runs_per_job(self) -> int:
        """Runs that one job executes: at least those that are side by side in it."""
        return max(self.request.options.runs_per_job, self.request.options.concurrent)

    def recorded(self, slurm_cluster: str, commit: str, dirty: bool) -> dict[str, Any]:
        """What a submission notes of how it was asked for. commit, dirty: of the code, from git."""
        options = self.request.options
        return {
            "slurm_cluster": slurm_cluster,
            "concurrent": options.concurrent,
            "devices_per_run": options.devices_per_run,
            "nodes": options.nodes,
            "margin": self.profile.margin_seconds,
            "data_dir": str(self.request.data_dir.absolute()),
            "device": options.device,
            "log": livelog.parse(self.request.log),
            "command": self.request.command,
            "commit": commit,
            "dirty": dirty,
            "code": provenance.fingerprints(),
            "on_code_change": self.profile.on_code_change,
            "cluster": options.cluster,
            "profile": self.profile.model_dump(mode="json"),
        }

    def parameters(self) -> dict[str, Any]:
        """submitit's names for what a job asks for."""
        profile, options = self.profile, self.request.options
        threads = max(run["config"]["train"]["threads"] for run in self.request.planned)
        files = os.environ.get(plugins.VARIABLE)  # which a cluster may be set not to hand on
        own = [f"export {plugins.VARIABLE}={shlex.quote(files)}"] if files else []
        setup = [*own, *profile.exports(), *profile.setup]
        named = {name: getattr(profile, name) for name in ("partition", "account", "qos", "constraint", "mem")}
        processes = options.devices_per_run // options.nodes * options.concurrent  # of a node
        if profile.n_gpus:
            several = options.devices_per_run > 1
            named["gpus_per_node"] = profile.gpus_for(processes) if several else profile.gpus
        return {
            **{name: value for name, value in named.items() if value},
            "job_name": f"bench-{self.request.experiment.name}",
            "time": profile.minutes,
            "nodes": options.nodes,
            "ntasks_per_node": 1,
            "cpus_per_task": profile.cpus or threads * processes,
            "signal_delay_s": profile.margin_seconds,
            "stderr_to_stdout": True,
            "wckey": None,
            "setup": setup or None,
            "srun_args": ["--kill-on-bad-exit=1"] if options.nodes > 1 else None,  # a node's task waits for another's
            "additional_parameters": {"requeue": True, **profile.options()},
        }


@dataclass(frozen=True)
class Selection:
    """What of a sweep is to be submitted."""

    states: dict[str, str]
    """State of every planned run by run id, as `bench status` names it."""
    todo: list[str]
    """Run ids to submit."""
    notes: list[str]

    def tasks(self, runs_per_job: int) -> list[list[str]]:
        """Run ids of every array task."""
        return [self.todo[i : i + runs_per_job] for i in range(0, len(self.todo), runs_per_job)]


def select(request: Request) -> Selection:
    """Leave out what is done, running or queued, and what failed unless it is to be retried."""
    run_ids = [run["run_id"] for run in request.planned]
    found = status.survey(request.experiment, jobs_of, set(run_ids), request.work)
    states = dict.fromkeys(run_ids, "new") | {run.run_id: run.state for run in found.runs}
    wanted = {"new", *store.CLAIMABLE, "lost", "cancelled"}
    if request.retry_failed:
        wanted |= {"failed", "damaged"}
        for run_id in (run_id for run_id, state in states.items() if state == "done"):
            states[run_id] = request.work.read(request.work.place(request.experiment, run_id)).state
    todo = [run_id for run_id in run_ids if states[run_id] in wanted]
    return Selection(states, todo, found.notes)


def print_runs(request: Request, selection: Selection, console: Console) -> None:
    """A line for each of the first SHOWN configurations: its overrides, its seeds, and the states of its runs."""
    counts = Counter(selection.states.values())
    judged = f", to be judged by {', '.join(request.work.keys)}" if request.work.keys else ""
    console.print(f"{request.experiment.name}: {len(selection.states)} runs{judged}", style="bold", soft_wrap=True)
    for line in request.told:
        console.print(line, soft_wrap=True)
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in request.planned:
        groups.setdefault(f"{run['method']}-{run['config_hash']}", []).append(run)
    for name, runs in list(groups.items())[:SHOWN]:
        overrides = " ".join(f"{key}={value}" for key, value in runs[0]["overrides"].items())
        label = f"  {runs[0]['entry']}" if "entry" in runs[0] else ""
        seeds: dict[str, list[int]] = {}
        for run in runs:
            seeds.setdefault(selection.states[run["run_id"]], []).append(run["seed"])
        told = ", ".join(f"{len(own)} {state} (seeds {seed_list(own)})" for state, own in seeds.items())
        console.print(f"  {f'{name}{label}  {overrides}'.rstrip()}: {told}", soft_wrap=True)
    if rest := list(groups.values())[SHOWN:]:
        states = Counter(selection.states[run["run_id"]] for runs in rest for run in runs)
        told = ", ".join(f"{n} {state}" for state, n in states.items())
        console.print(f"  and {len(rest)} configuration{'s' * (len(rest) > 1)} more: {told}", soft_wrap=True)
    for note in selection.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    if counts["unknown"]:
        console.print("runs whose jobs are not known are left alone", style="yellow")
    if counts["failed"] and not request.retry_failed:
        console.print(f"{counts['failed']} failed: --retry-failed executes them again", style="yellow")
