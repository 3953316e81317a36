"""Workers execute each run once and to its end, whatever kills them; nothing already computed is lost."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.files import dump_json
from bench.planning import plan
from bench.runs import provenance, store
from bench.runs.result import Metrics, Result
from bench.runs.store import RunDir
from bench.runs.work import TRAINING, retry
from bench.training import trainer, worker
from bench.training.orders import Orders

STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2]
TINY = {"data.size": "8", "train.epochs": "8", "train.batch_size": "256", "eval.every_epochs": "4", "optim.lr": "0.05"}


def planned(where: Path, methods: Sequence[str], seeds: Sequence[int] = (0,), **overrides: str) -> list[RunDir]:
    chosen = {**TINY, **{key.replace("__", "."): value for key, value in overrides.items()}}
    return plan.write(plan.plan(methods, seeds, "quick", chosen, {}, "x"), where)


def settings(runs: Sequence[RunDir], **changes: Any) -> Orders:
    values = {"data_dir": str(runs[0].path.parent), "device": "cpu", "command": "test", "commit": "", "dirty": False}
    return Orders(runs=[str(run.path) for run in runs], **{**values, **changes})


def work(runs: Sequence[RunDir], stop: Callable[[], bool] = lambda: False, **changes: Any) -> None:
    worker.work(settings(runs, **changes), stop)


def start(runs: Sequence[RunDir], **changes: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.training.worker"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(dump_json(asdict(settings(runs, **changes))).encode())
    process.stdin.close()
    return process


PATIENCE = 600  # seconds, on a machine that does ten other things too


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def result_of(run: RunDir) -> Result:
    record = store.read_run(run)
    assert record.state == "done" and record.result, (record.state, record.error)
    return record.result


def outcome(run: RunDir) -> tuple[Metrics, list[dict[str, Any]]]:
    """What must not depend on interruptions: metrics, and the history without its clocks."""
    rows = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in run.history()]
    return result_of(run).metrics, rows


@pytest.mark.slow
@pytest.mark.parametrize("method", ["raft", "simclr"])  # with a teacher, and without; test_trainer resumes every method
def test_killed_at_a_random_moment_a_run_ends_with_the_same_metrics(tmp_path: Path, method: str) -> None:
    (whole,), runs = planned(tmp_path / "whole", [method]), planned(tmp_path / "killed", [method])
    work([whole])
    (run,) = runs
    process = start(runs)
    wait_for(lambda: run.last_epoch() or run.result.exists())
    time.sleep(random.Random(method).random())
    process.kill()
    process.wait()
    killed_in_time = not run.result.exists()
    work(runs)
    assert outcome(run) == outcome(whole)
    assert result_of(run).provenance.restarts == int(killed_in_time)
    assert not run.checkpoint.exists()


def test_done_runs_are_skipped(tmp_path: Path) -> None:
    runs = planned(tmp_path, ["random"])
    work(runs)
    before = runs[0].result.read_bytes(), runs[0].result.stat().st_mtime_ns
    work(runs)
    assert (runs[0].result.read_bytes(), runs[0].result.stat().st_mtime_ns) == before


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts back the signal handlers that a StopRequest replaces."""
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_makes_a_worker_write_a_checkpoint_and_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None, number: signal.Signals
) -> None:
    (run,) = planned(tmp_path, ["simclr"], train__checkpoint_epochs="8")
    append = RunDir.append_history

    def append_and_signal(run: RunDir, row: dict[str, Any]) -> None:
        append(run, row)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(RunDir, "append_history", append_and_signal)
    work([run], worker.StopRequest(parent=0))
    assert [row["epoch"] for row in run.history()] == [1]
    assert run.checkpoint.exists()
    assert store.read_run(run).state == "interrupted"


def test_a_signal_that_comes_when_all_is_done_does_not_kill_a_worker_that_ends(handlers: None) -> None:
    worker.StopRequest(parent=0).over()
    for number in STOPS:
        os.kill(os.getpid(), number)  # would end the tests


@pytest.mark.slow
def test_a_worker_process_that_was_told_to_stop_ends_well(tmp_path: Path) -> None:
    runs = planned(tmp_path, ["simclr"], train__epochs="1000", train__checkpoint_epochs="1000")
    process = start(runs)
    wait_for(lambda: runs[0].last_epoch())
    process.send_signal(signal.SIGUSR2)
    assert process.wait(PATIENCE) == 0
    assert runs[0].checkpoint.exists()


def test_a_worker_stops_when_its_parent_is_gone(tmp_path: Path, handlers: None) -> None:
    runs = planned(tmp_path, ["simclr"], train__epochs="1000")
    work(runs, worker.StopRequest(parent=2**22 + 1))  # no such process
    assert store.read_run(runs[0]).state == "planned"


@pytest.mark.slow
def test_of_two_workers_on_the_same_runs_each_executes_some_and_none_twice(tmp_path: Path) -> None:
    runs = planned(tmp_path, ["simclr"], [0, 1, 2], train__epochs="1")
    alone = planned(tmp_path / "alone", ["simclr"], [0, 1, 2], train__epochs="1")
    processes = [start(runs), start(runs)]
    assert [process.wait(PATIENCE) for process in processes] == [0, 0]
    for run in runs:
        assert run.log.read_text().count("done:") == 1
        assert result_of(run).provenance.restarts == 0
    work(alone)
    assert [outcome(run) for run in runs] == [outcome(run) for run in alone]


