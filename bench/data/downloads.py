"""The datasets that torchvision downloads, read once and cached at the size that is asked for."""

import contextlib
import http.client
import io
import socket
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision

from bench.config.sections import DataConfig
from bench.data import idx
from bench.data.cache import cached, shown
from bench.data.pictures import array_batches
from bench.data.split import Source, Split
from bench.data.storage import exclusive
from bench.errors import UserError, few

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
    """How torchvision spells a dataset; called, it reads the dataset."""

    name: str  # ours
    cls: str
    arguments: dict[Part, dict[str, Any]]
    files: str
    """What may be put where below the data directory {}, in words: what a reader without a network is told."""
    places: tuple[str, ...]
    """Where that is, as glob patterns."""
    own: Callable[[Path, bool], Any] | None = None
    """(data directory, training?) -> the same, from files that torchvision would not take; None if there are none."""

    def __call__(self, config: DataConfig, data_dir: Path) -> tuple[Split, Callable[[], Split]]:
        """The training split, and a function that reads the test split.

        Fetched if neither its cache nor its files are in `data_dir`. Raises UserError, one line that says which files
        to put where, if that fails.
        """
        return self._split("train", config, data_dir), partial(self._split, "test", config, data_dir)

    def _split(self, part: Part, config: DataConfig, data_dir: Path) -> Split:
        path = data_dir / "cache" / f"{self.name}-{part}-{shown(config)}.npy"
        return cached(path, config.size, lambda: self._source(part, config, data_dir), n_channels=config.channels)

    def _source(self, part: Part, config: DataConfig, data_dir: Path) -> Source:
        create = getattr(torchvision.datasets, self.cls)
        with _reading(self, data_dir):
            try:
                data = self.own(data_dir, part == "train") if self.own else None
            except ValueError as error:
                raise UserError(f"{self.name}: {error}: replace it, or remove it to have it downloaded") from None
            if data is None:
                try:
                    data = create(str(data_dir), **self.arguments[part], download=False)
                except READ_ERRORS:  # missing or damaged
                    data = create(str(data_dir), **self.arguments[part], download=True)
        pixels = torch.as_tensor(data.data)
        if pixels.ndim == 3:  # gray
            pixels = pixels[:, None]
        elif pixels.shape[1] != 3:  # channels last
            pixels = pixels.permute(0, 3, 1, 2)
        labels = data.targets if hasattr(data, "targets") else data.labels
        of_class = getattr(create, "classes", range(10))  # SVHN's classes are its digits
        return Source(
            len(pixels),
            tuple(map(str, getattr(data, "classes", of_class))),
            array_batches(pixels, labels, config.size, config.channels),
        )


BY_FLAG: dict[Part, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}

cifar10 = Library(
    "cifar10",
    "CIFAR10",
    BY_FLAG,
    "cifar-10-python.tar.gz as published, or the folder cifar-10-batches-py unpacked from it, into {}",
    ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
)
cifar100 = Library(
    "cifar100",
    "CIFAR100",
    BY_FLAG,
    "cifar-100-python.tar.gz as published, or the folder cifar-100-python unpacked from it, into {}",
    ("cifar-100-python.tar.gz", "cifar-100-python"),
)
stl10 = Library(
    "stl10",
    "STL10",
    {"train": {"split": "train+unlabeled"}, "test": {"split": "test"}},
    "stl10_binary.tar.gz as published, or the folder stl10_binary unpacked from it, into {}",
    ("stl10_binary.tar.gz", "stl10_binary"),
)
fashion_mnist = Library(
    "fashion_mnist",
    "FashionMNIST",
    BY_FLAG,
    "{{train,t10k}}-images-idx3-ubyte and {{train,t10k}}-labels-idx1-ubyte, unpacked or as .gz, "
    "into {}/FashionMNIST/raw",
    ("FashionMNIST/raw/*-ubyte*",),
    idx.fashion_mnist,
)
_svhn = Library(
    "svhn",
    "SVHN",
    {"train": {"split": "train"}, "test": {"split": "test"}},
    "train_32x32.mat and test_32x32.mat as published into {}",
    ("train_32x32.mat", "test_32x32.mat"),
)


def svhn(config: DataConfig, data_dir: Path) -> tuple[Split, Callable[[], Split]]:
    """SVHN's test images are a file of their own: better fetched before the training than missed after it."""
    splits = _svhn(config, data_dir)
    url, name, md5 = torchvision.datasets.SVHN.split_list["test"]
    if not (data_dir / "cache" / f"svhn-test-{shown(config)}.npy").exists() and not (data_dir / name).exists():
        with _reading(_svhn, data_dir):
            torchvision.datasets.utils.download_url(url, str(data_dir), name, md5)
    return splits


@contextlib.contextmanager
def _reading(library: Library, data_dir: Path) -> Iterator[None]:
    """Let torchvision read and download: one process at a time, quietly, and what fails becomes one UserError."""
    timeout = socket.getdefaulttimeout()
    try:
        with exclusive(data_dir / f".{library.name}.lock"), contextlib.ExitStack() as quiet:
            quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
            if not sys.stderr.isatty():  # a progress bar is for terminals
                quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
            socket.setdefaulttimeout(TIMEOUT)
            yield
    except UserError:
        raise
    except READ_ERRORS as error:
        there = sorted(path.name for place in library.places for path in data_dir.glob(place))
        state = (
            f"in {data_dir} is incomplete, damaged or not as published ({few(there)})"
            if there
            else (f"is not in {data_dir}")
        )
        raise UserError(
            f"{library.name} {state} and could not be downloaded ({_reason(error)}): "
            f"put {library.files.format(data_dir)}, or use --data-dir"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def _reason(error: BaseException) -> str:
    """The innermost reason, in one short line."""
    reason = getattr(error, "reason", error)  # URLError wraps another error
    text = " ".join(str(getattr(reason, "strerror", None) or reason).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
