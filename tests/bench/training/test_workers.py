"""Worker processes of this machine: how many, what becomes of those that die."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_results import fake_result
from rich.console import Console

from bench.files import dump_json
from bench.planning import plan
from bench.runs import store
from bench.training import last_turn, workers
from bench.training.orders import Orders

COUNTS = """
import json, sys, time
from pathlib import Path
from bench.files import dump_json, write_atomic
from bench.runs.claim import Claim
from bench.runs.store import RunDir

for run in map(RunDir, map(Path, json.load(sys.stdin)["runs"])):
    claim = None if run.result.exists() else Claim.acquire(run.path)
    if claim:
        with claim:
            run.append_history({"epoch": 1, "step": 1, "seconds": 1.0, "loss": 1.0, "images_per_second": 1.0})
            together, deadline = 0, time.monotonic() + PATIENCE
            while together < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
                together = len(list(run.path.parent.glob("*/claim-1.json")))
            result = json.loads(Path(f"{run.run_id}.json").read_text())
            result["metrics"]["test_linear_top1"] = 100.0 * (together == 3)
            write_atomic(run.result, dump_json(result).encode())
"""
DIES = """
import sys
open("starts", "a").write("x")
raise RuntimeError("nothing works here")
"""


def test_workers_that_die_before_they_begin_a_run_are_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are given one more attempt; what they say is told once, and every run has the reason."""
    monkeypatch.chdir(tmp_path)
    Path("dies.py").write_text(DIES)
    monkeypatch.setattr(workers, "START", "dies.py")
    runs = plan.write(plan.plan(["random"], [0, 1, 2], "quick", {}, {}, "x"), tmp_path)
    orders = Orders([], str(tmp_path), "cpu", command="test", commit="", dirty=False)
    out = io.StringIO()
    outcome = workers.execute(runs, orders, ["cpu"], 1, 2, Console(file=out, width=200))
    assert len(Path("starts").read_text()) == 2 * (1 + workers.MAX_IDLE)
    assert out.getvalue().count("Traceback") == 1
    assert out.getvalue().count("RuntimeError: nothing works here") == 1
    assert outcome.unfinished == {
        run.run_id: "its worker ended with status 1 (RuntimeError: nothing works here)" for run in runs
    }


@pytest.mark.parametrize("jobs", [None, 2])
def test_three_runs_on_two_cores_go_side_by_side_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int | None
) -> None:
    """Each of these runs waits until all three have begun."""
    monkeypatch.chdir(tmp_path)
    patience = 600 if jobs is None else 2
    Path("counts.py").write_text(COUNTS.replace("PATIENCE", str(patience)))
    monkeypatch.setattr(workers, "START", "counts.py")
    monkeypatch.setenv("PYTHONPATH", str(Path(workers.__file__).parents[2]))
    monkeypatch.setattr(workers, "available_cores", lambda: 2)
    runs = plan.write(plan.plan(["simclr"], [0, 1, 2], "quick", {}, {}, "x"), tmp_path)
    for run in runs:
        Path(f"{run.run_id}.json").write_text(dump_json(fake_result(run.run_id)))
    orders = Orders([], str(tmp_path), "cpu", command="test", commit="", dirty=False)
    out = io.StringIO()
    outcome = workers.execute(runs, orders, ["cpu"], 1, jobs, Console(file=out, width=200))
    assert outcome.unfinished == {}
    assert ("the last 3 runs go side by side" in out.getvalue()) == (jobs is None)
    results = [record.result for record in map(store.read_run, runs) if record.result]
    side_by_side = [result.metrics.test_linear_top1 == 100.0 for result in results]
    assert all(side_by_side) == (jobs is None)


