"""The splits of an image folder, decoded once."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.config.sections import DataConfig
from bench.data import bands, cache, folders, pictures, shards
from bench.data.split import Batch, Facts, Source, Split
from bench.errors import UserError, few

LOOKED_AT = 256  # pixels of the shorter side at which statistics are taken of pictures that stay in their files

log = logging.getLogger("bench")


def read(config: DataConfig, data_dir: Path) -> tuple[Split, Callable[[], Split]]:
    """The training split of an image folder, and a function that reads the test split. Raises UserError."""
    folder = folders.read(config.name, config.classes)
    fingerprint = folders.fingerprint(folder)
    if config.fingerprint not in ("", fingerprint):
        raise UserError(f"{config.name} has changed since the run was planned: plan a new run")

    tiff = any(name.lower().endswith((".tif", ".tiff")) for name, _ in folder.train)
    if config.channels not in (1, 3) and tiff and not bands.can_read_tiff():
        raise UserError(f"data.channels={config.channels}: {bands.NEEDED}")

    def split(part: str, files: tuple[tuple[str, int], ...]) -> Split:
        cached = data_dir / "cache" / f"folder-{fingerprint}-{part}-{cache.shown(config)}"
        stay = shards.Files(folder.root, [name for name, _ in files]) if config.cache == "files" else None

        def source() -> Source:
            return Source(len(files), folder.classes, file_batches(folder.root, files, config.size, config.channels))

        def kept() -> shards.Kept:
            def some(places: slice) -> Iterator[Batch]:
                return file_batches(folder.root, files[places], config.store or LOOKED_AT, config.channels, whole=True)

            return shards.Kept(len(files), folder.classes, some)

        try:
            if config.whole:
                found = shards.cached(cached, kept, config, pictures.VERSION, stay)
            else:
                path, n = cached.with_name(f"{cached.name}.npy"), config.channels
                found = cache.cached(path, config.size, source, config.skip_bad, pictures.VERSION, n)
        except UserError as error:
            raise UserError(f"{config.name}: {error}") from None
        unreadable = {name for name, _ in found.skipped}
        return replace(found, names=tuple(name for name, _ in files if name not in unreadable))

    def load_test() -> Split:
        if not folder.classes:
            raise UserError(f"{config.name} has no labels, and no test images with it")
        test = split("test", folder.test)
        if test.skipped:
            names = few([name for name, _ in test.skipped])
            log.info("%s: left out %d unreadable test images: %s", config.name, len(test.skipped), names)
        return test

    return replace(split("train", folder.train), remarks=folder.remarks), load_test


class Encoded(NamedTuple):
    """An image file that is not read yet."""

    name: str
    label: int
    read: Callable[[], bytes]


class _Read(NamedTuple):
    """One file: its picture, or why it has none."""

    name: str
    label: int
    picture: pictures.Decoded | None = None
    digest: str = ""
    facts: Facts | None = None
    problem: str = ""


def file_batches(
    root: Path, files: Sequence[tuple[str, int]], size: int, n_channels: int = 3, whole: bool = False
) -> Iterator[Batch]:
    """Batches of image files, (path below `root`, label) each, decoded by several threads as `pictures.decode` does."""
    chunks = (files[start : start + pictures.AT_ONCE] for start in range(0, len(files), pictures.AT_ONCE))
    encoded = ([Encoded(name, label, (root / name).read_bytes) for name, label in chunk] for chunk in chunks)
    return decoded(encoded, size, n_channels, whole)


def decoded(
    chunks: Iterable[Sequence[Encoded]], size: int, n_channels: int = 3, whole: bool = False
) -> Iterator[Batch]:
    """The images of the chunks in batches, decoded by several threads."""

    def read_one(file: Encoded) -> _Read:
        name, label, read = file
        try:
            content = read()
            picture = pictures.decode(content, size, n_channels, whole)
        except Exception as error:  # decoders of damaged files raise nearly anything; the reason is shown
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return _Read(name, label, problem=_reason(text) or type(error).__name__)
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        facts = Facts.of(picture.pixels) if whole else None  # here, because it takes as long as all else
        return _Read(name, label, picture, digest, facts)

    some = max(1, min(pictures.AT_ONCE, pictures.PIXELS_AT_ONCE // size**2))
    parts = (chunk[start : start + some] for chunk in chunks for start in range(0, len(chunk), some))
    with ThreadPoolExecutor() as pool:
        for part in parts:
            results = list(pool.map(read_one, part))
            good = [result for result in results if result.picture]
            found = [result.picture for result in results if result.picture]
            images = [picture.pixels for picture in found]
            square = np.stack(images) if images and not whole else np.empty((0, n_channels, size, size), dtype=np.uint8)
            yield Batch(
                images=square,
                pictures=images if whole else [],
                shapes=[(picture.height, picture.width) for picture in found],
                facts=[result.facts for result in good if result.facts],
                labels=[result.label for result in good],
                skipped=[(result.name, result.problem) for result in results if not result.picture],
                several=[picture.several for picture in found],
                digests=[result.digest for result in good],
            )


def _reason(text: str) -> str:
    """Pillow names the object that holds the bytes; a reader wants none of it."""
    return "no image that can be read" if "cannot identify image file" in text else text
