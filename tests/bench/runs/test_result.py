"""What a run stores is one model: strict, told in one line where it is wrong, and read across versions."""

from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_result, fake_run, write_json

from bench.runs import store
from bench.runs.result import PROVENANCE, Accuracies, Choices, Diagnostics, Metrics, Result, Timing
from bench.tables.inventory import take

RUN = "raft-00000000-s0"


def with_metric(value: Any, name: str = "test_linear_top1") -> dict[str, Any]:
    result = fake_result(RUN)
    return {**result, "metrics": {**result["metrics"], name: value}}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "not a JSON object"),
        ({}, "it has no schema version: not a file of this program, or edited"),
        (fake_result(RUN, schema=2), "written by another version of the program (its schema is 2, the one here 1)"),
        ({"schema": 1, "run_id": RUN}, "no metrics"),
        (fake_result(RUN, seed="0"), "seed is '0': input should be a valid integer"),
        (fake_result(RUN, timing={"train_seconds": 10**400}), "train_seconds is 1000"),
        (fake_result(RUN, metrics={}), "metrics is {}: value error, no numbers"),
        (with_metric("high"), "test_linear_top1 is 'high', not a number that can be used"),
        (with_metric(True), "test_linear_top1 is True, not a number that can be used"),
        (with_metric(100.1), "test_linear_top1 is 100.1, not a percentage"),
        (with_metric(-1.0, "online_linear_top1"), "online_linear_top1 is -1.0, not a percentage"),
        (with_metric(float("inf"), "loss"), "loss is inf, not a number that can be used"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(values: Any, reason: str) -> None:
    with pytest.raises(ValueError) as told:
        Result.of(values)
    assert str(told.value).startswith(reason)
    assert len(str(told.value)) < 120 and "\n" not in str(told.value) and "http" not in str(told.value)


def test_what_a_newer_version_adds_is_kept_and_harms_nothing() -> None:
    values = with_metric([1, 2], "test_few_top1") | {"note": "new"}
    assert Result.of(values).stored() == values


def test_whole_numbers_are_numbers() -> None:
    assert Result.of(with_metric(90)).metrics.test_linear_top1 == 90


def test_every_field_is_a_column_of_runs_csv(tmp_path: Path) -> None:
    """Filled with a value of its own, each is found in its column."""
    run = fake_run(tmp_path / "e", "byol", 0)
    result = store.read_run(store.RunDir(run)).result
    assert result
    values = result.stored()
    numbers = [*Accuracies.model_fields, *Diagnostics.model_fields, *Choices.model_fields]
    assert set(numbers) == set(Metrics.model_fields)
    values["metrics"] = {name: 1.0 + i for i, name in enumerate(numbers)}
    values["timing"] = {name: 50.0 + i for i, name in enumerate(Timing.model_fields)}
    values["provenance"] |= {"compiled": True, "restarts": 3}
    changed = ["methods/losses.py changed", "torch 2.8.0 -> 2.9.0"]
    values["provenance"]["attempts"] = [{"from_step": 0, "changed": []}, {"from_step": 9, "changed": changed}]
    write_json(run / "result.json", values)
    (row,) = take(tmp_path, ["e"]).runs.to_dict("records")
    assert {name: row[name] for name in numbers} == values["metrics"]
    assert {name: row[name] for name in Timing.model_fields} == values["timing"]
    assert (row["compiled"], row["restarts"], row["threads"], row["git_dirty"]) == ("True", "3", "1", "False")
    assert row["attempts"] == "from step 9: methods/losses.py changed, torch 2.8.0 -> 2.9.0"
    assert set(PROVENANCE) <= row.keys()
