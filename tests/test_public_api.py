"""What bench/README.md lists as public is there, and its examples run as they stand."""

import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from methods import METHODS

README = (Path(__file__).parent.parent / "bench" / "README.md").read_text()
PUBLIC = re.findall(r"^\| `([\w.]+)` \|", README, re.MULTILINE)
FIRST, SECOND = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MINE = """
from methods.byol import BYOL, BYOLConfig


class MineConfig(BYOLConfig):
    strength: float = 2.0


class Mine(BYOL):
    Config = MineConfig

    def forward(self, x1, x2):
        return {"loss": self.config.strength * super().forward(x1, x2)["loss"]}
"""

Example = Callable[[str], dict[str, Any]]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    """Runs example code in an empty folder; returns the names that it leaves."""
    monkeypatch.chdir(tmp_path)

    def run(code: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        exec(code, names)
        return names

    return run


def test_there_is_a_public_surface_and_it_is_small() -> None:
    assert {"bench.backbone.load", "bench.tables.leaderboard.collect", "bench.training.launch.local"} <= {*PUBLIC}
    assert len(PUBLIC) == len({*PUBLIC}) <= 15


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_exists_and_says_what_it_does(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert getattr(import_module(module), attribute).__doc__


@pytest.mark.slow
def test_a_plan_is_run_from_python_and_its_encoder_and_tables_are_read(example: Example) -> None:
    left = example(FIRST)
    assert left["code"] == 0
    assert left["tables"].leaderboard["method"].tolist() == ["raft"]
    assert left["tables"].runs["state"].tolist() == ["done", "done"]
    assert left["model"](torch.zeros(2, 3, 8, 8)).shape == (2, 128)


@pytest.mark.slow
def test_a_method_of_another_package_runs_in_this_process(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path("my_package")
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setattr(METHODS, "places", dict(METHODS.places))
    imports, _, _ = FIRST.partition("results = ")
    left = example(f"{imports}\nresults = Path('results')\n{SECOND}")
    (row,) = left["collect"](left["results"], ["mine"]).runs.to_dict("records")
    assert row["state"] == "done" and row["method"] == "mine"
    assert left["request"].planned[0]["config"]["method"]["strength"] == 2.0
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]
