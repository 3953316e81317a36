"""Who may write a run directory: claims that outlive crashes, requeues and a shared file system.

Claims are numbered files, claim-1.json, claim-2.json, ...; the newest is the owner's. Creating the next number is
atomic and can succeed only once, so a dead owner's run is taken over by exactly one process, and an owner that was
thought dead (a node cut off, a requeued job beside its former self) finds a newer number than its own and stops.
The owner renews its file's time stamp; a claim is dead when it was released, when its process is gone from this
machine, or, seen from another machine, when its time stamp is STALE_SECONDS away from now: by the clock of the file
system, which gave it, as clocks of machines differ. Who may not write there cannot ask for that clock's time; for them
a claim is dead once they have seen its time stamp unchanged for STALE_SECONDS.
"""

import contextlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.files import dump_json, file_system_time, parse_json

CLAIM_NAME = re.compile(r"claim-(\d+)\.json")
HEARTBEAT_SECONDS = 10
STALE_SECONDS = 60


class LostClaim(RuntimeError):
    """Another process has taken this run over; ours must not write any more."""


@dataclass(frozen=True)
class ClaimFile:
    """A claim as found on disk; `owner` is {} if it cannot be read."""

    path: Path
    owner: dict[str, Any]
    modified: float
    """Time stamp of the file, seconds since the epoch, by the file system's clock."""

    @property
    def number(self) -> int:
        return int(self.path.stem.removeprefix("claim-"))

    @property
    def here(self) -> bool:
        """Whether the owner is, or was, a process of this machine."""
        return self.owner.get("machine") == _machine()


def newest_claim(run: Path, names: Collection[str] | None = None) -> ClaimFile | None:
    """The newest claim on a run directory, if any; `names`: the directory's listing, if known."""
    numbers = [int(m[1]) for name in (names or os.listdir(run)) if (m := CLAIM_NAME.fullmatch(name))]
    if not numbers:
        return None
    path = run / f"claim-{max(numbers)}.json"
    owner: dict[str, Any] = {}
    try:
        with path.open(encoding="utf-8") as file:  # on NFS, opening it gets its present time stamp from the server
            modified = os.fstat(file.fileno()).st_mtime
            with contextlib.suppress(ValueError, RecursionError):
                owner = parse_json(file.read())
    except OSError:
        modified = 0.0
    return ClaimFile(path, owner if isinstance(owner, dict) else {}, modified)


_first_seen: dict[Path, tuple[float, float]] = {}
"""Claim -> its time stamp, and when this process first saw that (time.monotonic): where the clock is not known."""


def is_alive(claim: ClaimFile) -> bool:
    """Is the owner still at work? Of one whose process we cannot look at, its renewed time stamp tells."""
    owner = claim.owner
    if owner.get("released"):
        return False
    if claim.here:  # no need to wait: this machine knows its processes
        pid = owner.get("pid")
        pid = pid if isinstance(pid, int) and 0 < pid < 2**31 else 0  # none that could be ours
        start = _start_of(pid)
        if start is not None or not _is_hidden(pid):
            return start is not None and start == owner.get("pid_start")
    now = file_system_time(claim.path.parent)
    if now is not None:
        return abs(now - claim.modified) < STALE_SECONDS  # in the future: its clock was set back since, or it is a copy
    seen, since = _first_seen.get(claim.path, (None, 0.0))
    if seen != claim.modified:
        seen, since = _first_seen[claim.path] = claim.modified, time.monotonic()
    return time.monotonic() - since < STALE_SECONDS


class Claim:
    """Ownership of a run directory: `with Claim.acquire(run) as claim` renews it until the end, then releases it."""

    def __init__(self, run: Path, number: int, owner: dict[str, Any]) -> None:
        self.run, self.number, self.owner = run, number, owner
        self.path = run / f"claim-{number}.json"
        self._next = run / f"claim-{number + 1}.json"
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="claim", daemon=True)

    @classmethod
    def acquire(cls, run: Path) -> "Claim | None":
        """Claim a run directory; None if a live process has it, or was faster. Raises OSError if it cannot write."""
        owner = {
            "machine": _machine(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_start": _start_of(os.getpid()),
            "job": _job(),
            "token": uuid.uuid4().hex,
        }
        temporary = run / f".claim.{owner['token']}.tmp"
        temporary.write_text(dump_json(owner))
        try:
            newest = newest_claim(run)
            if newest and is_alive(newest):
                return None
            claim = cls(run, newest.number + 1 if newest else 1, owner)
            try:
                os.link(temporary, claim.path)  # fails if the number is taken, on NFS too
            except FileExistsError:
                return None
            except OSError:  # a file system without links: exclusive creation, not whole for a moment
                with contextlib.suppress(FileExistsError), claim.path.open("x") as file:
                    file.write(dump_json(owner))
                if parse_json(claim.path.read_text() or "{}").get("token") != owner["token"]:
                    return None
            return claim
        finally:
            temporary.unlink(missing_ok=True)

    def owned(self) -> bool:
        """Whether no other process has taken over."""
        return not self._next.exists()

    def check(self) -> None:
        """Call before writing to the run directory. Raises LostClaim if another process has taken over."""
        if not self.owned():
            raise LostClaim(f"{self.run.name} was taken over by another process")

    def __enter__(self) -> "Claim":
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Release: the next process need not wait for the time stamp to age."""
        self._stop.set()
        self._heart.join()
        temporary = self.run / f".claim.{self.owner['token']}.tmp"
        with contextlib.suppress(OSError):  # a full disk: the claim then dies with this process
            temporary.write_text(dump_json({**self.owner, "released": True}))
            temporary.replace(self.path)
        temporary.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _machine() -> str:
    """This machine, this boot, this process namespace: where a pid means what it says."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def _start_of(pid: int) -> str | None:
    """When process `pid` of this machine started (a pid may be reused), or None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists() or pid <= 0:
            return None
        try:  # no /proc here (macOS): all we can ask is whether the process exists
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "unknown"
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]  # a zombie is dead; field 22 is the start time


def _is_hidden(pid: int) -> bool:
    """Whether there is such a process of another user, of which this machine's /proc shows nothing (hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return pid > 0
    except OSError:
        pass
    return False


def _job() -> dict[str, str]:
    """The SLURM job this process is part of, {} outside SLURM."""
    names = {
        "id": "SLURM_JOB_ID",
        "array": "SLURM_ARRAY_JOB_ID",
        "task": "SLURM_ARRAY_TASK_ID",
        "restart": "SLURM_RESTART_COUNT",
    }
    return {key: os.environ[name] for key, name in names.items() if name in os.environ}
