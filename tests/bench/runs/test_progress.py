"""What is shown of running runs: whole at any width."""

import io
import json
from pathlib import Path
from queue import SimpleQueue

import pytest
from rich.console import Console

from bench.runs.claim import Claim
from bench.runs.progress import Watcher
from bench.runs.store import RunDir
from bench.runs.work import TRAINING


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_a_running_run_is_shown_whole_at_any_width(tmp_path: Path, width: int) -> None:
    run = RunDir(tmp_path / "runs" / "a_method_with_a_long_name-01234567-s0")
    run.path.mkdir(parents=True)
    run.config.write_text(json.dumps({"config": {"train": {"epochs": 30}}}))
    row = {"epoch": 12, "seconds": 60.0, "loss": 0.25, "images_per_second": 1500.0, "online_linear_top1": 91.25}
    run.metrics.write_text(json.dumps(row) + "\n")
    waits = RunDir(tmp_path / "runs" / "b-01234567-s0")
    waits.path.mkdir()
    waits.config.write_text(run.config.read_text())
    shown = io.StringIO()
    with Claim.acquire(run.path):  # type: ignore[union-attr]
        console = Console(file=shown, width=width)
        console.print(Watcher([run, waits], console, SimpleQueue(), TRAINING).table())
    assert max(map(len, shown.getvalue().splitlines())) <= width
    words = f"{run.run_id} epoch 12/30 loss 0.2500 1500 images/s online 91.2 % 90 s left 1 waiting"
    assert "".join(shown.getvalue().split()) == words.replace(" ", "")
