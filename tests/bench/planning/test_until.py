"""Seeds are added until an interval is narrow enough; stopping so leaves it valid."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_results import fake_result
from scipy import stats

from bench.errors import UserError
from bench.planning import sweep_file, until
from bench.planning.as_sweep import sweeps
from bench.planning.options import SweepOptions
from bench.planning.request import Request
from bench.report.write import write
from bench.runs import experiment
from bench.runs.store import RunDir, plan_run
from bench.tables.differences import COVERED, difference


def request(results: Path, **options: Any) -> Request:
    asked = SweepOptions.of({"method": "raft,byol,simclr", "seeds": "3", "until": "raft,byol: 2", **options})
    return Request(planned(asked), results, results, asked, "bench sweep")


def planned(asked: SweepOptions) -> list[dict[str, Any]]:
    return sweep_file.planned(None, asked)


def executes(sd: float, fails: tuple[str, int] | None = None) -> Callable[[Request], int]:
    """What carries a request out: accuracies with this spread, the same for the same seed of a method."""

    def launch(asked: Request) -> int:
        for run in asked.planned:
            path = plan_run(asked.experiment, run)
            if path.ended():
                continue
            if (run["method"], run["seed"]) == fails:
                path.error.write_text("a reason\n")
                continue
            score = 60 + sd * np.random.default_rng([run["seed"], ord(run["method"][0])]).standard_normal()
            metrics = {"test_linear_top1": float(score)}
            path.result.write_text(json.dumps(fake_result(run["run_id"], metrics=metrics)))
        return 0

    return launch


def seeds(results: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in sorted((results / "quick" / "runs").iterdir()):
        if RunDir(path).ended():
            method, _, seed = path.name.rsplit("-", 2)
            found.setdefault(method, []).append(int(seed[1:]))
    return {method: sorted(own) for method, own in found.items()}


def test_the_two_have_more_seeds_until_it_is_narrow_and_others_those_that_were_asked_for(tmp_path: Path) -> None:
    told: list[str] = []
    assert until.carry_out(request(tmp_path), planned, executes(1.5), told.append) == 0
    found = seeds(tmp_path)
    assert found["simclr"] == [0, 1, 2] and found["raft"] == found["byol"]
    n = len(found["raft"])
    widths = {k: _width(tmp_path, k) for k in range(10, n + 1, 5)}
    assert n > 10 and n == next(k for k, width in widths.items() if width < 2)
    assert told[-1].endswith(f"{widths[n]:.2f} wide, on {n} seeds: narrow enough") and told[-1].startswith(
        "until raft,byol: 2: "
    )
    assert told[0] == f"until raft,byol: 2: {2 * 5} runs of the 15 seeds of each are due"


def _width(results: Path, n: int) -> float:
    """Of scipy's interval of the difference of the first n seeds (Welch)."""
    scores: list[list[float]] = []
    for method in ("raft", "byol"):
        own = {}
        for path in (results / "quick" / "runs").glob(f"{method}-*"):
            result = json.loads((path / "result.json").read_text())
            own[result["seed"]] = result["metrics"]["test_linear_top1"]
        scores.append([own[seed] for seed in range(n)])
    interval = stats.ttest_ind(*scores, equal_var=False).confidence_interval()
    return float(interval.high - interval.low)


def test_it_ends_with_all_seeds_that_it_may_have(tmp_path: Path) -> None:
    told: list[str] = []
    asked = request(tmp_path, max_seeds=17)
    assert until.carry_out(asked, planned, executes(9.0), told.append) == 0
    assert seeds(tmp_path)["raft"] == list(range(17))
    assert told[-1].endswith("wide, on 17 seeds; not reached, with all of max_seeds = 17")


def test_the_same_command_goes_on_where_it_was(tmp_path: Path) -> None:
    """As on a cluster, where what is launched ends later."""
    asked, launches = request(tmp_path), []

    def submit(due: Request) -> int:
        launches.append(len(due.planned))
        return 0

    assert until.carry_out(asked, planned, submit, print) == 0
    assert launches == [3 + 10 + 10]
    executes(1.5)(until.state(asked, planned).request)
    assert until.carry_out(asked, planned, submit, print) == 0
    assert launches == [23, 33]
    while not (now := until.state(asked, planned)).settled:
        executes(1.5)(now.request)
    assert until.carry_out(asked, planned, submit, print) == 0
    assert launches[2:] == [len(now.request.planned)]


def test_a_seed_that_failed_counts_for_neither_and_stops_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    until.carry_out(request(tmp_path, until="byol,raft: 3"), planned, executes(1.0, fails=("raft", 4)), told.append)
    assert "on 9 seeds" in told[-1] or "on 14 seeds" in told[-1]


def test_what_decided_is_noted_before_the_first_run_and_told_by_every_table(tmp_path: Path) -> None:
    def first(asked: Request) -> int:
        asked.make_ready()
        return 130

    until.carry_out(request(tmp_path, until="raft,byol: 3"), planned, first, print)
    (noted,) = experiment.read(tmp_path / "quick").untils
    assert noted.asked == "raft,byol: 3" and (noted.first, noted.each, noted.most) == (10, 5, 50)
    until.carry_out(request(tmp_path, until="raft,byol: 3"), planned, executes(sd=2), print)
    write(tmp_path, ["quick"], ["csv", "md", "tex"])
    for name in ("leaderboard.md", "leaderboard.tex"):  # the page has the same notes
        text = (tmp_path / "quick" / name).read_text().replace("\\", "")
        assert "were added until the 95 % interval of their difference in linear accuracy was narrower than 3" in text
        assert "(looked at after 10 seeds, then every 5, at most 50)" in text and COVERED in text
    pairs = pd.read_csv(tmp_path / "quick" / "pairs.csv")
    (row,) = pairs[pairs["until_width"].notna()].to_dict("records")
    assert {row["entry_a"], row["entry_b"]} == {"raft", "byol"} and row["n"] == len(seeds(tmp_path)["raft"]) > 10
    assert f"it is {row['high'] - row['low']:.2f} wide" in (tmp_path / "quick" / "leaderboard.md").read_text()


