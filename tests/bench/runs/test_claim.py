"""A run directory has one writer, and a dead writer's run is taken over by exactly one process."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from bench.runs.claim import Claim;"
        "Claim.acquire(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert acquired(tmp_path).number == 2


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    claim = acquired(tmp_path)
    owner = json.loads(claim.path.read_text())
    claim.path.write_text(json.dumps({**owner, "pid_start": "12345"}))
    assert Claim.acquire(tmp_path) is not None


@pytest.mark.parametrize(("age", "alive"), [(0, True), (STALE_SECONDS - 5, True), (STALE_SECONDS + 5, False)])
def test_an_owner_elsewhere_lives_as_long_as_its_time_stamp_is_fresh(tmp_path: Path, age: float, alive: bool) -> None:
    pretend(tmp_path, 1, age=age)
    newest = newest_claim(tmp_path)
    assert newest is not None
    assert is_alive(newest) == alive
    assert (Claim.acquire(tmp_path) is None) == alive


def test_the_time_stamp_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    with acquired(tmp_path) as claim:
        os.utime(claim.path, (0, 0))
        deadline = time.monotonic() + 5
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
