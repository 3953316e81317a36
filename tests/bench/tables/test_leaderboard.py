"""From run directories to tables: choices, marks, partial sweeps, damage, size."""

import itertools
import json
import math
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_results import METHODS, fake_experiment, fake_grid, fake_run, write_json
from scipy import stats

from bench.errors import UserError
from bench.report.notes import notes
from bench.report.write import write
from bench.runs.identity import seed_list
from bench.tables.leaderboard import Tables, collect


def row(tables: Tables, method: str) -> pd.Series:
    (found,) = [r for _, r in tables.leaderboard.iterrows() if r["method"] == method]
    return found


def pair(tables: Tables, a: str, b: str) -> pd.Series:
    both = tables.pairs["method_a"].isin([a, b]) & tables.pairs["method_b"].isin([a, b])
    (found,) = [r for _, r in tables.pairs[both].iterrows()]
    return found


def test_a_whole_experiment(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "quick")
    tables = collect(tmp_path, ["quick"])
    assert len(tables.runs) == 35
    assert set(tables.leaderboard["method"]) == set(METHODS)
    assert tables.problems.empty
    raft, byol, simsiam = (row(tables, method) for method in ("raft", "byol", "simsiam"))
    assert (raft["done"], raft["planned"], raft["failed"], raft["seeds"]) == (4, 5, 1, "0-2,4")
    assert (byol["done"], byol["planned"], byol["unfinished"]) == (4, 5, 1)
    assert (simsiam["done"], simsiam["collapsed"]) == (5, 1)
    linear = tables.runs.query("method == 'raft' and state == 'done'")["test_linear_top1"]
    assert raft["test_linear_top1_mean"] == pytest.approx(linear.mean())
    assert raft["test_linear_top1_sd"] == pytest.approx(linear.std(ddof=1))
    assert len(tables.history) == 33 * 30 + 10  # one run is only planned, one failed at a third
    assert tables.history.query("method == 'raft'")["runaway"].notna().all()


def test_the_failure_is_in_the_table(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "quick")
    failed = collect(tmp_path, ["quick"]).runs.query("state == 'failed'").iloc[0]
    assert (failed["method"], failed["seed"]) == ("raft", 3)
    assert failed["reason"] == "FloatingPointError: non-finite loss at step 120 (last finite: 0.31)"
    assert math.isnan(failed["test_linear_top1"])


