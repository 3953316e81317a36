"""A SLURM cluster for the tests marked `slurm`."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_slurm import fake as fake
from hands import EPOCHS, HERE, Cluster, shell, undisturbed, wait_for
from PIL import Image

IN_CI = os.environ.get("CI") == "true"
PROFILE = """
[test]
time = 30
gpus = 1
on_code_change = "warn"

[short]
time = 2
on_code_change = "warn"

[whole]
time = 2
margin = 20
cpus = 8
on_code_change = "warn"
"""


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    """A cluster of this process's own."""
    missing = "" if os.geteuid() == 0 else "starting a SLURM cluster takes root"
    if not shutil.which("slurmctld"):
        missing = "SLURM is not installed"
    if missing and not IN_CI:
        pytest.skip(f"{missing}; tests/slurm/slurm-cluster install installs it")
    assert not missing, missing
    folder = tempfile.mkdtemp(prefix="slurm-")
    os.environ["SLURM_BASE_PORT"] = str(_free_ports())
    try:
        shell(str(HERE / "slurm-cluster"), "up", folder)
        os.environ["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
        yield Cluster(os.environ["SLURM_CONF"])
    finally:
        shell(str(HERE / "slurm-cluster"), "down", folder)
        shutil.rmtree(folder)


def _free_ports() -> int:
    """The first of 20 ports that no other cluster of this machine has: test processes start theirs at the same time."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for first in range(26810 + 20 * worker, 32000, 400):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + 20):
                stack.enter_context(socket.socket()).bind(("", port))
            return first
    raise RuntimeError("no free ports for a cluster")


@pytest.fixture
def cluster(_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, whole and idle; profiles `test` and `short` are the user's own."""
    config = tmp_path / "home" / "bench"
    config.mkdir(parents=True)
    (config / "clusters.toml").write_text(PROFILE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config.parent))
    for name in ("BENCH_RESULTS", "BENCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield _cluster
    _cluster.up()
    for job in shell("squeue", "-h", "-o", "%F").split():
        shell("scancel", job, check=False)
    wait_for("idle", lambda: not shell("squeue", "-h").strip())


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers in SLURM jobs rest REST_SECONDS before every training step."""
    path = [str(HERE / "resting"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("REST_SECONDS", "0.1")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of 4 classes: 160 training and 40 test images of 8 x 8 pixels, a class a bright stripe."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 10)):
        for label in range(4):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = draw.integers(0, 128, (8, 8, 3), dtype=np.uint8)
                pixels[2 * label : 2 * label + 2] += 100
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def reference(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Metrics of 4 methods x 2 seeds of EPOCHS epochs, executed on this machine without disturbance."""
    return undisturbed(images, EPOCHS, tmp_path_factory.mktemp("reference"))
