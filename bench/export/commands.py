"""Commands about what leaves runs, and what goes into them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.errors import UserError
from bench.planning.flags import DataDir, Results, storable, takes
from bench.planning.options import SweepOptions


def export(
    run: Annotated[str, typer.Argument(help="A finished run: its directory, EXPERIMENT/RUN_ID, or a run id.")],
    to: Annotated[Path, typer.Option(help="A folder that is not there yet, or empty.", callback=storable)],
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
) -> None:
    """Write a run's encoder to a folder that timm loads, or that says how to rebuild it, with a model card."""
    from bench.export import find

    record = find.done_run(run, results)
    from bench.export import folder  # torch with it

    print("wrote " + ", ".join(map(str, folder.export(record, to, data_dir))))


def pictures(
    experiment: Annotated[str, typer.Argument(help="Of whose finished runs.")],
    results: Results = Path("results"),
    data_dir: DataDir = Path("data"),
) -> None:
    """Draw what each row's encoder holds to be alike (its lowest done seed): nearest neighbours, a map of features."""
    from bench.report import style

    with style.importing():
        from bench.export import pictures as drawn  # torch with it

    with style.applied():
        print("wrote " + ", ".join(map(str, drawn.write(results, experiment, data_dir))))


@takes(SweepOptions, ("method", "preset", "set"))
def preview(
    images: Annotated[int, typer.Option(min=1, help="How many images.")] = 8,
    to: Annotated[Path, typer.Option(help="The PNG file to write.", callback=storable)] = Path("preview.png"),
    data_dir: DataDir = Path("data"),
    **flags: Any,
) -> None:
    """Draw what methods see: images, and the views that seed 0 makes of them in three epochs."""
    from bench.config.schema import RunConfig
    from bench.files import write_atomic
    from bench.planning import sweep_file
    from bench.report import style
    from bench.report.names import entry_name
    from methods import METHODS

    if to.suffix != ".png":
        raise UserError(f"--to {to}: the picture is a PNG; end its name with .png")
    given = {**flags, "method": flags["method"] or ",".join(METHODS)}
    planned = sweep_file.planned(None, sweep_file.options(None, given))
    configs = {entry_name(run["method"]): RunConfig(**run["config"]) for run in planned}
    with style.importing():
        from bench.export import views
        from bench.report.figures import render

    with style.applied():
        figure = views.preview(configs, data_dir, images)
    try:
        write_atomic(to, render(figure, "png"))
    except OSError as error:
        raise UserError(f"cannot write {to}: {error.strerror or error}") from error
    print(f"wrote {to}")
