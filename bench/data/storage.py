"""The data directory as a place to write to: what goes wrong there is one line that says what to do."""

import contextlib
import fcntl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import UserError

T = TypeVar("T")


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Inside, no other process is in `exclusive(lock)`; makes the folder of the lock file, which stays.

    Raises UserError if the folder cannot be made or written, or if its file system locks no files.
    """
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"the file system of {lock.parent} refuses to lock files ({error.strerror or error}): "
                "put the data on one that locks, with --data-dir DIR"
            ) from None
        yield


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the operating system refuses inside becomes a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot prepare {path} ({error.strerror or error}): make room or give yourself the right to write there, "
            "or put the data elsewhere with --data-dir DIR"
        ) from None


def mapped(array: npt.NDArray[np.uint8]) -> torch.Tensor:
    """A tensor of a file that is mapped to be read, not a private copy of it, which systems count as memory.

    Nothing may write to it: torch would warn at every opening, and the process would be ended by a signal.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def made_once(path: Path, read: Callable[[], T | None], make: Callable[[], None]) -> T:
    """What `read` finds at `path`, made first if it finds nothing: by one process, while the others wait.

    Raises UserError as `exclusive` and `writing` do, and if what was made cannot be read.
    """
    if (found := read()) is not None:
        return found
    with exclusive(path.with_suffix(".lock")), writing(path):
        if (found := read()) is None:
            make()
            found = read()
    if found is None:
        raise UserError(f"{path} was written and cannot be read back: put the data elsewhere with --data-dir DIR")
    return found
