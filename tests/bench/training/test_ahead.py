"""Crops that processes of their own cut ahead of the training."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench.config.sections import DataConfig
from bench.config.views import AugmentConfig
from bench.data import datasets
from bench.data.augment import Augmentation
from bench.data.whole import Crops, Pictures, chosen
from bench.seeds import stream
from bench.training.ahead import Ahead, Cutting, order

CPU = torch.device("cpu")
VIEWS = Augmentation(AugmentConfig(gray=0.3, blur=0.5), 48, (0.5,) * 3, (0.2,) * 3)
BATCH = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """26 JPEG files of different shapes."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 26), ("test", 4)):
        for i in range(n):
            file = tmp_path / "photos" / part / "ab"[i % 2] / f"{i:02d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            small.resize((60 + 3 * i, 90 - i), Image.Resampling.BICUBIC).save(file)
    return tmp_path / "photos"


def pictures(folder: Path, tmp_path: Path, cache: str) -> Pictures:
    store = 56 if cache == "pixels" else 0
    config = DataConfig(name=f"folder:{folder}", size=48, store=store, cache=cache)
    images = datasets.load(config, tmp_path).images
    assert isinstance(images, Pictures)
    return images


def own(images: Pictures, epoch: int, batch: int, part: slice) -> tuple[Tensor, ...]:
    """What the training cuts itself."""
    index = order(0, epoch, len(images))[batch * BATCH :][:BATCH]
    return VIEWS(chosen(images, index[part], CPU), stream(0, "augment", epoch, batch), part, len(index))


def finished(crops: Crops, epoch: int, batch: int, part: slice) -> tuple[Tensor, ...]:
    return VIEWS(crops, stream(0, "augment", epoch, batch), part, BATCH)


@pytest.mark.parametrize("cache", ["pixels", "files"])
@pytest.mark.parametrize("part", [slice(0, 8), slice(3, 8)])
def test_views_have_the_bits_of_those_that_are_cut_in_turn(
    folder: Path, tmp_path: Path, cache: str, part: slice
) -> None:
    """In every epoch, from its middle on too, for all of a batch and for a device's part."""
    images = pictures(folder, tmp_path, cache)
    ahead = Ahead(Cutting(images, VIEWS, 0, BATCH, part), 2, CPU)
    for epoch, first in ((0, 0), (1, 2), (2, 0)):
        for batch, crops in enumerate(ahead.epoch(epoch, first, 3), start=first):
            ours, theirs = finished(crops, epoch, batch, part), own(images, epoch, batch, part)
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert batch == 2


def test_a_picture_that_cannot_be_read_any_more_is_named(folder: Path, tmp_path: Path) -> None:
    ahead = Ahead(Cutting(pictures(folder, tmp_path, "files"), VIEWS, 0, BATCH, slice(0, BATCH)), 2, CPU)
    for file in folder.rglob("*.jpg"):
        file.write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match=r"\.jpg could be read when the run began"):
        [*ahead.epoch(0, 0, 3)]


def test_no_process_outlives_an_epoch_that_was_left(folder: Path, tmp_path: Path) -> None:
    ahead = Ahead(Cutting(pictures(folder, tmp_path, "files"), VIEWS, 0, BATCH, slice(0, BATCH)), 2, CPU)
    crops = ahead.epoch(0, 0, 3)
    next(crops)
    processes = [worker.pid for worker in ahead.loader._iterator._workers]  # type: ignore[union-attr]
    os.kill(processes[0], 0)
    del ahead, crops
    deadline = time.monotonic() + 60
    while any(alive(process) for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_they_leave_signals_to_the_run(folder: Path, tmp_path: Path) -> None:
    """SIGINT reaches all processes of a terminal: the run ends with its checkpoint, for which it may need them."""
    ahead = Ahead(Cutting(pictures(folder, tmp_path, "files"), VIEWS, 0, BATCH, slice(0, BATCH)), 1, CPU)
    crops = ahead.epoch(0, 0, 3)
    next(crops)
    (worker,) = ahead.loader._iterator._workers  # type: ignore[union-attr]
    os.kill(worker.pid, signal.SIGINT)
    assert len([*crops]) == 2


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
