"""Runs that are executed once for all tests."""

from pathlib import Path

import pytest
from export_runs import execute

from bench.runs.store import RunDir


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small/: two seeds of BYOL and one of an untrained network, on a stem for small images."""
    results = tmp_path_factory.mktemp("export") / "results"
    execute(results / "small", ["byol"], (0, 1))
    execute(results / "small", ["random"])
    return results


@pytest.fixture(scope="session")
def timms_own(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of BYOL on a network as timm builds it."""
    experiment = tmp_path_factory.mktemp("export") / "results" / "own"
    (run,) = execute(experiment, ["byol"], backbone__name="test_resnet", backbone__stem="imagenet")
    return run
