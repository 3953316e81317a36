"""Trouble of one rank alone: all stop together or the attempt ends, what is known is said, and nothing is lost."""

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import trouble

from bench.planning import plan
from bench.runs import store
from bench.runs.store import RunDir
from bench.training import checkpoint, distributed, launcher
from bench.training.orders import Orders

pytestmark = pytest.mark.slow
SETTINGS = {
    "data.size": "8",
    "train.epochs": "4",
    "train.checkpoint_epochs": "2",
    "train.batch_size": "256",
    "eval.every_epochs": "1",
    "method.projector_hidden": "32",
}
PATIENCE = 8  # seconds; more than two processes are ever apart on a busy machine
NODE = os.uname().nodename


@dataclass(frozen=True)
class Attempt:
    """What a launcher returned, and what its ranks said."""

    told: str
    said: str


def attempt(runs: list[RunDir], kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """Launch two ranks over runs, the nth of which meets with the nth kind of trouble."""
    seeds = [str(json.loads(run.config.read_text())["seed"]) for run in runs]
    monkeypatch.setenv("TROUBLE", json.dumps(dict(zip(seeds, kinds, strict=False))))
    monkeypatch.setenv("PATIENCE", str(PATIENCE))
    here = str(Path(trouble.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])]))
    data = str(runs[0].path.parent / "data")
    orders = Orders([str(run.path) for run in runs], data, "cpu", "bench", "", False, devices=2, parent=os.getppid())
    with contextlib.redirect_stderr(io.StringIO()) as said:
        told = launcher.launch(orders, [], "trouble")
    return Attempt(told, said.getvalue())


def planned(where: Path, seeds: int) -> list[RunDir]:
    return plan.write(plan.plan(["simsiam"], range(seeds), "quick", SETTINGS, {}, "x"), where)


def saved_step(run: RunDir) -> int:
    state, problems = checkpoint.load(run)
    assert state is not None and not problems
    return int(state["step"])


class Stopped:
    """Four runs, three of which meet with what all ranks have to stop for, and a fifth, which they do not begin."""

    def __init__(self, where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = planned(where, 5)
        self.slow, self.lost, self.nan, self.full, self.after = self.runs
        kinds = ["slow", "loses claim", "nan", "disk full"]
        self.attempt = attempt(self.runs, kinds, monkeypatch)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    with pytest.MonkeyPatch.context() as patch:
        return Stopped(tmp_path_factory.mktemp("stopped"), patch)


def test_ranks_stop_together_and_live_on_for_the_next_run(stopped: Stopped) -> None:
    assert stopped.attempt.told == ""
    states = [store.read_run(run).state for run in stopped.runs]
    assert states == ["done", "interrupted", "failed", "interrupted", "planned"], stopped.attempt.said


def test_the_checkpoint_is_the_one_from_before_the_trouble(stopped: Stopped) -> None:
    assert [saved_step(run) for run in (stopped.lost, stopped.nan, stopped.full)] == [10, 10, 10]


def test_one_that_is_slow_beyond_all_patience_is_waited_for_and_named(stopped: Stopped) -> None:
    assert "rank 0 waits for rank 1, which lives, since 8 s" in stopped.attempt.said
    assert "rank 1 waits for rank 0, which lives, since 8 s" in stopped.attempt.said
    assert "rank 0 waits for rank 1, which lives, since 8 s" in stopped.slow.log.read_text()


def test_a_lost_claim_stops_all(stopped: Stopped) -> None:
    assert "taken over" in stopped.lost.log.read_text()
    assert len(stopped.lost.history()) == 2
    assert not stopped.lost.error.exists()


def test_a_loss_that_is_not_finite_on_one_rank_fails_the_run_and_names_the_rank(stopped: Stopped) -> None:
    assert store.read_run(stopped.nan).error == (
        "non-finite loss by step 15, on another device of the run than the first"
    )
    assert f"rank 1 of 2 on {NODE}: NonFinite: non-finite loss at step 13 (epoch 3)" in stopped.nan.log.read_text()


def test_a_full_disk_is_said_once_and_ends_the_work(stopped: Stopped) -> None:
    assert stopped.attempt.said.count("No space left on device; finished runs are intact") == 1
    assert not stopped.full.error.exists()


def test_an_exception_or_a_hang_of_one_rank_ends_the_attempt_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(tmp_path, 1)
    raised = attempt([run], ["raises"], monkeypatch)
    words = (
        f"rank 1 of 2 on {NODE} ended with status 1: RuntimeError: in this process alone: RuntimeError: {trouble.WORDS}"
    )
    assert raised.told.splitlines()[-1] == words
    assert words in run.log.read_text() and "in raises" in raised.said, "with its traceback"
    hung = attempt([run], ["hangs"], monkeypatch)
    words = f"rank 1 of 2 on {NODE} did not leave within {launcher.GRACE_SECONDS} s after another had, and was killed"
    assert hung.told.splitlines()[-1].startswith(words)
    assert words in run.log.read_text()
    assert store.read_run(run).state == "interrupted" and saved_step(run) == 10
    assert attempt([run], [], monkeypatch).told == ""
    assert store.read_run(run).state == "done"
    assert run.log.read_text().count("resumed at step 10") == 2


def test_a_rank_that_hangs_ends_the_attempt_within_a_minute_on_several_nodes_too() -> None:
    """Those that wait for it leave, the others of its node; then the launcher of its own node, if that is another."""
    assert distributed.TIMEOUT + distributed.BEAT_SECONDS + 3 * launcher.GRACE_SECONDS < 60
