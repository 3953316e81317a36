"""Files as everybody here writes and reads them: strict JSON; whole or not at all."""

import contextlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn


def first_line(path: Path) -> str:
    """The first line of a text file, "" if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def parse_json(text: str) -> Any:
    """Strict JSON: NaN and Infinity are errors (ValueError)."""
    return _DECODER.decode(text)


def dump_json(values: Any, indent: int | None = 1) -> str:
    """Strict JSON with a newline at its end. Raises ValueError on NaN and infinities."""
    return json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False) + "\n"


def printable(text: str) -> str:
    """Without control characters and bytes that are no text: such names may come from a file system."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_number(value: Any) -> bool:
    """Whether a value from a file is a number that can be computed with: finite, and below 1e30."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30


def write_atomic(path: Path, content: bytes) -> None:
    """The file appears whole or not at all: same-directory temporary, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in `path` last through a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


CLOCK_SECONDS = 60  # for so long, a file system's clock is taken to go as this machine's does
_clocks: dict[int, tuple[float, float]] = {}
"""By device: when we looked (time.monotonic), and the file system's time then."""


def file_system_time(folder: Path) -> float | None:
    """Seconds since the epoch by the clock that time stamps of files in `folder` come from: on a network, its server's.

    This machine's clock may differ by minutes. None if `folder` cannot be written: a new file is what shows the time.
    """
    now = time.monotonic()
    try:
        device = folder.stat().st_dev
        if device not in _clocks or now - _clocks[device][0] > CLOCK_SECONDS:
            _clocks[device] = now, _time_stamp(folder)
    except OSError:
        return None
    looked, then = _clocks[device]
    return then + now - looked


def _time_stamp(folder: Path) -> float:
    """The time stamp of a new file. Raises OSError."""
    temporary = folder / f".clock.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:
            return os.fstat(file.fileno()).st_mtime
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
