"""The job that goes on with a search: what it waits for, what it submits, and what is told where it cannot."""

import json
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from fake_results import fake_result
from fake_slurm import Fake
from rich.console import Console

from bench.planning import stages, sweep_file
from bench.planning.options import SweepOptions
from bench.planning.request import Request
from bench.runs.status import SEARCH
from slurm import commands, following, submission, submit
from slurm.commands import SlurmError, TaskId, TaskState
from slurm.jobs import jobs_of
from slurm.ledger import GiveUp


def search(tmp_path: Path, **options: object) -> Request:
    """Two rates for simclr on a seed of their own, then the better one on seeds 0 and 1; the stage that is due."""
    asked: dict[str, Any] = {"method": "simclr", "seeds": "2", "set": {"data.size": "8"}, "experiment": "exp"}
    asked["search"] = {"points": "2", "seeds": "1", "from.optim.lr": "log:0.03,3"}
    chosen = SweepOptions(**cast(Any, {**asked, "partition": "main", **options}))
    planned = sweep_file.planned(None, chosen)
    return stages.first(Request(planned, tmp_path / "results", tmp_path / "data", chosen, "bench ..."))


def end(request: Request) -> None:
    """Leave a result for every run of the stage; the higher rate is the better one."""
    for run in request.planned:
        level = 50 + run["config"]["optim"]["lr"]
        metrics = {"val_linear_top1": level, "test_linear_top1": level}
        path = request.experiment / "runs" / run["run_id"] / "result.json"
        path.write_text(json.dumps(fake_result(run["run_id"], metrics=metrics)))


