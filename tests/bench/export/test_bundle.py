"""One file with everything: it checks elsewhere, plans the same runs, and does not say where it was made."""

import getpass
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_encoder, fake_evaluation

from bench.errors import UserError
from bench.export.bundle import PATH, bundle, check
from bench.planning import plan, sweep_file
from bench.planning import published as plans
from bench.report import FORMATS
from bench.report.recomputed import recomputed
from bench.report.write import gather
from bench.runs.experiment import name_margin
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
