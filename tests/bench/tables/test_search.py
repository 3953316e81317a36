"""Tables of a search in stages: chosen on its seeds, reported on others; and what choosing on the same seeds does."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_results import fake_run

from bench.report.columns import flags
from bench.report.notes import notes
from bench.report.write import write
from bench.runs.result import METRICS, TIMINGS
from bench.tables.differences import difference
from bench.tables.grid import CHOICE, OF_SEARCH, points, reported
from bench.tables.inventory import RUN_COLUMNS
from bench.tables.leaderboard import Tables, collect
from bench.tables.statistics import ALPHA, summarise

RATES = (0.1, 0.3, 1.0)
BEST = {"byol": 0.3, "raft": 1.0}


def searched(experiment: Path, reported: int = 3, unfinished: bool = False, epochs: int = 10) -> None:
    """Two methods, three rates on two seeds of fewer epochs; then the best of each on three others."""
    for method, best in BEST.items():
        for rate in RATES:
            level = 80 - 4 * abs(math.log10(rate / best))
            for seed in (10000, 10001):
                state = "interrupted" if unfinished and (method, rate, seed) == ("raft", 0.1, 10001) else "done"
                short = {"optim.lr": rate, "train.epochs": epochs}
                fake_run(
                    experiment, method, seed, level=level, state=state, overrides=short, search_for={"optim.lr": rate}
                )
        for seed in range(reported):
            fake_run(experiment, method, seed, level=90, overrides={"optim.lr": best})
    fake_run(experiment, "random", 0)


def row(tables: Tables, method: str) -> pd.Series:
    (found,) = [r for _, r in tables.leaderboard.iterrows() if r["method"] == method]
    return found


def test_what_stands_is_of_the_reports_seeds_alone(tmp_path: Path) -> None:
    searched(tmp_path / "e")
    tables = collect(tmp_path, ["e"])
    for method, best in BEST.items():
        own = tables.runs[(tables.runs["method"] == method) & tables.runs["seed"].isin([0, 1, 2])]
        found = row(tables, method)
        assert found["test_linear_top1_mean"] == pytest.approx(own["test_linear_top1"].mean())
        assert (found["seeds"], found["done"], found["overrides"]) == ("0-2", 3, f"optim.lr={best}")
        assert (found["points"], found["budget_runs"], found["search_runs"]) == (3, 9, 6)
        spent = tables.runs[(tables.runs["method"] == method) & (tables.runs["seed"] >= 10000)]
        assert found["search_seconds"] == pytest.approx(spent["train_seconds"].sum() + spent["eval_seconds"].sum())
    assert set(tables.runs.loc[tables.runs["chosen"], "seed"]) == {0, 1, 2}
    assert set(tables.pairs["n"]) == {3, 1}


def test_the_grid_has_every_point_of_the_search_and_nothing_of_the_report(tmp_path: Path) -> None:
    searched(tmp_path / "e")
    write(tmp_path, ["e"], ["csv"])
    with (tmp_path / "e" / "grid.csv").open() as file:
        grid = [point for point in csv.DictReader(file) if point["method"] != "random"]
    assert [(point["method"], float(point["optim.lr"])) for point in grid] == [(m, r) for m in BEST for r in RATES]
    assert {point["done"] for point in grid} == {"2"}
    assert [float(point["optim.lr"]) for point in grid if point["chosen"] == "True"] == list(BEST.values())
    for point in grid:
        runs = [*(tmp_path / "e" / "runs").glob(f"*-{point['config_hash']}-s1000?/result.json")]
        values = [json.loads(path.read_text())["metrics"][CHOICE] for path in runs]
        assert float(point[f"{CHOICE}_mean"]) == pytest.approx(np.mean(values)) and len(values) == 2


def test_the_table_says_what_was_searched_where_and_at_what_cost(tmp_path: Path) -> None:
    searched(tmp_path / "e")
    tables = collect(tmp_path, ["e"])
    told = notes(tables, tables.leaderboard)
    assert "Search budget: BYOL, RAFT: 3 configurations, 9 runs; untrained: 1 configuration, 1 run." in told
    seconds = tables.leaderboard["search_seconds"].sum()
    assert (
        "Search: 3 points of optim.lr (0.01 to 10, log), 10 epochs, on seeds 10000-10001, of which no number here is; "
        f"12 runs, {round(seconds / 60)} min of training and judging." in told
    )
    chosen = "Chosen by mean validation linear accuracy: BYOL: optim.lr=0.3; RAFT: optim.lr=1.0 (edge of optim.lr)."
    assert f"{chosen} At an edge of what was tried: the best may lie beyond." in told
    assert any("seeds 0-2." in line for line in told)
    text = (write(tmp_path, ["e"], ["md"])[0]).read_text()
    assert "Of a search in stages: numbers on its own seeds (10000-10001), which are not those of the table." in text


def test_other_budgets_are_told_by_row(tmp_path: Path) -> None:
    searched(tmp_path / "e")
    for seed in (10000, 10001):
        fake_run(tmp_path / "e", "byol", seed, level=70, overrides={"optim.lr": 3.0}, search_for={"optim.lr": 3.0})
    tables = collect(tmp_path, ["e"])
    (line,) = (line for line in notes(tables, tables.leaderboard) if line.startswith("Search budget"))
    assert "RAFT: 3 configurations, 9 runs; BYOL: 4 configurations, 11 runs" in line


def test_a_winner_at_the_edge_is_flagged(tmp_path: Path) -> None:
    searched(tmp_path / "e")
    tables = collect(tmp_path, ["e"])
    assert "optim.lr at the edge" in flags(dict(row(tables, "raft")))
    assert "edge" not in flags(dict(row(tables, "byol")))


def test_a_range_that_was_extended_is_told_with_the_first(tmp_path: Path) -> None:
    searched(tmp_path / "e")
    for seed in (10000, 10001):
        point = {"optim.lr": 30.0, "train.epochs": 10}
        beyond = {"optim.lr": 30.0}
        fake_run(tmp_path / "e", "raft", seed, level=60, overrides=point, search_for=beyond, rates="log:10,100")
    tables = collect(tmp_path, ["e"])
    told = " ".join(notes(tables, tables.leaderboard))
    assert "Search of RAFT: 4 points of optim.lr (0.01 to 10, log) and optim.lr (10 to 100, log)" in told


def test_a_search_that_is_not_over_reports_nothing(tmp_path: Path) -> None:
    searched(tmp_path / "e", reported=0, unfinished=True)
    tables = collect(tmp_path, ["e"])
    raft, byol = row(tables, "raft"), row(tables, "byol")
    assert (raft["planned"], raft["done"]) == (0, 0) and math.isnan(raft["test_linear_top1_mean"])
    told = notes(tables, tables.leaderboard)
    assert "RAFT: its search is not over: 1 of 6 runs are missing." in told
    assert (
        "Chosen by mean validation linear accuracy: BYOL: optim.lr=0.3 train.epochs=10 (not run on other seeds yet)."
        in told
    )
    assert byol["seeds"] == ""
    assert {path.name for path in write(tmp_path, ["e"], ["md", "tex", "html"])} >= {"leaderboard.md", "report.html"}


def test_of_a_search_by_halving_the_longest_schedule_decides(tmp_path: Path) -> None:
    """At 10 epochs 0.1 is best, at 30 of the two that went on 0.3."""
    levels = {10: {0.1: 85.0, 0.3: 84.0, 1.0: 60.0}, 30: {0.1: 88.0, 0.3: 89.0}}
    for epochs, by_rate in levels.items():
        for rate, level in by_rate.items():
            overrides = {"optim.lr": rate, "train.epochs": epochs}
            for seed in (10000, 10001):
                fake_run(
                    tmp_path / "e",
                    "byol",
                    seed,
                    level=level,
                    noise=0.1,
                    overrides=overrides,
                    search_for={"optim.lr": rate, "train.epochs": 30},
                )
    tables = collect(tmp_path, ["e"])
    found = row(tables, "byol")
    (chosen,) = tables.grid.loc[tables.grid["chosen"], "optim.lr"]
    assert chosen == 0.3 and (found["points"], found["edges"]) == (3, "")
    assert any(" 10, 30 epochs, on seeds 10000-10001" in line for line in notes(tables, tables.leaderboard))


# Simulations of the whole path, from runs to the table: fixed seeds, margins of three standard errors.

TABLES = 400
SEEDS = 5
CORRELATION = 0.7  # of validation and test accuracy over seeds, the highest of this project's runs


def tables_of(n_points: dict[str, int], fresh: bool) -> tuple[float, float]:
    """Of TABLES tables of identical methods with so many equally good points: the share that claims a difference, and
    the share of 95 % intervals of the methods' means that hold the truth.

    fresh: searched on two seeds and reported on five others (here of every point, of a real sweep the winner's alone);
    otherwise chosen and reported on the same five.
    """
    rng = np.random.default_rng(7)
    frames = []
    for method, n in n_points.items():
        for search in (True, False) if fresh else (False,):
            shape = (TABLES, n, 2 if search else SEEDS)
            common, own = rng.standard_normal(shape), rng.standard_normal((2, *shape))
            test, validation = 90 + math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * own
            board, point, seed = (index.ravel() for index in np.indices(shape))
            frame = {"dataset": board, "method": method, "seed": seed + 10000 * search, "config_hash": point}
            frame |= {"test_linear_top1": test.ravel(), CHOICE: validation.ravel()}
            frames.append(pd.DataFrame({**frame, OF_SEARCH: point if search else ""}))
    runs = pd.concat(frames, ignore_index=True).reindex(columns=list(RUN_COLUMNS))
    told: dict[str, Any] = {
        "preset": "quick",
        "protocol": 1,
        "entry": runs["method"],
        "state": "done",
        "collapsed": False,
    }
    runs = runs.assign(**told, overrides="", entry_keys="", search_space="")
    runs[[*METRICS, *TIMINGS]] = runs[[*METRICS, *TIMINGS]].astype(float)
    runs["chosen"] = reported(runs, points(runs, {}))
    standing = runs[runs["chosen"]].sort_values(["dataset", "method", "seed"])
    shown = standing["test_linear_top1"].to_numpy().reshape(TABLES, len(n_points), SEEDS)
    wrong = [difference(a, b).p < ALPHA for a, b in shown]  # what a table of two does
    held = [(found := summarise(scores)).low < 90 < found.high for scores in shown.reshape(-1, SEEDS)]
    return float(np.mean(wrong)), float(np.mean(held))


def margin(share: float, n: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / n)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [{"a": 20, "b": 20}, {"a": 20, "b": 1}])
def test_with_fresh_seeds_false_positives_and_intervals_are_what_they_say(budget: dict[str, int]) -> None:
    """Whatever was tried for each: 5 % of false claims at most, 95 % of intervals that hold."""
    wrong, covered = tables_of(budget, fresh=True)
    assert wrong < 0.05 + margin(0.05, TABLES)
    assert covered == pytest.approx(0.95, abs=margin(0.95, 2 * TABLES))


@pytest.mark.slow
def test_chosen_and_reported_on_the_same_seeds_intervals_hold_too_rarely_and_a_larger_search_wins() -> None:
    """Why there is a search: 20 points alike, the best of them looks better than it is."""
    wrong, covered = tables_of({"a": 20, "b": 20}, fresh=False)
    assert covered < 0.88
    wrong, _ = tables_of({"a": 20, "b": 1}, fresh=False)
    assert wrong > 0.05 + margin(0.05, TABLES)