def test_pairs_are_of_common_seeds(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "quick")
    tables = collect(tmp_path, ["quick"])
    found = pair(tables, "raft", "byol")
    runs = tables.runs.query("state == 'done'").set_index(["method", "seed"])["test_linear_top1"]
    a, b = ([runs[method, seed] for seed in (0, 1, 2)] for method in (found["method_a"], found["method_b"]))
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert found["n"] == 3  # raft has no seed 3, byol no seed 4
    assert found["p_welch"] == pytest.approx(expected.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    both = expected.confidence_interval(1 - 0.05 / 10)  # of 10 pairs at once
    assert (found["low_simultaneous"], found["high_simultaneous"]) == pytest.approx(tuple(both))
    assert found["difference"] == pytest.approx(np.mean(a) - np.mean(b))
    assert found["p_t"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found["p_permutation_least"] == 0.25
    family = tables.pairs[~tables.pairs["reference"]]
    assert len(family) == 10
    assert (family["p_holm"] >= family["p_welch"]).all()


def test_references_neither_win_nor_are_tested(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "quick")
    tables = collect(tmp_path, ["quick"])
    board = tables.leaderboard
    assert board["method"].tolist()[-2:] == ["supervised", "random"]
    assert row(tables, "supervised")["test_linear_top1_mean"] > row(tables, "simclr")["test_linear_top1_mean"]
    assert row(tables, "simclr")["mark"] == "best"
    assert board.loc[board["reference"], "rank"].isna().all()
    assert board.loc[board["reference"], "mark"].eq("").all()
    assert tables.pairs.loc[tables.pairs["reference"], "p_holm"].isna().all()


def test_ties_share_the_mark_of_the_best(tmp_path: Path) -> None:
    for seed in range(5):
        fake_run(tmp_path / "e", "byol", seed, test_linear_top1=90.0 + seed)
        fake_run(tmp_path / "e", "raft", seed, test_linear_top1=89.7 + seed + (-1) ** seed)
        fake_run(tmp_path / "e", "simclr", seed, test_linear_top1=80.0 + seed + 0.1 * (-1) ** seed)
    tables = collect(tmp_path, ["e"])
    assert {m: row(tables, m)["mark"] for m in ("byol", "raft", "simclr")} == {
        "byol": "best",
        "raft": "candidate",
        "simclr": "",
    }
    assert row(tables, "simclr")["difference"] == pytest.approx(-10 + 0.02)
    assert row(tables, "simclr")["difference_high"] < 0


def board_of(results: Path, numbers: dict[str, list[float | None]], **settings: Any) -> Tables:
    """A board of these test accuracies, one a seed; None: that seed failed."""
    for method, values in numbers.items():
        for seed, value in enumerate(values):
            state = "failed" if value is None else "done"
            fake_run(results / "e", method, seed, state=state, test_linear_top1=value, **settings)
    return collect(results, ["e"])


def test_p_values_are_holms(tmp_path: Path) -> None:
    numbers = {"byol": [90.0, 91.0, 90.5, 92.0], "raft": [89.1, 90.4, 89.2, 91.3], "simclr": [88.0, 91.1, 89.9, 90.2]}
    tables = board_of(tmp_path, {**numbers, "random": [80.0, 81.0, 80.5, 82.2]})
    names = [("byol", "raft"), ("byol", "simclr"), ("raft", "simclr")]
    raw = sorted((float(stats.ttest_ind(numbers[a], numbers[b], equal_var=False).pvalue), (a, b)) for a, b in names)
    so_far = 0.0
    for (p, names_of), factor in zip(raw, (3, 2, 1), strict=True):
        so_far = max(so_far, min(1.0, factor * p))
        assert pair(tables, *names_of)["p_holm"] == pytest.approx(so_far)
        assert pair(tables, *names_of)["significant"] == (so_far < 0.05)
    assert row(tables, "raft")["p_holm"] == pair(tables, "byol", "raft")["p_holm"]


def test_scores_without_any_spread_are_untested(tmp_path: Path) -> None:
    tables = board_of(tmp_path, {"byol": [90.0, 90.0, 90.0], "raft": [89.0, 89.0, 89.0], "simsiam": [70.0, 73.0, 71.0]})
    assert row(tables, "raft")["mark"] == "untested"
    assert math.isnan(pair(tables, "byol", "raft")["p_holm"])
    assert not pair(tables, "byol", "raft")["significant"]
    assert pair(tables, "byol", "raft")["verdict"] == ""
    assert math.isnan(row(tables, "raft")["difference_low"])
    assert row(tables, "byol")["mark"] == "best"


def test_two_common_seeds_are_not_tested(tmp_path: Path) -> None:
    tables = board_of(tmp_path, {"byol": [90.0, 91.0, 93.0], "raft": [70.0, 71.1, None]})
    assert set(tables.leaderboard["mark"]) == {"untested"}
    (note,) = [note for note in notes(tables, tables.leaderboard) if "tested" in note]
    assert note.startswith(
        "No differences tested: that takes two methods with at least 3 common seeds. ?: not tested: fewer"
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_equal_means_have_one_best(tmp_path: Path, order: tuple[int, ...]) -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floating point: the order of directories must not choose the best."""
    values = [80.1, 80.2, 80.3]
    numbers = {"byol": values, "raft": [values[i] for i in order], "simsiam": [70.0, 71.5, 72.0]}
    tables = board_of(tmp_path, {"simclr": values[::-1], **numbers})
    assert tables.leaderboard["method"].tolist() == ["byol", "raft", "simclr", "simsiam"]
    assert tables.leaderboard["rank"].tolist() == [1, 1, 1, 4]
    assert row(tables, "byol")["mark"] in ("best", "untested")
    assert row(tables, "simsiam")["difference"] == pytest.approx(np.mean(numbers["simsiam"]) - 80.2)
    assert (tables.pairs["with_best"] == tables.pairs[["method_a", "method_b"]].eq("byol").any(axis=1)).all()


def test_as_many_right_images_are_equal_means(tmp_path: Path) -> None:
    """911 of 3 x 360 images, twice: the floating-point mean of byol's three percentages is 1e-14 lower."""
    right = {"byol": [299, 286, 326], "raft": [301, 282, 328]}
    tables = board_of(tmp_path, {m: [100 * n / 360 for n in counts] for m, counts in right.items()})
    assert tables.leaderboard["method"].tolist() == ["byol", "raft"]
    assert tables.leaderboard["rank"].tolist() == [1, 1]
    assert tables.leaderboard["mark"].tolist() == ["best", "candidate"]


def test_better_on_common_seeds_keeps_the_mark(tmp_path: Path) -> None:
    """Raft's mean is higher for want of the hard seeds only; where both are done, byol is better at every one."""
    hard = [50.0, 50.5, 51.0]
    tables = board_of(
        tmp_path, {"byol": [98.0, 98.3, 98.1, 98.4, *hard], "raft": [89.0, 89.3, 89.1, 89.2, None, None, None]}
    )
    byol = row(tables, "byol")
    assert row(tables, "raft")["mark"] == "best"
    assert pair(tables, "byol", "raft")["significant"]
    assert (byol["difference"] > 0, byol["difference_low"] > 0, byol["mark"]) == (True, True, "candidate")
    assert any("Seeds differ (RAFT: 0-3; BYOL: 0-6)" in note for note in notes(tables, tables.leaderboard))


def test_collapsed_seeds_earn_no_star(tmp_path: Path) -> None:
    for seed in range(5):
        fake_run(tmp_path / "e", "byol", seed)
        fake_run(tmp_path / "e", "raft", seed, collapsed=seed == 2)
    tables = collect(tmp_path, ["e"])
    assert not pair(tables, "byol", "raft")["significant"]
    assert row(tables, "raft")["mark"] == "collapsed"
    assert any("for collapsed seeds: RAFT." in note for note in notes(tables, tables.leaderboard))


def test_the_best_of_collapsed_methods_earns_no_star_either(tmp_path: Path) -> None:
    for seed in range(3):
        fake_run(tmp_path / "e", "byol", seed, test_linear_top1=12.0 + seed)
        fake_run(tmp_path / "e", "raft", seed, collapsed=True, test_linear_top1=20.0 + seed**2)
    tables = collect(tmp_path, ["e"])
    assert row(tables, "raft")["rank"] == 1
    assert row(tables, "raft")["mark"] == "collapsed"


def test_methods_that_were_not_trained_alike_are_told_and_not_marked(tmp_path: Path) -> None:
    for seed in range(3):
        fake_run(tmp_path / "e", "byol", seed)
        fake_run(tmp_path / "e", "raft", seed, level=92.1, overrides={"train.epochs": 90, "optim.lr": 0.3})
        fake_run(tmp_path / "e", "random", seed)
    tables = collect(tmp_path, ["e"])
    assert [row(tables, method)["mark"] for method in ("byol", "raft", "random")] == ["unlike", "unlike", ""]
    told = notes(tables, tables.leaderboard)
    (beside,) = [note for note in told if note.startswith("Set beside the preset")]
    assert "nothing (BYOL, untrained)" in beside and "train.epochs=90 optim.lr=0.3 (RAFT)" in beside
    (unlike,) = [note for note in told if note.startswith("NOT TRAINED ALIKE")]
    assert "train.epochs = " in unlike and "30 (BYOL, untrained)" in unlike and "90 (RAFT)" in unlike
    assert "optim.lr" not in unlike, "every method has its own optimizer"


def test_what_was_searched_alike_may_be_chosen_differently(tmp_path: Path) -> None:
    for method, best in (("byol", 0.1), ("raft", 0.4)):
        for crop in (0.1, 0.4):
            for seed in range(3):
                overrides = {"augment.crop_min": crop}
                fake_run(tmp_path / "e", method, seed, overrides=overrides, level=90 + 3 * (crop == best))
    tables = collect(tmp_path, ["e"])
    assert row(tables, "byol")["overrides"] != row(tables, "raft")["overrides"]
    assert "unlike" not in set(tables.leaderboard["mark"])
    assert not [note for note in notes(tables, tables.leaderboard) if note.startswith("NOT TRAINED ALIKE")]


def test_points_stand_in_the_order_of_their_settings(tmp_path: Path) -> None:
    for lr in (1.0, 0.01, 0.1, 10.0):
        fake_run(tmp_path / "e", "byol", 0, overrides={"optim.lr": lr})
    assert collect(tmp_path, ["e"]).grid["optim.lr"].tolist() == [0.01, 0.1, 1.0, 10.0]


def test_one_lucky_seed_does_not_beat_more(tmp_path: Path) -> None:
    for lr, level, done, planned in ((0.1, 99.0, 1, 1), (0.3, 95.0, 4, 5), (1.0, 90.0, 5, 5), (3.0, 92.0, 5, 6)):
        for seed in range(planned):
            state = "done" if seed < done else "failed"
            fake_run(tmp_path / "e", "byol", seed, overrides={"optim.lr": lr}, level=level, state=state)
    tables = collect(tmp_path, ["e"])
    assert tables.grid.sort_values("optim.lr")["competes"].tolist() == [False, False, True, False]
    assert row(tables, "byol")["overrides"] == "optim.lr=1.0"
    (note,) = [note for note in notes(tables, tables.leaderboard) if "Chosen by" in note]
    assert note.endswith("BYOL: optim.lr=1.0 (among those with the most seeds done (5), 3 not competing).")


def test_the_spread_of_a_grid_point_is_the_sample_sd(tmp_path: Path) -> None:
    for seed, value in enumerate((90.0, 92.0)):
        fake_run(tmp_path / "e", "byol", seed, val_linear_top1=value)
    assert collect(tmp_path, ["e"]).grid["val_linear_top1_sd"].item() == pytest.approx(math.sqrt(2))


def test_mean_ranks_by_hand(tmp_path: Path) -> None:
    """3 methods on 2 datasets: ranks are among methods, not among datasets."""
    levels = {"byol": (90.0, 70.0), "raft": (80.0, 60.0), "simsiam": (85.0, 50.0)}
    for seed in range(3):
        for method, (first, second) in levels.items():
            fake_run(tmp_path / "e", method, seed, test_linear_top1=first + 0.1 * seed)
            fake_run(tmp_path / "e", method, seed, dataset="cifar10", test_linear_top1=second + 0.1 * seed)
    overall = collect(tmp_path, ["e"]).overall.set_index("method")
    assert overall["mean_rank"].to_dict() == {"byol": 1.0, "raft": 2.5, "simsiam": 2.5}
    for end in ("low", "high"):  # every order is shown
        assert overall[f"mean_rank_{end}"].to_dict() == {"byol": 1.0, "raft": 2.5, "simsiam": 2.5}
    half = stats.t.ppf(0.975, 4) * 0.1 * math.sqrt(2 / 3) / 2  # two boards of 3 seeds with sample sd 0.1
    assert overall.loc["byol", ["low", "mean", "high"]].tolist() == pytest.approx([80.1 - half, 80.1, 80.1 + half])


def test_one_seed_has_no_interval_no_test_and_no_winner(tmp_path: Path) -> None:
    for method in METHODS:
        fake_run(tmp_path / "e", method, 0)
    tables = collect(tmp_path, ["e"])
    assert tables.leaderboard[["test_linear_top1_sd", "test_linear_top1_low"]].isna().all(axis=None)
    assert tables.leaderboard["test_linear_top1_mean"].notna().all()
    assert set(tables.leaderboard.loc[~tables.leaderboard["reference"], "mark"]) == {"untested"}
    assert not tables.pairs["significant"].any()


def test_the_grid_point_is_chosen_on_validation(tmp_path: Path) -> None:
    fake_grid(tmp_path / "sweep")
    for seed in range(3):  # better on test only: must not be chosen
        trap = {"val_linear_top1": 50.0, "test_linear_top1": 99.0}
        fake_run(tmp_path / "sweep", "byol", seed, overrides={"optim.lr": 3.0, "method.tau": 0.5}, **trap)
    tables = collect(tmp_path, ["sweep"])
    byol = row(tables, "byol")
    assert byol["overrides"] == "optim.lr=0.3 method.tau=0.99"
    assert (byol["points"], byol["budget_runs"], byol["points_incomplete"]) == (10, 30, 1)
    assert tables.grid["chosen"].sum() == 1
    assert tables.grid.loc[tables.grid["chosen"], ["optim.lr", "method.tau"]].to_numpy().tolist() == [[0.3, 0.99]]
    incomplete = tables.grid[(tables.grid["optim.lr"] == 1.0) & (tables.grid["method.tau"] == 0.9)].iloc[0]
    assert (incomplete["done"], incomplete["failed"], bool(incomplete["competes"])) == (2, 1, False)


def test_incomplete_points_compete_only_if_none_is_complete(tmp_path: Path) -> None:
    for lr, level, done in ((0.1, 95.0, 1), (0.3, 90.0, 2), (1.0, 91.0, 2)):
        for seed in range(3):
            state = "done" if seed < done else "interrupted"
            fake_run(tmp_path / "e", "byol", seed, overrides={"optim.lr": lr}, level=level, state=state)
    tables = collect(tmp_path, ["e"])
    assert tables.grid.sort_values("optim.lr")["competes"].tolist() == [False, True, True]
    assert row(tables, "byol")["overrides"] == "optim.lr=1.0"
    assert (row(tables, "byol")["done"], row(tables, "byol")["unfinished"]) == (2, 1)


def test_a_method_without_results_stays_in_the_table(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0)
    fake_run(tmp_path / "e", "raft", 0, state="failed")
    fake_run(tmp_path / "e", "simclr", 0, state="planned")
    tables = collect(tmp_path, ["e"])
    assert tables.leaderboard["method"].tolist()[0] == "byol"
    assert math.isnan(row(tables, "raft")["test_linear_top1_mean"])
    assert (row(tables, "raft")["failed"], row(tables, "simclr")["unfinished"]) == (1, 1)


def test_several_experiments_are_several_boards(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "a")
    fake_experiment(tmp_path / "b", dataset="cifar10")
    tables = collect(tmp_path, ["a", "b", "a"])
    assert len(tables.runs) == 70
    assert set(tables.leaderboard["dataset"]) == {"digits", "cifar10"}
    assert set(tables.overall["method"]) == set(METHODS) - {"random", "supervised"}
    simclr = tables.overall.set_index("method").loc["simclr"]
    means = tables.leaderboard.query("method == 'simclr'")["test_linear_top1_mean"]
    assert (simclr["mean_rank"], simclr["boards"]) == (1.0, 2)
    assert simclr["mean"] == pytest.approx(means.mean())
    assert simclr["low"] < simclr["mean"] < simclr["high"]


def test_presets_on_one_dataset_are_not_mixed(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "byol", 0, preset="quick")
    fake_run(tmp_path / "a", "byol", 1, preset="other")
    assert len(collect(tmp_path, ["a"]).leaderboard) == 2


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no experiments"):
        collect(tmp_path, ["quick"])
    fake_run(tmp_path / "quick", "byol", 0)
    with pytest.raises(UserError, match="unknown experiment 'quik': did you mean 'quick'"):
        collect(tmp_path, ["quik"])
    with pytest.raises(UserError, match="unknown metric 'test_linear': did you mean 'test_linear_top1'"):
        collect(tmp_path, ["quick"], metric="test_linear")


def problems(tables: Tables) -> dict[str, str]:
    return {f"{p.experiment}/{p.path}": str(p.reason) for p in tables.problems.itertuples()}


def test_damaged_files_are_named_and_counted(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "e", "byol", seed) for seed in range(9)]
    (runs[0] / "result.json").write_text('{"schema": 1, "run_')
    (runs[1] / "config.json").write_bytes(b"\xff\xfe\x00")
    (runs[2] / "config.json").unlink()
    (runs[3] / "result.json").write_text((runs[4] / "result.json").read_text())
    result = json.loads((runs[5] / "result.json").read_text())
    write_json(runs[5] / "result.json", {**result, "metrics": {**result["metrics"], "test_linear_top1": "high"}})
    text = (runs[6] / "result.json").read_text()
    (runs[6] / "result.json").write_text(text.replace('"loss": ', '"loss": 1e999, "x": '))
    write_json(runs[7] / "result.json", [1, 2])
    tables = collect(tmp_path, ["e"])
    assert len(tables.runs) == 9
    assert tables.runs["state"].value_counts().to_dict() == {"damaged": 7, "done": 2}
    assert set(problems(tables)) == {f"e/runs/{run.name}" for run in (*runs[:4], *runs[5:8])}
    byol = row(tables, "byol")
    assert (byol["done"], byol["damaged"], byol["planned"]) == (2, 7, 9)


def test_foreign_and_copied_files_are_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "byol", 0)
    other = fake_run(tmp_path / "e", "byol", 1)
    shutil.copytree(run, run.with_name(f"{run.name} (copy)"))
    (run.parent / "notes.txt").write_text("mine")
    (run.parent / "empty").mkdir()
    (run.parent / "loop").symlink_to("loop")
    (run.parent / "deep").mkdir()
    (run.parent / "deep" / "config.json").write_text("[" * 100_000)
    (run.parent / "bad\udcffname").mkdir()
    write_json(other / "config.json", {"some": "other program"})
    shutil.copytree(tmp_path / "e", tmp_path / "copy", symlinks=True)
    tables = collect(tmp_path, ["e", "copy"])
    named = problems(tables)
    assert "not a run directory" in named["e/runs/notes.txt"]
    assert "a copy or renamed" in named[f"e/runs/{run.name} (copy)"]
    assert "not a run directory" in named["e/runs/loop"]
    assert "left out" in named["e/runs/empty"]
    assert "left out" in named["e/runs/deep"]
    assert "left out" in named["e/runs/bad\\udcffname"]
    assert "not the plan of a run" in named[f"e/runs/{other.name}"] or "schema" in named[f"e/runs/{other.name}"]
    assert f"copy/runs/{run.name}" in named
    byol = row(tables, "byol")
    assert byol["done"] == 1  # counted once


def test_a_finished_run_counts_before_its_unfinished_double(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "byol", 0, state="failed")
    fake_run(tmp_path / "b", "byol", 0)
    tables = collect(tmp_path, ["a", "b"])
    assert tables.runs.set_index("experiment")["state"].to_dict() == {"a": "duplicate", "b": "done"}
    assert row(tables, "byol")["done"] == row(tables, "byol")["planned"] == 1


def test_a_duplicate_stands_for_nothing(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "byol", 0, collapsed=True)
    fake_run(tmp_path / "b", "byol", 0, collapsed=True)
    tables = collect(tmp_path, ["a", "b"])
    assert tables.runs.set_index("experiment")["chosen"].to_dict() == {"a": True, "b": False}
    assert row(tables, "byol")["collapsed"] == 1


def test_damaged_history_lines_are_left_out_and_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "byol", 0, epochs=5)
    rows = (run / "metrics.jsonl").read_text().splitlines()
    lines = [*rows[:2], "{torn", '{"epoch": 9, "loss": 1e999}', '{"epoch": 9, "loss": "x"}', "[1]", rows[1], *rows[2:]]
    (run / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 6, "lo')
    tables = collect(tmp_path, ["e"])
    assert tables.history["epoch"].tolist() == [1, 2, 3, 4, 5]
    reasons = set(tables.problems["reason"])
    assert reasons == {
        "metrics.jsonl: the last line is torn: left out",
        "metrics.jsonl: 4 damaged lines left out",
        "metrics.jsonl: 1 epoch twice, the later used",
    }


def edit(run: Path, name: str, old: str, new: str) -> None:
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new))


