"""A split of whole pictures, made once: cached in shards that are memory-mapped.

<name>/00000.bin    pictures, uint8 [H, W, C] each, one behind the other; nothing where they stay in their files
<name>/00000.json   their shapes, labels and the like, and the version of the rules they were decoded by; written last
<name>/all.json     that all shards are there; written at the very end

Making a cache may take hours: what was made before a kill is kept, shard by shard.
"""

import shutil
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.config.sections import DataConfig
from bench.data import pictures
from bench.data.crop import InFile
from bench.data.progress import Progress
from bench.data.split import Batch, Moments, Split, unreadable
from bench.data.storage import made_once, mapped
from bench.data.whole import Pictures
from bench.errors import UserError
from bench.files import dump_json, parse_json, write_atomic

SHARD = 4096  # files
FORMAT = 1
ALL = "all.json"
USUAL_ASPECT = 4 / 3


@dataclass(frozen=True)
class Kept:
    """Where the pictures of a split come from."""

    n: int  # files, readable or not
    classes: tuple[str, ...]
    some: Callable[[slice], Iterable[Batch]]
    """The pictures of some of the files."""


class Files(NamedTuple):
    """Where pictures are that stay in their files."""

    root: Path
    names: Sequence[str]  # below it; of all files, readable or not


def cached(
    folder: Path, source: Callable[[], Kept], config: DataConfig, version: int, files: Files | None = None
) -> Split:
    """The split that is cached in `folder`, made or completed from `source()` if it is not whole or of another version.

    version: of the rules that files are decoded by. files: these stay where they are, and the cache is of what was
    found in them.

    Any number of processes may ask at once: one makes it, the others wait. Raises UserError if the disk has no room, is
    not writable or without locks, and, unless `config.skip_bad`, if there are unreadable images.
    """
    return made_once(
        folder,
        lambda: _open(folder, config, version, files),
        lambda: _make(folder, source(), config, version, in_files=files is not None),
    )


def _make(folder: Path, source: Kept, config: DataConfig, version: int, in_files: bool) -> None:
    """Write the shards that are not there yet."""
    folder.mkdir(exist_ok=True)
    starts = range(0, source.n, SHARD)
    shards = [_about(folder, number, version) for number in range(len(starts))]
    files = sum(min(SHARD, source.n - start) for start, about in zip(starts, shards, strict=True) if about is None)
    if not in_files:
        _check_room(folder, files, config)
    skipped: list[tuple[str, str]] = []
    progress = Progress("decoded", "pictures", files)
    for number, (start, about) in enumerate(zip(starts, shards, strict=True)):
        if about is None:
            some = source.some(slice(start, start + SHARD))
            about = _write(folder, number, some, config.channels, version, progress, in_files)
        skipped += about["skipped"]
    if skipped and not config.skip_bad:
        raise unreadable(skipped, source.n)
    whole = {"version": version, "format": FORMAT, "n": source.n, "shards": len(starts), "classes": source.classes}
    write_atomic(folder / ALL, dump_json(whole, indent=None).encode(errors="backslashreplace"))


def _check_room(folder: Path, files: int, config: DataConfig) -> None:
    """Say what the cache will take, and refuse where the disk has not so much. Raises UserError."""
    needed = files * round(config.store**2 * USUAL_ASPECT) * config.channels
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the cache of {files:,} pictures will take about {needed / 1e9:.1f} GB, and {folder} has "
            f"{free / 1e9:.1f} GB left: make room, put the data elsewhere with --data-dir DIR, or keep smaller "
            "pictures with --set data.store"
        )
    if needed > 1e9:
        print(f"making a cache of {files:,} pictures: about {needed / 1e9:.1f} GB in {folder}", file=sys.stderr)


def _write(
    folder: Path,
    number: int,
    batches: Iterable[Batch],
    channels: int,
    version: int,
    progress: Progress,
    in_files: bool,
) -> dict[str, Any]:
    """One shard, and what its JSON file says; both files appear whole or not at all."""
    path, temporary = _paths(folder, number)[0], folder / f".{number:05d}.tmp"
    about: dict[str, Any] = {name: [] for name in ("shapes", "labels", "skipped", "flat", "several", "digests")}
    moments, highest = Moments(channels), 0
    try:
        with temporary.open("wb") as file:
            for batch in batches:
                for picture, own, facts in zip(batch.pictures, batch.shapes, batch.facts, strict=True):
                    if not in_files:
                        file.write(np.ascontiguousarray(picture).data)
                    about["flat"] += [len(about["shapes"])] if facts.flat else []
                    about["shapes"].append((*own, channels) if in_files else picture.shape)
                    moments = Moments.of((moments, facts.moments), channels)
                    highest = max(highest, facts.highest)
                first = len(about["labels"])
                about["several"] += [first + i for i, more in enumerate(batch.several) if more]
                about["labels"] += batch.labels
                about["digests"] += batch.digests
                about["skipped"] += batch.skipped
                progress.add(len(batch.labels) + len(batch.skipped))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    about |= {"n": moments.n, "sum": moments.sum.tolist(), "sum_of_squares": moments.sum_of_squares.tolist()}
    about |= {"highest": highest, "version": version, "format": FORMAT, "in_files": in_files}
    write_atomic(_paths(folder, number)[1], dump_json(about, indent=None).encode(errors="backslashreplace"))
    return about


