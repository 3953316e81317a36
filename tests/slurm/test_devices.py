"""Runs with several processes on SLURM, on one node or over two: the same tables, whatever happens to jobs."""

import csv
from pathlib import Path

import pytest
from hands import EPOCHS, Cluster, bench, results, settings, states, wait_for

from bench.runs.claim import newest_claim

pytestmark = pytest.mark.slurm
ON = ["--on", "slurm", "--cluster", "test", "--device", "cpu"]


def devices(experiment: str) -> set[str]:
    bench("report", experiment, "--format", "csv")
    with Path("results", experiment, "runs.csv").open() as file:
        return {row["devices"] for row in csv.DictReader(file)}


def test_one_node_with_two_ranks_two_nodes_with_one_each_and_accidents(
    cluster: Cluster, slowly: None, images: Path
) -> None:
    runs = [*settings(images, EPOCHS), "--method", "byol", "--devices-per-run", "2"]
    bench("sweep", *runs, "--experiment", "one", *ON)
    bench("sweep", *runs, "--experiment", "two", *ON, "--nodes", "2")
    bench("sweep", *settings(images, 4), "--method", "simsiam", "--experiment", "two", *ON)  # small ones beside it
    job, run = cluster.busy("two")
    assert states("two")[run] == "running"
    cluster.warn(job["task"])
    wait_for("stopped", lambda: (owner := newest_claim(Path("results/two/runs") / run)) and owner.owner.get("released"))
    assert states("two")[run] in ("queued", "running")
    job, run = cluster.busy("two")
    cluster.crash(job["node"].replace("n[", "n").partition("-")[0].partition(",")[0].removesuffix("]"))
    wait_for("queued again", lambda: states("two")[run] in ("queued", "running"))
    cluster.up()
    assert "two: 2 runs: 2 done" in bench("status", "two", "--watch")
    assert "one: 1 runs: 1 done" in bench("status", "one", "--watch")
    assert results("one").items() <= results("two").items()
    assert devices("one") == {"2"} and devices("two") == {"1", "2"}
