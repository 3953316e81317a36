"""Hands for the tests on a cluster: to use it, to hurt it, to read what came of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.runs.claim import is_alive, newest_claim
from bench.runs.store import RunDir

HERE = Path(__file__).parent
METHODS = "raft,byol,simsiam,simclr"
EPOCHS = 30  # of 5 steps: with rests, a run outlasts the time that SLURM takes to hurt it
BENCH = str(Path(sys.executable).with_name("bench"))


def shell(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 600) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"after {seconds} s: still not {what}"
        time.sleep(0.3)
    return value


class Cluster:
    """SLURM's daemons, nodes and jobs, under our hands."""

    def __init__(self, conf: str) -> None:
        self.conf, self.dir = conf, Path(conf).parent.parent

    def up(self) -> None:
        """Start what is missing."""
        shell(str(HERE / "slurm-cluster"), "up", str(self.dir))

    def stop(self, daemon: str) -> None:
        pid = int((self.dir / "run" / f"{daemon}.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_for(f"{daemon} stopped", lambda: not Path(f"/proc/{pid}").exists())

    def crash(self, node: str) -> None:
        """The node loses power, and SLURM notices (which by itself takes it SlurmdTimeout)."""
        shell(str(HERE / "crash-node"), node)
        shell("scontrol", "update", f"nodename={node}", "state=down", "reason=crash")

    def warn(self, task: str) -> None:
        """SLURM's warning, USR2. A job may be quicker than scancel's answer, which would then ask it again for 95 s."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["scancel", "--signal=USR2", task], capture_output=True, timeout=2)

    def preempt(self, node: str, seconds: int = 3) -> None:
        """A job of the partition `high` takes the whole node."""
        shell("sbatch", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", f"--wrap=sleep {seconds}")

    def start_slurmctld(self) -> None:
        shell("slurmctld")
        wait_for("slurmctld", lambda: subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0)

    def jobs(self) -> list[dict[str, str]]:
        """Our jobs that are not over: id (in SLURM_JOB_ID), task (as scancel takes it), state, node."""
        rows = [line.split("|") for line in shell("squeue", "-h", "-r", "--format=%A|%i|%T|%N|%j").splitlines()]
        names = ("id", "task", "state", "node", "name")
        return [dict(zip(names, row, strict=True)) for row in rows if row[4].startswith("bench-")]

    def state(self, job: str) -> str:
        """SLURM's state of a job, "" if it has forgotten it."""
        rows = shell("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%A %T", check=False).splitlines()
        return dict(row.split() for row in rows).get(job, "")  # asked for an array's id, it lists all its tasks

    def busy(self, experiment: str) -> tuple[dict[str, str], str]:
        """(a job in the first half of a run, so that it is still there to be hurt; the run's id); waits for one."""

        def find() -> tuple[dict[str, str], str] | None:
            running = {job["id"]: job for job in self.jobs() if job["state"] == "RUNNING"}
            for run in Path("results", experiment, "runs").iterdir():
                owner = newest_claim(run)
                if owner is None or not is_alive(owner) or owner.owner["job"].get("id") not in running:
                    continue
                epochs = json.loads((run / "config.json").read_text())["config"]["train"]["epochs"]
                epoch = RunDir(run).last_epoch().get("epoch", 0)
                if owner.modified < time.time() - 1 and 0 < epoch <= epochs / 2:
                    return running[owner.owner["job"]["id"]], run.name
            return None

        found: tuple[dict[str, str], str] = wait_for("a job at work", find)
        return found

    def processes(self, job: str, module: str) -> list[int]:
        """Pids of a job's processes that run a Python module."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes().split(b"\0")
                if not {f"SLURM_JOB_ID={job}".encode(), f"SLURM_CONF={self.conf}".encode()} <= {*environment}:
                    continue
                words = (path / "cmdline").read_bytes().split(b"\0")
                if module.encode() in words and b"python" in words[0]:
                    found.append(int(path.name))
            except OSError:
                pass
        return found


def settings(images: Path, epochs: int) -> list[str]:
    """Flags for runs of about a second for 4 epochs."""
    values = {
        "data.name": f"folder:{images}",
        "data.size": 8,
        "train.epochs": epochs,
        "train.batch_size": 32,
        "eval.every_epochs": epochs,
    }
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def bench(*words: str, code: int | None = 0, cwd: Path | None = None) -> str:
    """Output of a `bench` command (standard error after it); its exit code has to be `code`, if given."""
    command = [BENCH, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, cwd=cwd)
    assert code is None or done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def results(experiment: str) -> dict[str, Any]:
    """What has to be the same, wherever and however often interrupted runs were executed: {run id: metrics}."""
    found = {}
    for path in sorted(Path("results", experiment, "runs").glob("*/result.json")):
        found[path.parent.name] = json.loads(path.read_text())["metrics"]
    return found


def undisturbed(images: Path, epochs: int, where: Path) -> dict[str, Any]:
    """`results` of 4 methods x 2 seeds that this machine alone executed, in the empty folder `where`."""
    flags = [*settings(images, epochs), "--method", METHODS, "--seeds", "2", "--experiment", "undisturbed"]
    bench("sweep", *flags, "--results", str(where / "results"), "--data-dir", str(where / "data"))
    return results(str(where / "results" / "undisturbed"))


def states(experiment: str) -> dict[str, str]:
    """{run id: state} of the runs that `bench status` lists; done ones are only counted there."""
    rows = (line.split() for line in bench("status", experiment, code=None).splitlines() if line.startswith("  "))
    return {row[0]: row[1] for row in rows if "-s" in row[0]}
