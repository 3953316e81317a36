"""The command line: parse, call, print. Imports what is slow only inside the command that needs it."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.errors import UserError, unknown
from slurm.jobs import jobs_of

# Typer ships its own click since 0.16 and uses the installed one before: this is the right class in both cases.
ClickException: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

ALL_FORMATS = "csv,md,tex,html,png,pdf"

app = typer.Typer(
    name="bench",
    help="Compare self-supervised learning methods on images: train, evaluate, and say which is better and how surely.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Method = Annotated[str, typer.Option("--method", "-m", help="Methods, separated by commas; see `bench list methods`.")]
Seeds = Annotated[str, typer.Option("--seeds", "-s", help="How many seeds (5 is 0 to 4), or which (3,7).")]
Preset = Annotated[str, typer.Option("--preset", "-p", help="Settings to start from; see `bench list presets`.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE: change a setting; see `bench list keys`.")]
Experiment = Annotated[
    str | None, typer.Option(help="Name of the folder in the results; by default the preset's name.")
]
Results = Annotated[Path, typer.Option(help="Where results go.", envvar="BENCH_RESULTS")]
DataDir = Annotated[Path, typer.Option(help="Where data sets lie or are put.", envvar="BENCH_DATA")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Runs at a time; by default one a GPU, or as many as cores allow.")
]
Log = Annotated[str | None, typer.Option("--log", help="Show epochs live in tensorboard, wandb (extras to install).")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Execute failed runs again.")]


@app.command()
def run(
    method: Method,
    seeds: Seeds = "1",
    preset: Preset = "quick",
    set_: Set = None,
    experiment: Experiment = None,
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
    device: Device = "auto",
    jobs: Jobs = None,
    log: Log = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Train and evaluate methods on this machine, then print the leaderboard.

    Runs that are done are skipped, interrupted ones are resumed: the same command again finishes the work.
    """
    from bench.config.schema import parse_overrides
    from bench.planning import plan
    from bench.training import livelog

    loggers = livelog.parse(log or "")
    planned = plan.plan(
        plan.parse_methods(method),
        plan.parse_seeds(seeds),
        preset,
        parse_overrides(set_ or []),
        {},
        experiment or preset,
    )
    _execute(planned, results, data_dir, device, jobs, loggers, retry_failed)


