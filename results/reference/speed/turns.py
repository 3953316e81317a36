"""A BYOL step of ours and of lightly's example, in turn, at equal threads and precision, on views that lie ready.

    python results/reference/speed/turns.py

Each loop has a process of its own, as ours sets how a process keeps its memory. They step one after another, ROUNDS
times, so that what else a machine does meets both alike; turns.csv has the medians, and of each network and number of
threads the ratio to lightly's. Batches of 64, float32, the same network and heads; ours trains its online layer too.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from measure import config, lightly_step  # beside this file

from bench.runs import provenance
from bench.runs.store import RunDir
from bench.training import roofline, speed
from bench.training.machine import keep_freed_memory, set_determinism
from bench.training.trainer import Trainer

BATCH = 64
ROUNDS = 9
CPU = torch.device("cpu")
WIDTHS = {"cifar10": (512, 4096, 256), "cifar10-small": (128, 256, 128)}  # of features, heads and embeddings
LOOPS = {"lightly": "", "ssl-bench": "false", "ssl-bench, compiled": "true"}
"""Name -> of ours, train.compile."""

_step: Callable[[], object]  # of this process
_products: Callable[[], float]


def _prepare(preset: str, threads: int, compiled: str) -> None:
    """Set this process's `_step`."""
    global _step, _products
    own = {"threads": str(threads), "batch_size": str(BATCH), "precision": "float32", "compile": compiled or "false"}
    chosen = config("byol", preset, **{f"train__{key}": value for key, value in own.items()})
    size = chosen.data.size
    if not compiled:
        torch.set_num_threads(threads)
        given, step = torch.randn(2, BATCH, 3, size, size), lightly_step(chosen, WIDTHS[preset])
        _step = lambda: step(*given)  # noqa: E731
        return
    set_determinism(threads)
    keep_freed_memory()
    images = torch.randint(0, 256, (BATCH * 10, 3, size, size), dtype=torch.uint8)
    job = Trainer(chosen, 0, speed.noise(images), CPU, RunDir(Path("turns")))  # nothing is written
    views = job.augment(images[:BATCH], torch.Generator().manual_seed(0))
    labels = job.labels[:BATCH]
    layout = tuple(view.to(memory_format=job.layout) for view in views)
    _step = lambda: job.learn(*views, labels)  # noqa: E731
    _products = lambda: roofline.roofline_seconds(job, layout, 5.0)  # noqa: E731


def _timed() -> float:
    begun = time.perf_counter()
    _step()
    return time.perf_counter() - begun


def _alone() -> float:
    return _products()


def main() -> None:
    rows = []
    for preset in WIDTHS:
        for threads in (1, 2):
            context = get_context("spawn")
            pools = {
                name: ProcessPoolExecutor(1, context, _prepare, (preset, threads, compiled))
                for name, compiled in LOOPS.items()
            }
            times: dict[str, list[float]] = {name: [] for name in pools}
            for number in range(-2, ROUNDS):  # two warm up
                for name, pool in pools.items():
                    seconds = pool.submit(_timed).result()
                    if number >= 0:
                        times[name].append(seconds)
            medians = {name: statistics.median(own) for name, own in times.items()}
            for name, seconds in medians.items():
                row = {"preset": preset, "threads": threads, "loop": name, "step_ms": 1000 * seconds}
                row["times_lightly"] = medians["lightly"] / seconds
                if name == "ssl-bench":
                    row["roofline_share"] = pools[name].submit(_alone).result() / seconds
                rows.append(row)
            for pool in pools.values():
                pool.shutdown()
    where = {"batch_size": BATCH, "machine": provenance.device_name(CPU), "torch": torch.__version__}
    frame = pd.DataFrame([{**row, **where} for row in rows])
    frame.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.4g")
    print(frame.to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
