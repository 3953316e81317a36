"""The last turn of runs on a processor: where it would leave cores idle, the runs that wait share the cores instead.

Five runs on two cores, a thread each, take three turns, and in the third a core has nothing to do. With the last three
side by side on both cores none idles, and the whole takes two turns and a half. The runs' bits are the same.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.runs.store import RunRecord

MOST_WAITING = 0.8  # of the slots: with more, next to none would idle
MARGIN = 1.5  # memory that a further worker may take, in units of what the largest has taken so far

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def further_workers(running: Sequence[RunRecord], waiting: int, pids: Sequence[int], slots: int) -> int:
    """How many workers to start beside those alive, `pids`, that execute `running`; `slots`: runs at a time so far.

    All that `waiting` runs need or none: none while cores will have enough to do, before every running run has
    finished an epoch (until then the memory that it takes is not known), and where memory is short, or not known.
    """
    if not 0 < waiting <= MOST_WAITING * slots or len(running) < len(pids):
        return 0
    if not all(record.dir.last_epoch() for record in running):
        return 0
    taken, free = [_peak(pid) for pid in pids], memory_left()
    if not taken or not all(taken) or free is None:
        return 0
    return waiting if free >= waiting * MARGIN * max(taken) else 0


def memory_left() -> int | None:
    """Bytes that this machine, and every control group that we are in, can still give; None where it is not known."""
    try:
        left = [_fields(PROC / "meminfo")["MemAvailable"]]
    except (OSError, ValueError, KeyError):
        return None
    for limit, usage, statistics, cache in _groups():
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            reclaimable = dict(line.split() for line in statistics.read_text().splitlines()).get(cache, "0")
            left.append(int(limit.read_text()) - int(usage.read_text()) + int(reclaimable))
    return min(left)


def _groups() -> Iterator[tuple[Path, Path, Path, str]]:
    """Files with limit, usage and statistics of our control groups, and how the latter call what can be given back."""
    with contextlib.suppress(OSError, ValueError):  # none, or lines of another kind
        for line in (PROC / "self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for group in (Path(path), *Path(path).parents):
                if not controllers:
                    own = CGROUPS / group.relative_to("/")
                    yield own / "memory.max", own / "memory.current", own / "memory.stat", "inactive_file"
                elif "memory" in controllers.split(","):
                    own = CGROUPS / "memory" / group.relative_to("/")
                    limit, usage = own / "memory.limit_in_bytes", own / "memory.usage_in_bytes"
                    yield limit, usage, own / "memory.stat", "total_inactive_file"


def _peak(pid: int) -> int:
    """The most memory that a process has taken so far, bytes; 0 if it is not known."""
    try:
        return _fields(PROC / str(pid) / "status")["VmHWM"]
    except (OSError, ValueError, KeyError):
        return 0


def _fields(path: Path) -> dict[str, int]:
    """ "Name:   12 kB" -> {"Name": 12288}; lines of another kind are left out."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[2:] == ["kB"]}
