"""Rows that are more than a method: two configurations of one method, compared as two methods are."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_results import fake_run
from scipy import stats

from bench.report.notes import notes
from bench.tables.leaderboard import Tables, collect

OLD = Path(__file__).parent.parent.parent / "data" / "results-0.1.0"
NONE, LONG = {"method.tau": 0.0}, {"train.epochs": 60}


def row(tables: Tables, entry: str) -> pd.Series:
    (found,) = [r for _, r in tables.leaderboard.iterrows() if r["entry"] == entry]
    return found


def three_rows(results: Path) -> Tables:
    """RAFT, RAFT with another setting, and BYOL; the last seed of the second failed."""
    numbers: dict[tuple[str, str], list[float | None]] = {
        ("raft", ""): [90.0, 91.0, 90.5, 92.0],
        ("raft", "RAFT, no teacher"): [85.1, 88.0, 87.0, None],
        ("byol", ""): [89.0, 91.1, 89.9, 91.2],
    }
    for (method, label), values in numbers.items():
        for seed, value in enumerate(values):
            state = "failed" if value is None else "done"
            own: dict[str, Any] = {"label": label, "overrides": NONE, "about": list(NONE)} if label else {}
            fake_run(results / "e", method, seed, state=state, test_linear_top1=value, **own)
    return collect(results, ["e"])


def test_two_configurations_of_a_method_are_two_rows_with_tests(tmp_path: Path) -> None:
    tables = three_rows(tmp_path)
    assert tables.leaderboard["entry"].tolist() == ["raft", "byol", "RAFT, no teacher"]
    assert tables.leaderboard["method"].tolist() == ["raft", "byol", "raft"]
    assert tables.leaderboard["rank"].tolist() == [1, 2, 3]
    other = row(tables, "RAFT, no teacher")
    assert (other["done"], other["planned"], other["failed"], other["points"]) == (3, 4, 1, 1)
    assert other["test_linear_top1_mean"] == pytest.approx(np.mean([85.1, 88.0, 87.0]))
    found = {(pair["entry_a"], pair["entry_b"]): pair for _, pair in tables.pairs.iterrows()}
    assert set(found) == {("raft", "byol"), ("raft", "RAFT, no teacher"), ("byol", "RAFT, no teacher")}
    pair = found["raft", "RAFT, no teacher"]
    expected = stats.ttest_rel([90.0, 91.0, 90.5], [85.1, 88.0, 87.0])  # on common seeds
    assert (pair["method_a"], pair["method_b"], pair["n"]) == ("raft", "raft", 3)
    assert pair["difference"] == pytest.approx(np.mean([4.9, 3.0, 3.5]))
    assert pair["p_t"] == pytest.approx(expected.pvalue)
    raw = sorted(tables.pairs["p_welch"])
    assert sorted(tables.pairs["p_holm"]) == pytest.approx(
        [3 * raw[0], max(3 * raw[0], 2 * raw[1]), max(3 * raw[0], 2 * raw[1], raw[2])]
    )
    assert row(tables, "RAFT, no teacher")["p_holm"] == pair["p_holm"]


def test_every_table_says_which_row_a_run_is_of(tmp_path: Path) -> None:
    tables = three_rows(tmp_path)
    for table in (tables.runs, tables.history, tables.grid):
        assert set(table["entry"].astype(str)) == {"raft", "byol", "RAFT, no teacher"}
        other = table[table["entry"] == "RAFT, no teacher"]
        assert set(other["method"].astype(str)) == {"raft"} and len(set(other["config_hash"].astype(str))) == 1
    assert set(tables.runs.loc[tables.runs["entry"] == "RAFT, no teacher", "entry_keys"]) == {"method.tau"}


def test_each_entry_has_its_own_grid_and_choice(tmp_path: Path) -> None:
    best = {"": 0.3, "RAFT, no teacher": 1.0}
    for label, lr_of_best in best.items():
        for lr in (0.1, 0.3, 1.0):
            for seed in range(2):
                level = 90.0 if lr == lr_of_best else 80.0
                own = (
                    {"label": label, "overrides": {**NONE, "optim.lr": lr}}
                    if label
                    else {"overrides": {"optim.lr": lr}}
                )
                fake_run(tmp_path / "e", "raft", seed, level=level, **own)
    tables = collect(tmp_path, ["e"])
    chosen = tables.grid[tables.grid["chosen"]].set_index("entry")
    assert chosen["optim.lr"].to_dict() == {"raft": 0.3, "RAFT, no teacher": 1.0}
    assert tables.leaderboard["points"].tolist() == [3, 3] and tables.leaderboard["budget_runs"].tolist() == [6, 6]
    assert "method.tau" not in tables.grid  # within no entry it varies


def test_several_entries_may_be_references(tmp_path: Path) -> None:
    for seed in range(3):
        fake_run(tmp_path / "e", "byol", seed, level=80.0 + seed)
        fake_run(tmp_path / "e", "random", seed, level=90.0)
        fake_run(tmp_path / "e", "random", seed, level=95.0, label="untrained, wide", overrides={"method.tau": 0.5})
    tables = collect(tmp_path, ["e"])
    assert tables.leaderboard["entry"].tolist() == ["byol", "untrained, wide", "random"]
    assert tables.leaderboard["reference"].tolist() == [False, True, True]
    assert tables.pairs["reference"].all() and tables.pairs["p_holm"].isna().all()


def test_rows_of_several_boards_are_the_same_by_their_entry(tmp_path: Path) -> None:
    for experiment, dataset in (("a", "digits"), ("b", "cifar10")):
        for seed in range(3):
            fake_run(tmp_path / experiment, "raft", seed, level=80.0, dataset=dataset)
            own: dict[str, Any] = {"label": "RAFT, no teacher", "overrides": NONE}
            fake_run(tmp_path / experiment, "raft", seed, level=85.0, dataset=dataset, **own)
            fake_run(tmp_path / experiment, "random", seed, dataset=dataset)
    overall = collect(tmp_path, ["a", "b"]).overall
    assert overall[["entry", "method", "boards", "mean_rank"]].to_numpy().tolist() == [
        ["RAFT, no teacher", "raft", 2, 1.0],
        ["raft", "raft", 2, 2.0],
    ]


def test_a_configuration_is_one_row_whatever_its_runs_say(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "e", "raft", seed, label="new" if seed == 1 else "") for seed in range(3)]
    assert collect(tmp_path, ["e"]).leaderboard[["entry", "done"]].to_numpy().tolist() == [["new", 3]]
    planned = json.loads((runs[2] / "config.json").read_text())
    (runs[2] / "config.json").write_text(json.dumps({**planned, "entry": "old"}))
    tables = collect(tmp_path, ["e"])
    assert tables.leaderboard[["entry", "done"]].to_numpy().tolist() == [["new", 3]]
    (problem,) = tables.problems.itertuples()
    assert problem.path == f"runs/{runs[2].name}"
    assert problem.reason == (
        "config.json: its label is 'old'; that of other runs of this configuration is used: 'new'"
    )


def test_a_run_whose_plan_is_lost_is_of_the_row_of_its_configuration(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "e", "raft", seed, label="mine") for seed in range(3)]
    (runs[0] / "config.json").unlink()
    assert collect(tmp_path, ["e"]).leaderboard[["entry", "done", "damaged"]].to_numpy().tolist() == [["mine", 2, 1]]


@pytest.mark.parametrize("label", ["mine", "byol"])
def test_a_label_of_two_methods_is_two_rows(tmp_path: Path, label: str) -> None:
    """Two sweeps may give one; and a file may be edited."""
    fake_run(tmp_path / "a", "raft", 0, label=label)
    fake_run(tmp_path / "b", "byol", 0, label=label if label == "mine" else "")
    tables = collect(tmp_path, ["a", "b"])
    other = "mine (byol)" if label == "mine" else "byol"
    assert dict(zip(tables.leaderboard["entry"], tables.leaderboard["method"], strict=True)) == {
        f"{label} (raft)": "raft",
        other: "byol",
    }


@pytest.mark.parametrize("value", [None, 1, ["x"], ""])
def test_what_is_no_label_is_none(tmp_path: Path, value: object) -> None:
    run = fake_run(tmp_path / "e", "raft", 0)
    planned = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**planned, "entry": value, "entry_keys": value}))
    assert collect(tmp_path, ["e"]).leaderboard["entry"].tolist() == ["raft"]


def test_results_of_version_0_1_0_are_rows_of_their_methods(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "results")
    tables = collect(tmp_path / "results", ["old"])
    for table in (tables.runs, tables.history, tables.grid, tables.leaderboard):
        assert len(table) and (table["entry"].astype(str) == table["method"].astype(str)).all()


def of_epochs(results: Path, entries: dict[tuple[str, str], tuple[int, bool]]) -> Tables:
    """Rows by (method, label) of so many epochs, which their entries name or not; three seeds, 1 point apart."""
    for i, ((method, label), (epochs, named)) in enumerate(entries.items()):
        for seed in range(3):
            own: dict[str, Any] = {"overrides": {"train.epochs": epochs}, "label": label}
            own["about"] = ["train.epochs"] * named
            fake_run(results / "e", method, seed, test_linear_top1=90.0 - i + 0.1 * seed * (i + 1), epochs=2, **own)
    return collect(results, ["e"])


def told(tables: Tables, word: str) -> list[str]:
    return [note for note in notes(tables, tables.leaderboard) if word in note]


def test_a_difference_that_an_entry_names_is_what_is_compared(tmp_path: Path) -> None:
    tables = of_epochs(
        tmp_path, {("raft", "RAFT, long"): (60, True), ("raft", ""): (30, False), ("byol", ""): (30, False)}
    )
    assert tables.leaderboard["mark"].tolist()[0] == "best"
    assert not told(tables, "NOT TRAINED ALIKE")
    assert told(tables, "Methods") == ['Methods: RAFT: "RAFT, long".']
    assert told(tables, "are about") == [
        'Not trained alike, which is what entries are about: train.epochs = 60 ("RAFT, long"), 30 (BYOL, RAFT).'
    ]


def test_two_entries_may_name_it_and_the_others_must_still_be_alike(tmp_path: Path) -> None:
    entries = {
        ("raft", "A"): (60, True),
        ("raft", "B"): (15, True),
        ("byol", ""): (30, False),
        ("simclr", ""): (20, False),
    }
    tables = of_epochs(tmp_path, entries)
    assert set(tables.leaderboard["mark"]) == {"unlike", ""}
    assert told(tables, "NOT TRAINED ALIKE") == [
        "NOT TRAINED ALIKE: train.epochs = 30 (BYOL), 20 (SimCLR). Differences are of these settings too, not of the "
        "entries alone: no entry is marked."
    ]


def test_what_an_entry_does_not_name_must_be_alike(tmp_path: Path) -> None:
    for seed in range(3):
        fake_run(
            tmp_path / "e", "raft", seed, level=90.0 + seed, label="A", about=["method.tau"], overrides={**NONE, **LONG}
        )
        fake_run(tmp_path / "e", "raft", seed, level=88.0 + seed**2)
    tables = collect(tmp_path, ["e"])
    assert set(tables.leaderboard["mark"]) == {"unlike"}
    (alike,) = told(tables, "NOT TRAINED ALIKE")
    assert "train.epochs = 30 (RAFT), 60 (A)" in alike or "train.epochs = 60 (A), 30 (RAFT)" in alike


def test_an_entry_that_names_weights_names_their_content(tmp_path: Path) -> None:
    for seed in range(3):
        weights = {"backbone.weights": "file:/a.safetensors", "backbone.weights_hash": "0123456789abcdef"}
        own: dict[str, Any] = {"label": "continued", "about": ["backbone.weights"], "overrides": weights}
        fake_run(tmp_path / "e", "raft", seed, level=90.0 + seed, **own)
        fake_run(tmp_path / "e", "raft", seed, level=88.0 + seed**2)
    tables = collect(tmp_path, ["e"])
    assert not told(tables, "NOT TRAINED ALIKE")
    assert not told(tables, "are about")  # of paths; the weights have a note of their own
    assert told(tables, "weights")
