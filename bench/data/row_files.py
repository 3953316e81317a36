"""Where tables of images come from: parquet files on this machine, and the Hugging Face Hub by the library `datasets`.

The library is an extra, imported when a table is opened.
"""

import contextlib
import hashlib
import importlib
import re
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.folders import HASHED_BYTES
from bench.data.rows import AT_ONCE, TEST, TRAIN, Choice, Part, Table, table
from bench.errors import UserError, few
from bench.runs.identity import HUB, data_path

if TYPE_CHECKING:
    from pyarrow import Table as Arrow

BLOCK = 2**20  # bytes of a file that are hashed at once
TIMEOUT = 5  # seconds until the Hub counts as out of reach
SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]+)?$")  # of train-00000-of-00002, train_1, train-0-0a1b2c


def read(name: str, choice: Choice) -> Table:
    """The table that `parquet:PATH` or `hf:NAME` stands for, its columns found. Raises UserError, one line."""
    root = data_path(name)
    try:
        parts = _downloaded(name) if root is None else _parquet(root)
        return table(parts, choice)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def content(value: Any, root: Path) -> bytes:
    """The bytes of an image file, from what its column holds: bytes, or {bytes, path}. Raises OSError, ValueError."""
    if isinstance(value, Mapping):
        path = value.get("path")
        if value.get("bytes") is None and path is not None:
            if "::" not in path:
                return Path(root, path).read_bytes()
            with _library("fsspec").open(path, "rb") as file:  # zip://cat/1.jpg::/home/me/photos.zip
                return bytes(file.read())
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise ValueError("it has no bytes")
    return value


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"the library {name} is not installed; pip install 'ssl-bench[hf]'") from None


# parquet files


def _parquet(root: Path) -> dict[str, Part]:
    datasets, pq = _library("datasets"), _library("pyarrow.parquet")
    if not root.exists():
        raise UserError("there is no such folder")
    if root.is_file():
        raise UserError("one file is one split: name a folder with train*.parquet and test*.parquet")
    found = defaultdict(list)
    for file in sorted(root.rglob("*.parquet")):
        if not any(part.startswith(".") for part in file.relative_to(root).parts):
            found[split_of(file.relative_to(root))].append(file)
    if not found:
        raise UserError("no *.parquet file is in it: name a folder with train*.parquet and test*.parquet")
    parts = {}
    for split, files in found.items():
        n, features = 0, None
        for file in files:
            with _reading(file), pq.ParquetFile(file) as opened:
                own = datasets.Features.from_arrow_schema(opened.schema_arrow)
                n += opened.metadata.num_rows
            if features not in (None, own):
                raise UserError(f"{file.name} has other columns than {files[0].name}")
            features = own
        parts[split] = Part(split, n, features or {}, partial(_file_rows, files), partial(_file_hash, files), root)
    return parts


def split_of(path: Path) -> str:
    """The split that a file of this path, below the folder of all, belongs to."""
    words = [SHARD.sub("", path.stem).lower(), *(folder.lower() for folder in reversed(path.parent.parts))]
    return next((word for word in words if word in (*TRAIN, *TEST)), next(filter(None, words), path.stem))


def _file_rows(files: Sequence[Path], columns: Sequence[str]) -> "Iterator[Arrow]":
    arrow, pq = _library("pyarrow"), _library("pyarrow.parquet")
    for file in files:
        with _reading(file), pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(AT_ONCE, columns=list(columns)):
                yield arrow.Table.from_batches([batch])


def _file_hash(files: Sequence[Path], columns: Sequence[str]) -> bytes:
    """Of whole files, whatever the columns: sizes and bytes, of evenly spaced blocks where there is more than 1 GB."""
    digest, sizes = hashlib.sha256(), [file.stat().st_size for file in files]
    step = BLOCK * (1 + sum(sizes) // HASHED_BYTES)
    for path, size in zip(files, sizes, strict=True):
        digest.update(b"%d\n" % size)
        with _reading(path), path.open("rb") as file:
            for at in (*range(0, size, step), max(0, size - BLOCK)):  # and the last: the index of all the others
                file.seek(at)
                digest.update(file.read(BLOCK))
    return digest.digest()


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """What is raised inside of a damaged file becomes a UserError."""
    errors = (OSError, _library("pyarrow").ArrowException)
    try:
        yield
    except errors as error:
        raise UserError(f"cannot read {few([str(file)])} ({_short(error)}): replace or remove it") from None


# the Hub


def _downloaded(name: str) -> dict[str, Part]:
    place, _, config = name.removeprefix(HUB).partition("#")
    if not place:
        raise UserError("write hf:NAME, a data set of the Hugging Face Hub, or hf:NAME#CONFIG")
    datasets = _library("datasets")
    errors = datasets.exceptions
    if not sys.stderr.isatty():  # a progress bar is for terminals
        datasets.disable_progress_bars()
    try:
        with _offline_if_out_of_reach():
            found = datasets.load_dataset(place, config or None)
    except errors.DatasetNotFoundError:
        raise UserError("the Hub has no such data set, or it is not for everyone: `hf auth login`") from None
    except ConnectionError:
        raise UserError(
            "the Hub is out of reach and no copy is on this machine: load it once where there is a network, or use "
            "parquet:PATH with its files"
        ) from None
    except Exception as error:  # of a hundred kinds, as data sets are of a hundred formats
        raise UserError(f"cannot be loaded ({_short(error)})") from None
    return {
        str(split): Part(
            str(split), len(rows), dict(rows.features), partial(_table_rows, rows), partial(_table_hash, rows)
        )
        for split, rows in found.items()
    }


def _table_rows(rows: Any, columns: Sequence[str]) -> "Iterator[Arrow]":
    yield from rows.select_columns(list(columns)).with_format("arrow").iter(AT_ONCE)


def _table_hash(rows: Any, columns: Sequence[str]) -> bytes:
    """Of labels, and of images: evenly spaced ones where there is more than 1 GB."""
    digest, (image, label) = hashlib.sha256(), columns
    for batch in _table_rows(rows, [label]):
        digest.update(repr(batch.column(label).to_pylist()).encode())
    every = 1 + max(rows.data.nbytes, len(rows) * BLOCK // 16) // HASHED_BYTES  # files of their own are not in nbytes
    for batch in _table_rows(rows.select(range(0, len(rows), every)), [image]):
        for value in batch.column(image).to_pylist():
            with contextlib.suppress(OSError, ValueError):  # unreadable: told when it is decoded
                digest.update(hashlib.sha256(content(value, Path())).digest())
    return digest.digest()


@contextlib.contextmanager
def _offline_if_out_of_reach() -> Iterator[None]:
    """Without a network the library would try for half a minute before it looks for what it has downloaded before."""
    settings = (_library("datasets").config, _library("huggingface_hub").constants)
    before = [each.HF_HUB_OFFLINE for each in settings]
    if not any(before):
        try:
            urllib.request.urlopen(urllib.request.Request(settings[1].ENDPOINT, method="HEAD"), timeout=TIMEOUT).close()
        except urllib.error.HTTPError:  # it answers
            pass
        except OSError:
            for each in settings:
                each.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for each, was in zip(settings, before, strict=True):
            each.HF_HUB_OFFLINE = was


def _short(error: BaseException) -> str:
    """In one short line."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
