"""What this project says of its speed, measured; every table lies beside this file.

    python results/reference/speed/measure.py [PART ...]    (of PARTS below)

Times are medians on an otherwise idle machine, in one run, with THREADS threads; ratios mean more than seconds.
`peers` and `augmentation` need lightly (pip install lightly).
"""

import copy
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bench import backbone
from bench.config.schema import RunConfig
from bench.data import datasets
from bench.data.augment import Augmentation
from bench.evaluation.base import L2_GRID
from bench.evaluation.logistic import fit_logistic
from bench.evaluation.neighbours import knn_top1
from bench.evaluation.scores import top1
from bench.files import dump_json, write_atomic
from bench.planning import plan, stages, sweep_file
from bench.planning.request import Request
from bench.runs import provenance, status, store
from bench.runs.claim import Claim
from bench.runs.result import ACCURACIES
from bench.tables.leaderboard import collect
from bench.training import speed, trainer
from bench.training.machine import keep_freed_memory, set_determinism
from bench.training.pictures import Pictures, lightly_transforms, loader_seconds, pil_transform, pil_transforms
from bench.training.stopwatch import median_seconds

HERE = Path(__file__).parent
THREADS = 2
CPU = torch.device("cpu")


def config(method: str, preset: str, **overrides: str) -> RunConfig:
    """A run's configuration; `train__threads="2"` is train.threads=2."""
    chosen = {key.replace("__", "."): value for key, value in overrides.items()}
    (planned,) = plan.plan([method], [0], preset, {"train.threads": str(THREADS), **chosen}, {}, "speed")
    return RunConfig(**planned["config"])


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """<name>.csv beside this file, with the machine and the versions in every row; and the same on the terminal."""
    where = {"machine": provenance.device_name(CPU), "threads": THREADS, "torch": torch.__version__}
    frame = pd.DataFrame([{**row, **where} for row in rows])
    frame.to_csv(HERE / f"{name}.csv", index=False, float_format="%.4g")
    print(f"\n{name}\n{frame.to_string(index=False, float_format='%.4g')}", flush=True)


# One BYOL step on CIFAR-10-sized images: ours, and the loop that lightly documents


def peers() -> None:
    """Images/s of a whole BYOL step: ResNet-18 with the small-image stem, batch 256, the same heads everywhere."""
    rows = []
    for name, settings in (
        ("ssl-bench, float32", {"train__precision": "float32"}),
        ("ssl-bench, bfloat16", {}),
        ("ssl-bench, bfloat16, compiled", {"train__compile": "true"}),
    ):
        measured = speed.measure(config("byol", "cifar10", **settings), "cpu")
        keys = ("step_images_per_second", "augment_share", "roofline_share")
        rows.append({"loop": name, **{key: measured[key] for key in keys}})
    for name, bfloat16 in (("lightly, float32 (its example)", False), ("lightly, bfloat16 autocast", True)):
        with ProcessPoolExecutor(1, get_context("spawn")) as untouched:  # by what this process has set for our steps
            rows.append({"loop": name, "step_images_per_second": untouched.submit(_lightly, bfloat16).result()})
    write("peers", rows)


def augmentation() -> None:
    """Images/s of two views with all operations of the preset `cifar10`, for a batch of 256."""
    chosen = config("byol", "cifar10")
    set_determinism(THREADS)
    images = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8)
    half = (0.5, 0.5, 0.5)
    augment, draws = Augmentation(chosen.augment, 32, half, half), torch.Generator().manual_seed(0)
    ours = median_seconds(lambda: augment(images[:256], draws), CPU)
    rows = [{"pipeline": "ssl-bench", "images_per_second": 256 / ours}]
    for name, transforms in (
        ("torchvision's PIL transforms, 2 workers", pil_transforms(chosen)),
        ("lightly's BYOL transforms, 2 workers", lightly_transforms(32)),
    ):
        seconds = loader_seconds(images, 256, THREADS, transforms)
        rows.append({"pipeline": name, "images_per_second": 256 / seconds})
    write("augmentation", rows)