@app.command()
def sweep(
    file: Annotated[Path | None, typer.Argument(help="An experiment file (TOML); flags override it.")] = None,
    method: Annotated[str | None, typer.Option("--method", "-m", help="Methods, separated by commas.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", "-s", help="How many seeds (default 1), or which.")] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="Settings to start from (default quick).")
    ] = None,
    set_: Set = None,
    grid: Annotated[list[str] | None, typer.Option(help="KEY=VALUE,VALUE: search these; all combinations.")] = None,
    experiment: Experiment = None,
    on: Annotated[
        str | None, typer.Option(help="local (default), slurm, or dry: only say what slurm would do.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Cluster profile, see clusters.toml (default: default).")] = None,
    partition: Annotated[str | None, typer.Option(help="SLURM partition.")] = None,
    time: Annotated[str | None, typer.Option(help="Time limit of a job: minutes, H:MM:SS or D-HH:MM:SS.")] = None,
    gpus: Annotated[str | None, typer.Option(help="GPUs a job: a number, or type:number.")] = None,
    max_parallel: Annotated[int | None, typer.Option(min=1, help="Jobs at a time.")] = None,
    runs_per_job: Annotated[int | None, typer.Option(min=1, help="Runs that one job executes.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Runs side by side in one job.")] = None,
    on_code_change: Annotated[
        str | None, typer.Option(help="refuse or warn, when a queued job finds other code than was submitted.")
    ] = None,
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
    device: Annotated[str | None, typer.Option(help="auto (default), cpu or cuda.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="On local: runs at a time.")] = None,
    log: Log = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Train and evaluate methods x seeds x grid points, on this machine or on a SLURM cluster.

    The same command again submits only what is not done, not queued and not running.
    """
    flags = {key: value for key, value in locals().items() if key not in ("file", "results", "data_dir", "set_")}
    from rich.console import Console

    from bench.planning import sweep_file as experiments
    from bench.training import livelog
    from slurm import sweep as sweeps

    options = experiments.options(file, {**flags, "set": set_})
    planned = experiments.planned(file, options)
    loggers = livelog.parse(options["log"])
    if options["on"] == "local":
        _execute(planned, results, data_dir, options["device"], options.get("jobs"), loggers, retry_failed)
        return
    from slurm import submit as launch

    console = Console(highlight=False, markup=False)
    request = sweeps.request(options, planned, results, data_dir, _command(), loggers, retry_failed)
    raise typer.Exit(launch.LAUNCHERS[options["on"]](request, console))


@app.command()
def status(
    experiment: Annotated[str | None, typer.Argument(help="Experiment; by default all.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until nothing runs and nothing is queued.")] = False,
    results: Results = Path("results"),
) -> None:
    """Show which runs are done, running, queued, failed (and why) or lost. Exit code 1 if some failed or are lost."""
    from rich.console import Console

    from bench.runs import status as states

    experiments = [results / name for name in _known(results, [experiment] if experiment else [])]
    raise typer.Exit(states.show(experiments, jobs_of, Console(highlight=False, markup=False), watch))


@app.command()
def cancel(
    experiment: Annotated[str, typer.Argument(help="Whose jobs to cancel.")],
    results: Results = Path("results"),
) -> None:
    """Cancel the jobs of an experiment; runs keep their checkpoints."""
    from rich.console import Console

    from slurm import cancel as cancels

    (name,) = _known(results, [experiment])
    cancels.cancel(results / name, Console(highlight=False, markup=False))


@app.command()
def report(
    experiments: Annotated[list[str] | None, typer.Argument(help="Experiments; by default all.")] = None,
    formats: Annotated[str, typer.Option("--format", help="Which of csv, md, tex, html, png, pdf.")] = ALL_FORMATS,
    columns: Annotated[str | None, typer.Option(help="Columns of the leaderboard, separated by commas.")] = None,
    metric: Annotated[str, typer.Option(help="The accuracy that ranks and compares.")] = "test_linear_top1",
    results: Results = Path("results"),
) -> None:
    """Write tables, figures and a page from the run directories alone, and print the leaderboard."""
    names = _known(results, experiments or [])
    _report(results, names, _split(formats), _split(columns) if columns else None, metric)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, presets, datasets, backbones or keys.")],
    method: Annotated[str, typer.Option("--method", "-m", help="Whose keys to list.")] = "raft",
) -> None:
    """List what can be named on the command line."""
    from rich.console import Console

    from bench.planning import catalog

    rows = catalog.rows(what, method)
    width = max(len(name) for name, _ in rows)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for name, text in rows:
        console.print(f"{name:<{width}}  {text}".rstrip())


@app.command()
def speed(
    method: Annotated[str, typer.Option("--method", "-m", help="One method.")] = "byol",
    preset: Preset = "quick",
    set_: Set = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a training step and its parts, beside what the hardware allows and what a PIL pipeline gives."""
    from bench.config.schema import RunConfig, parse_overrides
    from bench.files import dump_json
    from bench.planning import plan
    from bench.training import speed as speeds
    from bench.training import workers as local

    overrides = parse_overrides(set_ or [])
    names = plan.parse_methods(method)
    if len(names) > 1:
        raise UserError(f"--method {method}: name one; speed is measured a method at a time")
    (planned,) = plan.plan(names, [0], preset, overrides, {}, preset)
    measured = speeds.measure(RunConfig(**planned["config"]), local.devices(device)[0])
    print(dump_json(measured) if as_json else speeds.describe(measured), end="")


def _execute(
    planned: Sequence[dict[str, Any]],
    results: Path,
    data_dir: Path,
    device: str,
    jobs: int | None,
    loggers: Sequence[str],
    retry_failed: bool,
) -> None:
    """Carry out planned runs on this machine, report, and leave with the exit code that the contract names."""
    from rich.console import Console

    from bench.planning import plan
    from bench.runs import provenance
    from bench.training import workers as local
    from bench.training.orders import Orders

    console = Console(highlight=False, markup=False)
    names = local.devices(device)
    for warning in plan.prepare(planned, data_dir):
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    runs = plan.write(planned, results)
    commit, dirty = provenance.git_state()
    settings = Orders(
        runs=[str(run.path.absolute()) for run in runs],
        data_dir=str(data_dir.absolute()),
        device=names[0],
        command=_command(),
        commit=commit,
        dirty=dirty,
        log=loggers,
    )
    if retry_failed:
        plan.retry(runs)
    threads = max(run["config"]["train"]["threads"] for run in planned)
    outcome = local.execute(runs, settings, names, threads, jobs, console)
    unwritten = ""
    for experiment in dict.fromkeys(run["experiment"] for run in planned):
        try:
            _report(results, [experiment], ["csv"])
        except UserError as error:  # a full disk: the command was right, and the results are there
            unwritten = str(error)
            console.print(f"warning: {unwritten}", style="yellow", soft_wrap=True)
    if outcome.signal:
        console.print("interrupted: the same command resumes where the runs stopped")
        raise typer.Exit(128 + outcome.signal)
    if outcome.unfinished:
        failed = outcome.failed and not retry_failed
        hint = " (--retry-failed executes failed runs again)" if failed else ": the same command resumes them"
        console.print(f"{len(outcome.unfinished)} of {len(runs)} runs did not finish{hint}", style="bold")
        for run_id, reason in outcome.unfinished.items():
            console.print(f"  {run_id}: {reason}", soft_wrap=True)
    if outcome.unfinished or unwritten:
        raise typer.Exit(1)


def _report(
    results: Path,
    experiments: list[str],
    formats: list[str],
    columns: list[str] | None = None,
    metric: str = "test_linear_top1",
) -> None:
    from rich.console import Console

    from bench.report import write as reports

    console = Console(highlight=False, markup=False)
    written = reports.write(results, experiments, formats, columns=columns, metric=metric, console=console)
    console.print("wrote " + ", ".join(str(path) for path in written), soft_wrap=True)


def _known(results: Path, names: list[str]) -> list[str]:
    """`names`, or all experiments; raises UserError on one that does not exist."""
    from bench.runs import store

    known = store.experiments(results)
    if not known:
        raise UserError(f"{results} has no experiments: run one first, e.g. bench run --method raft --seeds 5")
    for name in names:
        if name not in known:
            raise unknown("experiment", name, known)
    return names or known


def _command() -> str:
    return shlex.join(["bench", *sys.argv[1:]])


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Entry point of `bench`. Exit codes: 0 all runs done; 1 some run failed; 2 the command was wrong."""
    try:
        sys.exit(app(standalone_mode=False) or 0)  # a typer.Exit comes back as its code
    except UserError as error:
        sys.exit(_wrong(str(error)))
    except ClickException as error:
        sys.exit(_wrong(" ".join(error.format_message().split())))
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)


def _wrong(message: str) -> int:
    print(f"bench: {message}", file=sys.stderr)
    return 2
