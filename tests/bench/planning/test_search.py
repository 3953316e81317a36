"""Searches in stages: which points, on which seeds, and what is due by what the run directories hold."""

import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_results import fake_result, fake_run, write_json
from scipy import stats
from scipy.stats import qmc

from bench.errors import UserError
from bench.planning import evaluate, plan, stages, sweep_file
from bench.planning.request import Request
from bench.runs import experiment, status, store
from bench.runs.identity import config_hash
from bench.tables.leaderboard import collect

FILE = """
method = ["raft", "simclr", "random"]
seeds = 3
experiment = "e"

[set]
data.size = 8
train.epochs = 27

[search]
points = 9
seeds = 2

[search.from]
optim.lr = { log = [0.03, 3] }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "search.toml"
    path.write_text(FILE)
    return path


def planned(file: Path, **flags: Any) -> list[dict[str, Any]]:
    return sweep_file.planned(file, sweep_file.options(file, flags))


def request(file: Path, **flags: Any) -> Request:
    options = sweep_file.options(file, flags)
    results = file.parent / "results"
    return Request(sweep_file.planned(file, options), results, results, options, "bench ...")


def rates(runs: list[dict[str, Any]], method: str) -> list[float]:
    return [run["config"]["optim"]["lr"] for run in runs if run["method"] == method]


def execute(asked: Request, **validation: float) -> None:
    """Leave results as if each run of the stage were done, its validation accuracy by the rate; a method's `validation`
    is the rate that is best for it, and the worst by what chooses nothing: test accuracy, kNN. Rates above 1 fail."""
    for run in plan.write(asked.planned, asked.results):
        config = store.read_run(run).config
        rate = config["config"]["optim"]["lr"]
        if rate > 1:
            run.error.write_text("FloatingPointError: non-finite loss at step 3\n")
            continue
        level = 90 - 5 * abs(math.log10(rate / validation.get(config["method"], 0.3))) + 0.01 * (config["seed"] % 7)
        found = fake_result(run.run_id, experiment="e")
        others = dict.fromkeys(("test_linear_top1", "test_knn_top1", "val_knn_top1"), 100 - level)
        write_json(run.result, {**found, "metrics": {**found["metrics"], **others, "val_linear_top1": level}})


def test_every_method_searches_the_same_points_and_the_untrained_one_none(file: Path) -> None:
    runs = planned(file)
    search = [run for run in runs if "search" in run]
    assert Counter(run["method"] for run in search) == {"raft": 18, "simclr": 18}
    assert rates(search, "raft") == rates(search, "simclr")
    assert {run["method"] for run in runs if "search" not in run} == {"raft", "simclr", "random"}


def test_the_search_has_seeds_of_its_own(file: Path) -> None:
    runs = planned(file)
    assert {run["seed"] for run in runs if "search" in run} == {10000, 10001}
    assert {run["seed"] for run in runs if "search" not in run} == {0, 1, 2}
    runs = planned(file, search=["seeds=7,9"])
    assert {run["seed"] for run in runs if "search" in run} == {7, 9}


def test_points_are_the_sobol_sequence_on_a_logarithmic_scale(file: Path) -> None:
    drawn = rates([run for run in planned(file) if run["seed"] == 10000], "raft")
    shares = qmc.Sobol(1, scramble=False).random_base2(4).ravel()[1:10]  # without the corner at 0
    assert drawn == pytest.approx(0.03 * 100**shares, rel=5e-4)  # four digits are kept
    assert stats.kstest(np.log10(np.array(drawn) / 0.03) / 2, "uniform").statistic < 0.2


def test_more_points_later_keep_the_earlier_ones(file: Path) -> None:
    few, many = (planned(file, search=[f"points={n}"]) for n in (4, 9))
    assert {run["run_id"] for run in few} < {run["run_id"] for run in many}


def test_ranges_of_every_kind(file: Path) -> None:
    flags = ["points=16", "from.optim.momentum=uniform:0.5,0.9", "from.train.batch_size=32,64"]
    configs = [
        run["config"] for run in planned(file, search=flags) if run["run_id"].startswith("raft") and "search" in run
    ]
    momenta = [config["optim"]["momentum"] for config in configs]
    assert 0.5 < min(momenta) < 0.55 and 0.85 < max(momenta) < 0.9
    assert Counter(config["train"]["batch_size"] for config in configs) == {32: 16, 64: 16}
    assert len({(config["optim"]["lr"], config["optim"]["momentum"]) for config in configs}) == 16


def test_a_whole_grid_is_searched_without_a_number_of_points(tmp_path: Path) -> None:
    flags = {"method": "byol", "grid": ["optim.lr=0.1,0.3", "method.tau=0.9,0.99"], "search": ["seeds=2"]}
    runs = sweep_file.planned(None, sweep_file.options(None, flags))
    assert len([run for run in runs if "search" in run]) == 4 * 2
    assert runs[0]["search"]["space"] == {"optim.lr": "0.1,0.3", "method.tau": "0.9,0.99"}


def test_a_shorter_run_is_the_same_schedule_in_fewer_epochs(file: Path) -> None:
    """A whole training of its own: its warm-up is shortened alike, and it names what is reported if it wins."""
    runs = planned(file, search=["epochs=9"])
    search, report = (next(run for run in runs if run["method"] == "raft" and ("search" in run) == i) for i in (1, 0))
    assert search["config"]["train"]["epochs"] == 9 and report["config"]["train"]["epochs"] == 27
    assert search["config"]["optim"]["warmup_epochs"] == pytest.approx(report["config"]["optim"]["warmup_epochs"] / 3)
    assert search["search"]["for"] == report["config_hash"] != search["config_hash"]
    assert config_hash(search["config"]) == search["config_hash"]
    assert search["run_id"] == f"raft-{search['config_hash']}-s10000"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("points = 9", "ponts = 9", ":11: unknown key of [search] 'ponts': did you mean 'points'? one of "),
        ("points = 9", "points = 0", ":11: search points=0: should be a whole number from 1 to 10000"),
        ("points = 9", "", ": [search.from] needs a number of points to draw, e.g. points = 20 in [search]"),
        ("seeds = 2", "seeds = [1, 5]", ":12: search seeds=1,5,: seed 1 is also the report's (--seeds 0-2)"),
        ("seeds = 2", 'seeds = "a"', ":12: search seeds=a: give a number of seeds (2 is 10000 and 10001), or which"),
        ("[0.03, 3]", "[3, 0.03]", ":15: search from.optim.lr=log:3,0.03: its lower end should come first"),
        ("[0.03, 3]", "[0, 3]", ":15: search from.optim.lr=log:0,3: a logarithmic range begins above zero"),
        ("[0.03, 3] }", "[0.03, 3], uniform = [1, 2] }", ":10: from.optim.lr has two ranges: give one of log, uniform"),
        ("{ log = [0.03, 3] }", "[]", ":15: from.optim.lr = []: should be a list of values to search"),
        ("{ log = [0.03, 3] }", "{ log = 3 }", ":15: from.optim.lr = 3: should be a list of values to search"),
        ("{ log = [0.03, 3] }", '"log"', ":15: search from.optim.lr=log: should be log:LOW,HIGH, uniform:LOW,HIGH or"),
        ("{ log = [0.03, 3] }", "[0.1, 0.3]", ":11: search points=9: there are only 2 different ones"),
        ("{ log = [0.03, 3] }", "{ uniform = [-1, 3] }", ":15: optim.lr='0': should be greater than 0"),
        ("optim.lr = {", "optim.lrr = {", ":15: unknown key 'optim.lrr': did you mean 'optim.lr'?"),
        ("optim.lr = {", "train.epochs = {", ": train.epochs is both set and searched: name it in --set or in"),
        ("points = 9", "points = 9\nepochs = 30", ":12: search epochs=30: more than the 27 of the runs that are"),
        ("points = 9", "points = 99\nhalving = 2", ":12: search halving=2: 99 points take 7 stages, too many for 27"),
        ("points = 9", "points = 9\nhalving = 1", ":12: search halving=1: should be 2 or more"),
        ("data.size = 8", 'eval.at_end = "knn"', ":7: eval.at_end=knn: a search chooses by linear; add it"),
    ],
)
def test_errors_name_file_and_line(file: Path, old: str, new: str, message: str) -> None:
    file.write_text(FILE.replace(old, new) if old == "seeds = 2" else FILE.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        planned(file)
    text = str(error.value)
    assert "\n" not in text and message.lstrip(":0123456789 ") in text
    if message[1].isdigit():
        assert text.startswith(f"{file}{message}")


def test_a_grid_and_ranges_at_once_are_refused(file: Path) -> None:
    with pytest.raises(UserError, match=r"\[grid\] is searched whole, \[search.from\] at some points: name one"):
        planned(file, grid=["method.projector_out=64,128"])
    with pytest.raises(UserError, match=r"\[search\] of nothing"):
        planned(file, set=["optim.lr=0.1"])  # what a flag fixes is no longer searched


def test_what_an_entry_sets_is_not_searched(file: Path) -> None:
    file.write_text(FILE + '\n[[entry]]\nlabel = "slow"\nmethod = "raft"\nset = { "optim.lr" = 0.01 }\n')
    with pytest.raises(
        UserError, match=r"20: entry 'slow' sets optim.lr, which \[search.from\] searches: name it once"
    ):
        planned(file)


def test_the_winners_run_on_the_reports_seeds_when_the_search_is_over(file: Path) -> None:
    first = stages.first(request(file))
    assert len(first.planned) == 36 and first.searches
    assert stages.following(first) is None, "it is not over"
    execute(first, raft=0.9, simclr=0.1)
    last = stages.first(request(file))
    assert not last.searches and stages.following(last) is None
    by_method = {
        method: {run["config"]["optim"]["lr"] for run in last.planned if run["method"] == method}
        for method in ("raft", "simclr", "random")
    }
    assert by_method["raft"] == {0.9487} and by_method["simclr"] == {0.09487}
    assert Counter(run["seed"] for run in last.planned) == {0: 3, 1: 3, 2: 3}
    assert "  raft: optim.lr=0.9487 (best of 9 by validation, 89.93)" in last.told


def test_a_search_goes_on_where_it_was_left(file: Path) -> None:
    """One run is not done, all others are: the same stage. Then it is over, and who failed has not won."""
    first = stages.first(request(file))
    execute(first, raft=100)  # the higher the better, but the highest fails
    unfinished = store.RunDir(first.experiment / "runs" / first.planned[0]["run_id"])
    content = unfinished.result.read_bytes()
    unfinished.result.unlink()
    assert stages.first(request(file)).planned == first.planned
    unfinished.result.write_bytes(content)
    last = stages.first(request(file))
    assert max(rates(list(first.planned), "raft")) == 1.687
    assert rates(list(last.planned), "raft") == [0.9487] * 3
    assert "edge" not in " ".join(last.told), "what lies beyond was tried"


def test_a_method_none_of_whose_points_ends_well_is_left_out_and_told(file: Path) -> None:
    first = stages.first(request(file))
    execute(first)
    for run in first.planned:
        if run["method"] == "simclr":
            place = store.RunDir(first.experiment / "runs" / run["run_id"])
            place.result.unlink(missing_ok=True)
            place.error.write_text("FloatingPointError: non-finite loss\n")
    last = stages.first(request(file))
    assert {run["method"] for run in last.planned} == {"raft", "random"}
    assert "  simclr: none, as no run of its search is done" in last.told


def test_halving_gives_the_best_third_three_times_the_epochs(file: Path) -> None:
    """9 points of 9 epochs, the best 3 of 27, of which one is reported; the best on less is not the best in the end."""
    first = stages.first(request(file, search=["halving=3"]))
    assert {run["config"]["train"]["epochs"] for run in first.planned} == {9}
    assert len(first.planned) == 2 * 9 * 2
    execute(first, raft=0.3, simclr=0.3)
    second = stages.following(first)
    assert second and second.searches
    assert {run["config"]["train"]["epochs"] for run in second.planned} == {27}
    near = sorted(rates(list(first.planned), "raft"), key=lambda rate: abs(math.log(rate / 0.3)))
    assert set(rates(list(second.planned), "raft")) == set(near[:6])  # two seeds each: three rates
    execute(second, raft=0.01, simclr=10)
    last = stages.first(request(file, search=["halving=3"]))
    assert set(rates(list(last.planned), "raft")) == {min(near[:6])}
    assert set(rates(list(last.planned), "simclr")) == {max(near[:6])}


def test_a_winner_of_another_file_is_not_replaced_silently(file: Path) -> None:
    execute(stages.first(request(file)), raft=1.2, simclr=1.2)
    with pytest.raises(UserError, match=r"raft: the best that was searched is none of these points: .*optim.lr=0.9487"):
        stages.first(request(file, search=["points=1"]))


def test_the_experiment_notes_the_searchs_seeds(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stages.first(request(file, search=["points=1"]))
    monkeypatch.setattr("bench.planning.prepare.prepare", lambda *_: [])
    first.make_ready()
    assert experiment.read(first.experiment).search_seeds == [10000, 10001]
    stages.first(request(file, search=["points=1", "seeds=7,"])).make_ready()
    assert experiment.read(first.experiment).search_seeds == [7, 10000, 10001]


def test_evaluations_are_made_of_what_is_reported(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0, overrides={"optim.lr": 0.3})
    fake_run(tmp_path / "e", "byol", 10000, overrides={"optim.lr": 0.3}, search_for={"optim.lr": 0.3})
    options = evaluate.options({"evaluations": "knn"})
    asked = evaluate.request(tmp_path / "e", evaluate.wanted(options), tmp_path, options, "bench ...", False)
    assert [run["seed"] for run in asked.planned] == [0]
    assert asked.notes == ["1 runs of a search are left out: they choose, and are not reported"]


OPENED: list[str] = []
WATCHED: list[str] = []
"""The folder whose files are counted, if there is one."""


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHED and event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(WATCHED[0]):
        OPENED.append(str(arguments[0]))


def opened(folder: Path, work: Callable[[], Any]) -> int:
    """How many files and folders below `folder` it opens."""
    OPENED.clear()
    WATCHED.append(str(folder))
    try:
        work()
    finally:
        WATCHED.clear()
    return len(OPENED)


def bookkeeping(asked: Request) -> dict[str, Callable[[], Any]]:
    """What is done for a search beside its runs, in order."""
    folder = asked.results / "e"
    return {
        "plan": lambda: stages.first(asked),
        "write": lambda: plan.write(stages.first(asked).planned, asked.results),
        "execute": lambda: execute(stages.first(asked)),
        "survey": lambda: [status.look(run) for run in store.run_dirs(folder)],
        "go on": lambda: stages.first(asked),
        "collect": lambda: collect(asked.results, ["e"]),
    }


def test_the_files_that_a_search_opens_are_as_many_a_run_however_many_points(tmp_path: Path) -> None:
    """Planned, written, looked at, gone on with, collected: none of it looks at all runs for each of them."""
    sys.addaudithook(_note)
    a_run: dict[str, list[float]] = {}
    for points in (5, 20):
        file = tmp_path / str(points) / "search.toml"
        file.parent.mkdir()
        file.write_text(FILE.replace("points = 9", f"points = {points}").replace('"random"', ""))
        asked = request(file)
        for name, work in bookkeeping(asked).items():
            a_run.setdefault(name, []).append(opened(asked.results, work) / (2 * 2 * points))
    assert a_run.pop("plan") == [0, 0] and a_run["write"][0] >= 1, "what is there is counted"
    for name, (few, many) in a_run.items():
        assert many <= few + 0.1 and few < 10, name
