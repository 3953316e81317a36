"""Sweeps on a real SLURM: whatever happens to jobs, nodes and daemons, the same bits as on this machine alone."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hands import BENCH, Cluster, bench, results, settings, shell, states, wait_for

pytestmark = pytest.mark.slurm
ON = ["--on", "slurm", "--cluster", "test"]


def tables(experiment: str) -> dict[str, str]:
    """The result tables of an experiment, without what names it or measures time."""
    bench("report", experiment)
    found = {}
    for name in ("leaderboard.csv", "grid.csv"):
        with (Path("results") / experiment / name).open() as file:
            rows = list(csv.reader(file))
        timed = {i for i, column in enumerate(rows[0]) if "second" in column or column == "experiment"}
        found[name] = "\n".join(",".join(cell for i, cell in enumerate(row) if i not in timed) for row in rows)
    return found


def means_by_hand(experiment: str) -> dict[str, dict[str, tuple[float, float]]]:
    """{method: {configuration: (mean validation, mean test accuracy)}}, over seeds."""
    points: dict[str, dict[str, list[dict[str, float]]]] = {}
    for path in Path("results", experiment, "runs").glob("*/result.json"):
        result = json.loads(path.read_text())
        seeds = points.setdefault(result["method"], {}).setdefault(result["config_hash"], [])
        seeds.append(result["metrics"])
    return {
        method: {
            config: (mean(seed["val_linear_top1"] for seed in seeds), mean(seed["test_linear_top1"] for seed in seeds))
            for config, seeds in grid.items()
        }
        for method, grid in points.items()
    }


def scores(experiment: str) -> dict[str, Any]:
    """What an evaluation by few labels found of every run."""
    found = Path("results", experiment, "runs").glob("*/evaluations/few-*.json")
    return {path.parts[-3]: json.loads(path.read_text())["scores"] for path in found}


def test_a_sweep_gives_the_tables_of_this_machine(cluster: Cluster, images: Path) -> None:
    """2 methods x 3 seeds x 2 grid points: 12 done, each executed once, bit for bit."""
    runs = [*settings(images, 4), "--method", "raft,simclr", "--seeds", "3", "--grid", "optim.lr=0.1,0.3"]
    on_slurm = ["sweep", *runs, "--experiment", "far", *ON]
    out = bench(*on_slurm, "--runs-per-job", "3", "--concurrent", "2", "--max-parallel", "2")
    assert "submitted 12 runs in 4 jobs" in out
    assert "nothing to submit" in bench(*on_slurm), "all are queued or running"
    wait_for("queued", lambda: "queued" in states("far").values())
    bench("sweep", *runs, "--experiment", "near", "--jobs", "1")
    assert "far: 12 runs: 12 done" in bench("status", "far", "--watch")
    assert len(results("far")) == 12
    assert results("far") == results("near")
    assert tables("far") == tables("near")
    with Path("results/far/leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["points"], row["budget_runs"]) for row in rows} == {("2", "6")}
    for row in rows:
        grid = means_by_hand("far")[row["method"]]
        validation, test = grid[row["config_hash"]]
        assert validation == max(grid.values())[0] and float(row["test_linear_top1_mean"]) == pytest.approx(test)
    for run in Path("results/far/runs").iterdir():
        assert [path.name for path in run.glob("claim-*.json")] == ["claim-1.json"], "executed once"
    assert "nothing to submit" in bench(*on_slurm)

    few = ["--with", "few", "--set", "few.labels=50%"]
    assert "submitted 12 runs in 2 jobs" in bench("evaluate", "far", *few, *ON, "--runs-per-job", "6")
    assert "of 12 runs 12 done" in bench("status", "far", "--watch")
    bench("evaluate", "near", *few, "--jobs", "1")
    assert scores("far") == scores("near") and len(scores("far")) == 12
    assert "nothing to submit" in bench("evaluate", "far", *few, *ON)


def test_a_search_goes_on_by_itself(cluster: Cluster, slowly: None, images: Path) -> None:
    """A worker is killed in either stage, the controller restarts between them: a job submits the winners all the same,
    and the bits are those of this machine."""
    search = ["points=3", "seeds=2", "epochs=10", "from.optim.lr=log:0.03,3"]
    runs = [*settings(images, 20), "--method", "simsiam,random", "--seeds", "3"]
    runs += [word for each in search for word in ("--search", each)]
    on_slurm = ["sweep", *runs, "--experiment", "far", *ON, "--runs-per-job", "2"]
    out = bench(*on_slurm)
    assert "submitted 6 runs in 3 jobs" in out and " goes on with the search when these have ended" in out
    assert "nothing to submit" in bench(*on_slurm)
    assert sum(job["state"] == "PENDING" for job in cluster.jobs()) >= 1 and len(cluster.jobs()) == 4, "not two of them"
    told = "of 6 runs have ended; its winners then run on other seeds; the job that goes on with it: queued, job "
    assert told in bench("status", "far")
    hurt = set()

    def kill_a_worker() -> None:
        job, run = cluster.busy("far")
        hurt.add(run)
        for worker in cluster.processes(job["id"], "bench.training.worker"):
            os.kill(worker, signal.SIGKILL)

    kill_a_worker()
    cluster.stop("slurmctld")
    cluster.start_slurmctld()
    wait_for("on with the winners", lambda: any(Path("results/far/runs").glob("simsiam-*-s0")))
    kill_a_worker()
    out = bench("status", "far", "--watch")
    assert "far: 12 runs: 12 done" in out
    assert "search over (on seeds 10000-10001); of the runs of its winners 6 of 6 have ended" in out
    for run in Path("results/far/runs").iterdir():
        claims = [path.name for path in run.glob("claim-*.json")]
        assert claims == ["claim-1.json"] or run.name in hurt, "executed once"
    bench("sweep", *runs, "--experiment", "near", "--jobs", "1")
    assert results("far") == results("near")
    assert tables("far") == tables("near")
    assert "nothing to submit" in bench(*on_slurm)


def test_a_cancelled_search_does_not_go_on_until_it_is_asked_to(cluster: Cluster, slowly: None, images: Path) -> None:
    runs = [*settings(images, 20), "--method", "simsiam", "--search", "points=2", "--search", "seeds=1"]
    flags = ["sweep", *runs, "--search", "from.optim.lr=log:0.03,3", "--experiment", "away", *ON]
    bench(*flags)
    cluster.busy("away")
    assert "cancelled 3 jobs" in bench("cancel", "away")
    wait_for("cancelled", lambda: set(states("away").values()) == {"cancelled"})
    assert "the job that goes on with it: cancelled" in bench("status", "away")
    bench(*flags)
    assert "away: 3 runs: 3 done" in bench("status", "away", "--watch")


def test_a_run_that_cannot_succeed_is_reported(cluster: Cluster, images: Path) -> None:
    """One of 10 grid points has no finite loss: the other 9 are done, those of its own job too."""
    rates = ",".join(["1e30", *(f"0.0{i}" for i in range(1, 10))])
    flags = [*settings(images, 1), "--method", "simsiam", "--grid", f"optim.lr={rates}", "--experiment", "nan", *ON]
    bench("sweep", *flags, "--runs-per-job", "5")
    out = bench("status", "nan", "--watch", code=1)
    assert "nan: 10 runs: 9 done, 1 failed" in out and "non-finite loss at step" in out
    assert "1 failed: --retry-failed" in bench("sweep", *flags, code=1)
    assert "submitted 1 runs" in bench("sweep", *flags, "--retry-failed")
    assert "9 done, 1 failed" in bench("status", "nan", "--watch", code=1)
    (error,) = Path("results/nan/runs").glob("*/error.txt")
    assert sorted(path.name for path in error.parent.glob("claim-*")) == ["claim-1.json", "claim-2.json"]


def test_the_time_limit_is_no_limit_to_training(
    cluster: Cluster, slowly: None, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of `short` has a minute; the run rests for two minutes, all in all."""
    monkeypatch.setenv("REST_SECONDS", "0.8")
    flags = [*settings(images, 30), "--method", "simsiam"]  # 150 steps
    bench("sweep", *flags, "--experiment", "long", "--on", "slurm", "--cluster", "short")
    bench("sweep", *flags, "--experiment", "at-once")
    assert "long: 1 runs: 1 done" in bench("status", "long", "--watch")
    assert results("long") == results("at-once")
    (ledger,) = Path("results/long/jobs").glob("*/tasks/0.json")
    assert json.loads(ledger.read_text())["starts"] >= 3


