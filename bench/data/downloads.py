"""The datasets that torchvision downloads, read once and cached at the size that is asked for."""

import contextlib
import http.client
import io
import socket
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from filelock import FileLock

from bench.data import cache as images
from bench.data.cache import Source, Split
from bench.errors import UserError

Part = Literal["train", "test"]

TIMEOUT = 10  # seconds until a server that does not answer counts as out of reach

READ_ERRORS = (
    OSError,  # among them URLError, time-outs, a full disk
    RuntimeError,  # torchvision's, for checksums that do not match
    AssertionError,  # torchvision's, for a truncated file
    http.client.HTTPException,
    tarfile.TarError,
    zlib.error,
    EOFError,
    ValueError,
)


@dataclass(frozen=True)
class Library:
    """How torchvision spells a dataset."""

    cls: str
    arguments: dict[Part, dict[str, Any]]
    files: str
    """What it downloads, and where it looks for that below the data directory {}."""


BY_FLAG: dict[Part, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}

LIBRARY = {
    "cifar10": Library("CIFAR10", BY_FLAG, "cifar-10-python.tar.gz into {}"),
    "cifar100": Library("CIFAR100", BY_FLAG, "cifar-100-python.tar.gz into {}"),
    "stl10": Library(
        "STL10",
        {"train": {"split": "train+unlabeled"}, "test": {"split": "test"}},
        "stl10_binary.tar.gz into {}",
    ),
    "svhn": Library(
        "SVHN",
        {"train": {"split": "train"}, "test": {"split": "test"}},
        "train_32x32.mat and test_32x32.mat into {}",
    ),
    "fashion_mnist": Library(
        "FashionMNIST",
        BY_FLAG,
        "{{train,t10k}}-images-idx3-ubyte.gz and {{train,t10k}}-labels-idx1-ubyte.gz into {}/FashionMNIST/raw",
    ),
}


def split(name: str, part: Part, size: int, data_dir: Path) -> Split:
    """One split of a dataset of `LIBRARY`; fetched if neither its cache nor its files are in `data_dir`.

    Raises UserError, one line that says which files to put where, if that fails.
    """
    cache = data_dir / "cache"
    found = images.cached(cache / f"{name}-{part}-{size}.npy", size, lambda: _source(name, part, size, data_dir))
    if name == "svhn" and part == "train" and not (cache / f"{name}-test-{size}.npy").exists():
        _fetch_svhn_test(data_dir)
    return found


def _source(name: str, part: Part, size: int, data_dir: Path) -> Source:
    create = getattr(torchvision.datasets, LIBRARY[name].cls)
    arguments = LIBRARY[name].arguments[part]
    with _reading(name, data_dir):
        try:
            data = create(str(data_dir), **arguments, download=False)
        except READ_ERRORS:  # missing or damaged
            data = create(str(data_dir), **arguments, download=True)
    pixels = torch.as_tensor(data.data)
    if pixels.ndim == 3:  # gray
        pixels = pixels[:, None]
    elif pixels.shape[1] != 3:  # channels last
        pixels = pixels.permute(0, 3, 1, 2)
    labels = data.targets if hasattr(data, "targets") else data.labels
    classes = getattr(data, "classes", range(10))  # SVHN's classes are its digits
    return Source(len(pixels), tuple(map(str, classes)), images.array_batches(pixels, labels, size))


def _fetch_svhn_test(data_dir: Path) -> None:
    """SVHN's test images are a file of their own: better fetched before the training than missed after it."""
    url, name, md5 = torchvision.datasets.SVHN.split_list["test"]
    if not (data_dir / name).exists():
        with _reading("svhn", data_dir):
            torchvision.datasets.utils.download_url(url, str(data_dir), name, md5)


@contextlib.contextmanager
def _reading(name: str, data_dir: Path) -> Iterator[None]:
    """Let torchvision read and download: one process at a time, quietly, and what fails becomes one UserError."""
    timeout = socket.getdefaulttimeout()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{name}.lock"), contextlib.ExitStack() as quiet:
            quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
            if not sys.stderr.isatty():  # a progress bar is for terminals
                quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
            socket.setdefaulttimeout(TIMEOUT)
            yield
    except READ_ERRORS as error:
        raise UserError(
            f"{name} is not in {data_dir} and could not be downloaded ({_reason(error)}): "
            f"put {LIBRARY[name].files.format(data_dir)}, or use --data-dir"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def _reason(error: BaseException) -> str:
    """The innermost reason, in one short line."""
    reason = getattr(error, "reason", error)  # URLError wraps another error
    text = " ".join(str(getattr(reason, "strerror", None) or reason).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
