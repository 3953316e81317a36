"""How fast a training step is on several devices, against one: `bench speed --devices-per-run N`."""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench.config.schema import RunConfig
from bench.errors import UserError
from bench.files import dump_json, parse_json
from bench.runs.store import RunDir
from bench.team import ALONE, Team
from bench.training import launcher
from bench.training.distributed import Ranks
from bench.training.machine import keep_freed_memory, set_determinism
from bench.training.orders import Orders
from bench.training.speed import IMAGES, noise
from bench.training.stopwatch import wait
from bench.training.trainer import Trainer
from bench.training.worker import device_of

LEAST, MOST = 3, 50  # rounds


def measure(planned: dict[str, Any], device: str, devices: int, seconds: float) -> dict[str, Any]:
    """Rates in images/s and milliseconds of a step, medians of rounds; they take about `seconds`.

    One device is timed in between, in the same processes: on GPUs with one device's part of the batch, on CPUs with
    the whole batch and the threads of all processes. `efficiency` is the rate on all against that of as many such
    devices, or against that one process. Raises UserError if a process dies.
    """
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as folder:
        run = RunDir(Path(folder))
        run.config.write_text(dump_json({**planned, "seconds": seconds}))
        orders = Orders([folder], folder, device, "bench speed", "", False, devices=devices)
        if problem := launcher.launch(orders, [], "bench.training.speed_devices"):
            raise UserError(problem.splitlines()[-1])
        measured: dict[str, Any] = parse_json(run.result.read_text())
        return measured


def describe(measured: dict[str, Any]) -> str:
    """The same for people."""
    return (
        "{method}, batch {batch_size}, {precision}, {devices} devices, {threads} threads each\n"
        "step           {step_images_per_second:>9,.0f} images/s\n"
        "  messages     {communication_ms:>9.1f} ms  {communication_share:.1%} of the step, waiting included\n"
        "one device     {one_device_images_per_second:>9,.0f} images/s\n"
        "efficiency     {efficiency:>9.2f}\n"
    ).format(**measured)


def _compare(config: RunConfig, team: Ranks, device: torch.device, seconds: float) -> dict[str, Any]:
    """One process's part of `measure`."""
    batch, size, threads = config.train.batch_size, config.data.size, config.train.threads
    images = torch.randint(0, 256, (max(IMAGES, batch), config.data.channels, size, size), dtype=torch.uint8)

    def job(members: Team) -> Trainer:
        return Trainer(config, 0, noise(images), device, RunDir(Path("speed")), team=members)  # nothing is written

    def timed(one: Trainer, n: int) -> float:
        begun = time.perf_counter()
        one._train_step(torch.arange(n), 0, 0)
        wait(device)
        return time.perf_counter() - begun

    own = batch if device.type == "cpu" else -(-batch // team.world)  # of one device alone
    all_of_us, alone = job(team), job(ALONE)
    steps: list[float] = []
    messages: list[float] = []
    single: list[float] = []
    begun = time.perf_counter()
    while len(steps) <= LEAST or (len(steps) <= MOST and team.any(team.rank == 0 and _left(begun, seconds))):
        team.meet()
        before = team.seconds
        steps.append(timed(all_of_us, batch))
        messages.append(team.seconds - before)
        team.meet()
        torch.set_num_threads(threads * (team.world if device.type == "cpu" else 1))
        if team.rank == 0:
            single.append(timed(alone, own))
        torch.set_num_threads(threads)
    if team.rank:
        return {}
    step, one, message = (statistics.median(times[1:]) for times in (steps, single, messages))  # the first warms up
    rate, one_rate = batch / step, own / one
    return {
        "method": config.method_name,
        "devices": team.world,
        "threads": threads,
        "batch_size": batch,
        "precision": config.train.precision,
        "rounds": len(steps) - 1,
        "step_images_per_second": rate,
        "one_device_images_per_second": one_rate,
        "efficiency": rate / one_rate / (1 if device.type == "cpu" else team.world),
        "communication_ms": 1000 * message,
        "communication_share": message / step,
    }


def _left(begun: float, seconds: float) -> bool:
    return time.perf_counter() - begun < seconds


def main() -> None:
    """`python .../start.py bench.training.speed_devices orders.json`, as one of the processes."""
    keep_freed_memory()
    orders = Orders(**parse_json(Path(sys.argv[1]).read_text()))
    run = RunDir(Path(orders.runs[0]))
    planned = parse_json(run.config.read_text())
    config, device = RunConfig(**planned["config"]), device_of(orders)
    set_determinism(config.train.threads)
    team = Ranks(device)
    measured = _compare(config, team, device, planned["seconds"])
    if team.rank == 0:
        run.result.write_text(dump_json(measured))
    team.meet()
    team.leave()


if __name__ == "__main__":
    main()
