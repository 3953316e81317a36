"""Tables and `bench status` say the same of a run directory."""

from pathlib import Path

from fake_results import fake_run

from bench.runs.status import look
from bench.runs.store import RunDir
from bench.tables.inventory import take


def test_a_directory_that_planning_left_empty_is_a_planned_run(tmp_path: Path) -> None:
    fake_run(tmp_path / "x", "raft", 0)
    for name in ("raft-00000000-s3", "stranger"):
        (tmp_path / "x" / "runs" / name).mkdir()
    inventory = take(tmp_path, ["x"])
    states = dict(zip(inventory.runs["run_id"], inventory.runs["state"], strict=True))
    assert states.pop("raft-00000000-s3") == "planned" == look(RunDir(tmp_path / "x/runs/raft-00000000-s3")).state
    assert list(states.values()) == ["done"]
    assert list(inventory.problems["path"]) == ["runs/stranger"]
