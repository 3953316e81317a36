"""Of the runs that a search leaves, the sweep file comes out that plans it: in stages, on the same seeds."""

from pathlib import Path
from typing import Any

import pytest

from bench.planning import sweep_file
from bench.planning.as_sweep import PART, sweeps

FILE = """method = ["raft", "byol", "random"]
seeds = 2
[set]
train.epochs = 27
{table}
[[entry]]
label = "no predictor"
method = "raft"
set = {{ "method.predictor" = "none" }}
"""
DRAWN = (
    "[search]\npoints = 4\n[search.from]\noptim.lr = { log = [0.03, 3] }\noptim.momentum = { uniform = [0.5, 0.9] }\n"
)
LISTED = "[search]\npoints = 3\nseeds = [7, 9]\nepochs = 4\n[search.from]\noptim.lr = [0.1, 0.2, 0.4, 0.8]\n"
HALVING = "[search]\npoints = 8\nseeds = 1\nhalving = 4\n[search.from]\noptim.lr = { log = [0.02, 4] }\n"
IN_THREE = "[search]\npoints = 10\nepochs = 18\nhalving = 3\n[search.from]\noptim.lr = { log = [0.02, 4] }\n"
GRID = "[search]\nseeds = 2\nepochs = 10\n[grid]\noptim.lr = [0.1, 1e-4]\noptim.momentum = [0.5, 0.9]\n"
SIZES = [(DRAWN, [4]), (LISTED, [3]), (HALVING, [8, 2]), (IN_THREE, [10, 4, 2]), (GRID, [4])]


def plan(path: Path, text: str) -> list[dict[str, Any]]:
    path.write_text(text)
    return sweep_file.planned(path, sweep_file.options(path, {}))


def name(run: dict[str, Any]) -> str:
    return str(run.get("entry") or run["method"])


def left(runs: list[dict[str, Any]], sizes: list[int]) -> list[dict[str, Any]]:
    """What is on disk when the search is over, if each stage was won by the last points of the one before."""
    of_search = [run for run in runs if "search" in run]
    lengths = sorted({run["config"]["train"]["epochs"] for run in of_search})
    assert len(lengths) == len(sizes)
    found, won = [], set()
    for entry in {name(run) for run in of_search}:
        points = list(dict.fromkeys(run["search"]["for"] for run in of_search if name(run) == entry))
        won.add(points[-1])
        for epochs, size in zip(lengths, sizes, strict=True):
            kept = points[-size:]
            found += [r for r in of_search if r["config"]["train"]["epochs"] == epochs and r["search"]["for"] in kept]
    return found + [r for r in runs if "search" not in r and (r["config_hash"] in won or r["method"] == "random")]


def told(runs: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """All that makes a run, its row and its stage."""
    return {(run["run_id"], name(run), *run.get("entry_keys", []), str(run.get("search"))) for run in runs}


@pytest.mark.parametrize(("table", "sizes"), SIZES)
def test_one_file_plans_the_search_again(tmp_path: Path, table: str, sizes: list[int]) -> None:
    runs = plan(tmp_path / "a.toml", FILE.format(table=table))
    (again,) = sweeps(left(runs, sizes), "quick", 1.5)
    assert told(plan(tmp_path / "b.toml", again)) == told(runs)
    first, second = (sweep_file.options(tmp_path / f"{which}.toml", {}) for which in "ab")
    assert (second.search, second.seeds, second.margin) == ({"seeds": "2"} | first.search, first.seeds, 1.5)


def test_what_its_entries_left_without_a_winner_searched_is_told_by_the_others(tmp_path: Path) -> None:
    """No run of BYOL's search succeeded, so none of the report is there."""
    runs = plan(tmp_path / "a.toml", FILE.format(table=LISTED))
    there = [run for run in left(runs, [3]) if name(run) != "byol" or "search" in run]
    (again,) = sweeps(there, "quick")
    assert told(plan(tmp_path / "b.toml", again)) == told(runs)


def test_runs_beside_the_search_have_files_of_their_own(tmp_path: Path) -> None:
    runs = left(plan(tmp_path / "a.toml", FILE.format(table=DRAWN)), [4])
    other = plan(tmp_path / "b.toml", 'method = "simclr"\nseeds = 3\n')
    texts = sweeps([*runs, *other], "quick")
    again = [run for i, text in enumerate(texts) for run in plan(tmp_path / f"again{i}.toml", text)]
    assert len(texts) == 2 and told(runs + other) <= told(again)


def test_a_search_that_is_not_over_is_planned_as_plain_runs_and_that_is_said(tmp_path: Path) -> None:
    """Which seeds would be reported, and after how many epochs, no run tells."""
    runs = [run for run in plan(tmp_path / "a.toml", FILE.format(table=LISTED)) if "search" in run]
    texts = sweeps(runs, "quick")
    assert all(text.startswith(PART) for text in texts)
    again = [run for i, text in enumerate(texts) for run in plan(tmp_path / f"again{i}.toml", text)]
    assert {run["run_id"] for run in again} == {run["run_id"] for run in runs}