def test_a_job_without_progress_ends(cluster: Cluster, images: Path) -> None:
    """These nodes have no CUDA device: workers cannot start, and no run is to blame."""
    flags = [*settings(images, 4), "--method", "random", "--experiment", "stuck", *ON, "--device", "cuda"]
    bench("sweep", *flags)
    out = bench("status", "stuck", "--watch", code=1)
    assert "1 lost" in out and "tried 4 times without progress" in out
    assert "shows no CUDA device" in next(Path("results/stuck/jobs").glob("*/*_log.out")).read_text()


def test_cancelled_runs_keep_their_checkpoints(cluster: Cluster, slowly: None, images: Path) -> None:
    flags = [*settings(images, 1000), "--method", "simsiam", "--seeds", "2", "--experiment", "away", *ON]
    bench("sweep", *flags, "--max-parallel", "1")
    _, run = cluster.busy("away")
    assert "cancelled 2 jobs" in bench("cancel", "away")
    wait_for("cancelled", lambda: set(states("away").values()) == {"cancelled"})
    assert (Path("results/away/runs") / run / "checkpoint.pt").exists()
    assert "submitted 2 runs" in bench("sweep", *flags)
    assert "cancelled 2 jobs" in bench("cancel", "away")


def test_a_job_does_not_execute_other_code_than_was_submitted(
    cluster: Cluster, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parent.parent.parent
    for package in ("bench", "methods", "slurm"):
        shutil.copytree(root / package, Path("code") / package)
    monkeypatch.setenv("PYTHONPATH", str(Path("code").absolute()))
    shell("scontrol", "update", "nodename=ALL", "state=drain", "reason=test")
    flags = [*settings(images, 1), "--method", "random", "--experiment", "old", "--on", "slurm"]
    bench("sweep", *flags, "--on-code-change", "refuse")
    with Path("code/methods/losses.py").open("a") as file:
        file.write("# edited while the job is queued\n")
    shell("scontrol", "update", "nodename=ALL", "state=resume")
    out = bench("status", "old", "--watch", code=1)
    assert "code changed since submission (methods/losses.py)" in out
    assert not results("old")
    bench("sweep", *flags)
    assert "1 done" in bench("status", "old", "--watch")


def test_2000_runs_are_submitted_and_cancelled(cluster: Cluster, images: Path) -> None:
    shell("scontrol", "update", "nodename=ALL", "state=drain", "reason=test")
    flags = [*settings(images, 1), "--method", "random", "--seeds", "2000", "--experiment", "many", *ON]
    out = bench("sweep", *flags)
    assert "submitted 2000 runs in 2000 jobs" in out
    (file,) = Path("results/many/jobs").glob("*/submission.json")
    assert [array["tasks"] for array in json.loads(file.read_text())["arrays"]] == [1001, 999]
    assert "many: 2000 runs: 2000 queued" in bench("status", "many")
    assert "cancelled 2000 jobs" in bench("cancel", "many")
    assert "many: 2000 runs: 2000 cancelled" in bench("status", "many")
    shutil.rmtree("results")  # pytest keeps the folders of three sessions


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--partition mian", "unknown partition 'mian': did you mean 'main'? one of high, main, short"),
        ("--partition short --time 30", "sbatch: "),
        ("--gpus 9", "sbatch: "),
    ],
)
def test_what_slurm_refuses_is_not_submitted_by_halves(
    cluster: Cluster, images: Path, flags: str, message: str
) -> None:
    out = bench("sweep", "--method", "random", *settings(images, 1), *ON, *flags.split(), code=2)
    assert out.startswith(f"bench: {message}") and out.count("\n") == 1 and len(out) > 20
    assert not [path for path in Path("results").rglob("*") if path.is_file()]
    assert not cluster.jobs()


def test_submission_needs_no_living_shell(cluster: Cluster, images: Path) -> None:
    """A path with a space; the submitting session ends at once."""
    odd = Path("my results")
    flags = [*settings(images, 1), "--method", "random", "--results", str(odd), *ON]
    subprocess.run([BENCH, "sweep", *flags], start_new_session=True, check=True, stdout=sys.stderr)
    assert "1 done" in bench("status", "--watch", "--results", str(odd))
