"""What methods see: images and the views that training makes of them, drawn by training's own pipeline and streams."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import interpolate

from bench.config.schema import RunConfig
from bench.data import datasets
from bench.data.augment import Augmentation
from bench.data.datasets import Dataset
from bench.data.whole import chosen
from bench.errors import UserError
from bench.export.sheet import Panel, draw
from bench.seeds import stream

DRAWS = 3
"""Epochs of which the views of an image are shown."""
SEED = 0


class Seen(NamedTuple):
    """Some images and what training makes of them, uint8 [N, 3, S, S] each; small views are enlarged to be seen."""

    images: Tensor
    views: list[list[Tensor]]
    """Every view, DRAWS times."""


def preview(configs: Mapping[str, RunConfig], data_dir: Path, images: int) -> Figure:
    """A panel for each way in which methods' images are augmented; configs: name -> settings. Raises UserError."""
    alike: dict[str, list[str]] = {}
    for name, config in configs.items():
        alike.setdefault(_pipeline(config), []).append(name)
    panels = []
    for names in alike.values():
        config = configs[names[0]]
        dataset = datasets.load(config.data, data_dir)
        seen = look(config, dataset, images)
        columns = [seen.images, *(view for views in seen.views for view in views)]
        titles = ["image", *(f"view {i}" for views in seen.views for i in range(1, len(views) + 1))]
        panels.append(Panel(", ".join(names), torch.stack(columns, dim=1), titles))
    return draw(panels)


def look(config: RunConfig, dataset: Dataset, images: int) -> Seen:
    """The first images of seed 0's first batch, with the views that it has of them in the epochs that they occur in.

    Raises UserError if a batch has fewer images.
    """
    whole, n = config.train.batch_size, len(dataset.images)
    if whole > n:
        raise UserError(f"train.batch_size={whole}: {dataset.name} has {n} pre-training images")
    if images > whole:
        raise UserError(f"--images {images}: a batch has {whole}")
    augment = Augmentation(config.augment, config.data.size, dataset.mean, dataset.std)
    first = _order(n, 0)[:images]
    found: list[list[tuple[Tensor, ...]]] = [[] for _ in range(images)]
    for epoch in count():
        place = _order(n, epoch).argsort()[first].tolist()  # of each image in this epoch
        for i, (image, at) in enumerate(zip(first.tolist(), place, strict=True)):
            batch, row = divmod(at, whole)
            if batch < n // whole and len(found[i]) < DRAWS:  # the last, incomplete batch is dropped
                draws = stream(SEED, "augment", epoch, batch)
                found[i].append(
                    augment(
                        chosen(dataset.images, torch.tensor([image]), torch.device("cpu")),
                        draws,
                        slice(row, row + 1),
                        whole,
                    )
                )
        if all(len(views) == DRAWS for views in found):
            break
    drawn = [[torch.cat(views) for views in zip(*(of[d] for of in found), strict=True)] for d in range(DRAWS)]
    return Seen(dataset.images[first], [[_pixels(view, dataset) for view in views] for views in drawn])


def _order(n: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=stream(SEED, "order", epoch))


def _pixels(views: Tensor, dataset: Dataset) -> Tensor:
    """Normalised views [N, 3, S, S] as pixels, uint8, at the size of the data set's images."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (dataset.mean, dataset.std))
    pixels = (views * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)
    side = dataset.images[:1].shape[-1]
    return pixels if pixels.shape[-1] == side else interpolate(pixels, (side, side), mode="nearest")


def _pipeline(config: RunConfig) -> str:
    """Equal for equal views: the data, how they are augmented, and how many are drawn for at once."""
    return "\n".join([config.data.model_dump_json(), config.augment.model_dump_json(), str(config.train.batch_size)])
