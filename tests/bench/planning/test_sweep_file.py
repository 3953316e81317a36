"""Sweep files: the flags' names, flags on top, errors with file and line."""

from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.planning import sweep_file

FILE = """
method = ["raft", "byol"]
seeds = [3, 7]
preset = "quick"
experiment = "paper"
runs_per_job = 4
time = 30

[set]
train.epochs = 2
backbone.stem = "small"
optim.lars_clip = true
augment.view2.blur = 0.5

[grid]
optim.lr = [0.1, 1]
method.tau = [0.99]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "paper.toml"
    path.write_text(FILE)
    return path


def test_a_file_says_what_flags_say(file: Path) -> None:
    assert sweep_file.options(file, {"seeds": None}).model_dump(exclude_unset=True) == {
        "method": "raft,byol",
        "seeds": "3,7,",
        "preset": "quick",
        "experiment": "paper",
        "runs_per_job": 4,
        "time": "30",
        "set": {
            "train.epochs": "2",
            "backbone.stem": "small",
            "optim.lars_clip": "true",
            "augment.view2.blur": "0.5",
        },
        "grid": {"optim.lr": ["0.1", "1"], "method.tau": ["0.99"]},
    }


def test_flags_override_the_file_key_by_key(file: Path) -> None:
    flags = {"method": "simclr", "set": ["train.epochs=3", "optim.lr=0.5"], "grid": ["method.tau=0.9,0.99"]}
    options = sweep_file.options(file, flags)
    assert options.method == "simclr"
    assert options.set["train.epochs"] == "3" and options.set["backbone.stem"] == "small"
    assert options.set["optim.lr"] == "0.5"
    assert options.grid == {"method.tau": ["0.9", "0.99"]}


def test_runs_are_methods_x_seeds_x_grid_points(file: Path) -> None:
    runs = sweep_file.planned(file, sweep_file.options(file, {}))
    assert len({run["run_id"] for run in runs}) == len(runs) == 2 * 2 * 2
    assert {run["seed"] for run in runs} == {3, 7} and {run["experiment"] for run in runs} == {"paper"}


def test_equal_grid_points_are_one() -> None:
    options = sweep_file.options(None, {"method": "byol", "grid": ["optim.lr=0.1,0.10,1e-1"]})
    assert len(sweep_file.planned(None, options)) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds", "sedes", ":3: unknown key 'sedes': did you mean 'seeds'? one of "),
        ("runs_per_job = 4", "runs_per_job = 0", ":6: runs_per_job = 0: should be a whole number above zero"),
        ("runs_per_job = 4", "runs_per_job = true", ":6: runs_per_job = True: should be a whole number above zero"),
        ('"quick"', "3", ":4: preset = 3: should be a text in quotes"),
        ("[0.1, 1]", "0.1", ":16: optim.lr = 0.1: should be a list of values to search"),
        ("[0.1, 1]", "[[1]]", ":16: optim.lr = [1]: should be a text, a number, true or false"),
        ("= 30", "= ", ":7: not valid TOML: "),
        ("[3, 7]", "[3, 7", ":4: not valid TOML: "),
        ("train.epochs", "train.epoch", ":10: unknown key 'train.epoch': did you mean 'train.epochs'?"),
        ("train.epochs = 2", "train.epochs = -2", ":10: train.epochs='-2': should be greater than or equal to 0"),
        ('"byol"', '"simclr"', ":17: unknown key of simclr 'method.tau'"),
    ],
)
def test_errors_name_file_and_line(file: Path, old: str, new: str, message: str) -> None:
    file.write_text(FILE.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        sweep_file.planned(file, sweep_file.options(file, {}))
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"{file}{message}")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "which methods?"),
        ({"method": "raft", "on": "slrum"}, "unknown --on 'slrum': did you mean 'slurm'?"),
        ({"method": "raft", "grid": ["optim.lr"]}, "--grid 'optim.lr': expected KEY=VALUE,VALUE"),
        ({"method": "raft", "grid": ["optim.lr=1", "optim.lr=2"]}, "optim.lr is searched already"),
        ({"method": "raft", "grid": ["optim.lr=1"], "set": ["optim.lr=2"]}, "optim.lr is both set and searched"),
    ],
)
def test_wrong_flags(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        sweep_file.options(None, flags)
    assert message in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.toml: No such file"):
        sweep_file.options(tmp_path / "none.toml", {})
