"""Tables of a folder are computed again from its runs.csv: what agrees, each cell that does not, what is not known."""

import csv
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_results import fake_encoder, fake_evaluation, fake_experiment, fake_run

from bench.errors import UserError
from bench.report.recomputed import Recomputed, recomputed, rewrite
from bench.report.write import write
from bench.runs.experiment import name_margin
from bench.tables import published
from bench.tables.leaderboard import collect

TABLES = ("runs.csv", "grid.csv", "leaderboard.csv", "pairs.csv", "leaderboard.md", "leaderboard.tex")


CONFIGS: dict[str, dict[str, Any]] = {}
"""Settings of made-up runs, whose hashes prove nothing."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of an experiment, without its runs."""
    results = tmp_path_factory.mktemp("of") / "results"
    name_margin(results / "x", 2.0)
    fake_experiment(results / "x", seeds=4)
    fake_run(results / "x", "simclr", 0, level=93.0, overrides={"optim.lr": 0.1})
    fake_evaluation(fake_encoder(results / "x", "theirs"), "linear", {"linear": 80.0})
    write(results, ["x"], ["csv", "md", "tex"], results.parent / "paper")
    CONFIGS.update(collect(results, ["x"]).configs)
    shutil.rmtree(results)
    return results.parent / "paper"


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "paper")


def again(folder: Path, margin: float | None = None, configs: dict[str, dict[str, Any]] = CONFIGS) -> Recomputed:
    read = published.read(folder)
    return recomputed(folder, published.inventory(read, configs), margin)


def test_what_a_report_wrote_comes_out_again_without_its_runs(folder: Path) -> None:
    found = again(folder)
    assert not found.differences
    assert all(found.checked[name] > 10 for name in TABLES)
    (aside,) = found.unchecked
    assert aside.startswith("history.csv, evaluations.csv, problems.csv: taken as they are")


