"""`bench verify`. Imports little: --help needs it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.planning.flags import DataDir, Results

COLOURS = {"same": "green", "close": "green", "different": "red", "missing": "red"}


def verify(
    table: Annotated[Path, typer.Argument(help="A folder with runs.csv and experiment.toml.")],
    runs: Annotated[int, typer.Option(min=1, help="How many runs to make again.")] = 3,
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
) -> None:
    """Make some runs of a published table again, from nothing, and say how their numbers compare.

    Which runs is a matter of chance, and of the table's name alone: the same command goes on with what is not done, in
    the experiment verify-NAME (remove that to begin anew). Exit code 1 if a run's accuracy is further off than two
    seeds of its configuration may be (95 %).
    """
    from rich.console import Console

    from bench.planning import sweep_file
    from bench.planning.request import Request
    from bench.tables import verification
    from bench.tables.leaderboard import collect
    from bench.training.launch import local

    published = verification.read(table)
    options = sweep_file.options(published.sweep, {"on": "local"})
    planned = {run["run_id"]: run for run in sweep_file.planned(published.sweep, options)}
    chosen = verification.drawn(published, list(planned), runs)
    experiment = f"verify-{published.name}"
    again = [_as_it_was(planned[run_id], experiment, published.runs.loc[run_id].get("threads")) for run_id in chosen]
    console = Console(highlight=False, markup=False)
    command = f"bench verify {table}"
    status = local(Request(again, results, data_dir, options, command, retry_failed=True), console)
    if status > 1:
        raise typer.Exit(status)
    verdicts = verification.compared(published, collect(results, [experiment]).runs, chosen)
    for verdict in verdicts:
        console.print(f"{verdict.kind}  {verdict.run_id}: {verdict.text}", style=COLOURS[verdict.kind], soft_wrap=True)
    n = len(published.runs)
    console.print(f"{table}: {len(chosen)} of {n} runs made again: " + _counted([each.kind for each in verdicts]))
    raise typer.Exit(int(any(each.kind in ("different", "missing") for each in verdicts)))


def _as_it_was(run: dict[str, Any], experiment: str, threads: Any) -> dict[str, Any]:
    """A planned run in an experiment of its own, with the threads that the published one had: they decide the bits."""
    from bench.planning.threads import having

    if threads is not None and threads == threads:  # a table may say nothing, or NaN
        overrides = {**run["overrides"], "train.threads": str(int(threads))}
        run = {**having(run, int(threads)), "overrides": overrides}
    return {**run, "experiment": experiment}


def _counted(kinds: list[str]) -> str:
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
