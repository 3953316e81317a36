"""Methods x seeds x grid points become runs; wrong names are refused before anything is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_result

from bench.data import datasets
from bench.errors import UserError
from bench.evaluation.few import Few
from bench.files import dump_json
from bench.planning import plan
from bench.planning.entries import Entry
from bench.planning.prepare import prepare
from bench.runs import store
from bench.runs.work import TRAINING, retry


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("5", [0, 1, 2, 3, 4]), ("3,7", [3, 7]), ("3,", [3]), (" 2 , 2, 0", [2, 0]), ("1", [0])],
)
def test_seeds_are_a_number_or_a_list(text: str, seeds: list[int]) -> None:
    assert plan.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "a", "", "1.5", ",", "3;4", "99999999999,"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        plan.parse_seeds(text)


def test_a_seed_that_was_meant_as_one_is_not_taken_for_millions() -> None:
    with pytest.raises(UserError, match="for seed 20241231 alone write 20241231,"):
        plan.parse_seeds("20241231")


def test_an_unknown_method_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown method 'rapt': did you mean 'raft'"):
        plan.parse_methods("byol,rapt")


def test_an_unknown_preset_and_dataset_get_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'quick'"):
        plan.plan(["raft"], [0], "quik", {}, {}, "x")
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        plan.plan(["raft"], [0], "quick", {"data.name": "cifar-10"}, {}, "x")


def test_a_grid_is_the_product_of_its_values_and_every_run_is_named_once() -> None:
    grid = {"optim.lr": ["0.1", "0.2"], "method.tau": ["0.9", "0.99", "1"]}
    runs = plan.plan(["raft", "byol"], [0, 1], "quick", {"train.epochs": "1"}, grid, "x")
    assert len(runs) == len({run["run_id"] for run in runs}) == 2 * 2 * 2 * 3
    assert [run["seed"] for run in runs] == sorted(run["seed"] for run in runs)  # a stopped sweep has whole seeds
    assert runs[0]["overrides"] == {"train.epochs": "1", "optim.lr": "0.1", "method.tau": "0.9"}


def test_a_grid_key_that_a_method_lacks_is_refused() -> None:
    with pytest.raises(UserError, match=r"method\.tau"):
        plan.plan(["simclr"], [0], "quick", {}, {"method.tau": ["0.9"]}, "x")


def test_a_batch_larger_than_the_set_is_refused(tmp_path: Path) -> None:
    runs = plan.plan(["raft"], [0], "quick", {"train.batch_size": "5000"}, {}, "x")
    with pytest.raises(UserError, match=r"train.batch_size=5000.*digits has \d+"):
        prepare(runs, tmp_path)


def test_a_data_set_is_read_once_and_every_end_of_training_is_checked_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two configurations on digits, of which the second alone is judged by few labels."""
    reads: list[str] = []
    load, check = datasets.load, Few.check

    def noted(event: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            reads.append(event)
            return function(*args)

        return call

    monkeypatch.setattr(datasets, "load", noted("read", load))
    monkeypatch.setattr(Few, "check", noted("checked", check))
    ends = ({"train.epochs": "1"}, {"train.epochs": "2", "eval.at_end": "few"})
    prepare([run for end in ends for run in plan.plan(["random"], [0], "quick", end, {}, "x")], tmp_path)
    assert reads == ["read", "checked"]


def test_planning_writes_each_run_once_and_leaves_begun_runs_alone(tmp_path: Path) -> None:
    (first,) = plan.write(plan.plan(["raft"], [0], "quick", {}, {}, "x"), tmp_path)
    (again,) = plan.write(plan.plan(["raft"], [0], "quick", {"train.threads": "2"}, {}, "x"), tmp_path)
    assert first == again
    assert store.read_run(first).config["config"]["train"]["threads"] == 2  # not begun: the newest settings count
    (first.path / "claim-1.json").write_text("{}")
    plan.write(plan.plan(["raft"], [0], "quick", {}, {}, "x"), tmp_path)
    assert store.read_run(first).config["config"]["train"]["threads"] == 2


def test_only_the_label_of_a_run_that_has_begun_changes(tmp_path: Path) -> None:
    def planned(label: str, **overrides: str) -> dict[str, Any]:
        entry = Entry("raft", label, {"method.predictor": "none"} if label else {})
        (run,) = plan.plan([entry], [0], "quick", {"method.predictor": "none", **overrides}, {}, "x")
        return run

    (run,) = plan.write([planned("old name")], tmp_path)
    first = store.read_run(run).config
    (run.path / "claim-1.json").write_text("{}")
    run.result.write_text(dump_json(fake_result(run.run_id)))
    plan.write([planned("new name", **{"train.threads": "2"})], tmp_path)
    assert store.read_run(run).config == {**first, "entry": "new name"}
    (plain,) = plan.plan(["raft"], [0], "quick", {"method.predictor": "none"}, {}, "x")
    plan.write([plain], tmp_path)
    assert store.read_run(run).config == {k: v for k, v in first.items() if k not in ("entry", "entry_keys")}
    assert store.read_run(run).state == "done"


def test_planning_again_leaves_the_files_of_begun_runs_alone(tmp_path: Path) -> None:
    planned = plan.plan([Entry("raft", "mine")], [0], "quick", {}, {}, "x")
    (run,) = plan.write(planned, tmp_path)
    (run.path / "claim-1.json").write_text("{}")
    before = run.config.stat()
    plan.write(planned, tmp_path)
    assert (run.config.stat().st_ino, run.config.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "-x"])
def test_an_experiment_is_a_plain_folder_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="experiment"):
        plan.write(plan.plan(["raft"], [0], "quick", {}, {}, name), tmp_path)


def test_results_that_cannot_be_written_are_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write results"):
        plan.write(plan.plan(["raft"], [0], "quick", {}, {}, "x"), tmp_path / "file")


def test_failed_and_unreadable_runs_are_retried_when_asked(tmp_path: Path) -> None:
    failed, damaged, done = plan.write(plan.plan(["raft"], [0, 1, 2], "quick", {}, {}, "x"), tmp_path)
    failed.error.write_text("no luck\n")
    damaged.result.write_text("{")
    done.result.write_text(dump_json(fake_result(done.run_id)))
    retry(TRAINING, [failed, damaged, done])
    assert [store.read_run(run).state for run in (failed, damaged, done)] == ["planned", "planned", "done"]


def test_naming_the_data_that_is_trained_on_to_judge_on_changes_nothing() -> None:
    (plain,), (named,) = (
        plan.plan(["simclr"], [0], "quick", chosen, {}, "x") for chosen in ({}, {"eval.data": "digits"})
    )
    assert plain["config"] == named["config"]
