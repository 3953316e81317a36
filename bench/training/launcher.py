"""Starts the processes of runs that have several devices each, and watches them: it stands where one worker would.

`python .../start.py bench.training.launcher < orders.json`

The processes are torch's to start and to end (torch.distributed.elastic). If one of them dies, the others, which wait
for its messages, leave too, or are killed; the runs go on from their checkpoints when they are started again. One that
hangs is left by the others, and then killed. A signal is passed on, and the processes stop together. Launchers of
several nodes end together: each looks whether the first one's store is still there, and says in it that it ends.
"""

import contextlib
import logging
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, SubprocessContext

from bench.files import dump_json, parse_json, write_atomic
from bench.runs.claim import ClaimFile, newest_claim
from bench.runs.store import RunDir
from bench.team import LOST
from bench.training import start
from bench.training.orders import Orders

POLL_SECONDS = 0.2
GRACE_SECONDS = 5  # for the others to leave, when one has died
ANSWER_SECONDS = 20  # for the first node to answer, before it is taken for dead
ENDED = "a launcher has ended"
"""Key of the store, in which another node's launcher says so."""


class Processes(SubprocessContext):
    """torch's, but when one has died the others are killed sooner."""

    first: Collection[int] | None = None
    """Who died first, before the others were ended."""

    def close(self, death_sig: signal.Signals | None = None, timeout: int = GRACE_SECONDS) -> None:
        if self.first is None:
            self.first = list(self._failures)
        super().close(death_sig, timeout)


def launch(orders: Orders, signals: list[int], module: str = "bench.training.worker") -> str:
    """Execute orders with a process a device, of `module`; returns why they did not come to the end, "" if they did.

    `signals`: those that came, to which the caller's handlers add.
    """
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ""  # those are the caller's
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)  # it is told here
    world, n, host = orders.devices, orders.devices // orders.nodes, platform.node()
    first = orders.node * n
    store, place = _meet(orders)
    variables = {**place, "WORLD_SIZE": str(world), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    with tempfile.TemporaryDirectory(prefix="bench-ranks-") as folder:
        args = {}
        for rank in range(n):
            own = Path(folder, f"{rank}.json")
            own.write_text(dump_json(asdict(replace(orders, parent=os.getpid(), slot=orders.slot * n + rank))))
            args[rank] = (start.__file__, module, str(own))
        processes = Processes(
            "rank",
            sys.executable,
            args,
            {rank: {**variables, "RANK": str(first + rank), "LOCAL_RANK": str(rank)} for rank in range(n)},
            DefaultLogsSpecs(folder, tee=Std.ERR),
            {rank: f"rank {first + rank} on {host}: " for rank in range(n)},
        )
        processes.start()
        pids = processes.pids()
        passed_on, over = 0, 0.0
        while (ended := processes.wait(0)) is None:
            if orders.parent and os.getppid() != orders.parent and not signals:
                signals.append(signal.SIGTERM)
            for number in signals[passed_on:]:
                _pass_on(number, pids)
                passed_on += 1
            if orders.nodes > 1 and _ended_elsewhere(store):
                over = over or time.monotonic()
                if time.monotonic() - over > GRACE_SECONDS:
                    processes.close()
            time.sleep(POLL_SECONDS)
        died = {rank: failure.exitcode for rank, failure in ended.failures.items()}
        # the last line is the one that is told: who died first, and not as another was missing
        dead = processes.first or ()
        order = sorted(died, key=lambda rank: (died[rank] != LOST, rank in dead))
        late = {rank for rank in died if died[rank] == -signal.SIGKILL and rank not in dead}
        lines = [
            f"rank {first + rank} of {world} on {host} {_end(died[rank], rank in late)}{_words(ended.stderrs[rank])}"
            for rank in order
        ]
    if lines:
        _log(orders, pids, lines)
        with contextlib.suppress(DistError, RuntimeError):  # the first node's has ended before
            store.set(ENDED, host)
    return "\n".join(lines)


def _address(nodes: int) -> str:
    """How the processes of a run reach this machine."""
    return "127.0.0.1" if nodes == 1 else platform.node()


def _meet(orders: Orders) -> tuple[TCPStore, dict[str, str]]:
    """The store, and torch's variables for where it is: the first node has it, at a free port, and tells the others."""
    meeting = Path(orders.meeting)
    if orders.node:
        place: dict[str, str] = parse_json(meeting.read_text())
        patience = timedelta(seconds=ANSWER_SECONDS)
        store = TCPStore(place["MASTER_ADDR"], int(place["MASTER_PORT"]), is_master=False, timeout=patience)
        return store, place
    store = TCPStore(_address(orders.nodes), 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": _address(orders.nodes), "MASTER_PORT": str(store.port)}
    if orders.meeting:
        write_atomic(meeting, dump_json(place).encode())
    return store, place


def _ended_elsewhere(store: TCPStore) -> bool:
    """Whether the processes of another node are gone: then ours go nowhere."""
    try:
        return store.check([ENDED])
    except (DistError, RuntimeError):
        return True


def _pass_on(number: int, pids: Mapping[int, int]) -> None:
    for pid in pids.values():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(pid, number)


def _end(status: int, late: bool) -> str:
    """ "was killed (signal 9)", "ended with status 1"."""
    if late:
        return f"did not leave within {GRACE_SECONDS} s after another had, and was killed"
    return f"was killed (signal {-status})" if status < 0 else f"ended with status {status}"


def _words(path: str) -> str:
    """The last ones of a process, in what it said: ": CUDA out of memory"."""
    lines = Path(path).read_text(errors="replace").strip().splitlines()
    return f": {lines[-1].strip()}" if lines else ""


def _log(orders: Orders, pids: Mapping[int, int], lines: list[str]) -> None:
    """Add the lines to the log of the run that the processes were at."""
    for run in map(RunDir, map(Path, orders.runs)):
        claim = None if run.ended() else newest_claim(run.path)
        job = os.environ.get("SLURM_JOB_ID")
        if claim and ((claim.here and claim.owner.get("pid") == pids[0]) or (job and _job(claim) == job)):
            with run.log.open("a", encoding="utf-8") as log:
                log.writelines(f"{time.strftime('%Y-%m-%d %H:%M:%S')},000 ERROR {line}\n" for line in lines)


def _job(claim: ClaimFile) -> object:
    job = claim.owner.get("job")
    return job.get("id") if isinstance(job, dict) else None


def main() -> None:
    """Leave with status 0 when the processes did, 1 with a line a process if one died."""
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda number, _: signals.append(number))
    sys.exit(launch(Orders(**parse_json(sys.stdin.read())), signals) or 0)


if __name__ == "__main__":
    main()
