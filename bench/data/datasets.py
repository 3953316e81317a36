"""Datasets -> uint8 images, labels, and splits that are the same for all methods, seeds and machines.

Names, counts and fingerprints are there without torch, torchvision, scikit-learn or Pillow: `load` alone imports them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.config.sections import DataConfig
from bench.data import folders, row_files
from bench.data.rows import Choice
from bench.errors import UserError, unknown
from bench.runs.identity import FOLDER, FOLDER_PATH, HUB, PARQUET, at_path, data_path

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.split import Channels, Split
    from bench.data.whole import Images

    Reader = Callable[[DataConfig, Path], tuple[Split, Callable[[], Split]]]


class Entry(NamedTuple):
    """A dataset that can be named."""

    title: str
    description: str
    pretraining_images: int | None
    """None: as many as are found."""
    reader: str
    """module:name of a function (DataConfig, data directory) -> the training split, a function that reads the test."""
    licence: str = ""
    """Of the images, as their authors state it; "": not known here."""


NO_LICENCE = "none stated by its authors"
DATASETS = {
    "digits": Entry(
        "Digits",
        "1,797 handwritten digits, 8x8 gray, 10 classes; comes with scikit-learn, needs no download",
        1_438,
        "bench.data.digits:read",
        "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
    ),
    "cifar10": Entry(
        "CIFAR-10", "60,000 photographs, 32x32, 10 classes", 50_000, "bench.data.downloads:cifar10", NO_LICENCE
    ),
    "cifar100": Entry(
        "CIFAR-100", "60,000 photographs, 32x32, 100 classes", 50_000, "bench.data.downloads:cifar100", NO_LICENCE
    ),
    "stl10": Entry(
        "STL-10",
        "13,000 labelled photographs, 96x96, 10 classes, and 100,000 unlabelled ones for pre-training",
        105_000,  # 100,000 of them unlabelled
        "bench.data.downloads:stl10",
        NO_LICENCE,
    ),
    "svhn": Entry(
        "SVHN",
        "99,289 house-number digits, 32x32, 10 classes",
        73_257,
        "bench.data.downloads:svhn",
        "for non-commercial use only",
    ),
    "fashion_mnist": Entry(
        "Fashion-MNIST",
        "70,000 pieces of clothing, 28x28 gray, 10 classes",
        60_000,
        "bench.data.downloads:fashion_mnist",
        "MIT",
    ),
    FOLDER_PATH: Entry(
        "image folder",
        "PATH/train/<class>/* and PATH/test/<class>/* (or val/), any image size; unlabelled images in PATH/unlabeled/",
        None,
        "bench.data.image_files:read",
    ),
    "parquet:PATH": Entry(
        "parquet files",
        "PATH/train*.parquet and PATH/test*.parquet (or validation*), with columns of images and of labels",
        None,
        "bench.data.row_images:read",
    ),
    "hf:NAME": Entry(
        "Hugging Face",
        "a data set of the Hugging Face Hub, or NAME#CONFIG of it, with columns of images and of labels",
        None,
        "bench.data.row_images:read",
    ),
}
NO_CHOICE = Choice()

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue
VALIDATION_SHARE = 0.1  # of the labelled training images


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory, or memory-mapped."""

    name: str
    classes: tuple[str, ...]
    images: Images
    """uint8 [N, 3, S, S], or pictures of different shapes with such centre views: every pre-training image."""
    labels: Tensor
    """int64 [N]; -1 where unlabelled."""
    train: Tensor
    """int64 [n_train]: the labelled images that are not validation."""
    validation: Tensor
    """int64 [n_val]: 10 % of the labelled images, stratified; the same for all seeds and machines."""
    mean: Channels
    """A channel, of all pre-training images' pixels in [0, 1]."""
    std: Channels
    load_test: Callable[[], tuple[Images, Tensor]]
    """Reads the test split, which nothing else does: uint8 images [M, 3, S, S], int64 labels [M]."""
    check: Callable[[], list[str]] = list
    """Decodes and caches the test images too, before training; returns remarks on what was left out or looks wrong.

    Raises UserError if many test images are training images, or some are unreadable."""

    @property
    def diagnosed(self) -> Tensor:
        """int64 [n]: the images for diagnostics that need no label: those of validation; without labels every tenth."""
        import torch

        n = len(self.images)
        return self.validation if self.classes else torch.arange(0, n, round(1 / VALIDATION_SHARE) if n > 100 else 1)


