"""What one split of a dataset is, in the cache and on its way there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bench.data.whole import Images
from bench.errors import UserError, few

Pixels = npt.NDArray[np.uint8]
Channels = tuple[float, ...]


@dataclass(frozen=True)
class Split:
    """One split of a dataset."""

    images: Images  # uint8 [N, C, S, S], or pictures of different shapes that give such centre views
    labels: Tensor  # int64 [N]; -1 where unlabelled
    classes: tuple[str, ...]
    mean: Channels  # a channel, of pixels in [0, 1]
    std: Channels
    skipped: tuple[tuple[str, str], ...] = ()  # unreadable files, with the reason
    flat: tuple[int, ...] = ()  # numbers of the images of one colour
    several: tuple[int, ...] = ()  # numbers of the images whose files have more frames or pages
    digests: tuple[str, ...] = ()  # N hashes of the files' bytes; none for images that are no files of their own
    names: tuple[str, ...] = ()  # of the N files
    highest: int = 255  # of all pixels
    remarks: tuple[str, ...] = ()  # what else a user should know


@dataclass(frozen=True)
class Batch:
    """Some images on their way into the cache."""

    images: Pixels  # [k, C, S, S]
    labels: list[int]  # [k]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    several: list[bool] = field(default_factory=list)  # [k] or none
    digests: list[str] = field(default_factory=list)  # [k] or none
    pictures: list[Pixels] = field(default_factory=list)  # k, [H, W, C] each, where they are kept whole; images: none
    shapes: list[tuple[int, int]] = field(default_factory=list)  # k or none; height and width in the file, upright
    facts: list["Facts"] = field(default_factory=list)  # k, of pictures


@dataclass(frozen=True)
class Source:
    """Where the images of a split come from."""

    n: int  # images, readable or not
    classes: tuple[str, ...]
    batches: Iterable[Batch]


class Moments:
    """Mean and standard deviation a channel, from exact integer sums: equal on every machine."""

    def __init__(self, n_channels: int = 3) -> None:
        self.n = 0
        self.sum = np.zeros(n_channels, dtype=np.int64)
        self.sum_of_squares = np.zeros(n_channels, dtype=np.int64)

    @classmethod
    def of(cls, numbers: Iterable["Moments"], n_channels: int) -> "Moments":
        """Of several together."""
        whole = cls(n_channels)
        for each in numbers:
            whole.n += each.n
            whole.sum += each.sum
            whole.sum_of_squares += each.sum_of_squares
        return whole

    def add(self, images: Pixels) -> None:
        """images: [k, C, S, S], as many as fit into memory four times."""
        values = images.astype(np.int32)
        self.n += values[:, 0].size
        self.sum += values.sum(axis=(0, 2, 3), dtype=np.int64)
        self.sum_of_squares += np.square(values, out=values).sum(axis=(0, 2, 3), dtype=np.int64)

    @property
    def mean(self) -> Channels:
        """Of pixels in [0, 1]."""
        return channels(self.sum / max(1, self.n) / 255)

    @property
    def std(self) -> Channels:
        """Of pixels in [0, 1]; 1 for a channel that is constant, so that it can be divided by."""
        variance = self.sum_of_squares / max(1, self.n) / 255**2 - np.square(self.mean)
        return channels(np.where(variance > 1e-12, np.sqrt(variance.clip(min=0)), 1.0))


class Facts(NamedTuple):
    """What a cache says of a picture."""

    moments: Moments
    highest: int
    flat: bool

    @classmethod
    def of(cls, picture: Pixels) -> "Facts":
        """picture: [H, W, C]."""
        alone = picture.transpose(2, 0, 1)[None]
        moments = Moments(alone.shape[1])
        moments.add(alone)
        return cls(moments, int(picture.max()), bool(flat(alone)))


def channels(values: Any) -> Channels:
    return tuple(float(value) for value in values)


def flat(images: Pixels) -> list[int]:
    """[k, C, H, W] -> which of them are of one colour, give or take one step of 255."""
    spread = images.max(axis=(2, 3)) - images.min(axis=(2, 3))  # [k, C]
    return [i for i, widest in enumerate(spread.max(axis=1).tolist()) if widest <= 1]


def unreadable(skipped: Sequence[tuple[str, str]], n: int) -> UserError:
    """Of n images these cannot be read: names and reasons."""
    return UserError(
        f"{len(skipped)} of {n} images are unreadable: {few([f'{name} ({reason})' for name, reason in skipped])}: "
        "mend or remove them, or leave them out with --set data.skip_bad=true"
    )
