"""How fast a training step is, what its parts cost, and how near it comes to what the hardware allows."""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image

from bench.config.schema import RunConfig, ViewConfig
from bench.data import datasets as data
from bench.data.augment import send
from bench.errors import UserError
from bench.evaluation.protocol import features
from bench.runs.store import RunDir
from bench.training import trainer
from bench.training.machine import keep_freed_memory, set_determinism

IMAGES = 2048  # noise: no time here depends on what an image shows
REPEATS = 5  # of every measurement; medians are reported
N_CLASSES = 10
PREFETCH = 2  # batches a worker, as DataLoader does by default
MIN_TIMED = 6  # batches of a DataLoader, at least

_Transforms = tuple[Callable[[Any], Tensor], Callable[[Any], Tensor]]


def measure(config: RunConfig, device_name: str) -> dict[str, Any]:
    """Rates in images/s (an image gives two views), milliseconds of a step's parts, shares, MB and hours.

    The PIL pipeline is a DataLoader with as many workers as our pipeline has threads, alone and around the same step.
    The roofline is the time that the step's own convolutions and matrix products take alone, one after the other in the
    same precision, forwards and backwards. Raises UserError for a method that has no training step, or where the
    settings leave none.
    """
    device, workers = torch.device(device_name), config.train.threads
    set_determinism(config.train.threads)
    keep_freed_memory()
    n = max(IMAGES, config.train.batch_size)
    images = torch.randint(0, 256, (n, 3, config.data.size, config.data.size), dtype=torch.uint8)
    dataset = _noise(images)
    with tempfile.TemporaryDirectory() as folder:
        job = trainer.Trainer(config, 0, dataset, device, RunDir(Path(folder)))
    if job.optimizer is None:
        raise UserError(f"--method {config.method_name}: it has no training step to measure")
    batch, total = config.train.batch_size, data.pretraining_images(config.data.name)
    if batch > total or not job.epochs:
        wrong = f"batch_size={batch}: {config.data.name} has {total} images" if batch > total else "epochs=0"
        raise UserError(f"train.{wrong}; there is no training step to measure")
    index = torch.arange(batch)

    def step() -> None:
        job._train_step(index, 0, 0)

    # first, as steps on one batch over and over can make weights infinite
    evaluation_seconds = _seconds(lambda: _embed(job, images), device, repeats=3)
    step_seconds = _seconds(step, device)
    parts = _parts(job, index)
    roofline = _roofline_seconds(job, parts.pop("views"))
    views = _pil_transforms(config)
    loader_seconds = _loader_seconds(images, batch, workers, views)
    loop_seconds = _loader_seconds(images, batch, workers, views, lambda x1, x2: _learn(job, x1, x2))
    report: dict[str, Any] = {
        "method": config.method_name,
        "device": str(device),
        "threads": config.train.threads,
        "batch_size": batch,
        "precision": config.train.precision,
        "compiled": job.compiled,
        "step_images_per_second": batch / step_seconds,
        "augment_images_per_second": batch / parts["augment"],
        "evaluation_images_per_second": n / evaluation_seconds,
        **{f"{name}_ms": 1000 * seconds for name, seconds in parts.items()},
        "augment_share": parts["augment"] / step_seconds,
        "roofline_share": roofline / step_seconds,
        "pil_images_per_second": batch / loader_seconds,
        "pil_step_images_per_second": batch / loop_seconds,
        "peak_memory_mb": _peak_memory_mb(device),
        "epochs": config.train.epochs,
        "projected_hours": config.train.epochs * (total // batch) * step_seconds / 3600,
    }
    if find_spec("lightly"):
        views = _lightly_transforms(config.data.size)
        report["lightly_images_per_second"] = batch / _loader_seconds(images, batch, workers, views)
    return report


def describe(measured: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        "{method}, batch {batch_size}, {precision}{compile} on {device}, {threads} threads",
        "step           {step_images_per_second:>9,.0f} images/s  (two views each)",
        "  augment      {augment_ms:>9.1f} ms  {augment_share:.1%} of the step",
        "  forward      {forward_ms:>9.1f} ms",
        "  backward     {backward_ms:>9.1f} ms",
        "  optimizer    {optimizer_ms:>9.1f} ms",
        "  EMA          {ema_ms:>9.1f} ms",
        "roofline share {roofline_share:>9.0%}  (the step's convolutions and matrix products alone, against the step)",
        "evaluation     {evaluation_images_per_second:>9,.0f} images/s",
        "augmentation   {augment_images_per_second:>9,.0f} images/s alone",
        "PIL pipeline   {pil_images_per_second:>9,.0f} images/s alone ({augment_ratio:.1f} times slower), "
        "{pil_step_images_per_second:,.0f} with the step",
        "peak memory    {peak_memory_mb:>9,.0f} MB",
        "projected      {projected_hours:>9.2f} hours for {epochs} epochs, without evaluation",
    ]
    if "lightly_images_per_second" in measured:
        lines.insert(-2, "lightly        {lightly_images_per_second:>9,.0f} images/s, its transforms alone")
    extra = {
        "compile": ", compiled" if measured["compiled"] else "",
        "augment_ratio": measured["augment_images_per_second"] / measured["pil_images_per_second"],
    }
    return "".join(line.format(**measured, **extra) + "\n" for line in lines)


def _parts(job: trainer.Trainer, index: Tensor) -> dict[str, Any]:
    """Seconds of a step's parts, each by itself; and the two views."""
    device = job.device
    images, labels = job.images[index.to(job.images.device)].to(device), job.labels[index.to(job.labels.device)]
    generator = torch.Generator().manual_seed(0)
    x1, x2 = (x.to(memory_format=job.layout) for x in job.augment(images, generator))

    def forward() -> Tensor:
        logged = job.forward(x1, x2, labels)
        job.online.seen.clear()
        return logged["loss"]

    def forward_and_backward() -> None:
        forward().backward()

    forward_seconds = _seconds(forward, device)
    both = _seconds(forward_and_backward, device)
    assert job.optimizer is not None
    return {
        "views": (x1, x2),
        "augment": _seconds(lambda: job.augment(images, generator), device),
        "forward": forward_seconds,
        "backward": both - forward_seconds,
        "optimizer": _seconds(job.optimizer.step, device),
        "ema": _seconds(lambda: job.method.after_step(0.5), device),
    }


def _roofline_seconds(job: trainer.Trainer, views: tuple[Tensor, Tensor]) -> float:
    """Seconds of the convolutions and matrix products of one step alone, forwards and backwards."""
    calls: dict[tuple[Any, ...], tuple[nn.Module, Tensor, int]] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0].detach()
        key = (id(module), x.shape, torch.is_grad_enabled())
        calls[key] = (module, x, calls[key][2] + 1 if key in calls else 1)

    hooks = [m.register_forward_hook(record) for m in job.method.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    labels = job.labels[: len(views[0])]
    bfloat16 = job.config.train.precision == "bfloat16"
    compiled = [module for module in job.method.modules() if "forward" in module.__dict__]
    forwards = [module.__dict__.pop("forward") for module in compiled]
    job.forward(*views, labels)  # uncompiled, so that the hooks see all
    job.online.seen.clear()
    for module, forward in zip(compiled, forwards, strict=True):
        module.forward = forward
    for hook in hooks:
        hook.remove()
    total, first = 0.0, True
    for (_, _, with_grad), (module, x, count) in calls.items():
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        x = x.to(dtype).requires_grad_(with_grad and not first)  # no gradient is asked of the pixels
        first = False
        weight = cast(Tensor, module.weight).detach().to(dtype).requires_grad_(with_grad)
        total += count * _seconds(_product(module, x, weight), job.device)
    return total


def _product(module: nn.Module, x: Tensor, weight: Tensor) -> Callable[[], None]:
    """A layer's product without bias: forwards, and backwards where its weight wants a gradient."""
    if isinstance(module, nn.Conv2d):
        stride, padding, dilation, groups = module.stride, module.padding, module.dilation, module.groups

        def forward() -> Tensor:
            return torch.conv2d(x, weight, None, stride, cast(Any, padding), dilation, groups)
    else:

        def forward() -> Tensor:
            return nn.functional.linear(x, weight)

    if not weight.requires_grad:
        return lambda: cast(None, forward())
    gradient = torch.ones_like(forward().detach())
    wanted = [t for t in (x, weight) if t.requires_grad]
    return lambda: cast(None, torch.autograd.grad(forward(), wanted, gradient))


class _Pictures(Dataset[tuple[Tensor, Tensor]]):
    """What a user would write: PIL images, and a transform for each view. `length` items, in turn."""

    def __init__(self, images: Tensor, length: int, transforms: _Transforms) -> None:
        self.pictures = [to_pil_image(image) for image in images]
        self.length, self.transforms = length, transforms

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        first, second = self.transforms
        picture = self.pictures[index % len(self.pictures)]
        return first(picture), second(picture)


def _loader_seconds(
    images: Tensor,
    batch: int,
    workers: int,
    transforms: _Transforms,
    use: Callable[[Tensor, Tensor], object] = lambda x1, x2: None,
) -> float:
    """Seconds a batch of a DataLoader over PIL images, and of `use` of its two views.

    Workers deliver in bursts of one batch each. So whole rounds of them are timed, after those that were prefetched.
    """
    skipped, timed = PREFETCH * workers, max(2, -(-MIN_TIMED // workers)) * workers
    pictures = _Pictures(images, (skipped + timed) * batch, transforms)
    loader = DataLoader(pictures, batch, shuffle=True, num_workers=workers, prefetch_factor=PREFETCH)
    stamps = []
    for x1, x2 in loader:
        use(x1, x2)
        stamps.append(time.perf_counter())
    return (stamps[-1] - stamps[skipped - 1]) / timed


def _learn(job: trainer.Trainer, x1: Tensor, x2: Tensor) -> None:
    """A step on views from elsewhere."""
    labels = job.labels[: len(x1)]
    job.learn(send(x1, job.device), send(x2, job.device), labels)
    _wait(job.device)


def _pil_transforms(config: RunConfig) -> tuple[v2.Compose, v2.Compose]:
    first, second = (_pil_transform(view, config.data.size) for view in config.augment.views())
    return first, second


def _pil_transform(view: ViewConfig, size: int) -> v2.Compose:
    """torchvision's transforms with a view's settings; what is off is left out."""
    crop = v2.RandomResizedCrop(size, (view.crop_min, view.crop_max), (view.ratio_min, view.ratio_max))
    jitter = v2.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
    steps: list[v2.Transform] = [crop]
    steps += [v2.RandomHorizontalFlip(view.flip)] if view.flip else []
    steps += [v2.RandomApply([jitter], view.jitter)] if view.jitter else []
    steps += [v2.RandomGrayscale(view.gray)] if view.gray else []
    blur = v2.GaussianBlur(2 * max(1, size // 20) + 1, (view.blur_sigma_min, view.blur_sigma_max))
    steps += [v2.RandomApply([blur], view.blur)] if view.blur else []
    steps += [v2.RandomSolarize(128, view.solarize)] if view.solarize else []
    mean = [0.5] * 3
    return v2.Compose([*steps, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, mean)])


def _lightly_transforms(size: int) -> tuple[Any, Any]:
    """lightly's own BYOL views of `size` pixels, without blur, as for CIFAR."""
    from lightly.transforms import byol_transform

    views = byol_transform.BYOLTransform(
        view_1_transform=byol_transform.BYOLView1Transform(input_size=size, gaussian_blur=0.0),
        view_2_transform=byol_transform.BYOLView2Transform(input_size=size, gaussian_blur=0.0),
    )
    first, second = views.transforms
    return first, second


def _noise(images: Tensor) -> data.Dataset:
    labels = torch.arange(len(images)) % N_CLASSES
    half = (0.5, 0.5, 0.5)
    everything = torch.arange(len(images))
    split = len(images) // 10
    classes = tuple(str(label) for label in range(N_CLASSES))
    return data.Dataset(
        "noise", classes, images, labels, everything[split:], everything[:split], half, half, lambda: (images, labels)
    )


def _embed(job: trainer.Trainer, images: Tensor) -> None:
    features(job.method.backbone, images, None, job.dataset.mean, job.dataset.std, job.device)


def _seconds(function: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Median seconds of a call after one that warms up; small calls are repeated until they take 20 ms."""
    function()
    number = max(1, round(0.02 / max(_once(function, device, 1), 1e-6)))
    return statistics.median(_once(function, device, number) for _ in range(repeats))


def _once(function: Callable[[], object], device: torch.device, number: int) -> float:
    _wait(device)
    begun = time.perf_counter()
    for _ in range(number):
        function()
    _wait(device)
    return (time.perf_counter() - begun) / number


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
