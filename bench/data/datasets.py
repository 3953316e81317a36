"""Datasets -> uint8 images, labels, and splits that are the same for all methods, seeds and machines."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from bench.config.schema import DataConfig
from bench.data import cache as images
from bench.data import downloads
from bench.data.cache import Channels, Source, Split
from bench.errors import UserError, unknown

log = logging.getLogger("bench")

DATASETS = {
    "digits": "1,797 handwritten digits, 8x8 gray, 10 classes; comes with scikit-learn, needs no download",
    "cifar10": "60,000 photographs, 32x32, 10 classes",
    "cifar100": "60,000 photographs, 32x32, 100 classes",
    "stl10": "13,000 labelled photographs, 96x96, 10 classes, and 100,000 unlabelled ones for pre-training",
    "svhn": "99,289 house-number digits, 32x32, 10 classes",
    "fashion_mnist": "70,000 pieces of clothing, 28x28 gray, 10 classes",
    "folder:PATH": "image folder: PATH/train/<class>/* and PATH/test/<class>/* (or val/), any image size",
}

PRETRAINING_IMAGES = {
    "digits": 1_438,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "stl10": 105_000,  # 100,000 of them unlabelled
    "svhn": 73_257,
    "fashion_mnist": 60_000,
}

VALIDATION_SHARE = 0.1  # of the labelled training images
HASHED_BYTES = 10**9  # of an image folder's content, for its identity
DIGITS_TEST_SHARE = 0.2  # scikit-learn's digits come without a split


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory (or memory-mapped), all images of one size."""

    name: str
    classes: tuple[str, ...]
    images: Tensor
    """uint8 [N, 3, S, S]: every pre-training image."""
    labels: Tensor
    """int64 [N]; -1 where unlabelled."""
    train: Tensor
    """int64 [n_train]: the labelled images that are not validation."""
    validation: Tensor
    """int64 [n_val]: 10 % of the labelled images, stratified; the same for all seeds and machines."""
    mean: Channels
    """A channel, of all pre-training images' pixels in [0, 1]."""
    std: Channels
    load_test: Callable[[], tuple[Tensor, Tensor]]
    """Reads the test split, which nothing else does: uint8 images [M, 3, S, S], int64 labels [M]."""
    skipped: tuple[str, ...] = ()
    """Unreadable training images that were left out, each with the reason."""
    prepare_test: Callable[[], tuple[str, ...]] = tuple
    """Decodes and caches the test images, so that unreadable ones are told before training; returns those left out."""


def load(config: DataConfig, data_dir: Path) -> Dataset:
    """The dataset `config.name` with images of `config.size` pixels; downloads and caches go to `data_dir`.

    Raises UserError, one line, if the name is unknown, or the data are missing, unreadable or too few.
    """
    _check_name(config.name)
    read_test: Callable[[], Split]
    if config.name == "digits":
        train, read_test = _digits(config.size, test=False), partial(_digits, config.size, test=True)
    elif config.name.startswith("folder:"):
        train, read_test = _folder(config, data_dir)
    else:
        train = downloads.split(config.name, "train", config.size, data_dir)
        read_test = partial(downloads.split, config.name, "test", config.size, data_dir)

    def load_test() -> tuple[Tensor, Tensor]:
        test = read_test()
        return test.images, test.labels

    rest, validation = stratified(train.labels.numpy(), VALIDATION_SHARE, train.classes, config.name)
    return Dataset(
        name=config.name,
        classes=train.classes,
        images=train.images,
        labels=train.labels,
        train=torch.from_numpy(rest),
        validation=torch.from_numpy(validation),
        mean=train.mean,
        std=train.std,
        load_test=load_test,
        prepare_test=lambda: read_test().skipped,
        skipped=train.skipped,
    )


def fingerprint(name: str) -> str:
    """Identity of the data that `name` stands for: a hash of an image folder's file names and content.

    "" for the other datasets, whose name says it all. Raises UserError if the folder is missing or has no classes.
    """
    _check_name(name)
    return _scan(name).fingerprint if name.startswith("folder:") else ""


def pretraining_images(name: str) -> int:
    """How many images `name` has to pre-train on, readable or not; raises UserError as `load` does."""
    _check_name(name)
    return len(_scan(name).train) if name.startswith("folder:") else PRETRAINING_IMAGES[name]


