"""A checkpoint is read back whole, or reported and the one before it is used."""

import zipfile
from pathlib import Path

import pytest
import torch

from bench.errors import UserError
from bench.runs.store import RunDir
from bench.training import checkpoint


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "raft-0-s0").mkdir()
    run = RunDir(tmp_path / "raft-0-s0")
    checkpoint.save(run, {"step": 1, "weights": torch.arange(1000.0)})
    checkpoint.save(run, {"step": 2, "weights": torch.arange(1000.0) + 1})
    return run


def test_the_newest_is_read_back(run: RunDir) -> None:
    state, problems = checkpoint.load(run)
    assert state is not None
    assert state["step"] == 2
    assert torch.equal(state["weights"], torch.arange(1000.0) + 1)
    assert not problems


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a flipped bit in a tensor":
        at = content.index(torch.arange(1000.0)[500:510].add(1).numpy().tobytes())
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "empty", "a flipped bit in a tensor"])
def test_a_damaged_one_is_reported_and_the_previous_one_used(run: RunDir, how: str) -> None:
    damage(run.checkpoint, how)
    state, problems = checkpoint.load(run)
    assert state is not None
    assert state["step"] == 1
    (problem,) = problems
    assert problem.startswith("checkpoint.pt is damaged")


def test_killed_between_the_two_renames_the_previous_one_is_there(run: RunDir) -> None:
    run.checkpoint.replace(run.previous_checkpoint)
    state, problems = checkpoint.load(run)
    assert state is not None
    assert not problems


def test_without_a_readable_one_training_begins_anew(run: RunDir) -> None:
    damage(run.checkpoint, "truncated")
    damage(run.previous_checkpoint, "empty")
    state, problems = checkpoint.load(run)
    assert state is None
    assert len(problems) == 2


def test_another_runs_checkpoint_is_not_taken(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "raft-0-s1").mkdir()
    other = RunDir(tmp_path / "raft-0-s1")
    other.checkpoint.write_bytes(run.checkpoint.read_bytes())
    state, (problem,) = checkpoint.load(other)
    assert state is None
    assert "belongs to raft-0-s0" in problem


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"run_id": "raft-0-s0", "attack": Path("x")}, "it holds more than tensors, numbers and text"),  # not executed
        ({"step": 2}, "it lacks 'run_id'"),
        ([1, 2], "list indices must be integers"),
    ],
)
def test_a_whole_one_of_another_version_is_refused_and_stays(run: RunDir, content: object, reason: str) -> None:
    torch.save(content, run.checkpoint)
    kept = run.checkpoint.read_bytes()
    with pytest.raises(UserError) as caught:
        checkpoint.load(run)
    assert str(caught.value).startswith("checkpoint.pt was written by another version of the program")
    assert reason in str(caught.value)
    assert "move it away to train from the beginning" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert run.checkpoint.read_bytes() == kept


def test_one_that_a_newer_torch_wrote_is_refused_and_stays(run: RunDir) -> None:
    with zipfile.ZipFile(run.checkpoint) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(run.checkpoint, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, b"9999\n" if name.endswith("/version") else content)
    with pytest.raises(UserError, match=r"version of the program, of a method or of torch .*9999"):
        checkpoint.load(run)
    assert run.checkpoint.exists()


def test_one_that_the_file_system_does_not_give_is_not_taken_for_damaged(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(PermissionError):
        checkpoint.load(run)
    assert run.checkpoint.exists() and run.previous_checkpoint.exists()


def test_after_a_fallback_a_damaged_one_does_not_become_the_previous_one(run: RunDir) -> None:
    damage(run.checkpoint, "truncated")
    checkpoint.load(run)  # falls back to step 1
    checkpoint.save(run, {"step": 2, "weights": torch.zeros(3)})
    damage(run.checkpoint, "truncated")
    state, _ = checkpoint.load(run)
    assert state is not None
    assert state["step"] == 1
