"""CPU threads of a run where no number is given: what the cores allow, as far as a step gains from them.

Results are bit-equal for equal threads, so the number is chosen when runs are planned and stands in their config.json.
It is taken from all runs of a command, done or not: the same command again plans the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.config import presets

# Measured on two cores with AVX-512 beside other work, float32, best of few rounds. With a second thread a step of
# `quick` (128 images of 16 x 16, so 16,384 pixels a thread) is 0.94 times as fast, and its backbone 1.1 to 1.2 times at
# 32,768 pixels a thread, 1.55 times at 131,072. ResNet-18 in `cifar10` is 1.7 times as fast at 32,768 (median 1.25) and
# at 16,384 (median 1.65) already: batches of 32 could have more.
PIXELS_PER_THREAD = 2**15


def threads(config: Mapping[str, Any], runs_at_a_time: int, cores: int, devices: int = 1) -> int:
    """Threads for each process of so many runs side by side on `cores`, which have `devices` processes each.

    `config` as in config.json, under "config".
    """
    pixels: int = config["train"]["batch_size"] * config["data"]["size"] ** 2
    return max(1, min(cores // runs_at_a_time, pixels // PIXELS_PER_THREAD) // devices)


def with_threads(
    planned: Sequence[dict[str, Any]], jobs: int | None, cores: int, devices: int = 1
) -> list[dict[str, Any]]:
    """The planned runs with train.threads chosen, but for those whose preset or overrides name it.

    jobs: runs at a time, if that was asked for; otherwise as many as there are cores.
    """
    at_a_time = min(jobs or max(1, cores // devices), len(planned), cores)
    return [run if _named(run) else having(run, threads(run["config"], at_a_time, cores, devices)) for run in planned]


def _named(run: Mapping[str, Any]) -> bool:
    preset = presets.values(run["preset"], run["method"])
    return "train.threads" in run["overrides"] or "threads" in preset["train"]


def having(run: dict[str, Any], number: int) -> dict[str, Any]:
    """A planned run with so many threads."""
    config = run["config"]
    return {**run, "config": {**config, "train": {**config["train"], "threads": number}}}
