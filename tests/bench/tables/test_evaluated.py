"""Evaluations in the tables: columns, means over draws, what is told of damaged and failed ones."""

import json
import math
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from fake_results import fake_evaluation, fake_run, write_json
from scipy import stats

from bench.errors import UserError
from bench.report.names import measure_name
from bench.report.write import write
from bench.runs.evaluations import Asked
from bench.tables.evaluated import COLUMNS, IDENTITY, Measure, measures
from bench.tables.inventory import Inventory, take
from bench.tables.leaderboard import collect


def reasons(inventory: Inventory) -> dict[str, str]:
    return dict(zip(inventory.problems["path"], inventory.problems["reason"], strict=True))


def test_a_number_is_a_column_the_mean_over_draws(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "e", "raft", seed) for seed in range(2)]
    fake_evaluation(runs[0], "few", {"few_1pct": [50.0, 60.0, 73.0], "few_5shot": [80.0, 81.0, 82.0]})
    fake_evaluation(runs[1], "few", {"few_1pct": [10.0, 20.0, 30.0]})
    fake_evaluation(runs[1], "linear", {"linear": 44.0}, dataset="cifar10", top5=False)
    found = take(tmp_path, ["e"])
    assert found.problems.empty
    few = [f"test_few_1pct_{score}" for score in ("top1", "top5", "balanced", "f1")]
    assert found.runs[few].to_numpy().tolist() == [[61, 80.5, 60, 59], [20, 60, 19, 18]]
    assert found.runs["val_few_1pct_top1"].tolist() == [58, 17]
    assert found.runs["test_few_5shot_top1"].tolist() == pytest.approx([81, math.nan], nan_ok=True)
    assert found.runs["test_linear_top1@cifar10"].tolist() == pytest.approx([math.nan, 44], nan_ok=True)
    assert "test_linear_top5@cifar10" not in found.runs  # of few classes there is none
    assert measures(found.runs)[-1] == "val_linear_top1@cifar10"
    assert list(found.runs)[-len(measures(found.runs)) :] == measures(found.runs)


def test_a_row_a_classifier(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 3)
    fake_evaluation(run, "few", {"few_5shot": [80.0, 81.0]}, settings={"draws": 2}, n_labels={"few_5shot": 50})
    fake_evaluation(run, "knn", {"knn": 70.0}, dataset="svhn", n_test=26032)
    rows = take(tmp_path, ["e"]).evaluations.astype(object).to_dict("records")
    assert [(row["variant"], row["draw"], row["test_top1"], row["n_labels"], row["n_test"]) for row in rows] == [
        ("few_5shot", 0, 80, 50, 360),
        ("few_5shot", 1, 81, 50, 360),
        ("knn", 0, 70, 1437, 26032),
    ]
    first = {key: rows[0][key] for key in ("run_id", "method", "seed", "evaluation", "dataset", "column", "settings")}
    assert first == {
        "run_id": run.name,
        "method": "raft",
        "seed": 3,
        "evaluation": "few",
        "dataset": "digits",
        "column": "test_few_5shot_top1",
        "settings": "draws=2",
    }
    assert (rows[0]["chosen"], rows[0]["seconds"], rows[0]["threads"]) == ("l2=0.001", 1.25, "1")
    assert (rows[2]["column"], rows[2]["dataset"]) == ("test_knn_top1@svhn", "svhn")


def test_settings_side_by_side_are_told_apart(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 0)
    fake_evaluation(run, "few", {"few_1pct": 50.0})
    more = fake_evaluation(run, "few", {"few_1pct": 60.0, "few_20pct": 70.0}, settings={"draws": 9})
    augmented = fake_evaluation(run, "linear", {"linear": 90.0}, settings={"probe": "augmented"})
    row = take(tmp_path, ["e"]).runs.iloc[0]
    assert row["test_few_1pct_top1"] == 50  # the evaluation's defaults
    assert row[f"test_few_1pct_top1#{more.stem[-8:]}"] == 60
    assert row["test_few_20pct_top1"] == 70
    assert row[f"test_linear_top1#{augmented.stem[-8:]}"] == 90  # the result's test_linear_top1 is of the defaults
    assert row["test_linear_top1"] != 90


