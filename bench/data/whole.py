"""Pictures of different shapes: what a data set has in place of one tensor where they are stored whole.

Two things are asked of the images of a data set: their centre views, `images[index]`, uint8 [n, C, S, S], which a
tensor of square images answers by itself; and a batch to crop from, `chosen(images, index, device)`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bench.data.crop import InFile, resized, threads


class Pictures:
    """N pictures, uint8 [C, H, W] each, that are read when they are asked for."""

    device = torch.device("cpu")

    def __init__(self, read: Callable[[int], Tensor | InFile], n: int, size: int, eval_crop: float) -> None:
        """read: the number of a picture -> its pixels, or where they are; size, eval_crop: of the centre views, as in
        DataConfig."""
        self.read, self.n, self.size, self.eval_crop = read, n, size, eval_crop

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Centre views: the shorter side resized to size / eval_crop, with antialiasing, then the centre square."""
        numbers = range(self.n)[index] if isinstance(index, slice) else index.flatten().tolist()
        views = threads().map(lambda number: centre(self.read(number), self.size, self.eval_crop), numbers)
        return torch.stack([*views])


class Whole(NamedTuple):
    """A batch of pictures to crop from, and the device that wants the crops."""

    pictures: Sequence[Tensor | InFile]
    """n, uint8 [C, H, W] each."""
    device: torch.device

    def sides(self) -> tuple[Tensor, Tensor]:
        """Heights and widths, int64 [n]."""
        height, width = zip(*(picture.shape[1:] for picture in self.pictures), strict=True)
        return torch.tensor(height), torch.tensor(width)


class Crops(NamedTuple):
    """What was cut from a batch of pictures, and the device that wants it."""

    pixels: tuple[Tensor, ...]
    """Of each size of views uint8 [M, C, S, S]: all of the first such view, then all of the next."""
    height: Tensor
    """int64 [n], of the pictures."""
    width: Tensor
    device: torch.device

    def sides(self) -> tuple[Tensor, Tensor]:
        return self.height, self.width


Images = Tensor | Pictures


def chosen(images: Images, index: Tensor, device: torch.device) -> Tensor | Whole:
    """The images at `index` [n] as `Augmentation` takes them: a tensor on the device, or pictures to cut from."""
    if isinstance(images, Pictures):
        return Whole([images.read(number) for number in index.tolist()], device)
    return send(images[index.to(images.device)], device)


def centre(picture: Tensor | InFile, size: int, eval_crop: float) -> Tensor:
    """uint8 [C, H, W] -> [C, size, size], as torchvision's Resize(round(size / eval_crop)) and CenterCrop(size)."""
    height, width = picture.shape[1:]
    side = round(size / eval_crop)
    tall, wide = shape(height, width, side)
    if isinstance(picture, InFile):
        picture = picture.enough(min(height, width), side)
    scaled = resized(picture, tall, wide)
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    return scaled[:, top : top + size, left : left + size]


def shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """The height and width of a picture whose shorter side becomes `shorter`."""
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device without waiting for it, which takes pinned memory. Of what is there already: the same tensor."""
    from_cpu = tensor.device.type == "cpu" and device.type == "cuda"
    return (tensor.pin_memory() if from_cpu else tensor).to(device, non_blocking=True)
