"""One file with everything: it checks elsewhere, plans the same runs, and does not say where it was made."""

import getpass
import json
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_encoder, fake_evaluation

from bench.errors import UserError
from bench.export.bundle import PATH, bundle, check
from bench.planning import plan, stages, sweep_file
from bench.planning import published as plans
from bench.planning.request import Request
from bench.report import FORMATS
from bench.report.recomputed import recomputed
from bench.report.write import gather
from bench.runs.experiment import Until, name_margin, name_search, name_until
from bench.runs.result import Metrics, Provenance, Result, Timing
from bench.runs.store import RunDir, plan_run
from bench.tables import published
from bench.tables.leaderboard import Tables

HOST = "gpu-node-17"
COMMAND = "bench sweep '/home/jane doe/paper/my.toml' --data-dir '/scratch/jane doe/sets' --results ~jane/out"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Real plans of three methods, one of them on a grid, on a folder of images; made-up numbers."""
    images = tmp_path / "secret place" / "pets"
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            folder = images / part / label
            folder.mkdir(parents=True)
            for i in range(3):
                (folder / f"{i}.png").write_bytes(bytes([i]))
    results = tmp_path / "results"
    name_margin(results / "x", 2.0)
    settings = {"data.name": f"folder:{images}"}
    planned = plan.plan(["raft", "random"], range(3), "quick", settings, {}, "x")
    planned += plan.plan(["simclr"], range(3), "quick", settings, {"optim.lr": ["0.1", "0.5"]}, "x")
    for i, run in enumerate(planned):
        path = plan_run(results / "x", run)
        level = {"raft": 80.0, "random": 60.0, "simclr": 85.0}[run["method"]] + i % 3
        if i == 0:
            path.error.write_text(f"OSError: /home/jane/x: no room on {HOST}, asked by {getpass.getuser()}\n")
            continue
        _finish(path, run, level)
    fake_evaluation(fake_encoder(results / "x", "theirs", source="file:/home/jane/r50.pth"), "linear", {"linear": 80.0})
    return results


def _finish(path: RunDir, run: Mapping[str, Any], level: float) -> None:
    from bench.runs.identity import dataset_label

    known = ("run_id", "experiment", "method", "preset", "seed", "config_hash", "overrides")
    accuracies = {f"{split}_{probe}_top1": level for split in ("test", "val") for probe in ("linear", "knn")}
    result = Result(
        schema=1,
        **{key: run[key] for key in known},
        dataset=dataset_label(run["config"]["data"]),
        backbone=run["config"]["backbone"]["name"],
        protocol=run["config"]["protocol"],
        metrics=Metrics(**accuracies),
        timing=Timing(train_seconds=1.0, eval_seconds=1.0),
        provenance=Provenance(host=HOST, command=COMMAND, threads=1, versions={"torch": "2.9.0"}),
    )
    path.result.write_text(json.dumps(result.stored()))


def made(results: Path, place: Path, formats: tuple[str, ...] = ("csv", "md", "tex"), **options: Any) -> Path:
    """The unpacked folder."""
    names, tables = gather(results, ["x"], formats)
    bundle(place, tables, names, formats, None, **options)
    with zipfile.ZipFile(place) as file:
        file.extractall(place.parent / "elsewhere")
    return place.parent / "elsewhere" / place.stem


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.*")}


def test_it_holds_everything_in_one_folder(results: Path, tmp_path: Path) -> None:
    folder = made(results, tmp_path / "paper.zip", FORMATS)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    tables = {f"{name}.csv" for name in ("runs", "history", "grid", "leaderboard", "pairs", "evaluations", "problems")}
    pages = {"leaderboard.md", "leaderboard.tex", "report.html", "README.md", "versions.txt", "configs.json"}
    assert tables | pages | {"figures/leaderboard.png", "figures/leaderboard.pdf"} <= there
    assert {name for name in there if name.endswith(".toml")} == {"experiment-1.toml", "experiment-2.toml"}
    assert "torch 2.9.0" in (folder / "versions.txt").read_text()
    _says_not_where(folder)


def _says_not_where(folder: Path) -> None:
    for name, text in texts(folder).items():
        for word in (HOST, "jane", "secret", str(Path.cwd()), str(Path.home()) + "/"):
            assert word not in text, f"{name}: {word}"
        if name.endswith((".csv", ".json", ".toml", ".txt")):
            assert not PATH.search(text), f"{name}: {PATH.search(text)}"
    assert "no room on ..." in (folder / "runs.csv").read_text()


def test_it_checks_and_plans_the_same_runs_elsewhere(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings are proven by their hash, of a folder of images too, wherever that lies."""
    folder = made(results, tmp_path / "paper.zip")
    read = published.read(folder)
    configs, doubts = plans.configs(read)
    found = recomputed(folder, published.inventory(read, configs), plans.margin(read))
    assert not doubts and not found.differences
    assert found.tables.aim.margin == 2.0 and found.checked["leaderboard.md"] > 10
    monkeypatch.chdir(results.parent / "secret place")
    planned = [
        run for file in read.sweeps for run in sweep_file.planned(file, sweep_file.options(file, {"on": "local"}))
    ]
    assert {run["run_id"] for run in planned} == set(read.runs["run_id"])


SEARCH = """method = ["raft", "simclr", "random"]
seeds = 3
experiment = "x"
[set]
train.epochs = 27
[search]
points = 4
seeds = 2
halving = 2
[search.from]
optim.lr = { log = [0.03, 3] }
"""


