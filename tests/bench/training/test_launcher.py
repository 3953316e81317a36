"""Runs with several processes: killed, stopped and resumed they end as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import one_hangs
import pytest

from bench.files import dump_json
from bench.planning import plan
from bench.runs import store
from bench.runs.result import Result
from bench.runs.store import RunDir
from bench.training import launcher, speed_devices, start, worker
from bench.training.orders import Orders

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc"),
]
SETTINGS = {"data.size": "8", "train.epochs": "3", "train.batch_size": "256", "method.projector_hidden": "32"}


def planned(where: Path, method: str = "byol") -> RunDir:
    (run,) = plan.write(plan.plan([method], [0], "quick", SETTINGS, {}, "x"), where)
    return run


def orders(run: RunDir, devices: int = 2, parent: int = 0) -> Orders:
    data = str(run.path.parents[2] / "data")
    return Orders([str(run.path)], data, "cpu", "bench", "", False, devices=devices, parent=parent)


def begin(run: RunDir) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, start.__file__, "bench.training.launcher"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(dump_json(asdict(orders(run, parent=os.getpid()))).encode())
    process.stdin.close()
    return process


def end(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit status, and what it said."""
    assert process.stderr is not None
    said = process.stderr.read().decode()
    return process.wait(60), said


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)


def ranks(process: subprocess.Popen[bytes]) -> list[int]:
    """Process ids of the ranks, in order."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(pid) for pid in sorted(children, key=lambda pid: b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
    ]


def training(run: RunDir, epoch: int) -> Callable[[], bool]:
    return lambda: run.last_epoch().get("epoch", 0) >= epoch and store.read_run(run).state == "running"


def gone(pids: Sequence[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def result(run: RunDir) -> Result:
    found = store.read_run(run).result
    assert found is not None, run.log.read_text()
    return found


def bits(run: RunDir) -> bytes:
    return run.encoder.read_bytes()


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> list[RunDir]:
    """Two runs of equal settings, on two devices each, at the same time."""
    runs = [planned(tmp_path_factory.mktemp(name)) for name in ("left", "right")]
    assert [end(process) for process in [begin(run) for run in runs]] == [(0, ""), (0, "")]
    return runs


@pytest.fixture(scope="module")
def undisturbed(side_by_side: list[RunDir]) -> RunDir:
    return side_by_side[0]


def test_runs_side_by_side_on_a_machine_do_not_meet(side_by_side: list[RunDir]) -> None:
    left, right = side_by_side
    assert result(left).provenance.devices == [2]
    assert bits(left) == bits(right) and result(left).metrics == result(right).metrics


def test_killed_and_stopped_a_run_ends_with_the_bits_of_one_that_was_not(tmp_path: Path, undisturbed: RunDir) -> None:
    run = planned(tmp_path)
    for rank, epoch in ((0, 1), (1, 2)):
        process = begin(run)
        wait_for(training(run, epoch))
        pids = ranks(process)
        os.kill(pids[rank], signal.SIGKILL)
        status, said = end(process)
        assert status == 1
        line = f"rank {rank} of 2 on {os.uname().nodename} was killed (signal 9)"
        assert said.splitlines()[-1].startswith(line), said
        assert line in run.log.read_text()
        assert gone(pids)
        assert store.read_run(run).state == "interrupted"
    process = begin(run)
    wait_for(lambda: store.read_run(run).state == "running")
    process.send_signal(signal.SIGTERM)
    assert end(process) == (0, "")
    assert store.read_run(run).state == "interrupted"
    assert "stopped, to be resumed" in run.log.read_text()
    assert end(begin(run)) == (0, "")
    assert bits(run) == bits(undisturbed)
    assert result(run).metrics == result(undisturbed).metrics


def test_ranks_do_not_outlive_their_launcher_and_one_device_may_go_on(tmp_path: Path) -> None:
    run = planned(tmp_path)
    process = begin(run)
    wait_for(training(run, 1))
    pids = ranks(process)
    process.kill()
    end(process)
    wait_for(lambda: gone(pids))
    worker.work(orders(run, devices=1), stop=lambda: False)
    assert result(run).provenance.devices == [2, 1]
    assert "but not as it began: 2 devices -> 1" in run.log.read_text()


@pytest.mark.parametrize("hangs", [0, 1])
def test_one_that_hangs_on_one_of_two_nodes_is_killed_and_named_by_its_own_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(one_hangs.__file__).parent))
    monkeypatch.setenv("HANGS", str(hangs))
    meeting = tmp_path / "meeting"
    both = Orders([], "", "cpu", "bench", "", False, devices=2, nodes=2, meeting=str(meeting))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(launcher.launch, both, [], "one_hangs")
        wait_for(meeting.exists)
        nodes = [first, pool.submit(launcher.launch, replace(both, node=1), [], "one_hangs")]
        told = [node.result() for node in nodes]
    rank, host = f"rank {hangs} of 2", os.uname().nodename
    late = f"{rank} on {host} did not leave within {launcher.GRACE_SECONDS} s after another had, and was killed"
    assert told[hangs] == late
    assert told[1 - hangs].endswith(f"on {host} ended with status 75: another process died or hangs")


def test_a_run_that_fails_in_all_processes_is_noted_as_failed(tmp_path: Path) -> None:
    run = planned(tmp_path)
    run.config.write_text(run.config.read_text().replace('"epochs": 3', '"epochs": 4'))
    assert launcher.launch(orders(run), []) == ""
    assert "config.json does not belong to" in run.error.read_text()


def test_speed_on_several_devices_is_told_against_one() -> None:
    (run,) = plan.plan(["byol"], [0], "quick", SETTINGS, {}, "x")
    told = speed_devices.measure(run, "cpu", 2, seconds=1)
    assert told["devices"] == 2 and told["rounds"] >= speed_devices.LEAST
    assert told["efficiency"] == pytest.approx(told["step_images_per_second"] / told["one_device_images_per_second"])
    assert 0 < told["communication_share"] < 1
    assert "efficiency" in speed_devices.describe(told)
