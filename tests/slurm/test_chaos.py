"""Accidents at random moments, from a seed: the same bits at the end, and `bench status` never says what is not so."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from hands import METHODS, Cluster, bench, results, settings, shell, states

pytestmark = pytest.mark.slurm

SEED = int(os.environ.get("CHAOS_SEED", "1"))
MAYHEM_SECONDS = 75
LIMIT_SECONDS = 240


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
        shell("scancel", "--signal=USR2", job["task"], check=False)

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


def test_chaos(cluster: Cluster, images: Path, reference: dict[str, object]) -> None:
    sweep = ["sweep", *settings(images, 60), "--method", METHODS, "--seeds", "2", "--experiment", "chaos"]
    sweep += ["--on", "slurm", "--cluster", "test", "--runs-per-job", "2"]
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
