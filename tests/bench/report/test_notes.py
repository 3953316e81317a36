"""Footnotes on what the runs of one table were not all made with."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_experiment, fake_run, write_json

from bench.report.notes import notes
from bench.report.write import write
from bench.tables.leaderboard import collect

OTHER = "fedcba9876543210fedcba9876543210fedcba98"
VERSIONS = {"python": "3.11.7", "torch": "2.15.0", "ssl-bench": "0.1.0"}


def remade(run: Path, **provenance: Any) -> None:
    """Change what a run says that it was made with."""
    result = json.loads((run / "result.json").read_text())
    write_json(run / "result.json", {**result, "provenance": {**result["provenance"], **provenance}})


def said(results: Path, n_runs: dict[str, int], changed: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    """The notes on such differences, of a table of these methods and numbers of seeds."""
    for method, n in n_runs.items():
        for seed in range(n):
            run = fake_run(results / "e", method, seed, epochs=2)
            remade(run, **changed.get((method, seed), {}))
    tables = collect(results, ["e"])
    return [note for note in notes(tables, tables.leaderboard) if note.startswith("NOT MADE ALIKE")]


def test_runs_that_were_made_alike_have_no_note(tmp_path: Path) -> None:
    elsewhere = {"host": "otherbox", "started": "2025-02-01T10:00:00+00:00", "command": "bench run --method byol"}
    assert said(tmp_path, {"raft": 3, "byol": 3}, {("byol", 1): elsewhere}) == []


@pytest.mark.parametrize(
    ("provenance", "told"),
    [
        ({"git_commit": OTHER}, "commit 01234567, but fedcba98 (BYOL seed 1)"),
        ({"git_dirty": True}, "commit 01234567, but 01234567 with uncommitted changes (BYOL seed 1)"),
        ({"git_commit": ""}, "commit 01234567, but not recorded (BYOL seed 1)"),
        ({"versions": VERSIONS}, "torch 2.14.1, but 2.15.0 (BYOL seed 1)"),
        ({"device": "NVIDIA H100"}, "device cpu (made-up processor), but NVIDIA H100 (BYOL seed 1)"),
        ({"threads": 8}, "threads 1, but 8 (BYOL seed 1)"),
    ],
)
def test_what_one_run_was_made_with_otherwise_is_told(tmp_path: Path, provenance: dict[str, Any], told: str) -> None:
    found = said(tmp_path, {"raft": 3, "byol": 3}, {("byol", 1): provenance})
    assert found == [f"NOT MADE ALIKE: {told}. Differences may come from that, too."]


def test_a_whole_method_is_named_without_its_seeds_and_many_values_are_counted(tmp_path: Path) -> None:
    changed: dict[tuple[str, int], dict[str, Any]] = {("byol", seed): {"git_commit": OTHER} for seed in range(3)}
    changed |= {("raft", seed): {"device": f"cpu (processor {seed})"} for seed in range(5)}
    (note,) = said(tmp_path, {"simclr": 5, "byol": 3, "raft": 5}, changed)
    assert "commit 01234567, but fedcba98 (BYOL); device cpu (made-up processor), but " in note
    assert "cpu (processor 2) (RAFT seed 2), 2 more (runs.csv). Differences" in note


@pytest.mark.parametrize("changed", [[], ["methods/losses.py changed", "torch 2.14.1 -> 2.15.0"]])
def test_a_run_that_other_code_went_on_with_is_told(tmp_path: Path, changed: list[str]) -> None:
    attempts = [{"from_step": 0, "changed": []}, {"from_step": 120, "changed": changed}]
    remade(fake_run(tmp_path / "e", "byol", 1, epochs=2), attempts=attempts)
    tables = collect(tmp_path, ["e"])
    told = [note for note in notes(tables, tables.leaderboard) if "went on" in note]
    expected = (
        "BYOL seed 1 went on otherwise than it began: from step 120: methods/losses.py changed, torch 2.14.1 -> 2.15.0."
    )
    assert told == [expected] * bool(changed)


def test_every_output_says_so(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "e", epochs=2)
    for run in (tmp_path / "e" / "runs").glob("raft-*-s[12]"):
        remade(run, device="NVIDIA H100", git_commit=OTHER, git_dirty=True)
    for path in write(tmp_path, ["e"], ["md", "tex", "html"]):
        assert "NOT MADE ALIKE" in path.read_text().replace("-{}", "-"), path
        assert "RAFT seeds 1-2" in path.read_text().replace("-{}", "-"), path


def test_what_a_collapse_does_to_intervals_is_told_where_some_seeds_did(tmp_path: Path) -> None:
    for seed in range(3):
        fake_run(tmp_path / "e", "byol", seed, collapsed=seed == 1)
        fake_run(tmp_path / "e", "raft", seed, collapsed=True)
        fake_run(tmp_path / "e", "simclr", seed)
    tables = collect(tmp_path, ["e"])
    (told,) = [line for line in notes(tables, tables.leaderboard) if line.startswith("Some seeds collapsed")]
    assert told.startswith("Some seeds collapsed of BYOL: such a mean is of two outcomes")
    assert f"no collapse in {100 * 0.9**5:.0f} % of tables of 5 seeds" in told


def test_weights_to_begin_with_are_named(tmp_path: Path) -> None:
    def told(methods: list[str]) -> list[str]:
        for method in ("raft", "byol"):
            for seed in range(3):
                run = fake_run(tmp_path / str(len(methods)) / "e", method, seed, epochs=2)
                if method in methods:
                    planned = json.loads((run / "config.json").read_text())
                    planned["config"]["backbone"] |= {"weights": "file:/a/moco.pth", "weights_hash": "0123abcd4567ef89"}
                    write_json(run / "config.json", planned)
        tables = collect(tmp_path / str(len(methods)), ["e"])
        found = notes(tables, tables.leaderboard)
        return [note.partition(". Differences")[0] for note in found if "weights" in note]

    of_all = "Trained on from weights that are the same for all seeds: file:moco.pth@0123abcd"
    assert told([]) == []
    assert told(["byol"]) == [
        f"{of_all} (BYOL).",
        "NOT TRAINED ALIKE: backbone.weights_hash = 0123abcd4567ef89 (BYOL), none (RAFT)",
    ]
    assert told(["raft", "byol"]) == [f"{of_all}."]


def test_arguments_of_a_backbone_are_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "byol", 0, epochs=2)
    network = {"name": "vit_tiny_patch16_224", "args": {"patch_size": 4}}
    planned, result = (json.loads((run / name).read_text()) for name in ("config.json", "result.json"))
    planned["config"]["backbone"] |= network
    write_json(run / "config.json", planned)
    write_json(run / "result.json", {**result, "backbone": "vit_tiny_patch16_224 (patch_size=4)"})
    tables = collect(tmp_path, ["e"])
    assert "Backbone: vit_tiny_patch16_224 (patch_size=4)." in notes(tables, tables.leaderboard)
    assert tables.runs["backbone"].tolist() == ["vit_tiny_patch16_224 (patch_size=4)"]


def test_probes_that_chose_an_end_of_their_grid_are_counted(tmp_path: Path) -> None:
    strengths = {"inside": (0.1, 1e-5, 1.0), "ends": (1e-6, 10.0, 1e-6)}  # the grid: 10, 1, ... 1e-6
    for name, chosen in strengths.items():
        for seed, l2 in enumerate(chosen):
            fake_run(tmp_path / name, "byol", seed, epochs=2, linear_l2=l2)
    told = "Of 3 linear probes 2 with L2 strength 1e-06 and 1 with L2 strength 10, an end of the grid"
    for name, expected in (("inside", 0), ("ends", 1)):
        tables = collect(tmp_path, [name])
        assert sum(note.startswith(told) for note in notes(tables, tables.leaderboard)) == expected
