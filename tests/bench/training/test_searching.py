"""A search on this machine: one command does both stages, and whatever was killed, the same command ends alike."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = "--set data.size=8 --set train.epochs=4 --set train.batch_size=256 --set eval.every_epochs=4 --jobs 1"
SEARCH = "--search points=2 --search seeds=1 --search from.optim.lr=log:0.03,3 --search epochs=2"
SWEEP = f"sweep --method simclr --seeds 2 --experiment e {TINY} {SEARCH}"
BENCH = [sys.executable, "-c", "from bench.cli import main; main()"]


def metrics(results: Path) -> dict[str, Any]:
    found = sorted((results / "e" / "runs").glob("*/result.json"))
    return {path.parent.name: json.loads(path.read_text())["metrics"] for path in found}


def killed_when(command: list[str], begun: Callable[[], bool]) -> None:
    """Start a command and end it and its workers with SIGKILL, as soon as that is so."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not begun():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_in_either_stage_the_same_command_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Killed within the search, between the stages and within the report: the same runs, the same bits."""
    undisturbed, hurt = tmp_path / "undisturbed", tmp_path / "hurt"
    command, other = ([*BENCH, *SWEEP.split(), "--results", str(place)] for place in (hurt, undisturbed))
    subprocess.run(other, check=True, capture_output=True)
    runs = hurt / "e" / "runs"
    killed_when(command, lambda: any(runs.glob("*-s10000/metrics.jsonl")))
    killed_when(command, lambda: len([*runs.glob("*-s10000/result.json")]) == 2)
    killed_when(command, lambda: any(runs.glob("*-s0/metrics.jsonl")))
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "search over; its winners run on seeds 0-1:\n  simclr: optim.lr=" in said
    assert len(metrics(hurt)) == 4
    assert metrics(hurt) == metrics(undisturbed)
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "2 of 2 runs are done already" in again
    status = subprocess.run([*BENCH, "status", "e", "--results", str(hurt)], check=True, capture_output=True, text=True)
    assert "  search over (on seeds 10000); of the runs of its winners 2 of 2 have ended" in status.stdout
