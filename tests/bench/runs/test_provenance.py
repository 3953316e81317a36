"""What a result says of the code that made it."""

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

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


def test_the_repository_of_a_hook_that_starts_us_is_not_ours(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = provenance.git_state()
    other = tmp_path_factory.mktemp("other")
    subprocess.run(["git", "-C", str(other), "init", "-q"], check=True)
    for name in ("GIT_DIR", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(other / ".git" / ("index" if name == "GIT_INDEX_FILE" else "")))
    assert expected[0] and provenance.git_state() == expected


def made_by(from_step: int, torch: str = "2.8", device: str = "cpu", **sources: str) -> dict[str, Any]:
    versions = {"torch": torch, "numpy": "2"}
    return {"from_step": from_step, "versions": versions, "device": device, "sources": sources, "git_commit": "c"}


def test_what_differs_between_two_attempts_is_named() -> None:
    before = made_by(0, raft="1", losses="1", old="1")
    now = made_by(5, torch="2.9", device="H100", raft="1", losses="2", new="1")
    expected = ["losses changed", "new changed", "old changed", "torch 2.8 -> 2.9", "cpu -> H100"]
    assert provenance.differences(before, now) == expected
    assert provenance.differences(before, {**before, "from_step": 9, "git_commit": "d"}) == []
    assert provenance.differences({"from_step": 0}, now) == []  # nobody knows


def test_attempts_that_made_no_step_are_no_part_of_a_run() -> None:
    first, idle, last = made_by(0, a="1"), made_by(4, a="2"), made_by(4, a="1")
    assert provenance.followed([first, idle], last) == ([first, last], [])
    assert provenance.followed([made_by(0, a="2")], made_by(0, a="1")) == ([made_by(0, a="1")], [])
    assert provenance.followed([first], idle) == ([first, idle], ["a changed"])


def test_a_result_tells_one_digest_an_attempt_and_what_changed() -> None:
    rows = provenance.told([made_by(0, a="1"), made_by(4, a="2"), made_by(6, a="2"), made_by(8, a="1")])
    assert [row["changed"] for row in rows] == [[], ["a changed"], [], ["a changed"]]
    assert rows[0]["code"] == rows[3]["code"] != rows[1]["code"] == rows[2]["code"]
    assert "sources" not in rows[0]


def test_sources_that_decide_numbers_are_told_from_those_that_show_or_submit_them() -> None:
    deciding = provenance.attempt(provenance.fingerprints(), "", False, torch.device("cpu"))["sources"]
    assert {"methods/losses.py", "bench/seeds.py", "bench/training/trainer.py", "bench/data/augment.py"} <= set(
        deciding
    )
    assert not [name for name in deciding if name.startswith(("slurm/", "bench/report/", "bench/tables/", "bench/cli"))]


def test_sources_that_nobody_installed_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m bench` where the sources lie: a run is none the worse for that."""

    def version(package: str) -> str:
        if package == "ssl-bench":
            raise metadata.PackageNotFoundError(package)
        return metadata.version(package)

    monkeypatch.setattr(provenance, "version", version)
    assert provenance.versions()["ssl-bench"] == "not installed"
    assert provenance.versions()["torch"] == torch.__version__.partition("+")[0]