def load(config: DataConfig, data_dir: Path) -> Dataset:
    """The dataset `config.name` with images of `config.size` pixels; downloads and caches go to `data_dir`.

    Raises UserError, one line, if the name is unknown, or the data are missing, unreadable or too few.
    """
    import numpy as np
    import torch

    from bench.data import checks
    from bench.data.strata import stratified

    check_channels(config)
    module, _, function = entry(config.name).reader.partition(":")
    read: Reader = getattr(importlib.import_module(module), function)
    train, read_test = read(config, data_dir)

    def load_test() -> tuple[Images, Tensor]:
        test = read_test()
        return test.images, test.labels

    def check() -> list[str]:
        if not train.classes:
            return checks.of_split(train, "training")
        test = read_test()
        return [
            *checks.of_split(train, "training"),
            *checks.of_split(test, "test"),
            *checks.of_both(train, test, config.name),
        ]

    rest, validation = (
        stratified(train.labels.numpy(), VALIDATION_SHARE, train.classes, config.name)
        if train.classes
        else (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    )
    return Dataset(
        name=config.name,
        classes=train.classes,
        images=train.images,
        labels=train.labels,
        train=torch.from_numpy(rest),
        validation=torch.from_numpy(validation),
        mean=train.mean if config.normalize == "own" else IMAGENET_MEAN,
        std=train.std if config.normalize == "own" else IMAGENET_STD,
        load_test=load_test,
        check=check,
    )


def entry(name: str) -> Entry:
    """The entry of DATASETS that `name` stands for. Raises UserError if there is none."""
    kind, colon, place = name.partition(":")
    known = next((key for key in DATASETS if place and colon and key.startswith(kind + colon)), name)
    if known not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    return DATASETS[known]


def located(name: str, setting: str) -> str:
    """`name`, known, with its path made absolute if it has one. Raises UserError, which names the setting."""
    entry(name)
    path = data_path(name)
    if path is None:
        return name
    if not name.isprintable():
        raise UserError(f"{setting}{name!r}: the path has characters that are no text; rename it or link to it")
    return at_path(name, path.resolve())


def fingerprint(name: str, classes: str = "", choice: Choice = NO_CHOICE) -> str:
    """Identity of the data that `name` stands for: a hash of an image folder's file names and content, or a table's.

    "" for the other datasets, whose name says it all. classes: `data.classes` of a folder; choice: columns and splits
    of a table. Raises UserError if the data are missing, have no classes or no images, or have nothing to choose from.
    """
    entry(name)
    if classes and not name.startswith(FOLDER):
        raise UserError(f"data.classes={classes}: of image folders only, and {name} is none")
    if name.startswith((PARQUET, HUB)):
        return row_files.read(name, choice).fingerprint()
    if any(choice):
        given = next(f"data.{key}={value}" for key, value in choice._asdict().items() if value)
        raise UserError(f"{given}: {name} has no columns and no other splits; only {PARQUET}PATH and {HUB}NAME have")
    return folders.fingerprint(folders.read(name, classes)) if name.startswith(FOLDER) else ""


def check_channels(config: DataConfig) -> None:
    """Raises UserError if the dataset has no images of so many channels: few have others than colours or gray."""
    if config.channels not in (1, 3) and not config.name.startswith(FOLDER):
        raise UserError(
            f"data.channels={config.channels}: {config.name} has colours or gray: 3 or 1; only image folders of .npy "
            "or TIFF have others"
        )


def labelled(config: DataConfig) -> bool:
    """Whether some of its images have labels; raises UserError as `fingerprint` does."""
    return not config.name.startswith(FOLDER) or bool(folders.read(config.name, config.classes).classes)


def pretraining_images(config: DataConfig) -> int:
    """How many images a dataset has to pre-train on, readable or not; raises UserError as `load` does."""
    if (count := entry(config.name).pretraining_images) is not None:
        return count
    if config.name.startswith(FOLDER):
        return len(folders.read(config.name, config.classes).train)
    return row_files.read(config.name, Choice.of(config)).train.n
