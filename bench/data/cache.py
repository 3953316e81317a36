"""A split of a dataset, made once: cached as .npy and memory-mapped.

<name>.npy     images, uint8 [N, C, S, S]
<name>.json    all else of a Split, and the version of the rules that its pictures were decoded by; written last
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch

from bench.config.sections import DataConfig
from bench.data.split import Moments, Source, Split, channels, flat, unreadable
from bench.data.storage import made_once, mapped
from bench.errors import UserError
from bench.files import dump_json, parse_json, write_atomic


def shown(config: DataConfig) -> str:
    """The part of a cache's name that says of what shape its images are."""
    side = "files" if config.cache == "files" else config.store or config.size
    return f"{side}" if config.channels == 3 else f"{side}x{config.channels}"


def cached(
    path: Path,
    size: int,
    source: Callable[[], Source],
    skip_bad: bool = False,
    version: int = 1,
    n_channels: int = 3,
) -> Split:
    """The split that is cached at `path` (.npy), made from `source()` if it is missing, damaged or of another version.

    Any number of processes may ask at once: one makes it, the others wait. Raises UserError if the disk is full, not
    writable or without locks, and, unless `skip_bad`, if there are unreadable images.
    """
    shape = (n_channels, size, size)

    def make() -> None:
        for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        _write(path, shape, source(), skip_bad, version)

    return made_once(path, lambda: _open(path, shape, skip_bad, version), make)


def _open(path: Path, shape: tuple[int, ...], skip_bad: bool, version: int) -> Split | None:
    """The cached split, or None if it is missing, not whole, of another version, or lacks images that are wanted."""
    try:
        about = parse_json(path.with_suffix(".json").read_text(encoding="utf-8"))
        if about.get("version", 1) != version:
            return None
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        whole = path.stat().st_size == images.offset + images.nbytes
        n = len(about["labels"])
        if not whole or images.dtype != np.uint8 or images.shape != (n, *shape):
            return None
        split = Split(
            images=mapped(images),
            labels=torch.tensor(about["labels"], dtype=torch.int64),
            classes=tuple(about["classes"]),
            mean=channels(about["mean"]),
            std=channels(about["std"]),
            skipped=tuple((name, reason) for name, reason in about["skipped"]),
            flat=tuple(about.get("flat", ())),
            several=tuple(about.get("several", ())),
            digests=tuple(about.get("digests", ())),
            highest=int(about.get("highest", 255)),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError):
        return None
    return split if skip_bad or not split.skipped else None


def _write(path: Path, shape: tuple[int, ...], source: Source, skip_bad: bool, version: int) -> None:
    """Stream the source into `path`; both files appear whole or not at all."""
    labels: list[int] = []
    skipped: list[tuple[str, str]] = []
    uniform: list[int] = []
    several: list[int] = []
    digests: list[str] = []
    highest = 0
    moments = Moments(shape[0])
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            data_start = _write_header(file, source.n, shape)
            for batch in source.batches:
                skipped += batch.skipped
                if skipped and not skip_bad:
                    continue  # nothing to keep, but all unreadable files are counted
                file.write(np.ascontiguousarray(batch.images).data)
                uniform += [len(labels) + i for i in flat(batch.images)]
                several += [len(labels) + i for i, more in enumerate(batch.several) if more]
                digests += batch.digests
                labels += batch.labels
                moments.add(batch.images)
                highest = max(highest, int(batch.images.max(initial=0)))
            if skipped and not skip_bad:
                raise unreadable(skipped, source.n)
            file.seek(0)
            if _write_header(file, len(labels), shape) != data_start:  # numpy pads it, so that files may grow
                raise UserError(f"{path}: this version of numpy writes headers of another length")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    about = {
        "version": version,
        "labels": labels,
        "classes": source.classes,
        "mean": moments.mean,
        "std": moments.std,
        "skipped": skipped,
        "flat": uniform,
        "several": several,
        "digests": digests,
        "highest": highest,
    }
    write_atomic(path.with_suffix(".json"), dump_json(about, indent=None).encode(errors="backslashreplace"))


def _write_header(file: IO[bytes], n: int, shape: tuple[int, ...]) -> int:
    np.lib.format.write_array_header_1_0(file, {"shape": (n, *shape), "fortran_order": False, "descr": "|u1"})
    return file.tell()
