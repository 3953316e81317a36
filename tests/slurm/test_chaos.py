"""Accidents: the same bits at the end as without, and `bench status` never says what is not so.

These tests stop the cluster's daemons and nodes, so that theirs is a cluster of its own.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from hands import EPOCHS, METHODS, Cluster, bench, results, settings, shell, states, wait_for

pytestmark = pytest.mark.slurm
ON = ["--on", "slurm", "--cluster", "test"]

SEED = int(os.environ.get("CHAOS_SEED", "1"))
MAYHEM_SECONDS = 75
LIMIT_SECONDS = 1200


def test_every_accident_once(cluster: Cluster, slowly: None, images: Path, reference: dict[str, object]) -> None:
    sweep = ["sweep", *settings(images, EPOCHS), "--method", METHODS, "--seeds", "2", "--experiment", "hurt", *ON]
    bench(*sweep, "--max-parallel", "2")

    job, run = cluster.busy("hurt")
    cluster.warn(job["task"])
    (log,) = Path("results/hurt/jobs").glob(f"*/{job['task']}_*_log.out")
    wait_for("requeued", lambda: "requeued job" in log.read_text())
    assert states("hurt")[run] in ("queued", "running")
    assert (Path("results/hurt/runs") / run / "checkpoint.pt").exists()

    job, run = cluster.busy("hurt")
    (worker,) = cluster.processes(job["id"], "bench.training.worker")
    os.kill(worker, signal.SIGKILL)
    wait_for("a new worker", lambda: cluster.processes(job["id"], "bench.training.worker") not in ([], [worker]))
    assert cluster.state(job["id"]) == "RUNNING"

    job, run = cluster.busy("hurt")
    cluster.preempt(job["node"])
    wait_for("preempted", lambda: cluster.state(job["id"]) == "PENDING")

    job, run = cluster.busy("hurt")
    (task,) = cluster.processes(job["id"], "submitit.core._submit")
    os.kill(task, signal.SIGKILL)
    wait_for("over", lambda: cluster.state(job["id"]) not in ("RUNNING", "COMPLETING"))
    assert states("hurt")[run] == "lost"
    assert "submitted 1 runs" in bench(*sweep)

    job, run = cluster.busy("hurt")
    cluster.crash(job["node"])
    wait_for("queued again", lambda: states("hurt")[run] in ("queued", "running"))
    cluster.up()

    cluster.stop("slurmctld")
    assert "SLURM cannot be asked" in bench("status", "hurt")
    assert "contact" in bench(*sweep, code=2)
    cluster.start_slurmctld()

    cluster.stop("slurmdbd")
    job, run = cluster.busy("hurt")
    shell("scancel", job["task"])
    wait_for("over", lambda: cluster.state(job["id"]) not in ("RUNNING", "COMPLETING"))
    out = bench("status", "hurt", code=1)
    assert "1 lost" in out and "accounting does not answer" in out
    assert "submitted 1 runs" in bench(*sweep)

    assert "hurt: 8 runs: 8 done" in bench("status", "hurt", "--watch")
    assert results("hurt") == reference


class Chaos:
    """Things that happen to clusters; each picks its victim by the seed."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.draw = cluster, random.Random(seed)
        self.happened: list[str] = []

    def step(self) -> None:
        event = self.draw.choice(
            [
                self.signal,
                self.kill_worker,
                self.kill_task,
                self.preempt,
                self.scancel,
                self.crash_node,
                self.lose_slurmd,
                self.restart_slurmctld,
                self.stop_slurmdbd,
                self.repair,
            ]
        )
        running = [job for job in self.cluster.jobs() if job["state"] == "RUNNING"]
        if running or event in (self.restart_slurmctld, self.stop_slurmdbd, self.repair):
            event(self.draw.choice(running) if running else {})
            self.happened.append(event.__name__)

    def signal(self, job: dict[str, str]) -> None:
        self.cluster.warn(job["task"])

    def kill_worker(self, job: dict[str, str]) -> None:
        self._kill(job, "bench.training.worker")

    def kill_task(self, job: dict[str, str]) -> None:
        self._kill(job, "submitit.core._submit")

    def preempt(self, job: dict[str, str]) -> None:
        self.cluster.preempt(job["node"], seconds=2)

    def scancel(self, job: dict[str, str]) -> None:
        shell("scancel", job["task"], check=False)

    def crash_node(self, job: dict[str, str]) -> None:
        self.cluster.crash(job["node"])

    def lose_slurmd(self, job: dict[str, str]) -> None:
        """The daemon dies alone: its job lives on beside the requeued one."""
        pid = int((self.cluster.dir / "run" / f"slurmd-{job['node']}.pid").read_text())
        self._kill_pid(pid)
        shell("scontrol", "update", f"nodename={job['node']}", "state=down", "reason=lost")

    def restart_slurmctld(self, job: dict[str, str]) -> None:
        self.cluster.stop("slurmctld")
        self.cluster.start_slurmctld()

    def stop_slurmdbd(self, job: dict[str, str]) -> None:
        if (self.cluster.dir / "run" / "slurmdbd.pid").exists():
            self.cluster.stop("slurmdbd")

    def repair(self, job: dict[str, str]) -> None:
        self.cluster.up()

    def _kill(self, job: dict[str, str], module: str) -> None:
        for pid in self.cluster.processes(job["id"], module):
            self._kill_pid(pid)

    def _kill_pid(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            self.happened.append("too late")


def test_chaos(cluster: Cluster, slowly: None, images: Path, reference: dict[str, object]) -> None:
    """Accidents at random moments, from a seed."""
    sweep = ["sweep", *settings(images, EPOCHS), "--method", METHODS, "--seeds", "2", "--experiment", "chaos", *ON]
    sweep += ["--runs-per-job", "2"]
    start = time.monotonic()
    bench(*sweep)
    chaos = Chaos(cluster, SEED)

    def elapsed() -> float:
        return time.monotonic() - start

    def check(done_before: set[str]) -> set[str]:
        done = set(results("chaos"))
        assert done >= done_before, chaos.happened
        told = states("chaos")
        assert not done & told.keys(), f"done, but told otherwise: {told}"
        assert not set(told.values()) & {"failed", "damaged", "planned"}, (told, chaos.happened)
        return done

    done: set[str] = set()
    while elapsed() < MAYHEM_SECONDS and len(done) < len(reference):
        for _ in range(3):
            time.sleep(chaos.draw.uniform(0, 3))
            chaos.step()
        done = check(done)
        if chaos.draw.random() < 0.3:
            bench(*sweep)  # the user submits again what is lost
    cluster.up()
    while len(done) < len(reference):
        assert elapsed() < LIMIT_SECONDS, (chaos.happened, states("chaos"))
        bench(*sweep)
        time.sleep(3)
        done = check(done)
    print(f"seed {SEED}, {elapsed():.0f} s: {' '.join(chaos.happened)}")
    assert results("chaos") == reference
