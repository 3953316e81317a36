"""Crops of whole pictures, cut by processes of their own while the device works on the batches before."""

import signal
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.config.sections import TrainConfig
from bench.data.augment import Augmentation
from bench.data.crop import threads
from bench.data.whole import Crops, Images, Pictures, chosen
from bench.seeds import stream
from bench.team import Team

CPU = torch.device("cpu")
Place = tuple[int, int]
"""Of a batch: its epoch, and its number there."""


@lru_cache(maxsize=1)  # every batch of an epoch asks
def order(seed: int, epoch: int, n: int) -> Tensor:
    """In which an epoch goes through n images."""
    return torch.randperm(n, generator=stream(seed, "order", epoch))


class Ahead:
    """The crops of the batches to come, equal to those that the training would cut itself."""

    @classmethod
    def of(
        cls, images: Images, augment: Augmentation, seed: int, config: TrainConfig, device: torch.device, team: Team
    ) -> "Ahead | None":
        """Where a GPU trains on whole pictures, the processors are free to cut them: train.threads of them."""
        if device.type != "cuda" or not isinstance(images, Pictures):
            return None
        cutting = Cutting(images, augment, seed, config.batch_size, team.part(config.batch_size))
        return cls(cutting, config.threads, device)

    def __init__(self, cutting: "Cutting", processes: int, device: torch.device) -> None:
        self.device = device
        self.wanted: list[Place] = []
        self.loader = DataLoader(
            cutting,
            batch_size=None,
            sampler=self.wanted,
            num_workers=processes,
            pin_memory=device.type == "cuda",
            persistent_workers=True,
            worker_init_fn=_begin,
        )

    def epoch(self, epoch: int, first: int, steps: int) -> Iterator[Crops]:
        """From batch number `first` on. Raises RuntimeError if a process was killed, or cannot read a picture."""
        self.wanted[:] = [(epoch, batch) for batch in range(first, steps)]
        for found in self.loader:
            if isinstance(found, str):
                raise RuntimeError(found)
            pixels, height, width = found
            yield Crops(tuple(pixels), height, width, self.device)


class Cutting(Dataset[tuple[tuple[Tensor, ...], Tensor, Tensor] | str]):
    """The place of a batch -> its crops, and the sides of its pictures; or why there are none."""

    def __init__(self, pictures: Pictures, augment: Augmentation, seed: int, batch: int, part: slice) -> None:
        """batch: images a step, of which this process has a part."""
        self.pictures, self.augment, self.seed, self.batch, self.part = pictures, augment, seed, batch, part

    def __getitem__(self, place: Place) -> tuple[tuple[Tensor, ...], Tensor, Tensor] | str:
        epoch, batch = place
        index = order(self.seed, epoch, len(self.pictures))[batch * self.batch :][: self.batch]
        whole = chosen(self.pictures, index[self.part], CPU)
        assert not isinstance(whole, Tensor)
        draws = stream(self.seed, "augment", epoch, batch)
        try:
            crops = self.augment.cut(whole, draws, self.part, len(index))
        except RuntimeError as error:
            return str(error)  # as text: torch would add a traceback, and end its processes slowly
        return crops.pixels, crops.height, crops.width


def _begin(number: int) -> None:
    """A process forked from the run's: what that does on signals is not for it, and threads are not forked."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends first, and then its processes
    threads.cache_clear()
