"""CPU threads of a run where no number is given: what the cores allow, as far as a step gains from them.

Results are bit-equal for equal threads, so the number is chosen when runs are planned and stands in their config.json.
It is taken from all runs of a command, done or not: the same command again plans the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.config import presets

# A step of `quick` (128 images of 16 x 16) does not gain from a second thread, one of `cifar10` (256 of 32 x 32, so
# 131,072 pixels a thread) is 1.9 times as fast with it; between them this is our choice.
PIXELS_PER_THREAD = 2**15


def threads(config: Mapping[str, Any], runs_at_a_time: int, cores: int) -> int:
    """Threads for each of so many runs side by side on `cores`; `config` as in config.json, under "config"."""
    pixels: int = config["train"]["batch_size"] * config["data"]["size"] ** 2
    return max(1, min(cores // runs_at_a_time, pixels // PIXELS_PER_THREAD))


def with_threads(planned: Sequence[dict[str, Any]], jobs: int | None, cores: int) -> list[dict[str, Any]]:
    """The planned runs with train.threads chosen, but for those whose preset or overrides name it.

    jobs: runs at a time, if that was asked for; otherwise as many as there are cores.
    """
    at_a_time = min(jobs or cores, len(planned), cores)
    return [run if _named(run) else _with(run, threads(run["config"], at_a_time, cores)) for run in planned]


def _named(run: Mapping[str, Any]) -> bool:
    preset = presets.values(run["preset"], run["method"])
    return "train.threads" in run["overrides"] or "threads" in preset["train"]


def _with(run: dict[str, Any], number: int) -> dict[str, Any]:
    config = run["config"]
    return {**run, "config": {**config, "train": {**config["train"], "threads": number}}}
