"""Image files and arrays -> uint8 images of one size, made once: cached as .npy and memory-mapped.

<name>.npy     images, uint8 [N, 3, S, S]
<name>.json    their labels, classes, mean and std, and the files that were left out; written last
"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from bench.errors import UserError
from bench.files import dump_json, parse_json, write_atomic

Pixels = npt.NDArray[np.uint8]
Channels = tuple[float, float, float]
AT_ONCE = 256  # images in memory

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"})


@dataclass(frozen=True)
class Split:
    """One split of a dataset, all images of one size."""

    images: Tensor  # uint8 [N, 3, S, S]
    labels: Tensor  # int64 [N]; -1 where unlabelled
    classes: tuple[str, ...]
    mean: Channels  # a channel, of pixels in [0, 1]
    std: Channels
    skipped: tuple[str, ...] = ()  # unreadable files, with the reason


@dataclass(frozen=True)
class Batch:
    """Some images on their way into the cache."""

    images: Pixels  # [k, 3, S, S]
    labels: list[int]  # [k]
    skipped: list[str]


@dataclass(frozen=True)
class Source:
    """Where the images of a split come from."""

    n: int  # images, readable or not
    classes: tuple[str, ...]
    batches: Iterable[Batch]


def cached(path: Path, size: int, source: Callable[[], Source], skip_bad: bool = False) -> Split:
    """The split that is cached at `path` (.npy), made from `source()` if it is missing or damaged.

    Any number of processes may ask at once: one makes it, the others wait. Raises UserError if the disk is full or
    not writable, and, unless `skip_bad`, if there are unreadable images.
    """
    if (split := _open(path, size, skip_bad)) is not None:
        return split
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (split := _open(path, size, skip_bad)) is None:
                for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
                    leftover.unlink(missing_ok=True)
                _write(path, size, source(), skip_bad)
                split = _open(path, size, skip_bad)
    except OSError as error:
        raise UserError(f"cannot prepare {path}: {error.strerror or error}") from None
    assert split is not None, path
    return split


def _open(path: Path, size: int, skip_bad: bool) -> Split | None:
    """The cached split, or None if it is missing, not whole, or lacks images that the caller wants."""
    try:
        about = parse_json(path.with_suffix(".json").read_text(encoding="utf-8"))
        # copy-on-write: a read-only array would make torch warn at every opening
        images = np.load(path, mmap_mode="c", allow_pickle=False)
        whole = path.stat().st_size == images.offset + images.nbytes
        n = len(about["labels"])
        if not whole or images.dtype != np.uint8 or images.shape != (n, 3, size, size):
            return None
        split = Split(
            images=torch.from_numpy(images),
            labels=torch.tensor(about["labels"], dtype=torch.int64),
            classes=tuple(about["classes"]),
            mean=_channels(about["mean"]),
            std=_channels(about["std"]),
            skipped=tuple(about["skipped"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError):
        return None
    return split if skip_bad or not split.skipped else None


def _write(path: Path, size: int, source: Source, skip_bad: bool) -> None:
    """Stream the source into `path`; both files appear whole or not at all."""
    labels: list[int] = []
    skipped: list[str] = []
    moments = Moments()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            data_start = _write_header(file, source.n, size)
            for batch in source.batches:
                skipped += batch.skipped
                if skipped and not skip_bad:
                    continue  # nothing to keep, but all unreadable files are counted
                file.write(np.ascontiguousarray(batch.images).data)
                labels += batch.labels
                moments.add(batch.images)
            if skipped and not skip_bad:
                raise UserError(
                    f"{len(skipped)} of {source.n} images are unreadable: {'; '.join(skipped[:3])}"
                    f"{'; ...' if len(skipped) > 3 else ''}: mend or remove them, or leave them out with "
                    "--set data.skip_bad=true"
                )
            file.seek(0)
            assert _write_header(file, len(labels), size) == data_start  # numpy pads it, so that files may grow
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    about = {
        "labels": labels,
        "classes": source.classes,
        "mean": moments.mean,
        "std": moments.std,
        "skipped": skipped,
    }
    write_atomic(path.with_suffix(".json"), dump_json(about, indent=None).encode(errors="backslashreplace"))


def _write_header(file: IO[bytes], n: int, size: int) -> int:
    np.lib.format.write_array_header_1_0(file, {"shape": (n, 3, size, size), "fortran_order": False, "descr": "|u1"})
    return file.tell()


class Moments:
    """Mean and standard deviation a channel, from exact integer sums: equal on every machine."""

    def __init__(self) -> None:
        self.n = 0
        self.sum = np.zeros(3, dtype=np.int64)
        self.sum_of_squares = np.zeros(3, dtype=np.int64)

    def add(self, images: Pixels) -> None:
        """images: [k, 3, S, S], as many as fit into memory four times."""
        values = images.astype(np.int32)
        self.n += values[:, 0].size
        self.sum += values.sum(axis=(0, 2, 3), dtype=np.int64)
        self.sum_of_squares += np.square(values, out=values).sum(axis=(0, 2, 3), dtype=np.int64)

    @property
    def mean(self) -> Channels:
        """Of pixels in [0, 1]."""
        return _channels(self.sum / max(1, self.n) / 255)

    @property
    def std(self) -> Channels:
        """Of pixels in [0, 1]; 1 for a channel that is constant, so that it can be divided by."""
        variance = self.sum_of_squares / max(1, self.n) / 255**2 - np.square(self.mean)
        return _channels(np.where(variance > 1e-12, np.sqrt(variance.clip(min=0)), 1.0))


def _channels(values: Any) -> Channels:
    r, g, b = (float(value) for value in values)
    return r, g, b


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


def file_batches(root: Path, files: Sequence[tuple[str, int]], size: int) -> Iterator[Batch]:
    """Batches of image files, (path below `root`, label) each, decoded by several threads."""

    def read(file: tuple[str, int]) -> tuple[Pixels | None, int, str]:
        name, label = file
        try:
            return decode(root / name, size), label, ""
        except Exception as error:  # decoders of damaged files raise nearly anything; the reason is shown
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return None, label, f"{name} ({reason.replace(str(root / name), 'image')})"

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), AT_ONCE):
            results = list(pool.map(read, files[start : start + AT_ONCE]))
            good = [(pixels, label) for pixels, label, _ in results if pixels is not None]
            images = [pixels for pixels, _ in good]
            yield Batch(
                images=np.stack(images) if images else np.empty((0, 3, size, size), dtype=np.uint8),
                labels=[label for _, label in good],
                skipped=[problem for _, _, problem in results if problem],
            )


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


def listing(split: Path) -> dict[str, list[str]]:
    """Class -> image files below `split`, both sorted; a class is a folder, names with a leading dot do not count."""
    classes = sorted(entry.name for entry in split.iterdir() if entry.is_dir() and entry.name[0] != ".")
    return {name: sorted(_images_below(split / name)) for name in classes}


def _images_below(folder: Path) -> Iterator[str]:
    """Image files below `folder`, as paths relative to the folder two levels up: train/<class>/..."""
    top = folder.parent.parent
    for directory, subdirectories, names in os.walk(folder, onerror=_raise, followlinks=True):
        subdirectories[:] = [name for name in subdirectories if name[0] != "."]
        for name in names:
            if name[0] != "." and Path(name).suffix.lower() in EXTENSIONS:
                yield (Path(directory) / name).relative_to(top).as_posix()


def _raise(error: OSError) -> None:
    raise error