def test_a_result_without_its_numbers_has_those_of_the_evaluation(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 0, test_linear_top1=None, val_linear_top1=None)
    fake_evaluation(run, "linear", {"linear": 91.0})
    found = take(tmp_path, ["e"])
    assert found.problems.empty
    row = found.runs.iloc[0]
    assert [row[name] for name in ("test_linear_top1", "val_linear_top1", "linear_l2")] == [91, 88, 0.001]
    assert "test_linear_balanced" in measures(found.runs)
    assert "test_linear_top1" not in measures(found.runs)


def test_numbers_that_differ_from_the_results_are_told(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 0, test_knn_top1=71.0, val_knn_top1=67.0)
    fake_evaluation(run, "knn", {"knn": 70.0})
    found = take(tmp_path, ["e"])
    assert reasons(found) == {f"runs/{run.name}": "evaluations: test_knn_top1 is 70, in result.json 71, which is shown"}
    assert found.runs.loc[0, "test_knn_top1"] == 71


def test_damaged_files_are_told(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 0)
    files = [fake_evaluation(run, "few", {"few_1pct": 50.0}, settings={"draws": n}) for n in range(1, 9)]
    good = json.loads(files[0].read_text())
    score = good["scores"][0]
    files[0].write_text(files[0].read_text()[:-9])
    content = [
        good | {"schema": 9},
        good | {"subject": "byol-01234567-s0"},
        good | {"settings": {"draws": 77}},
        good | {"scores": [score, score], "settings": {"draws": 5}},
        good | {"scores": [score | {"test_top1": 101}]},
        good | {"scores": [score | {"variant": "a,b"}], "settings": {"draws": 7}},
        good | {"dataset": "cifar10", "settings": {"draws": 8}},
    ]
    for path, values in zip(files[1:], content, strict=True):
        write_json(path, values)
    (run / "evaluations" / "deep-00000000.json").write_text("[" * 100_000)
    (run / "evaluations" / "claim-1.json").write_text("{}")  # who is at it
    (run / "evaluations" / f"{files[0].stem}.npz").write_bytes(b"")
    found = take(tmp_path, ["e"])
    told = found.problems["reason"].str.partition(": ")
    by_name = dict(zip(told[0], told[2], strict=True))
    assert by_name.pop("evaluations/deep-00000000.json")
    assert [by_name.pop(f"evaluations/{path.name}").split(" (")[0] for path in files[1:]] == [
        "written by another version of the program",
        "of another encoder, byol-01234567-s0",
        f"its content is that of few-{_hash(good, 77)}",
        "a classifier is there twice",
        "test_top1 is 101, not a percentage",
        "variant is 'a,b': letters, digits, '_' and '.' only",
        "its dataset is 'cifar10', the run's 'digits'",
    ]
    assert by_name.keys() == {f"evaluations/{files[0].name}"}  # torn
    assert found.evaluations.empty
    assert measures(found.runs) == []
    assert set(found.problems["path"]) == {f"runs/{run.name}"}


def _hash(good: dict[str, object], draws: int) -> str:
    return Asked(evaluation="few", settings={"draws": draws}).key[-8:]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 0)
    fake_evaluation(run, "knn", {"knn": 70.0}).parent.chmod(0)
    assert "evaluations: cannot be read: Permission denied" in reasons(take(tmp_path, ["e"])).values()


def test_failed_evaluations_have_a_row(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 0)
    made = fake_evaluation(run, "knn", {"knn": 70.0}, settings={"k": 3})
    made.with_suffix(".error.txt").write_text("an older attempt\n")
    (run / "evaluations" / "few-0123abcd.error.txt").write_text("few.labels=9: class '0' has 3 images\nmore\n")
    rows = take(tmp_path, ["e"]).evaluations.query("state == 'failed'")
    assert rows[["evaluation", "key", "reason"]].to_numpy().tolist() == [
        ["few", "few-0123abcd", "few.labels=9: class '0' has 3 images"]
    ]
    assert rows["test_top1"].isna().all()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("test_few_0.5pct_top1", Measure("test", "few_0.5pct", "top1", "", "")),
        ("val_linear_top1@cifar100", Measure("val", "linear", "top1", "cifar100", "")),
        ("test_knn_f1@folder:a b#@01234567#89abcdef", Measure("test", "knn", "f1", "folder:a b#@01234567", "89abcdef")),
        ("train_seconds", None),
        ("test_linear_loss", None),
    ],
)
def test_names_of_columns(column: str, expected: Measure | None) -> None:
    assert Measure.parse(column) == expected
    if expected:
        assert expected.of(expected.score, expected.split) == column