def test_of_a_pair_that_was_looked_at_twice_all_looks_are_noted_together(tmp_path: Path) -> None:
    for width, first, most in ((1.0, 12, 30), (0.5, 10, 20), (2.0, 10, 20)):
        looks = {"width": width, "first": first, "each": 5, "most": most}
        asked = experiment.Until.model_validate({"entry_a": "raft", "entry_b": "byol", **looks})
        experiment.name_until(tmp_path, asked)
    (noted,) = experiment.read(tmp_path).untils
    assert (noted.width, noted.first, noted.most) == (0.5, 10, 30)


def test_a_file_that_adds_seeds_plans_what_it_may_come_to_and_is_written_again_from_its_runs(tmp_path: Path) -> None:
    asked = request(tmp_path, max_seeds=20)
    every = until.everything(SweepOptions.of(asked.options.model_dump()), planned)
    assert Counter(run["method"] for run in every) == {"raft": 3 + 20, "byol": 3 + 20, "simclr": 3}
    noted = until.state(asked, planned).request.until
    assert noted
    there = {run["run_id"]: run for run in every if run["method"] == "simclr" or run["seed"] < 15}
    texts = sweeps(there.values(), "quick", untils=[noted])
    (text,) = (text for text in texts if "until" in text)
    (tmp_path / "a.toml").write_text(text)
    again = sweep_file.options(tmp_path / "a.toml", {})
    assert (again.method, again.seeds, again.until, again.max_seeds) == ("raft,byol", "10", "raft,byol: 2", 20)


@pytest.mark.parametrize("code", [1, 130])
def test_what_was_not_executed_is_not_asked_for_again_and_again(tmp_path: Path, code: int) -> None:
    assert until.carry_out(request(tmp_path), planned, lambda _: code, print) == code


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"search": {"points": "2", "from.optim.lr": "log:0.1,1"}}, "not in one command with a search"),
        ({"until": "raft,byol"}, "expected two entries and points of accuracy, e.g. raft,byol: 0.5"),
        ({"until": "raft,byol: -1"}, "expected two entries and points of accuracy"),
        ({"until": "raft,bylo: 1"}, "unknown entry in --until 'bylo': did you mean 'byol'?"),
        ({"until": "raft: 1"}, "expected two of byol, raft, simclr, e.g. byol,raft: 0.5"),
        ({"until": "raft,raft: 1"}, "expected two of byol, raft, simclr"),
        ({"seeds": "3,7"}, "--seeds 3,7: --until adds seeds from 0 on; give a number of them"),
        ({"max_seeds": 9}, "--max-seeds 9: --until looks after 10 seeds for the first time; give more"),
        (
            {"method": "random,supervised", "until": "random,supervised: 1"},
            "both are references, which no table compares",
        ),
        ({"grid": {"optim.lr": ["0.1", "0.5"]}}, "raft has 2 configurations here; fix its settings"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_done(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        until.state(request(tmp_path, **options), planned)
    assert told in str(error.value) and not list(tmp_path.iterdir())


def test_entries_are_named_as_in_the_table_commas_and_all(tmp_path: Path) -> None:
    asked = request(tmp_path, until="RAFT, linear,BYOL', MLP: 1")
    runs = [
        {**run, "entry": {"raft": "RAFT, linear", "byol": "BYOL', MLP"}.get(run["method"], "")} for run in asked.planned
    ]

    def labelled(options: SweepOptions) -> list[dict[str, Any]]:
        by_hash = {run["config_hash"]: run["entry"] for run in runs}
        return [{**run, "entry": by_hash[run["config_hash"]]} for run in planned(options)]

    assert len(until.state(replace(asked, planned=runs), labelled).request.planned) == 23


@pytest.mark.parametrize("sd", [1.0, 0.3, 0.05])
def test_intervals_cover_though_their_width_decided(sd: float) -> None:
    """Simulated: spreads 1 and sd, widths that take 10 to 50 seeds; 40,000 tables each, so an error of 0.1 points.

    Stopped at the first look at which Welch's interval is narrow enough, as `until` looks; it covers as often as tables
    say.
    """
    draws = np.random.default_rng(0).standard_normal((40_000, 2, 50)) * np.array([1.0, sd])[:, None]
    n = np.arange(until.FIRST, 51, until.EACH)
    sums, squares = (np.cumsum(each, axis=2)[:, :, n - 1] for each in (draws, draws**2))
    means, variances = sums / n, (squares - sums**2 / n) / (n - 1) / n
    total = variances.sum(axis=1)
    df = total**2 / (variances**2).sum(axis=1) * (n - 1)
    half = stats.t.ppf(0.975, df) * np.sqrt(total)
    right = np.abs(means[:, 0] - means[:, 1]) <= half
    some = difference(draws[0, 0, :10], draws[0, 1, :10]).interval()
    assert some[1] - some[0] == pytest.approx(2 * half[0, 0]), "it is the interval that the program shows"
    covered = []
    for width in (2.2, 1.9, 1.7, 1.5, 1.2, 1.0, 0.9, 0.8):
        narrow = 2 * half < width
        narrow[:, -1] = True
        covered.append(100 * right[np.arange(len(right)), narrow.argmax(axis=1)].mean())
    low, high = (float(share) for share in re.findall(r"\d+\.\d", COVERED))
    assert low <= min(covered) and max(covered) <= high
    assert min(covered) < low + 0.8, "nor do tables say less than is so"
