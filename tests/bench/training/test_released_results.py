"""What version 0.1.0 has written is reported, resumed and extended: a results folder of it lies in tests/data.

Seed 0 is done; seed 1 was stopped in the fifth of eight epochs. (Seed 1's second checkpoint was left out.)
"""

import json
import shutil
from pathlib import Path

import pytest

from bench.planning import plan
from bench.runs import store
from bench.runs.store import RunDir
from bench.tables.leaderboard import collect
from bench.training import worker
from bench.training.orders import Orders

RELEASED = Path(__file__).parents[2] / "data" / "results-0.1.0"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RELEASED, tmp_path / "results"))


def planned(results: Path, seeds: list[int]) -> list[RunDir]:
    """Runs of these seeds, of the settings that the released runs have."""
    (first,) = RELEASED.glob("old/runs/*-s0/config.json")
    overrides = json.loads(first.read_text())["overrides"]
    return plan.write(plan.plan(["raft"], seeds, "quick", overrides, {}, "old"), results)


def work(runs: list[RunDir]) -> None:
    paths = [str(run.path) for run in runs]
    orders = Orders(paths, data_dir=str(runs[0].path.parents[3]), device="cpu", command="", commit="", dirty=False)
    worker.work(orders, lambda: False)


def history(run: RunDir) -> list[dict[str, float]]:
    """Without its clocks."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in run.history()]


def test_released_results_are_reported(results: Path) -> None:
    tables = collect(results, ["old"])
    done, interrupted = tables.runs.sort_values("seed").to_dict("records")
    (stored,) = RELEASED.glob("old/runs/*-s0/result.json")
    written = json.loads(stored.read_text())
    assert tables.problems.empty
    assert (done["state"], interrupted["state"]) == ("done", "interrupted")
    assert {name: done[name] for name in written["metrics"]} == written["metrics"]
    assert (done["compiled"], done["attempts"], done["collapsed"]) == ("False", "", False)
    assert len(tables.history) == 8 + 4


def test_the_same_command_names_the_same_runs(results: Path) -> None:
    runs = planned(results, [0, 1, 2])
    assert [store.read_run(run).state for run in runs] == ["done", "interrupted", "planned"]


@pytest.mark.slow
def test_released_runs_are_resumed_and_extended(results: Path, tmp_path: Path) -> None:
    done, interrupted, _ = runs = planned(results, [0, 1, 2])
    before, first_epochs = done.result.read_bytes(), history(interrupted)
    work(runs)
    assert [store.read_run(run).state for run in runs] == ["done"] * 3
    assert done.result.read_bytes() == before
    assert len(collect(results, ["old"]).runs) == 3
    (whole,) = planned(tmp_path / "whole", [1])
    work([whole])
    if history(whole)[: len(first_epochs)] != first_epochs:
        pytest.skip("this CPU, or this version of torch, rounds otherwise than where the run began")
    resumed, uninterrupted = (store.read_run(run).result for run in (interrupted, whole))
    assert resumed and uninterrupted and resumed.provenance.restarts == 1
    assert resumed.metrics == uninterrupted.metrics
    assert history(interrupted) == history(whole)
    assert interrupted.encoder.read_bytes() == whole.encoder.read_bytes()