def test_results_without_evaluations_are_as_before(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "raft", 0)
    found = take(tmp_path, ["e"])
    assert found.evaluations.empty
    assert measures(found.runs) == []
    assert list(found.runs)[-1] == "command"


def test_any_number_of_an_evaluation_ranks(tmp_path: Path) -> None:
    for method, values in {
        "raft": [50.0, 52.0, 51.0],
        "byol": [60.0, 61.5, 62.0],
        "random": [70.0, 71.0, 72.0],
    }.items():
        for seed, value in enumerate(values):
            run = fake_run(tmp_path / "e", method, seed)
            fake_evaluation(run, "few", {"few_1pct": value})
    tables = collect(tmp_path, ["e"], "test_few_1pct_top1")
    byol, raft, random = (row for _, row in tables.leaderboard.iterrows())
    assert [row["method"] for row in (byol, raft, random)] == ["byol", "raft", "random"]
    assert (raft["test_few_1pct_top1_n"], raft["test_few_1pct_top1_mean"]) == (3, 51)
    assert raft["test_few_1pct_top1_sd"] == pytest.approx(1)
    assert raft["difference"] == pytest.approx(51 - 183.5 / 3)
    (pair,) = (row for _, row in tables.pairs[~tables.pairs["reference"]].iterrows())
    assert pair["p_holm"] == pytest.approx(stats.ttest_ind([60, 61.5, 62], [50, 52, 51], equal_var=False).pvalue)
    assert tables.grid["test_few_1pct_f1_mean"].tolist() == pytest.approx([183.5 / 3 - 2, 51 - 2, 71 - 2])


def test_a_metric_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    fake_evaluation(fake_run(tmp_path / "e", "raft", 0), "few", {"few_1pct": 50.0})
    with pytest.raises(UserError, match=r"unknown metric 'test_few_2pct_top1': did you mean 'test_few_1pct_top1'\?"):
        collect(tmp_path, ["e"], "test_few_2pct_top1")
    with pytest.raises(UserError, match=r"unknown column 'test_few_1pc_top1': did you mean 'test_few_1pct_top1'\?"):
        write(tmp_path, ["e"], ["csv"], columns=["method", "test_few_1pc_top1"])


def test_tables_show_the_columns_and_what_was_judged(tmp_path: Path) -> None:
    fake_evaluation(fake_run(tmp_path / "e", "raft", 0), "few", {"few_1pct": [50.0, 60.0]})
    write(tmp_path, ["e"], ["csv", "md"], columns=["method", "test_few_1pct_top1", "test_few_1pct_balanced"])
    table = (tmp_path / "e" / "leaderboard.md").read_text()
    assert "| method | few 1% | few 1% balanced |" in table
    assert "| RAFT | 55.00 ± – | 54.00 ± – |" in table
    read = pd.read_csv(tmp_path / "e" / "evaluations.csv")
    assert read["test_top1"].tolist() == [50, 60]
    assert list(read) == [*IDENTITY, *COLUMNS]
    (tmp_path / "e" / "runs.csv").unlink()
    shutil.rmtree(next((tmp_path / "e").glob("runs/*/evaluations")))
    write(tmp_path, ["e"], ["csv"])
    assert not (tmp_path / "e" / "evaluations.csv").exists()


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("test_few_1pct_top1", "few 1%"),
        ("test_few_0.5pct_f1", "few 0.5% F1"),
        ("test_few_5shot_balanced@cifar100", "few 5/class balanced on CIFAR-100"),
        ("val_knn_top1@svhn#01234567", "val. kNN on SVHN #01234567"),
        ("test_linear_top5", "linear top-5"),
    ],
)
def test_headers(column: str, name: str) -> None:
    measure = Measure.parse(column)
    assert measure
    assert measure_name(measure) == name
