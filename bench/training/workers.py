"""Worker processes on this machine: one a GPU, or as many as fit the processor's cores."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from queue import SimpleQueue

from rich.console import Console

from bench.errors import UserError
from bench.files import dump_json
from bench.runs.progress import Watcher
from bench.runs.store import CLAIMABLE, RunDir, State
from bench.runs.work import work
from bench.training import start
from bench.training.last_turn import further_workers
from bench.training.orders import Orders

START = start.__file__
MAX_IDLE = 1  # further attempts after one in which workers died before they began a run


def devices(choice: str) -> list[str]:
    """ "auto" | "cpu" | "cuda" -> device names, one for each device of this machine. Raises UserError."""
    start.free_threads()  # what torch binds this process to, its workers inherit
    import torch

    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if choice != "cpu" else []
    if choice == "cuda" and not gpus:
        raise UserError("--device cuda: this machine shows no CUDA device; use cpu or auto")
    return gpus or ["cpu"]


def default_jobs(names: list[str], threads: int, runs: int, devices: int = 1) -> int:
    """Runs at a time: each has its GPUs, or cores / threads on the CPU, and no more than there are runs."""
    slots = (len(names) if names[0] != "cpu" else available_cores() // threads) // devices
    return max(1, min(slots, runs))


def available_cores() -> int:
    """Cores that this process may use (a container or a batch job may have fewer than the machine)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalWorkers:
    """`jobs` worker processes over one list of runs; each run is claimed by one of them.

    What several workers say (the traceback of a broken installation) is told once, also over several attempts that
    share the set `heard`.
    """

    def __init__(self, orders: Orders, jobs: int, names: list[str], heard: set[str] | None = None) -> None:
        self.messages: SimpleQueue[str] = SimpleQueue()
        """Lines that the workers wrote to their standard error."""
        self.processes: list[subprocess.Popen[bytes]] = []
        self._orders, self._names = orders, names
        self._listeners: list[threading.Thread] = []
        self._heard = set() if heard is None else heard
        self._last: dict[int, str] = {}
        """The newest line of each worker, by its pid."""
        self.start(jobs)

    def start(self, jobs: int) -> None:
        """Start so many workers (more)."""
        for i in range(len(self.processes), len(self.processes) + jobs):
            device, module = self._names[i % len(self._names)], "bench.training.worker"
            if self._orders.devices > 1:  # each of its processes takes one, by its slot
                device, module = self._names[0].partition(":")[0], "bench.training.launcher"
            own = replace(self._orders, device=device, parent=os.getpid(), slot=i)
            process = subprocess.Popen([sys.executable, START, module], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # killed already: its exit status tells
                process.stdin.write(dump_json(asdict(own)).encode())
                process.stdin.close()
            listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
            listener.start()
            self._listeners.append(listener)
            self.processes.append(process)

    def alive(self) -> list[int]:
        """Process ids of the workers that have not ended."""
        return [process.pid for process in self.processes if process.poll() is None]

    def running(self) -> bool:
        """Whether any worker is alive."""
        return bool(self.alive())

    def signal(self, number: int) -> None:
        """Pass a signal on to every worker that is alive."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def deaths(self) -> list[str]:
        """Exit status of each worker that ended otherwise than by finishing (negative: a signal's number), and why."""
        self._hear_out()
        return [_death(p.returncode, self._last.get(p.pid, "")) for p in self.processes if p.poll()]

    def said(self) -> list[str]:
        """Lines that came since the last call; nothing is missing once no worker is alive."""
        self._hear_out()
        return [self.messages.get() for _ in range(self.messages.qsize())]

    def _hear_out(self) -> None:
        if not self.running():
            for listener in self._listeners:
                listener.join(timeout=1)  # a child of a worker may hold the pipe open

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        for content in process.stderr:
            line = content.decode(errors="replace").rstrip()
            self._last[process.pid] = line or self._last.get(process.pid, "")
            if line not in self._heard:
                self._heard.add(line)
                self.messages.put(line)


def _death(status: int, last_line: str) -> str:
    """ "-9 (killed: out of memory?)", "1 (ModuleNotFoundError: No module named 'torch')"."""
    if status == -signal.SIGKILL:
        return f"{status} (killed: out of memory?)"
    return f"{status} ({last_line})" if last_line else str(status)


@dataclass(frozen=True)
class Ending:
    """How a list of runs ended."""

    signal: int = 0
    """The signal that stopped us, or 0."""
    unfinished: dict[str, str] = field(default_factory=dict)
    """Why runs are not done, by run id."""
    failed: bool = False
    """Whether any of them failed, or left what cannot be read."""


def execute(
    runs: Sequence[RunDir],
    orders: Orders,
    names: list[str],
    threads: int,
    jobs: int | None,
    console: Console,
) -> Ending:
    """Work `runs` off with processes on this machine, `jobs` at a time, and show how it goes.

    Returns when every run has ended, those included that another command is executing. SIGINT and SIGTERM are passed
    on to the workers, which write checkpoints and stop; a third one kills them.
    """
    stops: list[int] = []
    workers: LocalWorkers | None = None

    def stop(number: int, _: object) -> None:
        stops.append(number)
        if workers:
            workers.signal(number if len(stops) < 3 else signal.SIGKILL)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    watcher = Watcher(runs, console, SimpleQueue(), work(orders.evaluations))
    todo = [record.dir for record in watcher.unfinished.values()]
    if todo and (threads > 1 or orders.devices > 1):
        at_a_time = jobs or default_jobs(names, threads, len(todo), orders.devices)
        runs_text = f"{len(todo)} run{'s' * (len(todo) > 1)}"
        each = f"{threads} thread{'s' * (threads > 1)} each"
        if orders.devices > 1:
            each = f"{orders.devices} processes each, with {threads} thread{'s' * (threads > 1)}"
        console.print(f"{runs_text}, {min(at_a_time, len(todo))} at a time, {each}")
    deaths: list[str] = []
    heard: set[str] = set()
    idle = 0
    try:
        while todo and not stops and idle <= MAX_IDLE:
            before = {run.run_id: watcher.unfinished[run.run_id].state for run in todo}
            slots = min(jobs or default_jobs(names, threads, len(todo), orders.devices), len(todo))
            own = replace(orders, runs=[str(run.path.absolute()) for run in todo])
            workers = LocalWorkers(own, slots, names, heard)
            watcher.messages = workers.messages
            # threads and processes of a run wait for each other: they lose; evaluations are over before their memory is
            # known
            share = not jobs and names == ["cpu"] and threads == orders.devices == 1 and not orders.evaluations
            watcher.watch(partial(_going_on, workers, watcher, console, slots if share else 0))
            died = workers.deaths()
            watcher.watch(lambda: False)  # what they said in the end
            deaths += died
            # after a death: what the dead worker had not begun; no second death
            again: frozenset[State] = frozenset({"planned"} if died else ())
            stuck = all(i in watcher.unfinished and watcher.unfinished[i].state == before[i] for i in before)
            idle = idle + 1 if died and stuck else 0
            if (elsewhere := watcher.running()) and not stops:
                console.print(f"waiting for {len(elsewhere)} runs that another process is executing")
                watcher.watch(lambda: bool(watcher.running()) and not stops)
                again = CLAIMABLE
            todo = [record.dir for record in watcher.unfinished.values() if record.state in again]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    why = "; ".join(f"its worker ended with status {death}" for death in dict.fromkeys(deaths))
    reasons = {
        run_id: watcher.failed.get(run_id) or why or record.state + _log_of(record.dir)
        for run_id, record in watcher.unfinished.items()
    }
    return Ending(stops[0] if stops else 0, reasons, failed=bool(watcher.failed))


def _going_on(workers: LocalWorkers, watcher: Watcher, console: Console, slots: int) -> bool:
    """Whether a worker is alive. Starts further ones for a last turn that would leave some of the `slots` idle."""
    alive = workers.alive()
    well = alive and not any(process.poll() for process in workers.processes)  # else memory may be short
    if well and (more := further_workers(watcher.running(), watcher.waiting(), alive, slots)):
        console.print(f"the last {len(alive) + more} runs go side by side: in turns of {slots}, cores would idle")
        workers.start(more)
    return bool(alive)


def _log_of(run: RunDir) -> str:
    return f"; see {run.log}" if run.log.exists() else ""
