"""Planned runs and how they are to be executed: what every launcher is given."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.planning import plan
from bench.planning.options import MachineOptions, SweepOptions
from bench.planning.threads import with_threads
from bench.runs import experiment, provenance, store
from bench.runs.progress import planned
from bench.runs.work import TRAINING, Work


@dataclass(frozen=True)
class Request:
    """Planned runs of one experiment, and how they are to be executed."""

    planned: Sequence[dict[str, Any]]
    results: Path
    data_dir: Path
    options: MachineOptions
    command: str
    """The command line, for the record."""
    retry_failed: bool = False
    candidates: Sequence[dict[str, Any]] = ()
    """Of a search all runs that it may come to; `planned` are those of one of its stages (bench.planning.stages)."""
    until: experiment.Until | None = None
    """What decides whether seeds follow (bench.planning.until)."""
    told: Sequence[str] = ()
    """What there is to say of this stage before it begins."""

    @property
    def searches(self) -> bool:
        """Whether other runs follow, which depend on what these give."""
        return bool(self.candidates) and "search" in self.planned[0]

    @property
    def experiment(self) -> Path:
        """The experiment's directory. Raises UserError on a name that is none."""
        return store.experiment_dir(self.results, self.planned[0]["experiment"])

    @property
    def work(self) -> Work:
        """What is to be done to the runs."""
        return TRAINING

    @property
    def log(self) -> str:
        """Loggers, as --log names them."""
        return self.options.log if isinstance(self.options, SweepOptions) else ""

    def for_cpu(self, cores: int) -> "Request":
        """The request with CPU threads chosen, where runs are executed on this machine's cores."""
        return replace(self, planned=with_threads(self.planned, self.options.jobs, cores, self.options.devices_per_run))

    def open(self) -> list[dict[str, Any]]:
        """The planned runs that are neither done nor failed; with `retry_failed` all: any may have to be executed."""
        runs = self.experiment / "runs"
        return [run for run in self.planned if self.retry_failed or not store.RunDir(runs / run["run_id"]).ended()]

    def threads(self) -> int:
        """CPU threads of the open run that has most, by its plan: of now, or of the command that began it."""
        runs = [store.RunDir(self.experiment / "runs" / run["run_id"]) for run in self.planned]
        plans = (store.read_run(run).config for run in runs if not run.ended())
        return max((planned(config, "threads") or 1 for config in plans), default=1)

    def make_ready(self) -> "Ready":
        """Get what the open runs need (data, backbones), make the run directories, note the code's state.

        Imports torch, and asks git, only if a run is open. Raises UserError, and leaves no run directory, if something
        is wrong.
        """
        warnings, code = [], ("", False)
        if isinstance(self.options, SweepOptions):
            experiment.name_margin(self.experiment, self.options.margin)
            by_use = ({run["seed"] for run in self.candidates if ("search" in run) == use} for use in (True, False))
            experiment.name_search(self.experiment, *by_use)
            if self.until:
                experiment.name_until(self.experiment, self.until)
        if open_runs := self.open():
            from bench.planning.prepare import prepare

            runs = self.experiment / "runs"
            begun = (run["config"] for run in self.planned if store.RunDir(runs / run["run_id"]).begun())
            device = self.options.device if self.options.on == "local" else ""
            warnings = prepare(open_runs, self.data_dir, {architecture(config) for config in begun}, device)
            code = provenance.git_state()
        return Ready(plan.write(self.planned, self.results), warnings, *code)


@dataclass(frozen=True)
class Ready:
    """Runs that can begin."""

    runs: list[store.RunDir]
    warnings: list[str]
    commit: str
    dirty: bool
    """Git commit of the code, and whether it had uncommitted changes; "" outside a repository, or if no run is open."""


def architecture(config: Mapping[str, Any]) -> str:
    """What a backbone is built from: its settings, the size and the channels of its images."""
    return json.dumps([config["backbone"], *(config["data"].get(key) for key in ("size", "channels"))], sort_keys=True)
