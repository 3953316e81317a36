"""Which run is meant, and whether it is done. Imports no torch."""

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from bench.errors import UserError
from bench.runs import store
from bench.runs.store import RunDir, RunRecord


def done_run(named: str, results: Path) -> RunRecord:
    """The finished run that a directory's path, EXPERIMENT/RUN_ID or a run id below `results` names. UserError."""
    record = store.read_run(_directory(named, results))
    if record.state != "done":
        reason = f" ({record.error})" if record.error else ""
        raise UserError(f"{record.dir.run_id} is {record.state}{reason}: name a run that is done")
    return record


def _directory(named: str, results: Path) -> RunDir:
    if (Path(named) / "config.json").is_file():
        return RunDir(Path(named).absolute())
    experiment, _, run_id = named.strip("/").rpartition("/")
    known = [run for run in _all(results) if run.run_id == run_id and experiment in ("", run.path.parents[1].name)]
    if len(known) == 1:
        return known[0]
    if known:
        raise UserError(f"run {named!r} is in several experiments: name {' or '.join(map(_name, known))}")
    every = list(_all(results))
    close = get_close_matches(named, [name(run) for run in every for name in (_name, lambda run: run.run_id)], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserError(
        f"no run {named!r} among the {len(every)} in {results}: {hint}"
        "name a run's directory, EXPERIMENT/RUN_ID, or a run id that only one experiment has"
    )


def _all(results: Path) -> Iterator[RunDir]:
    for experiment in store.experiments(results):
        yield from (RunDir(results / experiment / "runs" / name) for name in os.listdir(results / experiment / "runs"))


def _name(run: RunDir) -> str:
    return f"{run.path.parents[1].name}/{run.run_id}"
