"""Image files and arrays -> uint8 images of one size."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from bench.data.split import Batch, Pixels

AT_ONCE = 256  # images in memory


def resized(images: Tensor, size: int) -> Pixels:
    """uint8 [k, 1 or 3, H, W] -> [k, 3, size, size]: shorter side resized with antialiasing, centre crop."""
    if images.shape[2:] != (size, size):
        images = tv.center_crop(tv.resize(images, [size], antialias=True), [size])
    pixels: Pixels = images.expand(-1, 3, -1, -1).numpy()
    return pixels


def array_batches(images: Tensor, labels: Sequence[int], size: int) -> Iterator[Batch]:
    """Batches of images uint8 [N, 1 or 3, H, W] that are in memory already."""
    for start in range(0, len(images), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        yield Batch(resized(images[part], size), [int(label) for label in labels[part]], [])


def decode(path: Path, size: int) -> Pixels:
    """An image file of any size and mode -> uint8 [3, size, size]: resized on its shorter side, centre crop."""
    with Image.open(path) as file:
        image: Image.Image = file
        if image.mode.startswith("I"):  # 16 bits; PIL's own conversion would clip them
            image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
        elif "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
    image = tv.center_crop(tv.resize(image, [size], antialias=True), [size])
    return np.asarray(image).transpose(2, 0, 1)