def searched(results: Path, file: Path) -> None:
    """Every stage of a search as if its runs were done, accuracies by method and rate."""
    options = sweep_file.options(file, {"experiment": "x"})
    asked = Request(sweep_file.planned(file, options), results, results, options, "bench sweep")
    while True:
        stage = stages.first(asked)
        seeds = ({run["seed"] for run in stage.candidates if ("search" in run) == use} for use in (True, False))
        name_search(results / "x", *seeds)
        for path, run in zip(plan.write(stage.planned, results), stage.planned, strict=True):
            off = abs(math.log10(run["config"]["optim"]["lr"] / 0.3))
            _finish(path, run, len(run["method"]) + 80 - 5 * off + run["seed"] % 7)
        if not stage.searches:
            return


def test_a_search_keeps_its_stages_and_its_notes_elsewhere(results: Path, tmp_path: Path) -> None:
    """Its sweep file searches again, on the seeds of the search alone, and gives the same tables."""
    (tmp_path / "search.toml").write_text(SEARCH)
    searched(tmp_path / "here", tmp_path / "search.toml")
    folder = made(tmp_path / "here", tmp_path / "paper.zip")
    read = published.read(folder)
    configs, doubts = plans.configs(read)
    found = recomputed(folder, published.inventory(read, configs), plans.margin(read))
    assert not doubts and not found.differences and found.checked["leaderboard.md"] > 10
    page = (folder / "leaderboard.md").read_text()
    assert "4 points of optim.lr (0.03 to 3, log), 14, 27 epochs, on seeds 10000-10001, of which no number" in page
    assert "at the edge" not in page
    uses = {(run["run_id"], "search" in run) for run in plans.planned(read).values()}
    assert {(row.run_id, row.search_for != "") for row in read.runs.itertuples()} <= uses
    (file,) = read.sweeps
    searched(tmp_path / "there", file)
    again = made(tmp_path / "there", tmp_path / "there" / "paper.zip")
    for name in ("leaderboard.csv", "grid.csv", "pairs.csv", "runs.csv", "leaderboard.md", "experiment.toml"):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_published_folder_tells_a_shortened_warm_up_by_its_runs_alone(results: Path, tmp_path: Path) -> None:
    """Runs used to tell six digits of it: the settings are proven by their hash all the same."""
    (tmp_path / "search.toml").write_text(SEARCH)
    searched(tmp_path / "here", tmp_path / "search.toml")
    folder = made(tmp_path / "here", tmp_path / "paper.zip")
    (folder / "configs.json").unlink()
    rows = (folder / "runs.csv").read_text()
    digits = "optim.warmup_epochs=1.037037037037037"  # 2 of 27 epochs, of 14
    assert digits in rows and not plans.configs(published.read(folder))[1]
    (folder / "runs.csv").write_text(rows.replace(digits, "optim.warmup_epochs=1.03704"))
    assert not plans.configs(published.read(folder))[1]
    (folder / "runs.csv").write_text(rows.replace(digits, "optim.warmup_epochs=1.03714"))
    assert "not those that are planned now" in plans.configs(published.read(folder))[1][0]


def test_seeds_that_were_added_until_a_difference_was_known_are_told_elsewhere(tmp_path: Path) -> None:
    asked = Until(entry_a="raft", entry_b="simclr", width=5.0, first=10, each=5, most=20)
    name_until(tmp_path / "here" / "x", asked)
    for i, run in enumerate(plan.plan(["raft", "simclr"], range(15), "quick", {}, {}, "x")):
        _finish(plan_run(tmp_path / "here" / "x", run), run, 80 + i % 7)
    folder = made(tmp_path / "here", tmp_path / "paper.zip")
    assert "Seeds of SimCLR and RAFT were added until" in (folder / "leaderboard.md").read_text()
    read = published.read(folder)
    assert plans.untils(read) == [asked]
    assert {run["seed"] for run in plans.planned(read).values()} == set(range(20))
    configs = plans.configs(read)[0]
    for file in ("experiment.toml", "nothing"):  # without it, by pairs.csv
        (folder / file).unlink(missing_ok=True)
        found = recomputed(folder, published.inventory(read, configs), None, plans.untils(read))
        assert not found.differences and len(found.tables.aim.untils) == 1
    edited = (folder / "experiment.toml").write_text('method = "raft"\nuntil = "raft,simclr: 1"\nmax_seeds = 20\n')
    found = recomputed(folder, published.inventory(read, configs), None, plans.untils(read))
    assert edited and any("until_width is 5.0, by runs.csv 1.0" in line for line in found.differences)


def test_it_keeps_what_it_is_asked_to_keep(results: Path, tmp_path: Path) -> None:
    folder = made(results, tmp_path / "paper.zip", unredacted=True)
    assert HOST in (folder / "runs.csv").read_text()
    assert str(results.parent / "secret place") in (folder / "experiment-1.toml").read_text()


def test_the_same_tables_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        made(results, tmp_path / name / "paper.zip")
    assert (tmp_path / "one" / "paper.zip").read_bytes() == (tmp_path / "other" / "paper.zip").read_bytes()


def test_its_page_names_what_is_not_in_it(results: Path, tmp_path: Path) -> None:
    page = (made(results, tmp_path / "paper.zip") / "README.md").read_text()
    assert "bench verify paper --statistics" in page and "bench sweep paper/experiment-1.toml" in page
    assert re.search(r"Data that are not in here, .*: folder:pets\.", page)


def test_where_it_cannot_be_written_is_told(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a bundle is a .zip file, e.g. .*paper.zip"):
        check(tmp_path / "paper")
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        check(tmp_path / "nowhere" / "paper.zip")
    tables: tuple[list[str], Tables] = gather(results, ["x"], ["csv"])
    (tmp_path / "taken.zip").mkdir()
    with pytest.raises(UserError, match=r"--bundle .*taken.zip: cannot be written"):
        bundle(tmp_path / "taken.zip", tables[1], tables[0], ["csv"], None)