def test_numbers_beyond_floating_point_are_damage(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "e", "byol", seed) for seed in range(2)]
    edit(runs[0], "result.json", '"train_seconds": ', f'"train_seconds": {10**400}, "x": ')
    tables = collect(tmp_path, ["e"])
    assert row(tables, "byol")["damaged"] == 1
    (reason,) = problems(tables).values()
    assert reason.startswith("result.json: train_seconds is 1000")
    assert len(reason) < 150


@pytest.mark.parametrize("section", ["method", "optim", "data", "train"])
@pytest.mark.parametrize("value", ["[]", "-1", "null", '"x"'])
def test_sections_that_are_none_are_damage(tmp_path: Path, section: str, value: str) -> None:
    run = fake_run(tmp_path / "e", "byol", 0, overrides={"optim.lr": 0.1})
    fake_run(tmp_path / "e", "byol", 0, overrides={"optim.lr": 0.2})
    plan = json.loads((run / "config.json").read_text())
    write_json(run / "config.json", {**plan, "config": {**plan["config"], section: json.loads(value)}})
    write(tmp_path, ["e"], ["csv", "md"])
    tables = collect(tmp_path, ["e"])
    assert problems(tables) == {f"e/runs/{run.name}": "config.json: not the plan of a run"}
    assert (row(tables, "byol")["points"], tables.grid["damaged"].sum()) == (2, 1)


