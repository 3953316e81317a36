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
from bench.data.split import Moments, Pixels, Source, Split, channels
from bench.data.storage import exclusive, writing
from bench.errors import UserError, few
from bench.files import dump_json, parse_json, write_atomic


def shown(config: DataConfig) -> str:
    """The part of a cache's name that says of what shape its images are."""
    side = config.store or config.size
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
    if (split := _open(path, shape, skip_bad, version)) is not None:
        return split
    with exclusive(path.with_suffix(".lock")), writing(path):
        if (split := _open(path, shape, skip_bad, version)) is None:
            for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
                leftover.unlink(missing_ok=True)
            _write(path, shape, source(), skip_bad, version)
            split = _open(path, shape, skip_bad, version)
    if split is None:
        raise UserError(f"{path} was written and cannot be read back: put the data elsewhere with --data-dir DIR")
    return split


def _open(path: Path, shape: tuple[int, ...], skip_bad: bool, version: int) -> Split | None:
    """The cached split, or None if it is missing, not whole, of another version, or lacks images that are wanted."""
    try:
        about = parse_json(path.with_suffix(".json").read_text(encoding="utf-8"))
        if about.get("version", 1) != version:
            return None
        # copy-on-write: a read-only array would make torch warn at every opening
        images = np.load(path, mmap_mode="c", allow_pickle=False)
        whole = path.stat().st_size == images.offset + images.nbytes
        n = len(about["labels"])
        if not whole or images.dtype != np.uint8 or images.shape != (n, *shape):
            return None
        split = Split(
            images=torch.from_numpy(images),
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
    flat: list[int] = []
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
                flat += [len(labels) + i for i in _flat(batch.images)]
                several += [len(labels) + i for i, more in enumerate(batch.several) if more]
                digests += batch.digests
                labels += batch.labels
                moments.add(batch.images)
                highest = max(highest, int(batch.images.max(initial=0)))
            if skipped and not skip_bad:
                raise UserError(
                    f"{len(skipped)} of {source.n} images are unreadable: "
                    f"{few([f'{name} ({reason})' for name, reason in skipped])}: mend or remove them, or leave them "
                    "out with --set data.skip_bad=true"
                )
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
        "flat": flat,
        "several": several,
        "digests": digests,
        "highest": highest,
    }
    write_atomic(path.with_suffix(".json"), dump_json(about, indent=None).encode(errors="backslashreplace"))


def _flat(images: Pixels) -> list[int]:
    """[k, C, S, S] -> which of them are of one colour, give or take one step of 255."""
    spread = images.max(axis=(2, 3)) - images.min(axis=(2, 3))  # [k, C]
    return [i for i, widest in enumerate(spread.max(axis=1).tolist()) if widest <= 1]


def _write_header(file: IO[bytes], n: int, shape: tuple[int, ...]) -> int:
    np.lib.format.write_array_header_1_0(file, {"shape": (n, *shape), "fortran_order": False, "descr": "|u1"})
    return file.tell()