def test_a_run_that_fails_does_not_stop_the_others_and_is_retried_only_when_asked(tmp_path: Path) -> None:
    runs = planned(tmp_path, ["simsiam"], [0, 1], train__epochs="1")
    runs += planned(tmp_path, ["random"])
    (tmp_path / "bad").mkdir()
    with pytest.MonkeyPatch.context() as patch:

        def fail(self: trainer.Trainer, *_: object) -> None:
            if self.seed == 0 and self.config.method_name == "simsiam":
                raise trainer.NonFinite("non-finite loss at step 1 (epoch 1); no step before it")

        patch.setattr(trainer.Trainer, "train", fail)
        work(runs[:1])
    assert store.read_run(runs[0]).state == "failed"
    assert store.read_run(runs[0]).error == "non-finite loss at step 1 (epoch 1); no step before it"
    work(runs)
    assert [store.read_run(run).state for run in runs] == ["failed", "done", "done"]
    retry(TRAINING, runs)
    work(runs)
    assert store.read_run(runs[0]).state == "done"
    assert not runs[0].error.exists()


def test_an_unexpected_error_is_named_in_one_line_and_its_traceback_kept(tmp_path: Path) -> None:
    runs = planned(tmp_path, ["random"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "build_method", lambda *_: 1 / 0)
        work(runs)
    assert store.read_run(runs[0]).error == "ZeroDivisionError: division by zero"
    assert "Traceback" in runs[0].error.read_text()


def test_a_full_disk_is_said_and_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = planned(tmp_path, ["random"], [0, 1, 2])
    work(runs[:1])
    before = outcome(runs[0])

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        work(runs)
    assert "No space left on device; finished runs are intact" in capsys.readouterr().err
    assert outcome(runs[0]) == before
    assert [store.read_run(run).state for run in runs] == ["done", "interrupted", "planned"]
    assert not [name for run in runs for name in os.listdir(run.path) if name.endswith(".tmp")]
    work(runs)
    assert [store.read_run(run).state for run in runs] == ["done"] * 3


def test_a_worker_refuses_other_code_than_it_is_to_execute(tmp_path: Path) -> None:
    runs = planned(tmp_path, ["random"])
    with pytest.raises(UserError, match=r"not what was submitted: methods/losses.py changed"):
        work(runs, code={**provenance.fingerprints(), "methods/losses.py": "0"})
    assert store.read_run(runs[0]).state == "planned"
    work(runs, code=provenance.fingerprints())
    assert store.read_run(runs[0]).state == "done"


def test_a_run_that_other_code_goes_on_with_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (run,) = planned(tmp_path, ["simclr"])
    calls = iter(range(100))
    work([run], lambda: next(calls) >= 8, commit="first")
    assert store.read_run(run).state == "interrupted"
    now = provenance.fingerprints()
    edited = {**now, "methods/losses.py": "edited", "bench/report/page.py": "edited"}
    monkeypatch.setattr(provenance, "fingerprints", lambda: edited)
    work([run], commit="second", dirty=True)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert re.fullmatch(
        rf"{run.run_id}: resumed at step \d+, but not as it began: methods/losses.py changed .*", warning
    )
    assert warning in run.log.read_text()
    made = result_of(run).provenance
    first, second = made.attempts
    assert (made.git_commit, made.git_dirty) == ("second", True)
    assert (first["from_step"], first["git_commit"], first["git_dirty"], first["changed"]) == (0, "first", False, [])
    assert second["from_step"] > 0 and second["git_commit"] == "second"
    assert second["changed"] == ["methods/losses.py changed"]
    assert first["code"] != second["code"] and first["versions"] == second["versions"] == made.versions


def test_an_owner_that_lost_its_run_does_not_note_a_failure_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(tmp_path, ["simclr"], train__epochs="1")

    def usurped(self: trainer.Trainer, *_: object) -> None:
        (run.path / "claim-2.json").write_text('{"released": true}')
        raise FileNotFoundError("a file that the new owner has renamed")

    monkeypatch.setattr(trainer.Trainer, "train", usurped)
    work([run])
    assert not run.error.exists()
    assert store.read_run(run).state == "interrupted"


def test_a_config_that_was_edited_is_refused(tmp_path: Path) -> None:
    (run,) = planned(tmp_path, ["random"])
    content = json.loads(run.config.read_text())
    content["config"]["data"]["size"] = 12
    run.config.write_text(json.dumps(content))
    work([run])
    assert "config.json does not belong to" in store.read_run(run).error


def test_an_owner_that_lost_its_run_writes_nothing_more(tmp_path: Path) -> None:
    (run,) = planned(tmp_path, ["simclr"], train__epochs="1")

    def usurp() -> bool:
        if not (run.path / "claim-2.json").exists():
            (run.path / "claim-2.json").write_text("{}")
        return False

    # the claim is lost before the first step; the run then ends without checkpoint, result or error
    work([run], usurp)
    assert {"checkpoint.pt", "result.json", "error.txt"}.isdisjoint(os.listdir(run.path))


@pytest.mark.parametrize("edit", [{"config": {}}, {"config": None}, {"seed": None}, {"config": {"method_name": "new"}}])
def test_a_plan_of_another_version_fails_in_one_line(tmp_path: Path, edit: dict[str, Any]) -> None:
    (run,) = planned(tmp_path, ["random"])
    run.config.write_text(dump_json({**json.loads(run.config.read_text()), **edit}))
    work([run])
    record = store.read_run(run)
    assert record.state == "failed" and record.error.endswith("or written by another version of the program")
    assert len(run.error.read_text().splitlines()) == 1


def test_a_setting_of_a_newer_version_fails_in_one_line(tmp_path: Path) -> None:
    (run,) = planned(tmp_path, ["random"])
    values = json.loads(run.config.read_text())
    values["config"]["train"]["ema"] = True
    run.config.write_text(dump_json(values))
    work([run])
    assert run.error.read_text().endswith("or written by another version of the program\n")
