"""The command line: parse, call, print. Imports what is slow only inside the command that needs it."""

import errno
import os
import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import UserError, unknown
from bench.export.commands import export, pictures, preview
from bench.planning.catalog import KINDS
from bench.planning.flags import DataDir, Plugins, Results, RetryFailed, SweepFile, takes
from bench.planning.options import EvaluateOptions, SweepOptions
from bench.report import FORMATS
from bench.training.speed_command import speed
from bench.training.verify_command import verify
from methods.plugins import PluginError

if TYPE_CHECKING:
    from bench.planning.request import Request

# Typer ships its own click since 0.16 and uses the installed one before: this is the right class in both cases.
ClickException: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    name="bench",
    help="Compare self-supervised learning methods on images: train, evaluate, and say which is better and how surely.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


LAUNCHERS = {"local": "bench.training.launch:local", "slurm": "slurm.submit:submit", "dry": "slurm.submit:dry"}
"""How planned runs are carried out: functions (Request, Console) -> exit code, by `--on`."""

HERE = (
    "method",
    "seeds",
    "preset",
    "set",
    "experiment",
    "device",
    "devices_per_run",
    "jobs",
    "log",
    "plugin",
)  # options of `bench run`


@app.command()
@takes(SweepOptions, HERE)
def run(
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
    retry_failed: RetryFailed = False,
    **flags: Any,
) -> None:
    """Train and evaluate methods on this machine, then print the leaderboard.

    Runs that are done are skipped, interrupted ones are resumed: the same command again finishes the work.
    """
    _launch(None, flags, results, data_dir, retry_failed)


@app.command()
@takes(SweepOptions)
def sweep(
    file: SweepFile = None,
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
    retry_failed: RetryFailed = False,
    **flags: Any,
) -> None:
    """Train and evaluate methods x seeds x grid points, on this machine or on a SLURM cluster.

    The same command again submits only what is not done, not queued and not running.
    """
    _launch(file, flags, results, data_dir, retry_failed)


@app.command()
@takes(EvaluateOptions)
def evaluate(
    experiments: Annotated[list[str], typer.Argument(help="Experiments whose finished runs are judged.")],
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
    retry_failed: RetryFailed = False,
    **flags: Any,
) -> None:
    """Judge the encoders of finished runs by further evaluations, or on other data sets, without training anew.

    Only what is missing is made: the same command again finishes the work.
    """
    from bench.planning import evaluate as evaluations

    options = evaluations.options(flags)
    asked = evaluations.wanted(options)
    requests = [
        evaluations.request(results / name, asked, data_dir, options, _command(), retry_failed)
        for name in _known(results, experiments)
    ]
    raise typer.Exit(max(map(_carry_out, requests)))


@app.command()
def status(
    experiment: Annotated[str | None, typer.Argument(help="Experiment; by default all.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until nothing runs and nothing is queued.")] = False,
    results: Results = Path("results"),
) -> None:
    """Show which runs are done, running, queued, failed (and why) or lost. Exit code 1 if some failed or are lost."""
    from rich.console import Console

    from bench.runs import status as states
    from slurm.jobs import jobs_of

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
    formats: Annotated[str, typer.Option("--format", help=f"Which of {', '.join(FORMATS)}.")] = ",".join(FORMATS),
    columns: Annotated[str | None, typer.Option(help="Columns of the leaderboard, separated by commas.")] = None,
    metric: Annotated[str, typer.Option(help="The accuracy that ranks and compares.")] = "test_linear_top1",
    difference: Annotated[float | None, typer.Option(help="With --power: of so many points.", min=0.01)] = None,
    power: Annotated[bool, typer.Option("--power", help="Print how many seeds each difference needs.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="Write a zip file alone, with all that checks and repeats it.", metavar="ZIP")
    ] = None,
    unredacted: Annotated[bool, typer.Option("--unredacted", help="Keep hosts, paths and users in the zip.")] = False,
    results: Results = Path("results"),
) -> None:
    """Write tables, figures and a page from the run directories alone, and print the leaderboard."""
    from rich.console import Console

    from bench.export import bundle as bundles
    from bench.report import write as reports

    if bundle:
        bundles.check(bundle)
    elif unredacted:
        raise UserError("--unredacted: it is for --bundle")
    console = Console(highlight=False, markup=False)
    asked = (results, _known(results, experiments or []), _split(formats))
    shown = _split(columns) if columns else None
    power = power or bool(difference)
    if bundle:
        names, tables = reports.gather(*asked, shown, metric, console, difference, power)
        bundles.bundle(bundle, tables, names, asked[-1], shown, unredacted)
        written = [bundle]
    else:
        written = reports.write(*asked, None, shown, metric, console, difference, power)
    console.print("wrote " + ", ".join(str(path) for path in written), soft_wrap=True)


