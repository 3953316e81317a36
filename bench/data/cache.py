"""A split of a dataset, made once: cached as .npy and memory-mapped.

<name>.npy     images, uint8 [N, 3, S, S]
<name>.json    their labels, classes, mean and std, and the files that were left out; written last
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from filelock import FileLock

from bench.data.split import Moments, Source, Split, channels
from bench.errors import UserError
from bench.files import dump_json, parse_json, write_atomic


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
            mean=channels(about["mean"]),
            std=channels(about["std"]),
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