@pytest.mark.parametrize(
    ("name", "column", "row"),
    [
        ("leaderboard.csv", "test_linear_top1_mean", "digits quick 1 simclr"),
        ("leaderboard.csv", "mark", "digits quick 1 simclr"),
        ("leaderboard.csv", "test_linear_top1_mean", "digits quick 1 theirs"),
        ("pairs.csv", "p_holm", "digits quick 1 "),
        ("grid.csv", "val_linear_top1_mean", "digits quick 1 "),
        ("runs.csv", "chosen", "x simclr-"),
    ],
)
def test_a_forged_cell_is_named_with_both_values(folder: Path, name: str, column: str, row: str) -> None:
    with (folder / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    forged = next(cells for cells in rows if " ".join(cells.values()).startswith(row))
    before = forged[column]
    forged[column] = {"True": "False", "False": "True"}.get(before, "1.25")
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    (line,) = again(folder).differences
    assert line.startswith(f"{name}: {row}")
    assert line.endswith(f"{column} is {forged[column]}, by runs.csv {before or 'empty'}")


def test_a_number_of_a_run_that_was_edited_shows_in_every_table(folder: Path) -> None:
    table = pd.read_csv(folder / "runs.csv", dtype=str, keep_default_na=False)
    place = table.index[table["method"] == "byol"][0]
    table.loc[place, "test_linear_top1"] = "99.5"
    table.to_csv(folder / "runs.csv", index=False)
    assert {name for name, lines in again(folder).differing.items() if lines} == set(TABLES) - {"runs.csv"}


def test_rows_that_were_left_out_added_or_moved_are_told(folder: Path) -> None:
    table = pd.read_csv(folder / "pairs.csv", dtype=str, keep_default_na=False)
    table.iloc[1:].to_csv(folder / "pairs.csv", index=False)
    (line,) = again(folder).differences
    assert line.startswith("pairs.csv: digits quick 1 ") and line.endswith("missing, by runs.csv it is there")
    pd.concat([table, table.tail(1).assign(entry_b="nobody")]).to_csv(folder / "pairs.csv", index=False)
    (line,) = again(folder).differences
    assert line.endswith("nobody: no such row by runs.csv")
    table[::-1].to_csv(folder / "pairs.csv", index=False)
    assert again(folder).differences == ["pairs.csv: rows are in another order"]


def test_a_line_of_a_page_that_was_edited_is_told(folder: Path) -> None:
    page = folder / "leaderboard.md"
    page.write_text(page.read_text().replace("| SimCLR | 4 |", "| SimCLR | 5 |"))
    has, by = again(folder).differences
    assert has.startswith("leaderboard.md: has: | SimCLR | 5 |")
    assert by.startswith("leaderboard.md: by runs.csv: | SimCLR | 4 |")


def test_the_last_digits_are_the_processors(folder: Path) -> None:
    table = pd.read_csv(folder / "leaderboard.csv", dtype=str, keep_default_na=False)
    table["loss_mean"] = [text and repr(float(text) * (1 + 1e-12)) for text in table["loss_mean"]]
    table.to_csv(folder / "leaderboard.csv", index=False)
    assert not again(folder).differences


def test_the_margin_is_the_sweep_files_where_there_is_one(folder: Path) -> None:
    """Named beforehand: another one in the table is a difference."""
    lines = again(folder, margin=1.0).differences
    assert any("margin is 2.0, by runs.csv 1.0" in line for line in lines)


def test_by_which_number_it_ranks_the_table_says(tmp_path: Path) -> None:
    for method, seed in product(("raft", "byol", "simclr"), range(3)):
        fake_run(tmp_path / "x", method, seed)
    write(tmp_path, ["x"], ["csv"], tmp_path / "paper", metric="test_knn_top1", difference=1.0)
    assert not again(tmp_path / "paper").differences
    pairs = pd.read_csv(tmp_path / "paper" / "pairs.csv").assign(metric="test_few_top1")
    pairs.to_csv(tmp_path / "paper" / "pairs.csv", index=False)
    with pytest.raises(UserError, match=r"its metric is 'test_few_top1', which runs.csv does not have"):
        again(tmp_path / "paper")


def over_images(folder: Path, low: float, high: float) -> Recomputed:
    """Read again with intervals from `low` below to `high` above every mean that has one over seeds."""
    table = pd.read_csv(folder / "leaderboard.csv")
    several = table["test_linear_top1_low"].notna() & table["source"].isna()
    for end, away in (("low", -low), ("high", high)):
        table[f"test_linear_top1_{end}_seeds_images"] = (table["test_linear_top1_mean"] + away).where(several)
    table.to_csv(folder / "leaderboard.csv", index=False)
    return again(folder)


def test_intervals_that_take_predictions_are_taken_as_they_are_and_told(folder: Path) -> None:
    found = over_images(folder, 99, 99)
    told = [line for line in found.unchecked if "predictions of every image" in line]
    several = found.tables.leaderboard["test_linear_top1_low_seeds_images"].notna().sum()
    assert several >= 4
    assert len(told) == 1 and told[0].startswith(f"leaderboard.csv: {2 * several} cells")
    assert {name for name, lines in found.differing.items() if lines} == {"leaderboard.md", "leaderboard.tex"}


@pytest.mark.parametrize(
    ("low", "high", "told"), [(0.01, 0.01, "not half of"), (-1, 99, "which is not around"), (99, -1, "not around")]
)
def test_intervals_that_no_predictions_give_are_told(folder: Path, low: float, high: float, told: str) -> None:
    found = over_images(folder, low, high)
    lines = [line for line in found.differing["leaderboard.csv"] if told in line]
    assert len(lines) == found.tables.leaderboard["test_linear_top1_low_seeds_images"].notna().sum() >= 4


def test_columns_of_other_versions_are_told_and_are_no_difference(folder: Path) -> None:
    table = pd.read_csv(folder / "pairs.csv", dtype=str, keep_default_na=False)
    table.drop(columns="p_welch").assign(sd="1").to_csv(folder / "pairs.csv", index=False)
    found = again(folder)
    assert not found.differences
    assert "pairs.csv: columns that this version does not compute: sd" in found.unchecked
    assert "pairs.csv: columns that it does not have: p_welch" in found.unchecked


def test_a_page_is_not_compared_where_settings_that_it_shows_are_unknown(folder: Path) -> None:
    found = again(folder, configs={})
    assert "leaderboard.md" not in found.checked and not found.differences
    assert any(line.startswith("leaderboard.md: it shows settings") for line in found.unchecked)


def test_what_differs_is_written_anew_and_the_runs_are_left(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("leaderboard.csv", "pairs.csv"):
        path = folder / name
        path.write_text(path.read_text().replace("digits", "digit"))
    (folder / "leaderboard.md").write_text("no table")
    found = again(folder)
    assert found.differences
    rewrite(found, folder)
    assert {path.name for path in folder.iterdir()} == set(before)
    assert (folder / "runs.csv").read_bytes() == before["runs.csv"]
    assert (folder / "pairs.csv").read_bytes() == before["pairs.csv"]
    assert not again(folder).differences


def test_several_data_sets_have_their_ranks_checked(tmp_path: Path) -> None:
    for dataset, method, seed in product(("digits", "cifar10"), ("raft", "byol", "simclr"), range(3)):
        fake_run(tmp_path / "x", method, seed, dataset=dataset)
    write(tmp_path, ["x"], ["csv", "md"], tmp_path / "paper")
    found = again(tmp_path / "paper", configs=collect(tmp_path, ["x"]).configs)
    assert not found.differences
    assert all(found.checked[name] > 10 for name in ("overall.csv", "improvements.csv", "leaderboard.md"))
    assert "## Probability of improvement" in (tmp_path / "paper" / "leaderboard.md").read_text()
