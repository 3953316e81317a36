"""Checkpoints: whole or not at all, verified when read, the previous one kept."""

import io
import logging
import pickle
import struct
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from bench.errors import UserError
from bench.files import sync_directory, write_atomic
from bench.runs.store import RunDir
from bench.team import Team

log = logging.getLogger("bench")

DAMAGED = (ValueError, RuntimeError, EOFError, struct.error, zlib.error, zipfile.BadZipFile)  # of a zip file


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
    """The newest undamaged checkpoint (on the CPU), None if there is none; and a line on each that was damaged.

    A damaged one is put aside. Raises UserError on one that is whole and cannot be read (another version wrote it), and
    OSError where the file system does not give it: neither is damage, and what was computed stays where it is.
    """
    problems: list[str] = []
    for path in (run.checkpoint, run.previous_checkpoint):
        if path.exists():
            try:
                return _read(path, run.run_id), problems
            except UserError:
                raise
            except DAMAGED as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                problems.append(f"{path.name} is damaged ({reason}): trying what was saved before it")
                path.replace(path.with_name("checkpoint.damaged.pt"))  # it must not become the previous one
    return None, problems


def discard(run: RunDir) -> None:
    """Remove the checkpoints of a run that is done."""
    run.checkpoint.unlink(missing_ok=True)
    run.previous_checkpoint.unlink(missing_ok=True)
    run.checkpoint.with_name("checkpoint.damaged.pt").unlink(missing_ok=True)


def load_together(run: RunDir, team: Team) -> dict[str, Any] | None:
    """The newest undamaged checkpoint; the first process looks for it, and the others read what it found.

    Raises RuntimeError if one of them sees another.
    """
    state: dict[str, Any] | None = None

    def find() -> int | None:
        nonlocal state
        state, problems = load(run)
        for problem in problems:
            log.warning("%s: %s", run.run_id, problem)
        return state["step"] if state else None

    step = team.first(find)
    if team.rank and step is not None:
        state, _ = load(run)
        if state is None or state["step"] != step:
            raise RuntimeError(f"{run.checkpoint}: rank {team.rank} sees another one than rank 0")
    return state


def misfit(name: str, error: Exception) -> UserError:
    """What to say of a checkpoint that is whole, but is not what this version of the program writes."""
    lacks = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split()[:30])
    return UserError(
        f"{name} was written by another version of the program, of a method or of torch ({lacks}): continue it with "
        "that version, or move it away to train from the beginning"
    )


def _read(path: Path, run_id: str) -> dict[str, Any]:
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as archive:  # torch.load itself does not verify the checksums
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"checksum of {bad} is wrong")
    content.seek(0)
    try:
        state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        owner = state["run_id"]
    except pickle.UnpicklingError:
        raise misfit(path.name, ValueError("it holds more than tensors, numbers and text")) from None
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise misfit(path.name, error) from error
    if owner != run_id:
        raise ValueError(f"it belongs to {owner}")
    return state