def test_settings_do_not_replace_the_grids_own_columns(tmp_path: Path) -> None:
    for lr, planned in ((0.1, 7), (0.2, 8)):
        run = fake_run(tmp_path / "e", "byol", 0, overrides={"optim.lr": lr})
        plan = json.loads((run / "config.json").read_text())
        write_json(run / "config.json", {**plan, "config": {**plan["config"], "planned": planned}})
    tables = collect(tmp_path, ["e"])
    assert tables.grid["planned"].tolist() == [1, 1]
    assert sorted(tables.grid["config.planned"]) == [7, 8]


def test_edited_configs_are_named(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "e", "byol", seed) for seed in range(3)]
    edit(runs[1], "config.json", '"lr": 0.2', '"lr": 0.3')
    edit(runs[2], "config.json", '"threads": 1', '"threads": 2')  # no part of the hash
    found = problems(collect(tmp_path, ["e"]))
    assert list(found) == [f"e/runs/{runs[1].name}"]
    assert "not as in other runs" in found[f"e/runs/{runs[1].name}"]
    assert found[f"e/runs/{runs[1].name}"].endswith(": optim.lr")


def test_seed_list() -> None:
    assert seed_list([5, 0, 1, 2, 9, 8]) == "0-2,5,8-9"
    assert seed_list([]) == ""


