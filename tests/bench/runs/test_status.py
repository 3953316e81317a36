"""`bench status`: the truth about runs from their directories, and a scheduler's word only on what is not done."""

import io
import json
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from fake_results import write_json
from rich.console import Console

from bench.runs import status
from bench.runs.claim import Claim
from bench.runs.status import Job
from bench.runs.store import RunDir

CONFIG = {"config": {"train": {"epochs": 30}}}


def make(experiment: Path, name: str, **files: object) -> RunDir:
    run = RunDir(experiment / "runs" / name)
    run.path.mkdir(parents=True)
    for file, content in {"config.json": CONFIG, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (run.path / file).write_text(text)
    return run


def nobody(experiment: Path, runs: Collection[str], keys: Collection[str]) -> tuple[dict[str, Job], list[str]]:
    return {}, []


def found(experiment: Path, ask: status.Ask = nobody) -> dict[str, tuple[str, str]]:
    return {run.run_id: (run.state, run.detail) for run in status.survey(experiment, ask).runs}


def test_directories_alone_tell_most(tmp_path: Path) -> None:
    make(tmp_path, "a", **{"result.json": {}, "error.txt": "old"})
    make(tmp_path, "b", **{"error.txt": "non-finite loss at step 3\nTraceback"})
    make(tmp_path, "c")
    (make(tmp_path, "d", **{"log.txt": "lost its plan"}).path / "config.json").unlink()
    (make(tmp_path, "f").path / "config.json").unlink()  # planning was killed before it wrote the plan
    row = {"epoch": 12, "seconds": 60.0, "step": 3}
    with Claim.acquire(make(tmp_path, "e", **{"metrics.jsonl": json.dumps(row) + "\n"}).path) as claim:  # type: ignore[union-attr]
        states = found(tmp_path)
        assert states["e"] == ("running", f"epoch 12/30, 90 s left, on {claim.owner['host']}")
    assert {name: state for name, (state, _) in states.items()} == {
        "a": "done",
        "b": "failed",
        "c": "planned",
        "d": "damaged",
        "f": "planned",
        "e": "running",
    }
    assert states["b"][1] == "non-finite loss at step 3"
    assert found(tmp_path)["e"] == ("interrupted", "after epoch 12")


@pytest.mark.parametrize(
    ("job", "state"),
    [
        ("queued", "queued"),
        ("running", "queued"),
        ("ended", "lost"),
        ("cancelled", "cancelled"),
        ("unknown", "unknown"),
    ],
)
def test_the_scheduler_is_asked_about_what_nobody_executes(tmp_path: Path, job: str, state: str) -> None:
    make(tmp_path, "done", **{"result.json": {}})
    make(tmp_path, "failed", **{"error.txt": "why"})
    make(tmp_path, "waiting")

    def ask(experiment: Path, runs: Collection[str], keys: Collection[str]) -> tuple[dict[str, Job], list[str]]:
        assert (experiment, list(runs)) == (tmp_path, ["waiting"])
        return {"waiting": Job(job, "job 7")}, ["a note"]  # type: ignore[arg-type]

    assert found(tmp_path, ask)["waiting"] == (state, "job 7")
    assert status.survey(tmp_path, ask).notes == ["a note"]


def test_what_is_shown(tmp_path: Path) -> None:
    for i in range(25):
        make(tmp_path, f"run-{i:02}")
    make(tmp_path, "bad", **{"error.txt": "[red]why[/red]"})
    out = io.StringIO()
    code = status.show([tmp_path], nobody, Console(file=out, width=60), watch=False)
    lines = out.getvalue().splitlines()
    assert code == 1
    assert lines[0] == f"{tmp_path.name}: 26 runs: 1 failed, 25 planned"
    assert lines[1].split() == ["bad", "failed", "[red]why[/red]"]
    assert lines[-1].split() == ["and", "15", "more", "planned"] and len(lines) == 13


def test_what_is_shown_has_its_label(tmp_path: Path) -> None:
    make(tmp_path, "a", **{"config.json": {**CONFIG, "entry": "RAFT, no predictor"}})
    make(tmp_path, "b", **{"config.json": {**CONFIG, "entry": "mine\n"}, "error.txt": "no luck"})
    for name, content in {"c": "[]", "d": "{", "e": '{"entry": 3}'}.items():
        make(tmp_path, name, **{"config.json": content})
    out = io.StringIO()
    status.show([tmp_path], nobody, Console(file=out, width=80), watch=False)
    assert {line.split()[0]: line.split(maxsplit=2)[2:] for line in out.getvalue().splitlines()[1:]} == {
        "a": ["RAFT, no predictor"],
        "b": [r"mine\n: no luck"],
        **{name: [] for name in "cde"},
    }


def test_watching_ends_when_nothing_will_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, "a")
    monkeypatch.setattr(status, "WATCH_SECONDS", 0.1)
    asked = []

    def ask(experiment: Path, runs: Collection[str], keys: Collection[str]) -> tuple[dict[str, Job], list[str]]:
        asked.append(1)
        if len(asked) == 3:
            run.result.write_text("{}")
        return {"a": Job("queued", "")}, []

    assert status.show([tmp_path], ask, Console(file=io.StringIO()), watch=True) == 0
    assert len(asked) == 3


