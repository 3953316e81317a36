"""Files of an older or newer version in a run directory are told in one line, wherever they are read."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_result, fake_run, write_json

from bench.planning.options import SweepOptions
from bench.planning.request import Request
from bench.runs import status, store
from bench.runs.store import RunDir
from bench.runs.work import TRAINING
from bench.tables.inventory import take

NEWER = "written by another version of the program (its schema is 2, the one here 1)"


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_another_schema_is_damage_with_its_reason(tmp_path: Path, name: str) -> None:
    run = fake_run(tmp_path / "e", "byol", 0)
    write_json(run / name, {**json.loads((run / name).read_text()), "schema": 2})
    record = store.read_run(RunDir(run))
    assert (record.state, record.error) == ("damaged", f"{name}: {NEWER}")
    (problem,) = take(tmp_path, ["e"]).problems["reason"]
    assert problem == f"{name}: {NEWER}"


@pytest.mark.parametrize(
    ("config", "row", "owner"),
    [
        ({"schema": 1}, {"epoch": 3}, {}),
        ({"schema": 1, "config": {"train": []}}, {"step": 3}, {"job": "12"}),
        ({"schema": 1, "config": {"train": {"epochs": "many"}}}, ["row"], {"job": {"array": "1"}}),
        ({"schema": 1, "config": {"train": {"epochs": 9}}}, {"epoch": "third", "seconds": 1}, {"host": None}),
    ],
)
def test_a_running_run_of_another_version_is_shown_as_far_as_it_tells(
    tmp_path: Path, config: Any, row: Any, owner: dict[str, Any]
) -> None:
    run = RunDir(tmp_path / "e" / "runs" / "byol-00000000-s0")
    run.path.mkdir(parents=True)
    write_json(run.config, config)
    run.metrics.write_text(json.dumps(row) + "\n")
    write_json(run.path / "claim-1.json", {"machine": "elsewhere", **owner})
    record = store.read_run(run)
    assert record.state == "running"
    assert TRAINING.cells(record)[0] == run.run_id
    assert status.look(run).detail.startswith("epoch ")


@pytest.mark.parametrize(
    "row",
    [
        '{"epoch": 1, "seconds": 1, "loss": "low", "images_per_second": null, "step": "9"}',
        '{"epoch": 1, "seconds": 1e400, "loss": 1, "images_per_second": 1' + 400 * "0" + "}",
        '{"epoch": 1, "seconds": 1, "loss": 1.0, "images_per_second": 2.0, "online_linear_top1": "?"}',
        100_000 * "[",
    ],
)
def test_of_a_history_row_only_numbers_are_shown(tmp_path: Path, row: str) -> None:
    run = RunDir(fake_run(tmp_path / "e", "byol", 0, state="interrupted"))
    run.metrics.write_text(row + "\n")
    shown = TRAINING.cells(store.read_run(run))
    assert shown[1] == ("epoch 0/30" if row.startswith("[") else "epoch 1/30")
    assert not {"low", "?"} & set(" ".join(shown).split())


def test_status_sees_a_newer_result_without_reading_those_of_our_own(tmp_path: Path) -> None:
    run = RunDir(fake_run(tmp_path / "e", "byol", 0))
    assert status.look(run).state == "done"
    write_json(run.result, {**fake_result(run.run_id), "schema": 2})
    row = status.look(run)
    assert (row.state, row.detail) == ("damaged", f"result.json: {NEWER}")


@pytest.mark.parametrize(
    "config", [{"schema": 1}, {"schema": 1, "config": None}, {"schema": 1, "config": {"train": 3}}]
)
def test_a_plan_that_does_not_tell_its_threads_has_one(tmp_path: Path, config: Any) -> None:
    run = RunDir(fake_run(tmp_path / "e", "byol", 0, state="interrupted"))
    write_json(run.config, config)
    planned = [{"run_id": run.run_id, "experiment": "e"}]
    options = SweepOptions(method="byol")
    assert Request(planned, tmp_path, tmp_path, options, "bench run").threads() == 1


def test_a_result_of_a_newer_minor_version_is_done(tmp_path: Path) -> None:
    run = RunDir(fake_run(tmp_path / "e", "byol", 0))
    write_json(run.result, fake_result(run.run_id, energy={"kwh": 0.1}))
    assert store.read_run(run).state == "done"