def lightly_step(chosen: RunConfig, widths: tuple[int, int, int], bfloat16: bool = False) -> Callable[..., None]:
    """The step of lightly's BYOL example on two views, its network ours. widths: of features, heads and embeddings."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    features, hidden, out = widths
    network: Any = backbone.create(chosen.backbone, chosen.data.size)
    projector, predictor = BYOLProjectionHead(features, hidden, out), BYOLPredictionHead(out, hidden, out)
    slow_network, slow_projector = copy.deepcopy(network), copy.deepcopy(projector)
    deactivate_requires_grad(slow_network)
    deactivate_requires_grad(slow_projector)
    optimizer = torch.optim.SGD([*network.parameters(), *projector.parameters(), *predictor.parameters()], lr=0.06)
    criterion = NegativeCosineSimilarity()

    def step(x0: Tensor, x1: Tensor) -> None:
        update_momentum(network, slow_network, m=0.99)
        update_momentum(projector, slow_projector, m=0.99)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            p0, p1 = predictor(projector(network(x0))), predictor(projector(network(x1)))
            z0, z1 = slow_projector(slow_network(x0)).detach(), slow_projector(slow_network(x1)).detach()
            loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _lightly(bfloat16: bool, batch: int = 256, steps: int = 4) -> float:
    """Images/s of the loop in lightly's BYOL example."""
    torch.set_num_threads(THREADS)
    step = lightly_step(config("byol", "cifar10"), (512, 4096, 256), bfloat16)
    images = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8)
    pictures = Pictures(images, (steps + 1) * batch, lightly_transforms(32))
    stamps = []
    for x0, x1 in DataLoader(pictures, batch, shuffle=True, drop_last=True, num_workers=THREADS):
        step(x0, x1)
        stamps.append(time.perf_counter())
    return batch / _median_gap(stamps)


def _median_gap(stamps: list[float]) -> float:
    return statistics.median(b - a for a, b in itertools.pairwise(stamps))


# Probes on cached features


def linear_and_knn() -> None:
    """The linear probe's whole grid on 50,000 x 512 features, beside scikit-learn; kNN of 10,000 against 50,000."""
    from sklearn.linear_model import LogisticRegression

    torch.set_num_threads(THREADS)
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (60_000,), generator=draw)
    mixing = torch.randn(512, 512, generator=draw) / 512**0.5 * torch.logspace(0, -2, 512)[:, None]
    centres = torch.randn(10, 512, generator=draw)
    x = ((0.35 * centres[labels] + torch.randn(60_000, 512, generator=draw)) @ mixing).relu()  # correlated, as features
    train_x, train_y, test_x, test_y = x[:50_000], labels[:50_000], x[50_000:], labels[50_000:]

    begun = time.perf_counter()
    fits = fit_logistic(train_x, train_y, 10, L2_GRID)
    ours = time.perf_counter() - begun
    rows = [{"probe": f"linear, {len(fits)} strengths", "seconds": ours}]
    for fit in (fits[2], fits[4]):
        z = ((train_x - fit.mean) / fit.std).numpy()
        begun = time.perf_counter()
        theirs = LogisticRegression(C=1 / (fit.l2 * len(z)), tol=1e-6, max_iter=2000).fit(z, train_y.numpy())
        seconds = time.perf_counter() - begun
        accuracy = 100 * theirs.score(((test_x - fit.mean) / fit.std).numpy(), test_y.numpy())
        own = top1(fit.rank(test_x)[:, 0], test_y)
        rows += [
            {"probe": f"linear, l2 = {fit.l2:g}", "top1": own},
            {"probe": f"scikit-learn, l2 = {fit.l2:g}", "seconds": seconds, "top1": accuracy},
        ]
    begun = time.perf_counter()
    neighbours = knn_top1(train_x, train_y, test_x, test_y, 200, 10)
    rows.append({"probe": "kNN, k = 200", "seconds": time.perf_counter() - begun, "top1": neighbours})
    write("probes", rows)


# A sweep's bookkeeping


def bookkeeping() -> None:
    """Milliseconds a run of planning, writing, claiming, finishing and collecting: grids of several sizes x 5 seeds."""
    rows = []
    for n in (100, 1_000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_bookkeeping(n, Path(folder)))
    write("bookkeeping", rows)


