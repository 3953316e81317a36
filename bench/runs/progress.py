"""Progress of runs, read from their directories: one live line a run on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from bench.runs import store

if TYPE_CHECKING:
    from bench.runs.work import Work

POLL_SECONDS = 0.5
PLAIN_SECONDS = 10  # between two plain lines of a run


@dataclass
class Watcher:
    """Follows `runs` and says what happens to them."""

    runs: Sequence[store.RunDir]
    console: Console
    messages: SimpleQueue[str]
    """Lines from elsewhere (the workers' errors) to print between ours."""
    work: "Work"
    """What is done to the runs."""
    unfinished: dict[str, store.RunRecord] = field(init=False)
    failed: dict[str, str] = field(default_factory=dict)
    """Reason by run id."""
    _said: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.unfinished = {run.run_id: self.work.read(run) for run in self.runs}
        done = [run_id for run_id, record in self.unfinished.items() if record.state == "done"]
        if done:
            self.console.print(f"{len(done)} of {len(self.runs)} runs are {self.work.done} already", highlight=False)
        for run_id in done:
            del self.unfinished[run_id]

    def watch(self, going_on: Callable[[], bool]) -> None:
        """Report until `going_on` says no; then once more, so that nothing is missed."""
        if not self.console.is_terminal:
            while self._tick() and going_on():
                time.sleep(POLL_SECONDS)
            self._tick()
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while True:
                last = not going_on()
                self._tick()
                live.update(self.table(), refresh=True)
                if last:
                    return
                time.sleep(POLL_SECONDS)

    def running(self) -> list[store.RunRecord]:
        """The runs that a live process is executing."""
        return [record for record in self.unfinished.values() if record.state == "running"]

    def waiting(self) -> int:
        """How many runs no process is executing that still may be executed."""
        return sum(record.state in store.CLAIMABLE for record in self.unfinished.values())

    def table(self) -> Group:
        """One line a running run (several on a narrow terminal), and one that counts the others."""
        running = [self.work.cells(record) for record in self.running()]
        widths = [max(map(cell_len, column)) for column in zip_longest(*running, fillvalue="")]
        fits = sum(widths) + 2 * len(widths) <= self.console.width
        lines = []
        for cells in running:
            aligned = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=False))
            lines.append(Text("  ".join(aligned if fits else filter(None, cells)), overflow="fold"))
        if waiting := self.waiting():
            lines.append(Text(f"{waiting} waiting", style="dim"))
        return Group(*lines)

    def _tick(self) -> bool:
        """Look at every unfinished run once; False when there is none left."""
        while not self.messages.empty():
            self.console.print(Text(self.messages.get()), style="yellow", soft_wrap=True)
        for run_id, before in list(self.unfinished.items()):
            record = self.unfinished[run_id] = self.work.again(before)
            if record.state == "done":
                self._say(self.work.told(record))
                del self.unfinished[run_id]
            elif record.state in ("failed", "damaged") and before.state == "running":
                self._say(f"{run_id}  {record.state}: {record.error}")
            elif record.state == "running" and not self.console.is_terminal and self._due(run_id):
                self._say("  ".join(self.work.cells(record)))
        self.failed = {
            run_id: record.error for run_id, record in self.unfinished.items() if record.state in ("failed", "damaged")
        }
        return bool(self.unfinished)

    def _due(self, run_id: str) -> bool:
        """Whether it is time for another plain line on this run."""
        now = time.monotonic()
        if now - self._said.get(run_id, float("-inf")) < PLAIN_SECONDS:
            return False
        self._said[run_id] = now
        return True

    def _say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


def planned(config: Any, name: str) -> int:
    """A whole number of a config.json's section `train`, 0 if it does not tell."""
    for key in ("config", "train", name):
        config = config.get(key) if isinstance(config, dict) else None
    return config if isinstance(config, int) else 0


def remaining(row: dict[str, Any], epochs: int) -> str:
    """ "4 min left" by the newest history row; "" if it does not tell, as another version's may not."""
    epoch, seconds = row.get("epoch"), row.get("seconds")
    if not isinstance(epoch, int) or not isinstance(seconds, (int, float)) or epoch <= 0:
        return ""
    return f"{duration(seconds / epoch * (epochs - epoch))} left" if epoch < epochs else "evaluating"


def duration(seconds: float) -> str:
    """45.2 -> "45 s", 3725 -> "1 h 02 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