app.command()(export)
app.command()(preview)
app.command()(pictures)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.")],
    method: Annotated[str, typer.Option("--method", "-m", help="Whose keys to list.")] = "raft",
    plugin: Plugins = None,
) -> None:
    """List what can be named on the command line."""
    from rich.console import Console

    from bench.planning import catalog
    from methods import plugins

    plugins.use(plugin or [])
    rows = catalog.rows(what, method)
    width = max(len(name) for name, _ in rows)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for name, text in rows:
        console.print(f"{name:<{width}}  {text}".rstrip())


app.command()(speed)
app.command()(verify)


@app.command("check-method")
def check_method(
    method: Annotated[str, typer.Argument(help="A method of `bench list methods`, or of a plug-in.")],
    plugin: Plugins = None,
) -> None:
    """Hold a method to what every method has to keep. Exit code 1 if it does not."""
    from methods import plugins

    plugins.use(plugin or [])
    from bench.training import conformance

    sound = True
    for kept, fault in conformance.faults(method):
        print(f"{'WRONG' if fault else 'ok   '}  {kept}" + (f"\n       {fault}" if fault else ""))
        sound &= not fault
    raise typer.Exit(0 if sound else 1)


def _launch(file: Path | None, flags: dict[str, Any], results: Path, data_dir: Path, retry_failed: bool) -> None:
    """Plan what the flags and the file ask for, and have it carried out; leaves with the exit code."""
    from bench.planning import stages, sweep_file, until
    from bench.planning.evaluate import beside
    from bench.planning.request import Request
    from bench.training import livelog

    options = sweep_file.options(file, flags)
    livelog.parse(options.log)  # a wrong name is told before anything is done
    request = Request(sweep_file.planned(file, options), results, data_dir, options, _command(), retry_failed)
    request = stages.first(request)
    judged = beside(request, options.encoder)  # what is wrong with them is told before anything is done
    if options.until:
        code = until.carry_out(request, lambda asked: sweep_file.planned(file, asked), _carry_out, print)
    else:
        code = _carry_out(request)
    raise typer.Exit(max([code, *map(_carry_out, judged)]))


def _carry_out(request: "Request") -> int:
    from rich.console import Console

    module, _, name = LAUNCHERS[request.options.on].partition(":")
    launch: Callable[[Request, Console], int] = getattr(import_module(module), name)
    return launch(request, Console(highlight=False, markup=False))


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
    return shlex.join(["bench", *sys.argv[1:]]).encode(errors="backslashreplace").decode()


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Entry point of `bench`. Exit codes: 0 all runs done; 1 some run failed; 2 the command was wrong."""
    if not os.environ.get("COLUMNS", "").strip("0"):  # as terminals say that do not know their width
        os.environ.pop("COLUMNS", None)
    try:
        sys.exit(app(prog_name="bench", standalone_mode=False) or 0)  # a typer.Exit comes back as its code
    except (UserError, PluginError) as error:
        sys.exit(_wrong(str(error)))
    except ClickException as error:
        message = " ".join(error.format_message().split())
        if message.startswith("Missing") and error.ctx:  # it does not say what there is
            message += f" See: {error.ctx.command_path} --help"
        sys.exit(_wrong(message))
    except FileNotFoundError as error:
        if "temporary directory" not in str(error):
            raise
        sys.exit(_wrong(f"{error.strerror}: set TMPDIR to a folder that can be written to"))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stdout = None  # what it still holds has no place
        sys.exit(_wrong(f"{error.filename or 'standard output'}: {error.strerror}"))
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)


def _wrong(message: str) -> int:
    print(f"bench: {message}", file=sys.stderr)
    return 2
