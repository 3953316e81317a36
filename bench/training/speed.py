"""How fast a training step is, what its parts cost, and how near it comes to what the hardware allows."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.config.schema import RunConfig
from bench.data import datasets
from bench.data.whole import send
from bench.errors import UserError
from bench.evaluation.protocol import FORWARD_BATCH, features
from bench.runs.store import RunDir
from bench.training.machine import keep_freed_memory, set_determinism
from bench.training.pictures import LeftOut, lightly_transforms, loader_seconds, pil_transforms
from bench.training.roofline import roofline_seconds
from bench.training.stopwatch import REPEATS, Stopwatch, wait
from bench.training.trainer import Trainer

IMAGES = 2048  # noise: no time here depends on what an image shows
N_CLASSES = 10
PARTS = 11  # that `measure` announces
PROBE = 16  # images of the step that tells how long a whole one takes
STEPS = 4  # that measuring takes at least, all in all: the step, its passes, its products, and the rest


def measure(
    config: RunConfig, device_name: str, seconds: float = 120, say: Callable[[str], object] = lambda what: None
) -> dict[str, Any]:
    """Rates in images/s (an image gives `views`), milliseconds of a step's parts, shares, MB and hours.

    The PIL pipeline is a DataLoader with as many workers as our pipeline has threads, alone and around the same step.
    Of compiled networks whole batches are timed, after `compile_seconds` of setting the run up and its first step.
    The roofline is the time that the step's own convolutions and matrix products take alone, one after the other in the
    same precision, forwards and backwards. All takes about `seconds`: on a CPU too slow for whole batches, steps are
    timed on `timed_images` of a batch; a pipeline of others that cannot be measured is None, and `left_out` says why.
    `say` is told what is measured next. Raises UserError for a method that has no training step, or where the
    settings leave none.
    """
    device, workers = torch.device(device_name), config.train.threads
    set_determinism(config.train.threads)
    keep_freed_memory()
    n, size = max(IMAGES, config.train.batch_size), config.data.size
    images = torch.randint(0, 256, (n, config.data.channels, size, size), dtype=torch.uint8)
    if config.train.compile:
        say("how long compiling takes")
    begun = time.perf_counter()
    job = Trainer(config, 0, noise(images), device, RunDir(Path("speed")))  # nothing is written
    if job.optimizer is None:
        raise UserError(f"--method {config.method_name}: it has no training step to measure")
    batch, total = config.train.batch_size, datasets.pretraining_images(config.data)
    if batch > total or not job.epochs:
        wrong = f"batch_size={batch}: {config.data.name} has {total} images" if batch > total else "epochs=0"
        raise UserError(f"train.{wrong}; there is no training step to measure")
    if job.compiled:
        job._train_step(torch.arange(batch), 0, 0)  # may compile more
        wait(device)
    compile_seconds = time.perf_counter() - begun if job.compiled else 0.0
    watch = Stopwatch(device, seconds, PARTS, say)

    # evaluation first, as steps on one batch over and over can make weights infinite
    evaluation_seconds = watch.time("evaluation", lambda: _embed(job, images[:FORWARD_BATCH]))
    probe = torch.arange(batch if job.compiled else min(batch, PROBE))  # another size would be compiled for
    probe_seconds = watch.time(f"a step on {len(probe)} images", lambda: job._train_step(probe, 0, 0))
    affordable = int(seconds / STEPS / probe_seconds * len(probe))
    timed = batch if device.type != "cpu" else min(batch, max(affordable, len(probe)))
    index = torch.arange(timed)
    step_seconds = watch.time(f"a step on {timed} images", lambda: job._train_step(index, 0, 0))
    chosen, labels = images[:timed].to(device), job.labels[:timed]
    draws = torch.Generator().manual_seed(0)
    views = tuple(view.to(memory_format=job.layout) for view in job.augment(chosen, draws))
    if job.compiled and config.train.accumulate > 1:
        _passes(job, views, labels, 0)  # the step's were of slices: this one compiles for the whole batch
    forward_seconds, backward_seconds = _passes(job, views, labels, watch.begin("forward and backward passes"))
    parts = {
        "augment": watch.time("augmentation", lambda: job.augment(chosen, draws)),
        "forward": forward_seconds,
        "backward": backward_seconds,
        "optimizer": watch.time("the optimizer", job.optimizer.step),
        "ema": watch.time("the mean teacher", lambda: job.method.after_step(0.5)),
    }
    roofline = roofline_seconds(job, views, watch.begin("convolutions and matrix products alone"))

    left_out: list[str] = []

    def rival(what: str, *transforms: Any, **use: Any) -> float | None:
        """Images/s of a DataLoader with these transforms."""
        watch.begin(what)
        if config.data.channels != 3:
            left_out.append(f"{what}: for images of 3 channels")
            return None
        try:
            return batch / loader_seconds(images, batch, workers, transforms, budget=watch.left(), **use)
        except LeftOut as error:
            left_out.append(f"{what}: {error}")
            return None

    def learn(*views: Tensor) -> None:
        job.learn(*(send(view, device) for view in views), job.labels[: len(views[0])])
        wait(device)

    report: dict[str, Any] = {
        "method": config.method_name,
        "device": str(device),
        "threads": config.train.threads,
        "batch_size": batch,
        "timed_images": timed,
        "views": len(views),
        "precision": config.train.precision,
        "compiled": job.compiled,
        "compile_seconds": compile_seconds,
        "step_images_per_second": timed / step_seconds,
        "augment_images_per_second": timed / parts["augment"],
        "evaluation_images_per_second": FORWARD_BATCH / evaluation_seconds,
        **{f"{name}_ms": 1000 * seconds for name, seconds in parts.items()},
        "augment_share": parts["augment"] / step_seconds,
        "roofline_share": roofline / step_seconds,
        "pil_images_per_second": rival("PIL pipeline", *pil_transforms(config)),
        "pil_step_images_per_second": rival(
            "PIL pipeline with the step", *pil_transforms(config), use=learn, use_seconds=step_seconds * batch / timed
        ),
    }
    if find_spec("lightly"):
        report["lightly_images_per_second"] = rival("lightly's transforms", *lightly_transforms(config.data.size))
    return report | {
        "left_out": left_out,
        "peak_memory_mb": _peak_memory_mb(device),
        "epochs": config.train.epochs,
        "projected_hours": config.train.epochs * (total // batch) * step_seconds * batch / timed / 3600,
    }


def describe(measured: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        "{method}, batch {batch_size}, {precision}{compile} on {device}, {threads} threads",
        "step           {step_images_per_second:>9} images/s  ({views} views each)",
        "  augment      {augment_ms:>9.1f} ms  {augment_share:.1%} of the step",
        "  forward      {forward_ms:>9.1f} ms",
        "  backward     {backward_ms:>9.1f} ms",
        "  optimizer    {optimizer_ms:>9.1f} ms",
        "  EMA          {ema_ms:>9.1f} ms",
        "roofline share {roofline_share:>9.0%}  (the step's convolutions and matrix products alone, against the step)",
        "evaluation     {evaluation_images_per_second:>9} images/s",
        "augmentation   {augment_images_per_second:>9} images/s alone",
    ]
    if measured["timed_images"] < measured["batch_size"]:
        lines.insert(1, "timed on {timed_images} images of a batch, as a whole one takes long (--seconds gives more)")
    if measured["compiled"]:
        lines.insert(
            1, "compiling      {compile_seconds:>9.0f} s  once a run, its first step included; not counted below"
        )
    extra: dict[str, Any] = {"compile": ", compiled" if measured["compiled"] else ""}
    if measured["pil_images_per_second"]:
        extra["ratio"] = measured["augment_images_per_second"] / measured["pil_images_per_second"]
        lines.append("PIL pipeline   {pil_images_per_second:>9} images/s alone ({ratio:.1f} times slower)")
    if measured["pil_step_images_per_second"]:
        lines.append("  with the step{pil_step_images_per_second:>9} images/s")
    if measured.get("lightly_images_per_second"):
        lines.append("lightly        {lightly_images_per_second:>9} images/s, its transforms alone")
    lines += [
        "peak memory    {peak_memory_mb:>9,.0f} MB",
        "projected      {projected_hours:>9.2f} hours for {epochs} epochs, without evaluation",
    ]
    shown = {key: _rate(value) if key.endswith("_images_per_second") else value for key, value in measured.items()}
    text = "".join(line.format(**shown, **extra) + "\n" for line in lines)
    return text + "".join(f"left out: {reason}\n" for reason in measured["left_out"])


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _passes(job: Trainer, views: tuple[Tensor, ...], labels: Tensor, budget: float) -> tuple[float, float]:
    """Median seconds of the forward and of the backward pass, in about `budget` seconds."""
    times: list[tuple[float, float]] = []
    begun = time.perf_counter()
    while len(times) < REPEATS and (not times or time.perf_counter() - begun + sum(times[-1]) <= budget):
        wait(job.device)
        started = time.perf_counter()
        loss = job.forward(*views, labels)["loss"]
        wait(job.device)
        between = time.perf_counter()
        loss.backward()
        wait(job.device)
        times.append((between - started, time.perf_counter() - between))
        if job.online:
            job.online.seen.clear()
    forward, backward = zip(*times, strict=True)
    return statistics.median(forward), statistics.median(backward)


def noise(images: Tensor) -> datasets.Dataset:
    """A data set of `images` [N, C, S, S] that has no file and no meaning; a tenth is for validation."""
    labels = torch.arange(len(images)) % N_CLASSES
    half = (0.5,) * images.shape[1]
    everything = torch.arange(len(images))
    split = len(images) // 10
    classes = tuple(str(label) for label in range(N_CLASSES))
    return datasets.Dataset(
        "noise", classes, images, labels, everything[split:], everything[:split], half, half, lambda: (images, labels)
    )


def _embed(job: Trainer, images: Tensor) -> None:
    features(job.method.backbone, images, None, job.dataset.mean, job.dataset.std, job.device)


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