def test_a_run_that_ends_while_the_scheduler_answers_is_done(tmp_path: Path) -> None:
    run = make(tmp_path, "a", **{"claim-1.json": {"released": True}})

    def ask(experiment: Path, runs: Collection[str], keys: Collection[str]) -> tuple[dict[str, Job], list[str]]:
        run.result.write_text("{}")
        return {"a": Job("ended", "job 7: COMPLETED")}, []

    assert found(tmp_path, ask) == {"a": ("done", "")}


def test_an_empty_result_is_damage(tmp_path: Path) -> None:
    make(tmp_path, "a").result.write_text("")
    state, reason = found(tmp_path)["a"]
    assert state == "damaged" and "empty" in reason


def test_a_run_costs_a_listing_and_what_its_state_needs(
    tmp_path: Path, work: Callable[[Callable[[], object]], Counter[str]]
) -> None:
    """There may be thousands, on a slow disk."""
    for i in range(400):
        folder = tmp_path / "runs" / f"raft-0123abcd-s{i}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        if i % 4:
            (folder / "claim-1.json").write_text('{"released": true}')
        if i % 4 > 1:
            (folder / "result.json").write_text("{}")
        if i % 4 == 1:
            (folder / "error.txt").write_text("why\n")
    assert status.survey(tmp_path, nobody).counts == {"planned": 100, "failed": 100, "done": 200}
    calls = work(lambda: status.survey(tmp_path, nobody))
    assert calls["listdir"] == 400
    assert calls["open"] <= 100 + 300  # why the failed ones did; claims
    assert calls.total() < 400 * 120


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_state_is_cut_off_by_a_narrow_terminal(tmp_path: Path, width: int) -> None:
    make(tmp_path, "a_method_with_a_long_name-01234567-s0", **{"error.txt": "non-finite loss at step 3"})
    shown = io.StringIO()
    status.show([tmp_path], nobody, Console(file=shown, width=width), watch=False)
    (line,) = [line for line in shown.getvalue().splitlines() if "a_method" in line]
    assert line.split() == [
        "a_method_with_a_long_name-01234567-s0",
        "failed",
        *["non-finite", "loss", "at", "step", "3"],
    ]
    shown = io.StringIO()
    Console(file=shown, width=width).print(status.render([status.survey(tmp_path, nobody)]))  # as --watch shows it
    assert "failednon-finitelossatstep3" in "".join(shown.getvalue().split())


def searching(experiment: Path, over: int, winners: dict[str, str], job: Job | None = None) -> str:
    """What is said of a search of two runs, so many of them over, and of its winners' runs: name -> file."""
    experiment.mkdir()
    write_json(experiment / "experiment.json", {"schema": 1, "margin": None, "search_seeds": [10000]})
    for i in range(2):
        make(experiment, f"raft-{i:08}-s10000", **({"error.txt": "no luck"} if i < over else {}))
    for name, file in winners.items():
        make(experiment, name, **({file: {}} if file else {}))

    def ask(_: Path, runs: Collection[str], __: Collection[str]) -> tuple[dict[str, Job], list[str]]:
        return ({"search": job} if job and "search" in runs else {}), []

    out = io.StringIO()
    status.show([experiment], ask, Console(file=out, width=300), watch=False)
    (line,) = (line for line in out.getvalue().splitlines() if line.startswith("  search "))
    return line.strip()


def test_where_a_search_stands(tmp_path: Path) -> None:
    begun = "search on seeds 10000: {} of 2 runs have ended; its winners then run on other seeds"
    assert searching(tmp_path / "a", 1, {}) == begun.format(1)
    assert searching(tmp_path / "b", 2, {}) == begun.format(2) + "; the same command goes on"
    waits = Job("queued", "job 7 (Dependency)")
    told = "; the job that goes on with it: {}, job 7"
    assert searching(tmp_path / "c", 1, {}, waits) == begun.format(1) + told.format("queued") + " (Dependency)"
    ended = Job("ended", "job 7: the search is not over")
    assert searching(tmp_path / "d", 1, {}, ended) == begun.format(1) + told.format("lost") + ": the search is not over"
    winners = {"raft-00000000-s0": "result.json", "raft-00000000-s1": ""}
    over = "search over (on seeds 10000); of the runs of its winners 1 of 2 have ended"
    assert searching(tmp_path / "e", 2, winners) == over
