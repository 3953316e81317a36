"""A small encoder and 900 digits, for tests of evaluations."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from bench import backbone
from bench.config.sections import BackboneConfig, EvalConfig
from bench.config.views import AugmentConfig
from bench.data.datasets import Dataset
from bench.evaluation.subject import Subject

CPU = torch.device("cpu")
CROPS = AugmentConfig(crop_min=0.5, flip=0.0)


def digit_images() -> tuple[Tensor, Tensor]:
    data = load_digits()
    gray = torch.tensor(data.images[:900], dtype=torch.float32)[:, None] * (255 / 16)  # [n, 1, 8, 8]
    images = F.interpolate(gray, size=12, mode="bilinear").round().to(torch.uint8).expand(-1, 3, -1, -1)
    return images.contiguous(), torch.tensor(data.target[:900])


def dataset(load_test: Callable[[], tuple[Tensor, Tensor]] | None = None) -> Dataset:
    """600 training images, 500 of them labelled, 100 of these validation; 300 test images."""
    images, labels = digit_images()
    held_out = images[600:], labels[600:]
    known = torch.where(torch.arange(600) < 500, labels[:600], -1)
    return Dataset(
        name="digits",
        classes=tuple("0123456789"),
        images=images[:600],
        labels=known,
        train=torch.arange(400),
        validation=torch.arange(400, 500),
        mean=(0.3, 0.3, 0.3),
        std=(0.35, 0.35, 0.35),
        load_test=load_test or (lambda: held_out),
    )


def make_backbone() -> nn.Module:
    torch.manual_seed(0)
    network = backbone.create(BackboneConfig(name="resnet10_small"), 12)
    network(torch.randn(64, 3, 12, 12))  # running statistics that are not those of the start
    return network


def subject(
    network: nn.Module, data: Dataset, device: torch.device = CPU, seed: int = 0, name: str = "x", **config: Any
) -> Subject:
    place = (data.mean, data.std, 12, device, seed)
    return Subject(name, network, data, data.name, *place, EvalConfig(**config), CROPS)