def running(tmp_path: Path, epochs: list[int]) -> list[store.RunRecord]:
    records = []
    for i, epoch in enumerate(epochs):
        run = store.RunDir(tmp_path / str(i))
        run.path.mkdir()
        if epoch:
            run.append_history({"epoch": epoch})
        records.append(store.RunRecord(run, "running"))
    return records


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine where workers 1 to 9 have taken `taken` kB, `free` kB are available, and a group may have `limit`."""

    def pretend(taken: int, free: int, limit: str = "max", usage: int = 0) -> None:
        files = {f"proc/{pid}/status": f"Name:\tpython\nVmHWM:\t  {taken} kB\n" for pid in range(1, 10)}
        files |= {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {free} kB\n", "proc/self/cgroup": "0::/a/b\n"}
        files |= {"groups/a/memory.max": limit, "groups/a/memory.current": str(usage * 1024)}
        files |= {"groups/a/memory.stat": "anon 5\ninactive_file 1024\n"}
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        monkeypatch.setattr(last_turn, "PROC", tmp_path / "proc")
        monkeypatch.setattr(last_turn, "CGROUPS", tmp_path / "groups")

    return pretend


@pytest.mark.parametrize("content", ["0::relative\n", "no group\n"])
def test_control_groups_of_another_kind_limit_nothing(
    tmp_path: Path, memory: Callable[..., None], content: str
) -> None:
    memory(taken=100, free=1000)
    (tmp_path / "proc/self/cgroup").write_text(content)
    assert last_turn.memory_left() == 1000 * 1024


@pytest.mark.parametrize(
    ("waiting", "epochs", "slots", "more"),
    [
        (1, [1, 1], 2, 1),  # three on two cores: one turn and a half instead of two
        (0, [1, 1], 2, 0),
        (2, [1, 1], 2, 0),  # the next turn is a full one
        (1, [1, 0], 2, 0),  # who has not finished an epoch may still take more memory
        (1, [1], 2, 0),  # the other worker is about to take what waits
        (3, [1, 1, 1, 1], 4, 3),
        (4, [1] * 5, 5, 4),
        (5, [1] * 6, 6, 0),  # of six cores one would idle: not worth five runs' memory
    ],
)
def test_a_last_turn_that_would_leave_cores_idle_is_shared(
    tmp_path: Path, memory: Callable[..., None], waiting: int, epochs: list[int], slots: int, more: int
) -> None:
    memory(taken=100, free=10_000)
    pids = list(range(1, slots + 1))
    assert last_turn.further_workers(running(tmp_path, epochs), waiting, pids, slots) == more


@pytest.mark.parametrize(
    ("runs", "cores", "expected"),
    [(5, 2, 2.5), (3, 2, 1.5), (4, 2, 2), (2, 2, 1), (1, 2, 1), (7, 2, 3.5), (7, 4, 1.75), (9, 4, 2.25), (4, 1, 4)],
)
def test_the_work_takes_no_longer_than_on_cores_that_never_idle(
    tmp_path: Path, memory: Callable[..., None], runs: int, cores: int, expected: float
) -> None:
    """Runs of a turn each; those that are executed share the cores evenly. In whole turns: ceil(runs / cores)."""
    memory(taken=100, free=10_000)
    records = running(tmp_path, [1] * runs)
    workers, waiting, turns = min(cores, runs), runs, 0.0
    left: list[float] = []
    while waiting or left:
        begun = min(workers - len(left), waiting)
        left, waiting = [*left, *[1.0] * begun], waiting - begun
        workers = len(left)  # others find nothing to do and end
        more = last_turn.further_workers(records[:workers], waiting, list(range(1, workers + 1)), min(cores, runs))
        if more:
            workers += more
            continue
        step = min(left)
        turns += step / min(1.0, cores / len(left))
        left = [rest - step for rest in left if rest > step]
        workers = max(cores, len(left)) if waiting else workers
    assert turns == pytest.approx(expected)


def test_further_workers_have_to_fit_into_memory(tmp_path: Path, memory: Callable[..., None]) -> None:
    records = running(tmp_path, [1, 1])

    def more() -> int:
        return last_turn.further_workers(records, 1, [1, 2], 2)

    memory(taken=100, free=150)
    assert more() == 1
    memory(taken=100, free=149)
    assert more() == 0
    memory(taken=100, free=1000, limit=str(1000 * 1024), usage=851)  # of which 1 kB can be given back
    assert more() == 1
    memory(taken=100, free=1000, limit=str(1000 * 1024), usage=852)
    assert more() == 0
    (tmp_path / "proc/meminfo").unlink()
    assert more() == 0


def test_a_run_that_lives_on_another_machine_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's clock says: here it is five minutes ahead of the file system's."""
    monkeypatch.chdir(tmp_path)
    Path("nothing.py").write_text("")
    monkeypatch.setattr(workers, "START", "nothing.py")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 300)
    runs = plan.write(plan.plan(["random"], [0], "quick", {}, {}, "x"), tmp_path)
    (runs[0].path / "claim-1.json").write_text('{"machine": "elsewhere"}')
    out = io.StringIO()

    def sleep(seconds: float) -> None:
        if "waiting for 1 runs that another process is executing" in out.getvalue():
            runs[0].result.write_text(dump_json(fake_result(runs[0].run_id)))

    monkeypatch.setattr("bench.runs.progress.time.sleep", sleep)
    orders = Orders([], str(tmp_path), "cpu", command="test", commit="", dirty=False)
    assert workers.execute(runs, orders, ["cpu"], 1, None, Console(file=out, width=200)).unfinished == {}
    assert "done in 2 s" in out.getvalue()