def stratified(
    labels: npt.NDArray[np.int64], share: float, classes: tuple[str, ...], name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A fixed split of the labelled images into rest and chosen: two sorted arrays of indices.

    Of each class `share`, rounded, is chosen, but at least one image, and one is left. The draw is made from the raw
    bits of PCG64, which numpy keeps the same in all versions. Raises UserError on a class of less than 2 images.
    """
    keys = np.random.PCG64(0).random_raw(len(labels))
    rest, chosen = [], []
    for label, class_name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(
                f"{name}: class {class_name!r} has {len(members)} readable training images; at least 2 are needed, "
                "one of them for validation"
            )
        members = members[np.argsort(keys[members], kind="stable")]
        n = min(max(1, round(share * len(members))), len(members) - 1)
        chosen.append(members[:n])
        rest.append(members[n:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(chosen))


def _check_name(name: str) -> None:
    if name not in DATASETS and not name.startswith("folder:"):
        raise unknown("dataset", name, DATASETS)


def _digits(size: int, test: bool) -> Split:
    digits = load_digits()
    classes = tuple(str(name) for name in digits.target_names)
    labels = digits.target.astype(np.int64)
    chosen = stratified(labels, DIGITS_TEST_SHARE, classes, "digits")[int(test)]
    pixels = torch.from_numpy(np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8))  # 0..16 -> 0..255
    pixels = torch.from_numpy(images.resized(pixels[:, None], size).copy())  # [n, 3, S, S]
    moments = images.Moments()
    moments.add(pixels.numpy())
    return Split(pixels, torch.from_numpy(labels[chosen]), classes, moments.mean, moments.std)


@dataclass(frozen=True)
class _Folder:
    """What lies in an image folder, by names only."""

    root: Path
    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]  # path below root, label
    test: tuple[tuple[str, int], ...]
    fingerprint: str


def _folder(config: DataConfig, data_dir: Path) -> tuple[Split, Callable[[], Split]]:
    """The training split of an image folder, and a function that reads the test split."""
    folder = _scan(config.name)
    if config.fingerprint not in ("", folder.fingerprint):
        raise UserError(f"{config.name} has changed since the run was planned: plan a new run")

    def split(part: str, files: tuple[tuple[str, int], ...]) -> Split:
        cache = data_dir / "cache" / f"folder-{folder.fingerprint}-{part}-{config.size}.npy"

        def source() -> Source:
            return Source(len(files), folder.classes, images.file_batches(folder.root, files, config.size))

        try:
            return images.cached(cache, config.size, source, config.skip_bad)
        except UserError as error:
            raise UserError(f"{config.name}: {error}") from None

    def load_test() -> Split:
        test = split("test", folder.test)
        if test.skipped:
            log.warning(
                "%s: left out %d unreadable test images: %s",
                config.name,
                len(test.skipped),
                "; ".join(test.skipped[:3]),
            )
        return test

    return split("train", folder.train), load_test


def _scan(name: str) -> _Folder:
    """List an image folder; raises UserError, one line, if it is none."""
    root = Path(name.removeprefix("folder:")).expanduser()
    if not root.is_dir():
        raise UserError(f"{name}: there is no such folder")
    tests = [part for part in ("test", "val") if (root / part).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise UserError(f"{name}: expected PATH/train/<class>/* and PATH/test/<class>/* (or PATH/val/<class>/*)")
    try:
        train, test = images.listing(root / "train"), images.listing(root / tests[0])
        files = sorted(file for part in (train, test) for names in part.values() for file in names)
        sizes = [(root / file).stat().st_size for file in files]
    except OSError as error:
        raise UserError(f"{name}: cannot list {error.filename}: {error.strerror}") from None
    if len(train) < 2:
        raise UserError(f"{name}: train/ has {len(train)} classes, at least 2 are needed: one folder a class")
    for class_name, found in train.items():
        if len(found) < 2:
            raise UserError(f"{name}: train/{class_name} has {len(found)} images, at least 2 are needed")
    if extra := sorted(set(test) - set(train)):
        raise UserError(f"{name}: classes of {tests[0]}/ that train/ lacks: {', '.join(extra[:5])}")
    if not any(test.values()):
        raise UserError(f"{name}: {tests[0]}/ has no images")

    labels = {class_name: label for label, class_name in enumerate(train)}
    pairs = [tuple((f, labels[c]) for c, names in part.items() for f in names) for part in (train, test)]
    return _Folder(root, tuple(train), pairs[0], pairs[1], _digest(root, files, sizes))


def _digest(root: Path, files: list[str], sizes: list[int]) -> str:
    """Hash of all names and sizes, and of the content: all of it, or of evenly spaced files of 1 GB if it is more."""
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        digest.update(os.fsencode(file) + b"\0%d\n" % size)
    for file in files[:: 1 + sum(sizes) // HASHED_BYTES]:
        with contextlib.suppress(OSError):  # unreadable: told when it is decoded
            digest.update(hashlib.sha256((root / file).read_bytes()).digest())
    return digest.hexdigest()[:16]