def _bookkeeping(n: int, results: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"runs": n}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        value = function()
        row[f"{name}_ms"] = 1000 * (time.perf_counter() - begun) / n
        return value

    rates = {"optim.lr": [repr(0.001 * (1 + i)) for i in range(n // 5)]}
    planned = timed("plan", lambda: plan.plan(["simclr"], range(5), "quick", {}, rates, "many"))
    runs = timed("write", lambda: plan.write(planned, results))
    timed("claim_and_finish", lambda: list(map(_finish, runs, planned)))
    records = timed("survey", lambda: [store.read_run(run) for run in runs])
    assert all(record.state == "done" for record in records), records[0].error
    timed("collect", lambda: collect(results, ["many"]))
    return row


def _finish(run: store.RunDir, planned: dict[str, Any]) -> None:
    """Claim a run, log 30 epochs, write a result, release it: all but the training."""
    claim = Claim.acquire(run.path)
    assert claim is not None
    with claim:
        for epoch in range(30):
            run.append_history({"epoch": epoch + 1, "step": 11 * epoch, "loss": 0.5, "seconds": 1.0 + epoch})
        result = {
            **{k: planned[k] for k in ("schema", "run_id", "experiment", "method", "preset", "seed", "config_hash")},
            "dataset": "digits",
            "backbone": "resnet10_small",
            "protocol": 1,
            "overrides": {},
            "metrics": dict.fromkeys(ACCURACIES, 50.0),
            "timing": {"train_seconds": 1.0, "eval_seconds": 0.1},
            "provenance": {},
        }
        write_atomic(run.result, dump_json(result).encode())


def searches() -> None:
    """Processor milliseconds a run of a search's bookkeeping, points x 2 seeds, without what is imported for it."""
    rows = []
    for points in (5, 50, 100, 200):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_search(points, Path(folder)))
    write("searches", rows[1:])


def _search(points: int, results: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"points": points, "runs": 2 * points}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        begun = time.process_time()
        value = function()
        row[f"{name}_ms"] = 1000 * (time.process_time() - begun) / row["runs"]
        return value

    asked = [f"points={points}", "seeds=2", "from.optim.lr=log:0.01,10"]
    options = sweep_file.options(None, {"method": "simclr", "seeds": "5", "experiment": "many", "search": asked})
    planned = timed("plan", lambda: sweep_file.planned(None, options))
    stage = stages.first(Request(planned, results, results, options, "bench sweep"))
    runs = timed("write", lambda: plan.write(stage.planned, results))
    timed("claim_and_finish", lambda: list(map(_finish, runs, stage.planned)))
    timed("survey", lambda: list(map(status.look, runs)))
    report = timed("go_on", lambda: stages.following(stage))
    assert len(report.planned) == 5, "one point is reported, on 5 seeds"
    timed("collect", lambda: collect(results, ["many"]))
    return row


# Images that do not fit in memory


def streaming(n: int = 2_000, side: int = 224) -> None:
    """Two views of 224-pixel images, an epoch: from our memory map, and by torchvision's ImageFolder with 2 workers.

    Both read files that were just written, from the page cache.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pictures"
        draw = np.random.default_rng(0)
        for i in range(n):
            path = root / ("test" if i % 10 == 0 else "train") / f"class{i // 10 % 2}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            rough = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            rough.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)  # ImageNet's usual size
        chosen = config("byol", "cifar10", data__name=f"folder:{root}", data__size=str(side))
        set_determinism(THREADS)
        begun = time.perf_counter()
        dataset = datasets.load(chosen.data, Path(folder))
        prepared = time.perf_counter() - begun
        augment = Augmentation(chosen.augment, side, dataset.mean, dataset.std)
        n_train = len(dataset.images)
        order = torch.randperm(n_train, generator=torch.Generator().manual_seed(0))
        begun = time.perf_counter()
        for batch, part in enumerate(order.split(64)):
            augment(dataset.images[part], torch.Generator().manual_seed(batch))
        mapped = time.perf_counter() - begun
        first = pil_transform(chosen.augment.views()[0], side, chosen.augment)
        pictures = ImageFolder(root / "train", v2.Lambda(lambda image: (first(image), first(image))))
        begun = time.perf_counter()
        n_loaded = sum(len(labels) for _, labels in DataLoader(pictures, 64, True, num_workers=THREADS))
        loaded = time.perf_counter() - begun
        rates = {
            "ssl-bench, memory map": n_train / mapped,
            "ssl-bench, making the memory map, once": n_train / prepared,
            "torchvision, ImageFolder": n_loaded / loaded,
        }
        write("streaming", [{"pipeline": name, "images_per_second": rate} for name, rate in rates.items()])


# How a step grows


def growth() -> None:
    """Step time against batch size, image size and backbone, from the preset `quick`; growth.csv and growth.png."""
    axes: dict[str, list[tuple[dict[str, str], str, float]]] = {
        "batch size": [({"train__batch_size": str(v)}, str(v), v) for v in (32, 64, 128, 256, 512)],
        "image size (pixels)": [({"data__size": str(v)}, str(v), v) for v in (8, 16, 32, 64)],
        "heads' hidden width": [
            ({"method__projector_hidden": str(v), "method__predictor_hidden": str(v)}, str(v), v)
            for v in (256, 1024, 4096)
        ],
        "backbone (million parameters)": [
            ({"backbone__name": v}, v, 0) for v in ("resnet10_small", "resnet18", "resnet34")
        ],
    }
    rows = []
    for axis, points in axes.items():
        for settings, value, x in points:
            chosen = config("byol", "quick", **settings)
            milliseconds, parameters = _step_milliseconds(chosen)
            rows.append(
                {
                    "axis": axis,
                    "value": value,
                    "x": x or parameters / 1e6,
                    "step_ms": milliseconds,
                    "images_per_second": 1000 * chosen.train.batch_size / milliseconds,
                }
            )
    write("growth", rows)
    _draw_growth(rows)


def _draw_growth(rows: list[dict[str, Any]]) -> None:
    """growth.png: step time against what was varied, a panel an axis."""
    import matplotlib.pyplot as plt

    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure, panels = plt.subplots(1, len(axes), figsize=(12, 3.2), sharey=True, constrained_layout=True)
    for panel, axis in zip(panels, axes, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        panel.loglog([row["x"] for row in own], [row["step_ms"] for row in own], "o-", color="#0072B2")
        panel.set_xlabel(axis)
        ticks = [row["x"] for row in own]
        panel.set_xticks(ticks, [f"{x:g}" if x % 1 == 0 else f"{x:.2g}" for x in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("BYOL step (ms)")
    figure.suptitle(f"digits, batch 128, 16 px, resnet10_small unless varied; {provenance.device_name(CPU)}", size=9)
    figure.savefig(HERE / "growth.png", dpi=150)


def _step_milliseconds(chosen: RunConfig) -> tuple[float, int]:
    """Median time of a whole step, and the backbone's parameters."""
    set_determinism(THREADS)
    shape = (chosen.train.batch_size, 3, chosen.data.size, chosen.data.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    job = trainer.Trainer(chosen, 0, speed.noise(images), CPU, store.RunDir(Path("growth")))  # nothing is written
    index = torch.arange(len(images))
    seconds = median_seconds(lambda: job._train_step(index, 0, 0), CPU)
    network: nn.Module = job.method.backbone
    return 1000 * seconds, sum(p.numel() for p in network.parameters())


def startup() -> None:
    """Seconds of clock and processor until a command that trains nothing is over: a process each, medians of 9."""
    bench = str(Path(sys.executable).with_name("bench"))
    commands = {
        "help": ["--help"],
        "unknown method": ["run", "-m", "rapt"],
        "unknown setting": ["run", "-m", "raft", "--set", "optim.lrr=1"],
        "unknown backbone": ["run", "-m", "raft", "--set", "backbone.name=resnet19"],
        "5 runs done already": ["run", "-m", "random", "--seeds", "5"],
    }
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([bench, *commands["5 runs done already"]], cwd=folder, check=True, capture_output=True)
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        processor: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(9):
            for name, words in commands.items():
                begun, before = time.perf_counter(), os.times()
                subprocess.run([bench, *words], cwd=folder, capture_output=True)
                after = os.times()
                seconds[name].append(time.perf_counter() - begun)
                used = after.children_user + after.children_system - before.children_user - before.children_system
                processor[name].append(used)
    median = statistics.median
    rows = [{"command": n, "seconds": median(seconds[n]), "processor_seconds": median(processor[n])} for n in commands]
    write("startup", rows)


PARTS = {
    "peers": peers,
    "augmentation": augmentation,
    "probes": linear_and_knn,
    "bookkeeping": bookkeeping,
    "searches": searches,
    "streaming": streaming,
    "growth": growth,
    "startup": startup,
}

if __name__ == "__main__":
    chosen_parts = sys.argv[1:] or list(PARTS)
    if unknown_parts := [name for name in chosen_parts if name not in PARTS]:
        sys.exit(f"unknown part {unknown_parts[0]!r}: one of {', '.join(PARTS)}")
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    keep_freed_memory()  # as every worker
    print(f"{provenance.device_name(CPU)}, {THREADS} threads, Python {platform.python_version()}")
    for name in chosen_parts:
        PARTS[name]()
