"""MNIST's file format, packed or not, with other checks than a checksum: recompressed copies have another."""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class Arrays(NamedTuple):
    """Images and labels in memory, as torchvision's datasets hold them."""

    data: Bytes  # [N, H, W]
    targets: Bytes  # [N]


def fashion_mnist(data_dir: Path, train: bool) -> Arrays | None:
    """Fashion-MNIST's files below FashionMNIST/raw, unpacked or as .gz; None if some are missing.

    Raises ValueError if they hold something else: MNIST's have the same names and shapes, but not the same number of
    images in each class, as Fashion-MNIST's have.
    """
    part, per_class = ("train", 6_000) if train else ("t10k", 1_000)
    raw = data_dir / "FashionMNIST" / "raw"
    paths = [_file(raw / f"{part}-{name}-ubyte") for name in ("images-idx3", "labels-idx1")]
    if None in paths:
        return None
    shapes = ((10 * per_class, 28, 28), (10 * per_class,))
    images, labels = (read(path, shape) for path, shape in zip(paths, shapes, strict=True) if path)
    if np.bincount(labels, minlength=10).tolist() != [per_class] * 10:
        raise ValueError(f"{paths[1]} has not {per_class} labels of each of 10 classes: it is of another dataset")
    return Arrays(images, labels)


def read(path: Path, shape: tuple[int, ...]) -> Bytes:
    """The unsigned bytes of an idx file (.gz: packed). Raises ValueError if they are not of `shape`, and OSError."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    # two zeros, 8 for unsigned bytes, the number of dimensions, and each of them, all big-endian
    header = bytes((0, 0, 8, len(shape))) + b"".join(n.to_bytes(4, "big") for n in shape)
    expected = len(header) + int(np.prod(shape))
    if not content.startswith(header) or len(content) != expected:
        raise ValueError(f"{path} is damaged or another file: expected {expected} bytes that begin with {header.hex()}")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape).copy()  # writable, for torch


def _file(path: Path) -> Path | None:
    packed = path.with_name(f"{path.name}.gz")
    return next((file for file in (path, packed) if file.is_file()), None)
