"""Worker processes of this machine: how many, what becomes of those that die."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bench.planning import plan
from bench.training import workers
from bench.training.orders import Orders

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