def test_history_is_smaller_in_memory_than_on_disk(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "byol", 0)
    first = (run / "metrics.jsonl").read_text().splitlines()[4]
    with (run / "metrics.jsonl").open("w") as file:
        for epoch in range(20_000):
            file.write(first.replace('"epoch": 5', f'"epoch": {epoch}') + "\n")
    size = (run / "metrics.jsonl").stat().st_size
    assert size > 5_000_000
    tracemalloc.start()
    tables = collect(tmp_path, ["e"])
    assert len(tables.history) == 20_000
    assert tracemalloc.get_traced_memory()[1] < 2 * size
    write(tmp_path, ["e"], ["csv"])
    assert tracemalloc.get_traced_memory()[1] < 5 * size
    tracemalloc.stop()


def test_tables_cost_in_proportion_to_the_runs(
    tmp_path: Path, work: Callable[[Callable[[], object]], Counter[str]]
) -> None:
    sizes = {"few": 2, "more": 10, "most": 26}  # grid points of 12 runs
    for name, points in sizes.items():
        for point in range(points):
            for method in METHODS[:3]:
                for seed in range(4):
                    fake_run(tmp_path / name, method, seed, overrides={"optim.lr": 0.01 * (point + 1)}, epochs=3)
    write(tmp_path, ["few"], ["csv", "md", "tex"])  # imports and caches
    few, more, most = (work(partial(write, tmp_path, [name], ["csv", "md", "tex"])).total() for name in sizes)
    assert most - more < 16 * 12 * 2000
    assert (most - more) / 16 == pytest.approx((more - few) / 8, rel=0.3)
    assert len(pd.read_csv(tmp_path / "most" / "runs.csv")) == 26 * 12
