"""Live logs say what metrics.jsonl says, after a resume too; and no logger can cost a run."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import UserError
from bench.planning import plan
from bench.runs import store
from bench.training import livelog, worker
from bench.training.livelog import LiveLog
from bench.training.orders import Orders

ROW = {"epoch": 1, "loss": 0.5}


def planned_run(results: Path) -> store.RunDir:
    chosen = {"data.size": "8", "train.epochs": "3", "train.batch_size": "256"}
    (run,) = plan.write(plan.plan(["simclr"], [0], "quick", chosen, {}, "x"), results)
    return run


def drawn(run: store.RunDir) -> list[tuple[int, float]]:
    """(step, loss) of the run's event files, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_tensorboard_shows_the_history_of_a_run_that_was_interrupted(tmp_path: Path) -> None:
    run = planned_run(tmp_path / "results")
    settings = Orders([str(run.path)], str(tmp_path), "cpu", "test", "", False, log=["tensorboard"])
    asked = iter([False] * 9)  # stopped in the second epoch
    worker.work(settings, lambda: next(asked, True))
    assert not run.result.exists()
    worker.work(settings, lambda: False)
    assert run.result.exists()
    logged: list[Any] = [(row["epoch"], pytest.approx(row["loss"])) for row in run.history()]
    assert drawn(run) == logged and len(logged) == 3


def test_wandb_is_offline_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, Any] = {"log": []}
    session = SimpleNamespace(
        log=lambda values, step: calls["log"].append((step, values)), finish=lambda: calls.update(finished=True)
    )

    def init(**arguments: Any) -> SimpleNamespace:
        calls.update(arguments)
        return session

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=lambda **_: None))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = planned_run(tmp_path)
    live = LiveLog(["wandb"], run, json.loads(run.config.read_text()))
    live.add(ROW)
    live.close()
    assert calls["mode"] == "offline" and calls["dir"] == str(run.path) and calls["name"] == run.run_id
    assert calls["log"] == [(1, {"loss": 0.5})] and calls["finished"]


def test_a_logger_that_breaks_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = planned_run(tmp_path)
    live = LiveLog(["tensorboard"], run, {})
    live.add({"epoch": 1, "loss": "not a number"})
    live.add(ROW)
    live.close()
    assert caplog.text.count("--log tensorboard: left out from here on") == 1


def test_a_logger_that_cannot_begin_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # import fails
    live = LiveLog(["wandb"], planned_run(tmp_path), {})
    live.add(ROW)
    assert "--log wandb: left out" in caplog.text


def test_unknown_and_missing_loggers_are_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert livelog.parse("") == []
    assert livelog.parse("tensorboard, tensorboard") == ["tensorboard"]
    with pytest.raises(UserError, match=r"unknown logger 'tensorbord': did you mean 'tensorboard'\?"):
        livelog.parse("tensorbord")
    monkeypatch.setattr(livelog, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--log wandb: it is not installed; pip install 'ssl-bench\[wandb\]'"):
        livelog.parse("wandb")
