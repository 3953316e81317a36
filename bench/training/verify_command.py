"""`bench verify`. Imports little: --help needs it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import UserError
from bench.planning.flags import DataDir, Results

if TYPE_CHECKING:
    from rich.console import Console

    from bench.tables.published import Published

COLOURS = {"same": "green", "close": "green", "different": "red", "missing": "red"}


def verify(
    table: Annotated[Path, typer.Argument(help="A folder with runs.csv, and the sweep files that planned it.")],
    runs: Annotated[int, typer.Option(min=1, help="How many runs to make again.")] = 3,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Make no run: compute its tables again from runs.csv alone.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="With --statistics: write the tables and figures that differ anew.")
    ] = False,
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
) -> None:
    """Make some runs of a published table again, from nothing, and say how their numbers compare.

    Which runs is a matter of chance, and of the table's runs alone: the same command goes on with what is not done, in
    an experiment verify-NAME (remove that to begin anew). Exit code 1 if a run's accuracy is further off than two
    seeds of its configuration may be (95 %); with --statistics, if a cell differs.
    """
    from rich.console import Console

    from bench.tables import published

    if write and not statistics:
        raise UserError("--write: only what --statistics computes can be written")
    console, read = Console(highlight=False, markup=False, soft_wrap=True), published.read(table)
    if statistics:
        raise typer.Exit(_statistics(read, write, console))
    raise typer.Exit(_again(read, runs, results, data_dir, console))


def _statistics(table: "Published", write: bool, console: "Console") -> int:
    """Every cell that differs from what runs.csv gives; returns the exit code."""
    from bench.planning import published
    from bench.report import recomputed
    from bench.tables.published import inventory

    configs, doubts = published.configs(table)
    named = published.margin(table), published.untils(table)
    found = recomputed.recomputed(table.folder, inventory(table, configs), *named)
    for line in found.differences:
        console.print(line, style="red")
    for line in doubts + found.unchecked:
        console.print(f"not checked: {line}", style="dim")
    for name, n in found.checked.items():
        what = "lines" if name in recomputed.TEXTS else "cells"
        console.print(f"{name}: {len(found.differing.get(name, []))} differences in {n} {what}")
    if write and found.differences:
        written = recomputed.rewrite(found, table.folder)
        console.print("wrote " + ", ".join(map(str, written)))
    return int(bool(found.differences))


def _again(table: "Published", runs: int, results: Path, data_dir: Path, console: "Console") -> int:
    """Some runs made again; returns the exit code."""
    from bench.planning.options import SweepOptions
    from bench.planning.published import planned
    from bench.planning.request import Request
    from bench.runs.store import RunDir
    from bench.tables import verification
    from bench.tables.leaderboard import collect
    from bench.training.launch import local

    plans = planned(table)
    chosen = verification.drawn(table, list(plans), runs)
    experiment = f"verify-{table.name}"
    again = [_as_it_was(plans[run_id], experiment, str(table.done.loc[run_id, "threads"])) for run_id in chosen]
    earlier = [run_id for run_id in chosen if RunDir(results / experiment / "runs" / run_id).result.exists()]
    status = local(
        Request(again, results, data_dir, SweepOptions(), f"bench verify {table.folder}", retry_failed=True), console
    )
    if status > 1:
        return status
    made = collect(results, [experiment]).runs
    verdicts = verification.compared(table, made, chosen)
    for verdict in verdicts:
        console.print(f"{verdict.kind}  {verdict.run_id}: {verdict.text}", style=COLOURS[verdict.kind])
    if earlier:
        last = max(made.loc[made["run_id"].isin(earlier), "finished"].fillna("").astype(str))
        console.print(
            f"{len(earlier)} of these were made by an earlier call, until {last}, and not now: remove "
            f"{results / experiment} to make them anew",
            style="yellow",
        )
    kinds = [str(verdict.kind) for verdict in verdicts]
    console.print(f"{table.folder}: {len(chosen)} of {len(table.done)} runs made again: {_counted(kinds)}")
    return int("different" in kinds or "missing" in kinds)


def _as_it_was(run: dict[str, Any], experiment: str, threads: str) -> dict[str, Any]:
    """A planned run in an experiment of its own, with the threads that the published one had: they decide the bits."""
    from bench.planning.threads import having

    if threads:  # an older table may say nothing
        overrides = {**run["overrides"], "train.threads": threads}
        run = {**having(run, int(threads)), "overrides": overrides}
    return {**run, "experiment": experiment}


def _counted(kinds: list[str]) -> str:
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