def _paths(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"{number:05d}.bin", folder / f"{number:05d}.json"


def _about(folder: Path, number: int, version: int) -> dict[str, Any] | None:
    """What a shard's JSON file says; None if it is missing, not whole or of another version."""
    pixels, text = _paths(folder, number)
    try:
        about: dict[str, Any] = parse_json(text.read_text(encoding="utf-8"))
        sizes = 0 if about.get("in_files") else sum(int(np.prod(shape)) for shape in about["shapes"])
        whole = pixels.stat().st_size == sizes and len(about["labels"]) == len(about["shapes"])
        current = (about["version"], about["format"]) == (version, FORMAT)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return about if whole and current else None


def _open(folder: Path, config: DataConfig, version: int, files: Files | None) -> Split | None:
    try:
        whole = parse_json((folder / ALL).read_text(encoding="utf-8"))
        shards = [_about(folder, number, version) for number in range(whole["shards"])]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not all(shards):
        return None
    known = [about for about in shards if about is not None]
    skipped = tuple((name, reason) for about in known for name, reason in about["skipped"])
    if skipped and not config.skip_bad:
        return None
    moments = Moments.of((_moments(about) for about in known), config.channels)
    starts = [0, *accumulate(len(about["shapes"]) for about in known)]
    read = _Reader(folder, known, starts) if files is None else _FileReader(files, known, skipped)
    return Split(
        images=Pictures(read, starts[-1], config.size, config.eval_crop),
        labels=torch.tensor([label for about in known for label in about["labels"]], dtype=torch.int64),
        classes=tuple(whole["classes"]),
        mean=moments.mean,
        std=moments.std,
        skipped=skipped,
        flat=tuple(start + i for start, about in zip(starts, known, strict=False) for i in about["flat"]),
        several=tuple(start + i for start, about in zip(starts, known, strict=False) for i in about["several"]),
        digests=tuple(digest for about in known for digest in about["digests"]),
        highest=max(about["highest"] for about in known),
    )


def _moments(about: dict[str, Any]) -> Moments:
    found = Moments(len(about["sum"]))
    found.n, found.sum, found.sum_of_squares = about["n"], np.array(about["sum"]), np.array(about["sum_of_squares"])
    return found


class _Reader:
    """The number of a picture -> its pixels, uint8 [C, H, W], of which those are read that are looked at."""

    def __init__(self, folder: Path, shards: list[dict[str, Any]], starts: list[int]) -> None:
        self.starts = starts
        self.shapes = [about["shapes"] for about in shards]
        self.ends = [[0, *accumulate(int(np.prod(shape)) for shape in shapes)] for shapes in self.shapes]
        self.files = [
            mapped(np.memmap(_paths(folder, number)[0], dtype=np.uint8, mode="r"))
            if ends[-1]
            else torch.empty(0, dtype=torch.uint8)
            for number, ends in enumerate(self.ends)
        ]

    def __call__(self, picture: int) -> Tensor:
        shard = bisect_right(self.starts, picture) - 1
        place = picture - self.starts[shard]
        start, end = self.ends[shard][place : place + 2]
        return self.files[shard][start:end].view(*self.shapes[shard][place]).permute(2, 0, 1)


class _FileReader:
    """The number of a picture -> where it is and of what shape, decoded when it is looked at."""

    def __init__(self, files: Files, shards: list[dict[str, Any]], skipped: Sequence[tuple[str, str]]) -> None:
        unreadable = {name for name, _ in skipped}
        self.root = files.root
        self.names = [name for name in files.names if name not in unreadable]
        self.shapes = [shape for about in shards for shape in about["shapes"]]

    def __call__(self, picture: int) -> InFile:
        height, width, channels = self.shapes[picture]
        return InFile((channels, height, width), partial(self._decoded, picture))

    def _decoded(self, picture: int, shrink: float) -> Tensor:
        """Raises RuntimeError, which names the file, if it is not there any more or another one."""
        path = self.root / self.names[picture]
        try:
            return pictures.at_own_size(path.read_bytes(), self.shapes[picture][2], shrink)
        except Exception as error:  # decoders of damaged files raise nearly anything
            raise RuntimeError(f"{path} could be read when the run began: {error}") from error
