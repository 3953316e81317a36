"""Settings of a published table's runs again: from what each row says, proven by the hash."""

import json
from pathlib import Path

import pandas as pd
import pytest

from bench.planning import plan, published
from bench.planning.entries import Entry
from bench.runs.identity import config_hash
from bench.tables.published import Published, read

QUICK = {"train.epochs": "3", "optim.lr": "0.5"}


def table(folder: Path, *changes: dict[str, str], entry: str = "") -> Published:
    """Of two seeds a configuration, without a sweep file."""
    folder.mkdir(exist_ok=True)
    rows = []
    for changed in changes:
        for run in plan.plan([Entry("byol", entry, changed)], [0, 3], "quick", {}, {}, "x"):
            told = {key: run[key] for key in ("run_id", "method", "seed", "config_hash", "preset")}
            told |= {"entry": entry or "byol", "dataset": "digits", "protocol": run["config"]["protocol"]}
            text = " ".join(f"{key}={value}" for key, value in changed.items())
            rows.append({**told, "state": "done", "overrides": text, "test_linear_top1": 90.0, "threads": 1})
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)
    return read(folder)


def test_overrides_are_read_as_they_are_written() -> None:
    text = "data.name=folder:my photos optim.lr=0.1 backbone.args.patch_size=4"
    found = {"data.name": "folder:my photos", "optim.lr": "0.1", "backbone.args.patch_size": "4"}
    assert published.overrides(text) == found and published.overrides("") == {}


def test_without_a_sweep_file_the_rows_plan_the_runs(tmp_path: Path) -> None:
    there = table(tmp_path, {}, QUICK, entry="BYOL, ours")
    runs = published.planned(there)
    assert set(runs) == set(there.done.index)
    assert {run["entry"] for run in runs.values()} == {"BYOL, ours"}
    assert {run["seed"] for run in runs.values()} == {0, 3}


def test_settings_are_proven_by_their_hash(tmp_path: Path) -> None:
    configs, doubts = published.configs(table(tmp_path, {}, QUICK))
    assert not doubts and sorted(config["optim.lr"] for config in configs.values()) == [0.5, 1.0]


def test_settings_that_have_another_hash_now_are_not_taken(tmp_path: Path) -> None:
    text = (table(tmp_path, QUICK).folder / "runs.csv").read_text()
    (tmp_path / "runs.csv").write_text(text.replace("optim.lr=0.5", "optim.lr=0.6"))
    configs, doubts = published.configs(read(tmp_path))
    assert not configs and "not those that are planned now, by their hash" in doubts[0]


def test_settings_of_an_unknown_method_are_told(tmp_path: Path) -> None:
    text = (table(tmp_path, QUICK).folder / "runs.csv").read_text()
    (tmp_path / "runs.csv").write_text(text.replace("byol", "theirs"))
    configs, doubts = published.configs(read(tmp_path))
    assert not configs and "unknown method 'theirs'" in doubts[0]


def test_settings_of_a_folder_that_is_not_here_are_taken_and_told(tmp_path: Path) -> None:
    """Its content's hash is part of the runs' identity."""
    there = table(tmp_path, QUICK)
    text = (there.folder / "runs.csv").read_text()
    (tmp_path / "runs.csv").write_text(text.replace("optim.lr", "data.name=folder:away optim.lr"))
    ((digest, config),) = published.configs(read(tmp_path))[0].items()
    assert config["optim.lr"] == 0.5
    assert published.configs(read(tmp_path))[1] == [
        f"settings of {digest}: taken from the preset, not proven by their hash: it is of files too"
    ]


def test_stored_settings_are_taken_before_those_of_presets(tmp_path: Path) -> None:
    there = table(tmp_path, QUICK)
    (run, _) = plan.plan([Entry("byol", "", QUICK)], [0, 3], "quick", {}, {}, "x")
    (tmp_path / "configs.json").write_text(json.dumps({run["config_hash"]: run["config"]}))
    assert config_hash(run["config"]) == run["config_hash"]
    configs, doubts = published.configs(there)
    assert not doubts and configs[run["config_hash"]]["train.epochs"] == 3
    (tmp_path / "configs.json").write_text(json.dumps({run["config_hash"]: {"data": {"name": "other"}}}))
    assert "by their hash" in published.configs(there)[1][0]


@pytest.mark.parametrize("text", ['plugin = "mine.py"\nmargin = 1.5', "margin = 1.5"])
def test_the_margin_is_read_without_executing_a_plug_in(tmp_path: Path, text: str) -> None:
    there = table(tmp_path, QUICK)
    (tmp_path / "experiment.toml").write_text(text)
    (tmp_path / "mine.py").write_text("raise SystemExit('executed')")
    assert published.margin(there) == 1.5
