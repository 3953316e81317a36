"""Processes of this program run its code and Python's, whatever lies in the working directory."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.planning import plan
from bench.runs import store
from bench.training import start, workers
from bench.training.orders import Orders

HOSTILE = ("bench", "queue", "random", "platform", "signal", "token", "torch", "numpy", "machine")
SHOW = """
import json, os, random, subprocess, sys
import bench, methods, slurm.cancel, theirs
child = subprocess.run([sys.executable, "-c", "import random; print(random.__file__)"], capture_output=True, text=True)
files = [m.__file__ for m in (bench, methods, slurm, random, theirs)]
openmp = {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "GOMP_"))}
found = {"files": files, "child": child.stdout.strip(), "argv": sys.argv[1:], "name": __name__, "openmp": openmp}
print(json.dumps(found))
"""
STDLIB = Path(os.__file__).parent


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that are called like ours, like Python's and like packages that we need."""
    folder = tmp_path / "hostile"
    for package in ("methods", "slurm", "rich"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise RuntimeError('hostile')")
    for name in HOSTILE:
        (folder / f"{name}.py").write_text("raise RuntimeError('hostile')")
    monkeypatch.chdir(folder)
    return folder


def shown(folder: Path, path: str, *arguments: str, **environment: str) -> Mapping[str, Any]:
    folder.mkdir()
    (folder / "show.py").write_text(SHOW)
    (folder / "theirs.py").write_text("")
    for package in ("bench", "methods", "slurm"):
        (folder / f"{package}.py").write_text("raise RuntimeError('hostile')")
    done = subprocess.run(
        [sys.executable, start.__file__, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_modules_are_ours_and_pythons_and_pythonpath_still_serves_others(hostile: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    found = shown(theirs, f"{theirs}", "-u", "-m", "show", "-m", "x", OMP_PROC_BIND="true", GOMP_CPU_AFFINITY="0")
    root = Path(bench.__file__).parents[1]
    assert found == {
        "files": [
            *(str(root / name / "__init__.py") for name in ("bench", "methods", "slurm")),
            str(STDLIB / "random.py"),
            str(theirs / "theirs.py"),
        ],
        "child": str(STDLIB / "random.py"),
        "argv": ["-m", "x"],
        "name": "__main__",
        "openmp": {"OMP_WAIT_POLICY": "PASSIVE"},
    }


@pytest.mark.parametrize("accident", [":", ".:", ""])
def test_the_working_directory_in_pythonpath_is_left_out_unless_it_is_named(
    accident: str, hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [start.HERE, *([str(hostile)] if accident else []), "/env", str(STDLIB)])
    monkeypatch.setenv("PYTHONPATH", f"{accident}/env")
    start.clean_path()
    assert sys.path == [str(STDLIB), "/env"]
    assert os.environ["PYTHONPATH"] == "/env"
    monkeypatch.setattr(sys, "path", [str(hostile), str(STDLIB)])
    monkeypatch.setenv("PYTHONPATH", f"{accident}{hostile}")
    start.clean_path()
    assert sys.path == [str(STDLIB), str(hostile)]


def test_where_installed_files_are_links_the_folder_behind_them_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "start.py").touch()
    (tmp_path / "start.py").symlink_to(tmp_path / "store" / "start.py")
    monkeypatch.setattr(start, "__file__", str(tmp_path / "start.py"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "store"), str(STDLIB)])
    start.clean_path()
    assert sys.path == [str(STDLIB)]


def orders(run: store.RunDir) -> Orders:
    return Orders([str(run.path)], str(run.path.parent), "cpu", command="test", commit="", dirty=False)


def test_a_worker_works_in_a_directory_with_hostile_files(hostile: Path) -> None:
    settings = {"data.size": "8", "train.epochs": "1"}
    (run,) = plan.write(plan.plan(["random"], [0], "quick", settings, {}, "x"), hostile)
    (process,) = workers.LocalWorkers(orders(run), 1, ["cpu"]).processes
    assert process.wait(60) == 0
    assert store.read_run(run).state == "done"
