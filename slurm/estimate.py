"""How long a sweep will take, where earlier runs of the same configurations tell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.runs import store
from bench.runs.progress import duration

SAMPLES = 3  # earlier runs read of each configuration


def estimate(results: Path, todo: Sequence[dict[str, Any]], gpus: int) -> str:
    """What planned runs will cost in jobs of `gpus` GPUs, one line; runs side by side are counted one by one."""
    measured = _seconds(results, {run["config_hash"] for run in todo})
    known = [measured[run["config_hash"]] for run in todo if run["config_hash"] in measured]
    if not known:
        return "no estimate: no earlier run of these configurations is done"
    scope = "" if len(known) == len(todo) else f" for {len(known)} of the runs (nothing is known of the others)"
    hours = sum(known) / 3600
    cost = f"{hours * gpus:.2f} GPU-hours" if gpus else f"{hours:.2f} hours of CPU jobs"
    return f"about {cost}{scope}, as earlier runs took {duration(sum(known) / len(known))} each"


def _seconds(results: Path, wanted: set[str]) -> dict[str, float]:
    """Mean seconds (training and evaluation) of done runs, by config_hash."""
    samples: dict[str, list[float]] = {}
    for experiment in store.experiments(results):
        for run in store.run_dirs(results / experiment):
            config_hash = run.run_id.rpartition("-s")[0].rpartition("-")[2]
            if config_hash not in wanted or len(samples.setdefault(config_hash, [])) == SAMPLES:
                continue
            if result := store.read_run(run).result:
                samples[config_hash].append(result.timing.train_seconds + result.timing.eval_seconds)
    return {config_hash: sum(found) / len(found) for config_hash, found in samples.items() if found}
