"""A run directory has one writer, and a dead writer's run is taken over by exactly one process."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench import files
from bench.runs import claim as claims
from bench.runs.claim import STALE_SECONDS, Claim, LostClaim, is_alive, newest_claim


def acquired(run: Path) -> Claim:
    claim = Claim.acquire(run)
    assert claim is not None
    return claim


def pretend(run: Path, number: int, age: float = 0, **owner: object) -> None:
    """A claim as another process would have left it `age` seconds ago."""
    path = run / f"claim-{number}.json"
    path.write_text(json.dumps({"machine": "elsewhere", "pid": 1, "pid_start": "1", **owner}))
    os.utime(path, (time.time() - age, time.time() - age))


def test_a_claimed_run_is_refused_to_others_until_it_is_released(tmp_path: Path) -> None:
    with acquired(tmp_path):
        assert Claim.acquire(tmp_path) is None
    assert Claim.acquire(tmp_path) is not None


def test_of_many_that_try_at_once_one_succeeds(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda _: Claim.acquire(tmp_path), range(64)))
    assert sum(claim is not None for claim in claimed) == 1


def test_of_many_that_take_over_a_dead_claim_one_succeeds(tmp_path: Path) -> None:
    pretend(tmp_path, 1, age=2 * STALE_SECONDS)
    with ThreadPoolExecutor(16) as pool:
        claimed = list(pool.map(lambda _: Claim.acquire(tmp_path), range(64)))
    assert [claim.number for claim in claimed if claim] == [2]


def test_a_time_stamp_from_before_a_clock_was_set_back_holds_nothing(tmp_path: Path) -> None:
    pretend(tmp_path, 1, age=-3600)
    assert acquired(tmp_path).number == 2


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from bench.runs.claim import Claim;"
        "Claim.acquire(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert acquired(tmp_path).number == 2


@pytest.mark.parametrize("pid", ["self", None, [1], 10**30, -1, 1.5, True])
def test_a_pid_that_is_none_belongs_to_nobody(tmp_path: Path, pid: Any) -> None:
    pretend(tmp_path, 1, age=0, machine=claims._machine(), pid=pid)
    assert acquired(tmp_path).number == 2


def test_a_process_that_is_gone_and_left_no_start_time_is_dead(tmp_path: Path) -> None:
    pretend(tmp_path, 1, age=0, machine=claims._machine(), pid=2**22 + 1, pid_start=None)
    assert acquired(tmp_path).number == 2


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    claim = acquired(tmp_path)
    owner = json.loads(claim.path.read_text())
    claim.path.write_text(json.dumps({**owner, "pid_start": "12345"}))
    assert Claim.acquire(tmp_path) is not None


@pytest.mark.parametrize(("age", "alive"), [(0, True), (STALE_SECONDS - 1, True), (STALE_SECONDS + 1, False)])
def test_an_owner_elsewhere_lives_as_long_as_its_time_stamp_is_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, alive: bool
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(claims, "file_system_time", lambda folder: now)
    pretend(tmp_path, 1, age=age)
    newest = newest_claim(tmp_path)
    assert newest is not None
    assert is_alive(newest) == alive
    assert (Claim.acquire(tmp_path) is None) == alive


@pytest.mark.parametrize(("age", "alive"), [(0, True), (2 * STALE_SECONDS, False)])
def test_a_process_that_proc_hides_from_us_is_judged_by_its_time_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, alive: bool
) -> None:
    """Another user's, where /proc is mounted with hidepid: it exists, and that is all we can learn."""

    def not_permitted(pid: int, number: int) -> None:
        raise PermissionError

    pretend(tmp_path, 1, age=age, machine=claims._machine(), pid=4711)
    monkeypatch.setattr(claims, "_start_of", lambda pid: None)
    newest = newest_claim(tmp_path)
    assert newest is not None
    monkeypatch.setattr(os, "kill", not_permitted)
    assert is_alive(newest) == alive


@pytest.mark.parametrize("seconds", [-3600, -300, 300, 3600])
def test_this_machines_clock_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Time stamps come from the file system's clock; a machine beside it may be minutes off."""
    living, dead = tmp_path / "living", tmp_path / "dead"
    for run, age in ((living, 1), (dead, 2 * STALE_SECONDS)):
        run.mkdir()
        pretend(run, 1, age=age)
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + seconds)
    assert [is_alive(newest) for run in (living, dead) if (newest := newest_claim(run))] == [True, False]
    assert Claim.acquire(living) is None
    assert acquired(dead).number == 2


def test_the_file_systems_clock_is_asked_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ahead(folder: Path) -> float:
        asked.append(folder)
        return time.time() + 300

    monkeypatch.setattr(files, "_clocks", {})
    monkeypatch.setattr(files, "_time_stamp", ahead)
    pretend(tmp_path, 1, age=2 * STALE_SECONDS - 300)  # a server 300 s ahead, and a beat that is 120 s old
    for _ in range(3):
        newest = newest_claim(tmp_path)
        assert newest is not None and not is_alive(newest)
    pretend(tmp_path, 1, age=-295)
    newest = newest_claim(tmp_path)
    assert newest is not None and is_alive(newest)
    assert len(asked) == 1
    now = time.monotonic() + files.CLOCK_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    is_alive(newest)
    assert len(asked) == 2


def test_who_may_not_write_sees_whether_the_time_stamp_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path) -> float:
        raise PermissionError

    monkeypatch.setattr(files, "_clocks", {})
    monkeypatch.setattr(files, "_time_stamp", denied)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pretend(tmp_path, 1, age=7200)

    def alive() -> bool:
        newest = newest_claim(tmp_path)
        assert newest is not None
        return is_alive(newest)

    assert alive()  # nothing is known yet
    now += STALE_SECONDS - 1
    assert alive()
    os.utime(tmp_path / "claim-1.json", (time.time() - 7190,) * 2)  # a beat
    assert alive()
    now += STALE_SECONDS - 1
    assert alive()
    now += 2
    assert not alive()


def test_the_time_stamp_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    with acquired(tmp_path) as claim:
        os.utime(claim.path, (0, 0))
        deadline = time.monotonic() + 120
        while claim.path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_an_owner_that_was_thought_dead_finds_out_before_it_writes(tmp_path: Path) -> None:
    with acquired(tmp_path) as former:
        former.check()
        pretend(tmp_path, 2)
        with pytest.raises(LostClaim):
            former.check()


def test_an_owner_that_lost_its_claim_does_not_release_the_new_one(tmp_path: Path) -> None:
    with acquired(tmp_path):
        pretend(tmp_path, 2)
    newest = newest_claim(tmp_path)
    assert newest is not None
    assert newest.number == 2
    assert is_alive(newest)


def test_an_unreadable_claim_counts_by_its_age(tmp_path: Path) -> None:
    (tmp_path / "claim-1.json").write_text("{")
    assert Claim.acquire(tmp_path) is None
    os.utime(tmp_path / "claim-1.json", (0, 0))
    assert acquired(tmp_path).number == 2


def test_a_file_system_without_links_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", unsupported)
    with acquired(tmp_path):
        assert Claim.acquire(tmp_path) is None
