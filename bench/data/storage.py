"""The data directory as a place to write to: what goes wrong there is one line that says what to do."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from bench.errors import UserError


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
