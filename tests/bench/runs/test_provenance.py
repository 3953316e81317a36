"""What a result says of the code that made it."""

import subprocess
from pathlib import Path

import pytest

from bench.runs import provenance


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of this program's shape with everything committed."""
    for name in (
        "bench/provenance.py",
        "results/reference/a/experiment.toml",
        "results/reference/a/runs.csv",
        "results/reference/a/b.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    for command in ("init -q", "add .", "-c user.name=x -c user.email=x@y commit -q -m x"):
        subprocess.run(["git", "-C", str(tmp_path), *command.split()], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def test_tables_and_figures_that_a_report_wrote_leave_the_code_clean(repository: Path) -> None:
    for name in ("results/reference/a/runs.csv", "results/reference/a/b.png"):
        (repository / name).write_text("2")
    commit, dirty = provenance.git_state()
    assert len(commit) == 40 and not dirty


@pytest.mark.parametrize("name", ["bench/provenance.py", "results/reference/a/experiment.toml"])
def test_changed_code_or_a_changed_experiment_file_is_dirty(repository: Path, name: str) -> None:
    (repository / name).write_text("2")
    assert provenance.git_state()[1]


def test_outside_of_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.git_state() == ("", False)
