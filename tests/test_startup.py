"""Commands import what they need: counted in modules, as seconds depend on the machine.

Importing torch takes two seconds, timm two more, torchvision and scikit-learn one.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "sklearn", "seaborn", "matplotlib")
SESSION = """
import json, sys
from bench import cli

told = []
for command in json.loads(sys.argv[1]):
    sys.argv = ["bench", *command]
    try:
        cli.main()
    except SystemExit as left:
        code = left.code or 0
    told.append([code, sorted(set(json.loads(sys.argv_heavy)) & set(sys.modules))])
print(json.dumps(told), file=sys.stderr)
"""


def imported(commands: list[list[str]], cwd: Path) -> list[tuple[int, list[str]]]:
    """(exit code, heavy modules imported until then) after each of `commands`, run one after the other."""
    code = SESSION.replace("sys.argv_heavy", repr(json.dumps(HEAVY)))
    done = subprocess.run([sys.executable, "-c", code, json.dumps(commands)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [(code, modules) for code, modules in json.loads(done.stderr.splitlines()[-1])]


def test_help_and_lists_import_nothing_heavy(tmp_path: Path) -> None:
    commands = [["--help"], ["run", "--help"], ["sweep", "--help"]]
    commands += [["list", what] for what in ("methods", "presets", "datasets", "backbones", "keys")]
    assert imported(commands, tmp_path) == [(0, [])] * len(commands)


def test_a_wrong_command_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    wrong = [
        ["-m", "rapt"],
        ["-m", "raft", "--preset", "quik"],
        ["-m", "raft", "--set", "optim.lrr=1"],
        ["-m", "raft", "--set", "optim.lr=-1"],
        ["-m", "raft", "--set", "method.beta=x"],
        ["-m", "raft", "--set", "data.name=cifar11"],
        ["-m", "raft", "--set", "data.name=folder:nowhere"],
        ["-m", "raft", "--set", "backbone.name=resnet19"],
        ["-m", "raft", "--seeds", "zero"],
        ["-m", "raft", "--device", "tpu"],
        ["-m", "raft", "--log", "paper"],
        ["-m", "raft", "--experiment", "../x"],
    ]
    assert imported([["run", *words] for words in wrong], tmp_path) == [(2, [])] * len(wrong)
    assert not list(tmp_path.iterdir())


def test_a_finished_experiment_is_reported_without_torch(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "results").symlink_to(finished)
    commands = [
        ["run", "-m", "random", "--seeds", "2", "--set", "data.size=8"],
        ["status", "quick"],
        ["report", "quick", "--format", "csv,md,tex"],
    ]
    assert imported(commands, tmp_path) == [(0, [])] * len(commands)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of `bench run -m random --seeds 2 --set data.size=8`."""
    folder = tmp_path_factory.mktemp("finished")
    command = [str(Path(sys.executable).with_name("bench")), "run", "-m", "random", "--seeds", "2"]
    done = subprocess.run([*command, "--set", "data.size=8", "--jobs", "1"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "results"
