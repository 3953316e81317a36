"""Run directories say truthfully where a run stands, whatever happened to them."""

import errno
import json
import os
from pathlib import Path

import pytest
from fake_results import fake_result

from bench.errors import UserError
from bench.files import dump_json, parse_json, write_atomic
from bench.runs import store
from bench.runs.claim import Claim
from bench.runs.store import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    planned = {"schema": 1, "run_id": "raft-00000000-s0", "experiment": "x", "seed": 0}
    return store.plan_run(tmp_path / "x", planned)


def finish(run: RunDir, **changes: object) -> None:
    write_atomic(run.result, dump_json(fake_result(run.run_id, **changes)).encode())


def test_a_run_goes_from_planned_to_done(run: RunDir) -> None:
    assert store.read_run(run).state == "planned"
    claim = Claim.acquire(run.path)
    assert claim is not None
    with claim:
        assert store.read_run(run).state == "running"
    assert store.read_run(run).state == "interrupted"
    finish(run)
    assert store.read_run(run).state == "done"


def test_folders_that_we_may_not_enter_are_no_experiments(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost+found").mkdir()
    is_dir = Path.is_dir

    def refused(path: Path) -> bool:
        if path.parent.name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refused)
    assert store.experiments(tmp_path) == ["x"]


def test_an_experiment_that_we_may_not_list(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match="x/runs: Permission denied"):
        store.run_dirs(tmp_path / "x")


def test_a_failed_run_tells_its_reason(run: RunDir) -> None:
    run.error.write_text("non-finite loss at step 3\nTraceback ...\n")
    record = store.read_run(run)
    assert (record.state, record.error) == ("failed", "non-finite loss at step 3")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 1}', '{"schema": 99, "run_id": "raft-00000000-s0"}', "NaN"]
)
def test_a_damaged_result_is_neither_done_nor_a_crash(run: RunDir, content: str) -> None:
    run.result.write_text(content)
    record = store.read_run(run)
    assert record.state == "damaged"
    assert record.error.startswith("result.json")


def test_a_result_of_another_run_is_not_taken(run: RunDir) -> None:
    finish(run, run_id="raft-00000000-s1")
    assert store.read_run(run).state == "damaged"


WHOLE = '{"schema": 1, "run_id": "raft-00000000-s0"}'
ALIVE = '{"machine": "elsewhere"}'
RESULT = dump_json(fake_result("raft-00000000-s0"))
RELEASED = '{"machine": "elsewhere", "released": true}'
STATES: list[tuple[dict[str, str], store.State, store.State]] = [
    # what lies in the directory; the state by names alone; the state by content
    ({}, "planned", "planned"),
    ({".config.json.0.tmp": "{"}, "planned", "planned"),
    ({"config.json": WHOLE}, "planned", "planned"),
    ({"config.json": WHOLE, "claim-1.json": ALIVE}, "running", "running"),
    ({"config.json": WHOLE, "claim-1.json": ALIVE, "claim-2.json": RELEASED}, "interrupted", "interrupted"),
    ({"config.json": WHOLE, "claim-9.json": RELEASED, "claim-10.json": ALIVE}, "running", "running"),
    ({"config.json": WHOLE, "claim-1.json": "{"}, "running", "running"),
    ({"config.json": WHOLE, "claim-1.json": ALIVE, "error.txt": "old"}, "running", "running"),
    ({"config.json": WHOLE, "claim-1.json": RELEASED, "error.txt": "why"}, "failed", "failed"),
    ({"config.json": WHOLE, "error.txt": ""}, "failed", "failed"),
    ({"config.json": WHOLE, "result.json": RESULT}, "done", "done"),
    ({"config.json": WHOLE, "result.json": RESULT, "claim-1.json": ALIVE, "error.txt": "old"}, "done", "done"),
    ({"config.json": WHOLE, "result.json": ""}, "damaged", "damaged"),
    ({"config.json": WHOLE, "result.json": '{"schema"'}, "done", "damaged"),
    ({"config.json": '{"sche'}, "planned", "damaged"),
    ({"config.json": "[]", "claim-1.json": ALIVE}, "running", "damaged"),
    ({"config.json": "", "result.json": RESULT}, "done", "damaged"),
    ({"result.json": RESULT}, "damaged", "damaged"),
    ({"log.txt": "lost its plan"}, "damaged", "damaged"),
]


@pytest.mark.parametrize(("files", "by_names", "by_content"), STATES)
def test_what_lies_in_a_run_directory_gives_its_state(
    tmp_path: Path, files: dict[str, str], by_names: store.State, by_content: store.State
) -> None:
    run = RunDir(tmp_path / "x" / "runs" / "raft-00000000-s0")
    run.path.mkdir(parents=True)
    for name, content in files.items():
        (run.path / name).write_text(content)
    assert (store.read_run(run, content=False).state, store.read_run(run).state) == (by_names, by_content)


def test_a_file_beside_run_directories_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "x" / "runs").mkdir(parents=True)
    (tmp_path / "x" / "runs" / "file.txt").write_text("not a run")
    assert list(store.records(tmp_path / "x")) == []


def test_a_damaged_plan_is_written_anew_and_a_whole_one_is_not_once_it_has_begun(run: RunDir) -> None:
    planned = parse_json(run.config.read_text())
    (run.path / "claim-1.json").write_text('{"released": true}')
    for damage in ("", '{"sche', "[]", "\x00"):
        run.config.write_text(damage)
        store.plan_run(run.path.parent.parent, planned)
        assert parse_json(run.config.read_text()) == planned
    store.plan_run(run.path.parent.parent, {**planned, "preset": "another"})
    assert parse_json(run.config.read_text()) == planned


def test_json_is_strict() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump_json({"x": float("nan")})
    with pytest.raises(ValueError, match="NaN"):
        parse_json('{"x": NaN}')


def test_a_torn_last_line_of_the_history_is_left_out(run: RunDir) -> None:
    run.append_history({"epoch": 1})
    run.append_history({"epoch": 2})
    with run.metrics.open("a") as file:
        file.write('{"epoch": 3, "lo')
    assert [row["epoch"] for row in run.history()] == [1, 2]
    assert run.last_epoch() == {"epoch": 2}


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(run)
    before = run.result.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(run.result, b"new")
    assert run.result.read_bytes() == before
    assert sorted(os.listdir(run.path)) == ["config.json", "result.json"]


def test_an_unwritable_folder_is_an_error_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(UserError, match=r"cannot write results to .*Permission denied"):
        store.plan_run(tmp_path / "x", {"run_id": "a"})


def test_the_plan_is_strict_json(run: RunDir) -> None:
    assert json.loads(run.config.read_text())["experiment"] == "x"


def test_reference_results_are_experiments_only_of_their_own_folder(tmp_path: Path) -> None:
    for run in ("mine/runs/a", "reference/quick/runs/a", "reference/theorem"):
        (tmp_path / run).mkdir(parents=True)
    assert store.experiments(tmp_path) == ["mine"]
    assert store.experiments(tmp_path / "reference") == ["quick"]


def test_no_experiment_is_written_among_the_reference_results(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reference results; use another name"):
        store.experiment_dir(tmp_path, "reference")
