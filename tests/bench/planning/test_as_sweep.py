"""Sweep files written from runs plan just these runs."""

from pathlib import Path
from typing import Any

import pytest

from bench.planning import sweep_file
from bench.planning.as_sweep import sweeps

PLAIN = 'method = ["raft", "byol"]\nseeds = 3\n'
GRID = '[grid]\noptim.lr = [0.5, 1e-4]\nmethod.tau = [0.9, "0.990"]\n'
ENTRIES = """method = "simclr"
seeds = [4, 7]
margin = 1.5
[set]
train.epochs = 3
train.compile = false
[[entry]]
label = 'RAFT, "no" predictor'
method = "raft"
set = { "method.predictor" = "none" }
[[entry]]
method = "raft"
set = { "method.beta" = 0 }
"""


def plan(path: Path, text: str) -> list[dict[str, Any]]:
    path.write_text(text)
    return sweep_file.planned(path, sweep_file.options(path, {}))


def told(runs: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """All that makes a run and its row; "0.990" and "0.99" are one setting."""
    return {(run["run_id"], run["experiment"], run.get("entry", ""), *run.get("entry_keys", [])) for run in runs}


@pytest.mark.parametrize("text", [PLAIN, PLAIN + GRID, ENTRIES, ENTRIES.replace("[[", GRID + "[[", 1)])
def test_what_a_file_plans_is_written_as_one_file(tmp_path: Path, text: str) -> None:
    if "simclr" in text:
        text = text.replace("method.tau = [0.9", "optim.momentum = [0.8")
    runs = plan(tmp_path / "a.toml", text)
    (again,) = sweeps(runs, runs[0]["experiment"], 1.5 if "margin" in text else None)
    assert told(plan(tmp_path / "b.toml", again)) == told(runs)
    assert sweep_file.options(tmp_path / "b.toml", {}).margin == (1.5 if "margin" in text else None)
    assert "[grid]" in again or "[grid]" not in text


def test_what_was_not_searched_alike_or_on_other_seeds_needs_several_files(tmp_path: Path) -> None:
    runs = plan(tmp_path / "a.toml", PLAIN) + plan(tmp_path / "b.toml", 'method = "byol"\nseeds = 5\n')
    runs += plan(tmp_path / "c.toml", 'method = "raft"\nseeds = 3\n[grid]\noptim.lr = [0.1, 0.5]\n')
    texts = sweeps(runs, "quick")
    again = [run for i, text in enumerate(texts) for run in plan(tmp_path / f"again{i}.toml", text)]
    assert told(again) == told(runs) and len(texts) == 4  # BYOL, and RAFT at its preset's and two other rates


def test_a_part_of_a_grid_is_no_grid(tmp_path: Path) -> None:
    runs = plan(tmp_path / "a.toml", 'method = "byol"\n' + GRID)[:3]
    texts = sweeps(runs, "quick")
    again = [run for i, text in enumerate(texts) for run in plan(tmp_path / f"again{i}.toml", text)]
    assert told(again) == told(runs) and len(texts) == 3
