"""The pipelines that others use: PIL images, torchvision's or lightly's transforms, a DataLoader."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image

from bench.config.schema import RunConfig
from bench.config.views import AugmentConfig, ViewConfig
from bench.data.resample import full_radius, tenth

PREFETCH = 2  # batches a worker, as DataLoader does by default
MIN_TIMED = 6  # batches of a DataLoader, at least

Transforms = Sequence[Callable[[Any], Tensor]]


class LeftOut(Exception):
    """A pipeline was not measured; the message says why."""


class Pictures(Dataset[tuple[Tensor, ...]]):
    """What a user would write: PIL images, and a transform for each view. `length` items, in turn."""

    def __init__(self, images: Tensor, length: int, transforms: Transforms) -> None:
        self.pictures = [to_pil_image(image) for image in images]
        self.length, self.transforms = length, transforms

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        picture = self.pictures[index % len(self.pictures)]
        return tuple(transform(picture) for transform in self.transforms)


def loader_seconds(
    images: Tensor,
    batch: int,
    workers: int,
    transforms: Transforms,
    use: Callable[..., object] = lambda *views: None,
    use_seconds: float = 0.0,
    budget: float = float("inf"),
) -> float:
    """Seconds a batch of a DataLoader over PIL images [N, 3, S, S], and of `use` of its views.

    Workers deliver in bursts of one batch each. So whole rounds of them are timed, after those that were prefetched.
    Raises LeftOut if that would take over `budget` seconds where `use` takes `use_seconds`, and where workers cannot
    be started or cannot hand over what they made (a full /dev/shm).
    """
    skipped, timed = PREFETCH * workers, max(2, -(-MIN_TIMED // workers)) * workers
    pictures = Pictures(images, (skipped + timed) * batch, transforms)
    pictures[0]  # warms up
    begun = time.perf_counter()
    pictures[1]
    needed = (skipped + timed) * max(use_seconds, (time.perf_counter() - begun) * batch / workers)
    if needed > budget:
        raise LeftOut(f"it would take {needed:.0f} s, and {budget:.0f} s are left (--seconds gives more)")
    stamps = []
    try:
        for views in DataLoader(pictures, batch, shuffle=True, num_workers=workers, prefetch_factor=PREFETCH):
            use(*views)
            stamps.append(time.perf_counter())
    except (OSError, RuntimeError) as error:
        raise LeftOut(f"DataLoader: {_reason(error)}") from error
    return (stamps[-1] - stamps[skipped - 1]) / timed


def _reason(error: Exception) -> str:
    """The last line that says something: workers send their tracebacks as text."""
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]


def pil_transforms(config: RunConfig) -> list[v2.Compose]:
    """torchvision's transforms with the settings of each view."""
    own = config.augment
    return [pil_transform(view, view.size or config.data.size, own) for view in own.views()]


def pil_transform(view: ViewConfig, size: int, shared: AugmentConfig) -> v2.Compose:
    """torchvision's transforms with a view's settings, `size` pixels; what is off is left out."""
    method = v2.InterpolationMode(shared.interpolation)
    crop = v2.RandomResizedCrop(size, (view.crop_min, view.crop_max), (view.ratio_min, view.ratio_max), method)
    jitter = v2.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
    steps: list[v2.Transform] = [crop]
    steps += [v2.RandomHorizontalFlip(view.flip)] if view.flip else []
    steps += [v2.RandomApply([jitter], view.jitter)] if view.jitter else []
    steps += [v2.RandomGrayscale(view.gray)] if view.gray else []
    radius = full_radius(size, view.blur_sigma_max) if shared.blur_kernel == "full" else tenth(size)
    blur = v2.GaussianBlur(2 * radius + 1, (view.blur_sigma_min, view.blur_sigma_max))
    steps += [v2.RandomApply([blur], view.blur)] if view.blur else []
    steps += [v2.RandomSolarize(128, view.solarize)] if view.solarize else []
    mean = [0.5] * 3
    return v2.Compose([*steps, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, mean)])


def lightly_transforms(size: int) -> tuple[Any, Any]:
    """lightly's own BYOL views of `size` pixels, without blur, as for CIFAR."""
    from lightly.transforms import byol_transform

    views = byol_transform.BYOLTransform(
        view_1_transform=byol_transform.BYOLView1Transform(input_size=size, gaussian_blur=0.0),
        view_2_transform=byol_transform.BYOLView2Transform(input_size=size, gaussian_blur=0.0),
    )
    first, second = views.transforms
    return first, second
