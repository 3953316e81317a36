"""`bench speed`. Imports little: --help needs it."""

import sys
from typing import Annotated, Any

import typer

from bench.errors import UserError
from bench.planning.flags import takes
from bench.planning.options import SweepOptions


@takes(SweepOptions, ("preset", "set", "device", "devices_per_run", "plugin"))
def speed(
    method: Annotated[str, typer.Option("--method", "-m", help="One method.")] = "byol",
    seconds: Annotated[float, typer.Option(min=1, help="About how long to measure; longer is more exact.")] = 120,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    **flags: Any,
) -> None:
    """Measure a training step and its parts, beside what the hardware allows and what a PIL pipeline gives.

    With --devices-per-run N: a step on N devices, its messages, and its efficiency against one device.
    """
    from bench.config.schema import RunConfig
    from bench.files import dump_json
    from bench.planning import sweep_file
    from bench.planning.doubts import slow_on_cpu
    from bench.planning.threads import with_threads
    from bench.training import start, workers

    options = sweep_file.options(None, {**flags, "method": method})
    planned = sweep_file.planned(None, options)
    if len(planned) > 1:
        raise UserError(f"--method {method}: name one; speed is measured a method at a time")
    device, several = workers.devices(options.device)[0], options.devices_per_run
    if device == "cpu":  # as a run alone would have them
        planned = with_threads(planned, None, workers.available_cores(), several)
        for line in slow_on_cpu(RunConfig(**planned[0]["config"]).train):
            print(f"warning: {line}", file=sys.stderr)
    start.guard_children()  # torch.compile and data loaders start some
    if several > 1:
        from bench.training import speed_devices

        found = speed_devices.measure(planned[0], device.partition(":")[0], several, seconds)
        print(dump_json(found) if as_json else speed_devices.describe(found), end="")
        return
    from bench.training import speed as speeds  # torch with it, which `devices` prepares for

    config = RunConfig(**planned[0]["config"])
    measured = speeds.measure(
        config, device, seconds, lambda what: print(f"measuring {what}", file=sys.stderr, flush=True)
    )
    print(dump_json(measured) if as_json else speeds.describe(measured), end="")
