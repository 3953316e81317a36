"""Runs with several processes on SLURM, on one node or over two: the same tables, whatever happens to jobs."""

import csv
import json
from pathlib import Path

import pytest
from hands import Cluster, bench, results, settings, states, wait_for

from bench.runs.claim import ClaimFile, newest_claim

pytestmark = pytest.mark.slurm
EPOCHS = 40  # three accidents happen in the first half
ON = ["--on", "slurm", "--device", "cpu", "--cluster"]


def devices(experiment: str) -> set[str]:
    bench("report", experiment, "--format", "csv")
    with Path("results", experiment, "runs.csv").open() as file:
        return {row["devices"] for row in csv.DictReader(file)}


def claim(experiment: str, run: str) -> ClaimFile:
    found = newest_claim(Path("results", experiment, "runs", run))
    assert found is not None
    return found


def first_of(nodes: str) -> str:
    """ "n[1-2]" -> "n1", "n[1,3]" -> "n1"."""
    return nodes.replace("n[", "n").partition("-")[0].partition(",")[0].removesuffix("]")


def test_one_node_with_two_ranks_two_nodes_with_one_each_and_accidents(
    cluster: Cluster, slowly: None, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [*settings(images, EPOCHS), "--method", "byol", "--devices-per-run", "2"]
    monkeypatch.setenv("REST_SECONDS", "0.48")  # 200 times; a job of `whole` has 100 seconds, on nodes of its own
    bench("sweep", *runs, "--experiment", "long", *ON, "whole", "--nodes", "2")
    monkeypatch.setenv("REST_SECONDS", "0.1")
    bench("sweep", *runs, "--experiment", "one", *ON, "test")
    bench("sweep", *runs, "--experiment", "two", *ON, "test", "--nodes", "2")
    job, run = cluster.busy("two")
    assert states("two")[run] == "running"
    cluster.warn(job["task"])
    wait_for("stopped", lambda: claim("two", run).owner.get("released"))
    assert states("two")[run] in ("queued", "running")
    job, run = cluster.busy("two")
    before = claim("two", run).number
    cluster.preempt(first_of(job["node"]))
    wait_for("going on after a preemption", lambda: claim("two", run).number > before)
    job, run = cluster.busy("two")
    cluster.crash(first_of(job["node"]))
    wait_for("queued again", lambda: states("two")[run] in ("queued", "running"))
    cluster.up()
    small = [*settings(images, 4), "--method", "simsiam"]  # in the same experiment, beside it
    bench("sweep", *small, "--experiment", "two", *ON, "test")
    assert "two: 2 runs: 2 done" in bench("status", "two", "--watch")
    assert "one: 1 runs: 1 done" in bench("status", "one", "--watch")
    assert "long: 1 runs: 1 done" in bench("status", "long", "--watch")
    assert results("one").items() <= results("two").items()
    assert results("one") == results("long")
    assert devices("one") == devices("long") == {"2"} and devices("two") == {"1", "2"}
    (ledger,) = Path("results/long/jobs").glob("*/tasks/0.json")
    assert json.loads(ledger.read_text())["starts"] >= 2, "more than the time limit allows"
