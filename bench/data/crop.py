"""Random resized crops: where they lie, and their pixels.

torchvision's RandomResizedCrop. Of images of one size that are only enlarged, all crops are made at once on the device
(`bench.data.augment`); from whole pictures each is cut on the CPU, which reads nothing else, and resized with
antialiasing by torch's own kernel for bytes.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench.config.views import ViewConfig

ATTEMPTS = 10  # at a crop that fits into the image
FINER = 2  # what is decoded at a fraction has twice the pixels of its crop on a side, as in Pillow's thumbnails
Sides = int | Tensor
"""Of images: of all, or int64 [n] of each."""


def place(
    view: ViewConfig, height: Sides, width: Sides, area: Tensor, ratio: Tensor, place_y: Tensor, place_x: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """torchvision's RandomResizedCrop.get_params for n samples at once.

    Uniform draws `area`, `ratio` [10, n] and `place_y`, `place_x` [n] -> top, left, height, width, int64 [n].
    """
    area = height * width * (view.crop_min + (view.crop_max - view.crop_min) * area.double())
    low, high = math.log(view.ratio_min), math.log(view.ratio_max)
    ratio = torch.exp(low + (high - low) * ratio.double())
    w = (area * ratio).sqrt().round().long()  # [attempts, n]
    h = (area / ratio).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(dim=0, keepdim=True)  # the first attempt that fits
    w, h = w.gather(0, first)[0], h.gather(0, first)[0]  # [n]
    top = (place_y.double() * (height - h + 1)).long()
    left = (place_x.double() * (width - w + 1)).long()

    # no attempt fits: the largest centre crop whose aspect is allowed
    w0, h0 = _centre(view, height, width)
    found = fits.any(dim=0)
    return (
        torch.where(found, top, (height - h0) // 2),
        torch.where(found, left, (width - w0) // 2),
        torch.where(found, h, h0),
        torch.where(found, w, w0),
    )


def _centre(view: ViewConfig, height: Sides, width: Sides) -> tuple[Tensor, Tensor]:
    """Width and height of the largest crop whose aspect is allowed."""
    tall, wide = torch.as_tensor(height).double(), torch.as_tensor(width).double()
    aspect = wide / tall
    w = torch.where(aspect <= view.ratio_max, wide, (tall * view.ratio_max).round()).long()
    h = torch.where(aspect >= view.ratio_min, tall, (wide / view.ratio_min).round()).long()
    return w.clamp(min=1), h.clamp(min=1)


class InFile(NamedTuple):
    """A picture that is decoded when it is cut."""

    shape: tuple[int, int, int]
    """C, H, W."""
    read: Callable[[float], Tensor]
    """shrink -> uint8 [C, H, W], or smaller, by `shrink` at most."""

    def enough(self, side: int, size: int) -> Tensor:
        """Its pixels, fine enough for parts of at least `side` pixels to become `size`."""
        return self.read(side / size / FINER)


Box = tuple[int, int, int, int, bool]
"""Top, left, height, width in pixels; whether the crop is flipped."""


def cut(
    pictures: Sequence[Tensor | InFile], boxes: Sequence[Box], size: int, interpolation: str = "bilinear"
) -> Tensor:
    """Crops of pictures uint8 [C, H, W] of any shape, resized with antialiasing -> uint8 [m, C, size, size].

    Box m is of picture m mod n, which is decoded once for all of its crops. What is then smaller than its file says is
    cut to the nearest pixel; no crop is enlarged for that.
    """
    n, numbered = len(pictures), [*enumerate(boxes)]
    out = torch.empty(len(boxes), pictures[0].shape[0], size, size, dtype=torch.uint8)

    def crops_of(number: int) -> None:
        picture = pictures[number]
        own = numbered[number::n]
        if isinstance(picture, InFile):
            pixels = picture.enough(min(min(height, width) for _, (_, _, height, width, _) in own), size)
        else:
            pixels = picture
        down, across = (now / before for now, before in zip(pixels.shape[1:], picture.shape[1:], strict=True))
        for m, (top, left, height, width, flip) in own:
            rows = slice(round(top * down), max(round(top * down) + 1, round((top + height) * down)))
            columns = slice(round(left * across), max(round(left * across) + 1, round((left + width) * across)))
            crop = resized(pixels[:, rows, columns], size, size, interpolation)
            out[m] = crop.flip(2) if flip else crop

    list(threads().map(crops_of, range(n)))
    return out


def resized(image: Tensor, height: int, width: int, interpolation: str = "bilinear") -> Tensor:
    """uint8 [C, H, W] -> [C, height, width], bilinear or bicubic with antialiasing, as torchvision's on bytes."""
    if image.shape[1:] == (height, width):
        return image
    return interpolate(image[None], (height, width), mode=interpolation, antialias=True)[0]


@cache
def threads() -> ThreadPoolExecutor:
    """As many as this process has for its tensors: runs side by side share the cores."""
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="crop")