@pytest.fixture
def ended(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Jobs that have ended; of all others SLURM says that they wait."""
    over: set[str] = set()

    def states(jobs: Iterable[str], names: Collection[str]) -> dict[TaskId, TaskState]:
        return {(job, i): TaskState("COMPLETED" if job in over else "PENDING") for job in jobs for i in range(3)}

    monkeypatch.setattr(commands, "task_states", states)
    return over


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200, quiet=False)


def made(tmp_path: Path) -> list[submission.Submission]:
    return submission.read_all(tmp_path / "results" / "exp")[0]


def sent(fake: Fake) -> list[str]:
    return [path.read_text() for path in sorted(fake.folder.glob("script.*"))]


def test_a_small_job_waits_for_the_search_and_there_is_one(
    fake: Fake, tmp_path: Path, console: Console, ended: set[str]
) -> None:
    config = tmp_path / "home" / "bench" / "clusters.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[default]\ngpus = 4\ncpus = 16\nmem = '200G'\n")
    assert submit.submit(search(tmp_path), console) == 0
    array, follower = sent(fake)
    for line in ("--array=0-1%2", "--gpus-per-node=4", "--mem=200G"):
        assert f"#SBATCH {line}\n" in array
    for line in ("--dependency=afterany:101", "--cpus-per-task=1", "--mem=4G", "--time=30", "--partition=main"):
        assert f"#SBATCH {line}\n" in follower
    assert "gpus" not in follower and "--array" not in follower
    assert submit.submit(search(tmp_path), console) == 0
    assert console.export_text().count("job 102 goes on with the search when these have ended") == 2
    assert len(sent(fake)) == 2
    assert [each.tasks for each in made(tmp_path)][1] == [[SEARCH]]
    jobs, _ = jobs_of(tmp_path / "results" / "exp", [SEARCH])
    assert (jobs[SEARCH].state, jobs[SEARCH].detail) == ("queued", "job 102")


def test_more_points_make_a_job_that_waits_for_all_and_the_older_one_leaves_it_to_that(
    fake: Fake, tmp_path: Path, console: Console, ended: set[str]
) -> None:
    submit.submit(search(tmp_path), console)
    more = {"points": "3", "seeds": "1", "from.optim.lr": "log:0.03,3"}
    submit.submit(search(tmp_path, search=more), console)
    assert "--dependency=afterany:101:103" in sent(fake)[3]
    older, newer = (each for each in made(tmp_path) if each.follows)
    ended |= {"101", "102"}
    assert following.go_on(older) == f"left to {newer.folder.name}, which was asked for later"


def test_it_submits_the_winner_on_the_reports_seeds(
    fake: Fake, tmp_path: Path, console: Console, ended: set[str]
) -> None:
    first = search(tmp_path)
    submit.submit(first, console)
    end(first)
    ended |= {"101", "102"}
    assert following.go_on(made(tmp_path)[1]) == "ended with 0"
    winner = max(first.planned, key=lambda run: run["config"]["optim"]["lr"])["search"]["for"]
    assert made(tmp_path)[2].tasks == [[f"simclr-{winner}-s0"], [f"simclr-{winner}-s1"]]
    assert following.go_on(made(tmp_path)[1]) == "ended with 0", "started again, it finds that all is queued"
    assert len(sent(fake)) == 3, "and nothing is to follow"


def test_it_does_not_go_on_without_results(fake: Fake, tmp_path: Path, console: Console, ended: set[str]) -> None:
    first = search(tmp_path)
    submit.submit(first, console)
    ended |= {"101", "102"}
    told = f"the search is not over: 2 runs have no result, e.g. {first.planned[0]['run_id']}"
    with pytest.raises(GiveUp, match=told):
        following.go_on(made(tmp_path)[1])
    jobs, _ = jobs_of(first.experiment, [SEARCH])
    assert (jobs[SEARCH].state, jobs[SEARCH].detail) == ("ended", f"job 102: {told}")
    assert submit.submit(search(tmp_path), console) == 0, "the same command submits them again, and another such job"
    assert [each.tasks for each in made(tmp_path)][2:] == [[[run["run_id"]] for run in first.planned], [[SEARCH]]]


def test_it_does_not_go_on_with_other_code_and_waits_for_a_controller_that_is_away(
    fake: Fake, tmp_path: Path, console: Console, ended: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(tmp_path)
    submit.submit(first, console)
    end(first)
    ended |= {"101", "102"}
    monkeypatch.setattr("bench.runs.provenance.code_changes", lambda _: ["methods/losses.py"])
    with pytest.raises(GiveUp, match=r"code changed since submission \(methods/losses.py\)"):
        following.go_on(made(tmp_path)[1])
    monkeypatch.setattr("bench.runs.provenance.code_changes", lambda _: [])
    fake.say("scontrol.error", "slurm_load_ctl_conf error: Unable to contact slurm controller\n")
    real, slept = time.sleep, []

    def sleep(seconds: float) -> None:
        if seconds != following.AGAIN_SECONDS:  # subprocess sleeps too
            return real(seconds)
        slept.append(seconds)
        (fake.folder / "scontrol.error").unlink()

    monkeypatch.setattr("time.sleep", sleep)
    assert following.go_on(made(tmp_path)[1]) == "ended with 0"
    assert len(slept) == 1


def test_a_cluster_that_takes_no_such_job_is_no_hindrance(
    fake: Fake, tmp_path: Path, console: Console, ended: set[str]
) -> None:
    fake.say("refuse", "2")
    assert submit.submit(search(tmp_path), console) == 0
    told = "no job goes on with the search (sbatch: Too many jobs): give the same command again when this stage is over"
    assert told in console.export_text()
    assert [bool(each.follows) for each in made(tmp_path)] == [False]


def test_nothing_is_left_of_a_search_that_is_refused(
    fake: Fake, tmp_path: Path, console: Console, ended: set[str]
) -> None:
    fake.say("refuse", "1")
    with pytest.raises(SlurmError, match="Too many jobs"):
        submit.submit(search(tmp_path), console)
    assert not [path for path in (tmp_path / "results").rglob("*") if path.is_file()]


def test_dry_tells_both_stages(fake: Fake, tmp_path: Path, console: Console) -> None:
    submit.dry(search(tmp_path), console)
    said = console.export_text()
    assert "search: 2 configurations on seeds 10000; the best of each entry then runs on seeds 0-1" in said
    assert "and a job that goes on with the search when these have ended" in said
