"""A folder with runs.csv is read as the run directories were; what is none is told in one line."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_results import fake_encoder, fake_evaluation, fake_experiment, fake_grid, fake_run

from bench.errors import UserError
from bench.report.write import write
from bench.tables import inventory, published

CONFIG: dict[str, Any] = {"method": "a", "config_hash": "cccccccc", "seed": 0, "preset": "quick", "dataset": "digits"}
ROW: dict[str, Any] = {**CONFIG, "run_id": "a-cccccccc-s0", "protocol": 1, "state": "done", "test_linear_top1": 90.0}


def folder(path: Path, *rows: dict[str, Any]) -> Path:
    path.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(path / "runs.csv", index=False)
    return path


def test_the_file_says_of_runs_what_their_directories_say(tmp_path: Path) -> None:
    """But for what is empty: a text that no run has is "" there."""
    fake_experiment(tmp_path / "x")
    fake_grid(tmp_path / "x")
    run = fake_run(tmp_path / "x", "simclr", 9)
    fake_evaluation(run, "few", {"few_1pct": [50.0, 60.0]})
    fake_evaluation(fake_encoder(tmp_path / "x", "theirs"), "linear", {"linear": 80.0})
    write(tmp_path, ["x"], ["csv"])
    taken, read = inventory.take(tmp_path, ["x"]), published.inventory(published.read(tmp_path / "x"), {})
    there = taken.runs.astype(read.runs.dtypes.to_dict()).fillna({"git_commit": ""})
    for name in there:
        if there[name].dtype == object:
            there[name] = there[name].replace("nan", "").fillna("")
    pd.testing.assert_frame_equal(read.runs, there)
    pd.testing.assert_frame_equal(read.encoders.astype(str), taken.encoders.astype(str))
    scores = taken.evaluations[["entry", "column", "test_top1"]].astype({"entry": str, "column": str})
    pd.testing.assert_frame_equal(read.evaluations[list(scores)], scores, check_dtype=False)
    assert list(read.history["loss"]) == list(taken.history["loss"])


def test_an_older_table_has_no_entries_and_its_methods_are_those(tmp_path: Path) -> None:
    read = published.read(folder(tmp_path, ROW))
    assert list(read.runs["entry"]) == ["a"] and list(read.runs["entry_keys"]) == [""]


def test_its_name_tells_folders_of_one_name_apart_and_is_that_of_its_runs(tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "t", tmp_path / "other" / "t"
    for path in (one, other):
        path.parent.mkdir()
    second = {**ROW, "run_id": "a-cccccccc-s1", "seed": 1}
    names = [published.read(folder(path, *rows)).name for path, rows in ((one, [ROW]), (other, [ROW, second]))]
    assert names[0] != names[1] and all(name.startswith("t-") for name in names)
    edited = {**ROW, "test_linear_top1": 91.0}
    assert published.read(folder(one, edited)).name == names[0], "what was made again serves every such table"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{**ROW, "state": "failed"}], "no run is done"),
        ([ROW, ROW], "a run counts once, and these are there twice: a-cccccccc-s0"),
        ([{**ROW, "test_linear_top1": "high"}], r"no table of runs as this program writes it .*high"),
        ([{**ROW, "seed": 2}], r"the run 'a-cccccccc-s0' is a cccccccc 2 by its other columns"),
        ([{"a": 1}], "no column run_id, method, seed"),
    ],
)
def test_what_is_no_published_table_is_told(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(UserError, match=r"there is no runs.csv"):
        published.read(tmp_path)
    with pytest.raises(UserError, match=told):
        published.read(folder(tmp_path, *rows) / "runs.csv")


def test_a_bundle_is_to_be_unpacked_even_beside_a_table(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("a table that nobody asked for\n")
    (tmp_path / "paper.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"paper\.zip: unpack it, and name the folder in it"):
        published.read(tmp_path / "paper.zip")


def test_a_run_of_another_experiment_that_was_counted_there_is_no_second_one(tmp_path: Path) -> None:
    assert len(published.read(folder(tmp_path, ROW, {**ROW, "state": "duplicate"})).done) == 1
