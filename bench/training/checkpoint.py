"""Checkpoints: whole or not at all, verified when read, the previous one kept."""

import io
import pickle
import struct
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from bench.files import sync_directory, write_atomic
from bench.runs.store import RunDir

UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, struct.error, zlib.error, zipfile.BadZipFile)


def save(run: RunDir, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists, dicts) as the newest checkpoint; the one before is kept."""
    buffer = io.BytesIO()
    torch.save({**state, "run_id": run.run_id}, buffer)
    fresh = run.checkpoint.with_name(f"checkpoint.{uuid.uuid4().hex}.tmp")  # a second owner has one of its own
    write_atomic(fresh, buffer.getvalue())
    if run.checkpoint.exists():
        run.checkpoint.replace(run.previous_checkpoint)
    fresh.replace(run.checkpoint)  # killed between the two: the previous one is still there
    sync_directory(run.path)


def load(run: RunDir) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest readable checkpoint (on the CPU), None if there is none; and a line on each that was not readable."""
    problems: list[str] = []
    for path in (run.checkpoint, run.previous_checkpoint):
        if path.exists():
            try:
                return _read(path, run.run_id), problems
            except UNREADABLE as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                problems.append(f"{path.name} is damaged ({reason}): trying what was saved before it")
                path.replace(path.with_name("checkpoint.damaged.pt"))  # it must not become the previous one
    return None, problems


def discard(run: RunDir) -> None:
    """Remove the checkpoints of a run that is done."""
    run.checkpoint.unlink(missing_ok=True)
    run.previous_checkpoint.unlink(missing_ok=True)
    run.checkpoint.with_name("checkpoint.damaged.pt").unlink(missing_ok=True)


def _read(path: Path, run_id: str) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:  # torch.load itself does not verify the checksums
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"checksum of {bad} is wrong")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError("it holds more than tensors, numbers and text") from None
    if state["run_id"] != run_id:
        raise ValueError(f"it belongs to {state['run_id']}")
    return state
