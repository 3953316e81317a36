"""What a job decides: go on, wait, requeue, leave it to SLURM, or give up. Workers and SLURM are pretended."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_result

from bench.runs import claim, provenance, store
from slurm import commands, job, submission
from slurm.job import Execution, Signals
from slurm.ledger import GiveUp, Ledger, Progress, gave_up, measure

RUNS = ["a", "b"]


class PowerCut(BaseException):
    """The job ends here, without a word."""


class World:
    """A submission of one task with two runs; what workers do is a list of functions, one a pass."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.experiment = tmp_path / "exp"
        for name in RUNS:
            self.run(name).path.mkdir(parents=True)
            self.run(name).config.write_text("{}")
        self.now = time.time()
        self.passes: list[Callable[[], None]] = []
        self.orders: list[list[str]] = []
        """The runs as each pass gave them to its workers."""
        self.signals: list[int] = []
        self.requeued: list[str] = []
        self.refusals: list[str] = []
        self.end: float | None = None
        self.kills = False
        """Whether SLURM kills the job as soon as it has passed a signal on."""
        world = self

        class Workers:
            def __init__(self, settings: Any, jobs: int, names: list[str]) -> None:
                world.orders.append([Path(path).name for path in settings.runs])
                assert sorted(world.orders[-1]) == RUNS and names == ["auto"]
                self.what: Callable[[], None] | None = world.passes.pop(0)

            def running(self) -> bool:
                if world.kills and world.signals:
                    raise PowerCut
                if self.what is not None:
                    self.what()
                    self.what = None
                    return True
                return False

            def signal(self, number: int) -> None:
                world.signals.append(number)

            def said(self) -> list[str]:
                return []

            def deaths(self) -> list[int]:
                return [-9]

        def requeue(number: str) -> None:
            if self.refusals:
                raise commands.SlurmError(self.refusals.pop(0))
            self.requeued.append(number)

        def sleep(seconds: float) -> None:
            self.now += seconds

        for module, name, value in (
            (job, "LocalWorkers", Workers),
            (commands, "requeue", requeue),
            (commands, "end_of", lambda number: self.end),
            (time, "sleep", sleep),
            (time, "time", lambda: self.now),
            (claim, "file_system_time", lambda folder: self.now),
            (claim, "_job", lambda: {"id": "99"}),
        ):
            monkeypatch.setattr(module, name, value)
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        self.submission = submission.create(
            self.experiment,
            slurm_cluster="ci",
            tasks=[RUNS],
            concurrent=1,
            minutes=10,
            margin=60,
            data_dir="data",
            device="auto",
            command="bench",
            commit="",
            dirty=False,
            code=provenance.fingerprints(),
            on_code_change="refuse",
            cluster="default",
            profile={},
        )

    def run(self, name: str) -> store.RunDir:
        return store.RunDir(self.experiment / "runs" / name)

    def execute(self, **changes: Any) -> Execution:
        for key, value in changes.items():
            object.__setattr__(self.submission, key, value)
        self.stop = Signals()
        return Execution(self.submission, 0, self.now, self.stop)

    def finish(self, *names: str) -> Callable[[], None]:
        def act() -> None:
            for name in names:
                content = {**fake_result("raft-01234567-s0"), "run_id": name}
                self.run(name).result.write_text(json.dumps(content))

        return act

    def steps(self, name: str, step: int) -> Callable[[], None]:
        return lambda: self.run(name).append_history({"step": step})

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.submission.folder / "tasks" / "0.json").read_text())
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    previous = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield World(tmp_path, monkeypatch)
    for number, handler in previous.items():
        signal.signal(number, handler)


def test_a_job_ends_when_its_runs_have_ended(world: World) -> None:
    world.run("b").error.write_text("why")
    world.passes = [world.finish("a")]
    assert world.execute().to_the_end() == "1 done, 1 failed"
    assert world.execute().to_the_end() == "1 done, 1 failed", "nothing left: no worker is started"
    assert world.ledger()["starts"] == 2


def test_a_dead_worker_is_replaced_while_there_is_progress(world: World) -> None:
    world.passes = [world.steps("a", step) for step in range(1, 10)] + [world.finish("a", "b")]
    assert world.execute().to_the_end() == "2 done"


def test_workers_that_die_without_progress_end_the_job(world: World) -> None:
    """Repeating lost work is no progress; being farther than ever before is."""
    nothing = lambda: None  # noqa: E731
    world.passes = [world.steps("a", 5), nothing, nothing, world.steps("a", 3), nothing]
    with pytest.raises(GiveUp, match="workers ended with status -9: tried 4 times without progress"):
        world.execute().to_the_end()
    assert gave_up(world.submission.folder, 0).startswith("workers ended")
    assert not world.requeued and not world.passes


def test_a_run_that_kills_its_workers_lets_the_others_have_their_turn(world: World) -> None:
    """What an out-of-memory kill or a segmentation fault leaves: a claim that was not released, by a dead process."""
    dead = {"machine": claim._machine(), "pid": 2**22 + 1, "pid_start": "1"}

    def die() -> None:
        (world.run("a").path / "claim-1.json").write_text(json.dumps(dead))

    world.passes = [die, world.finish("b"), *[lambda: None] * 4]
    with pytest.raises(GiveUp, match="tried 4 times without progress"):
        world.execute().to_the_end()
    assert world.orders[:2] == [["a", "b"], ["b", "a"]]
    assert world.run("b").result.exists()


def test_code_that_is_edited_while_a_job_works_is_not_executed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit() -> None:
        code = {**provenance.fingerprints(), "methods/losses.py": "edited"}
        monkeypatch.setattr(provenance, "fingerprints", lambda: code)

    world.passes = [edit]
    with pytest.raises(GiveUp, match=r"code changed since submission \(methods/losses.py"):
        world.execute().to_the_end()


def test_usr2_stops_the_workers_and_requeues(world: World) -> None:
    world.passes = [lambda: os.kill(os.getpid(), signal.SIGUSR2)]
    with pytest.raises(SystemExit):
        world.execute().to_the_end()
    assert world.signals == [signal.SIGUSR2] and world.requeued == ["7"]


def test_being_preempted_is_no_fault_of_the_job(world: World) -> None:
    for _ in range(10):
        world.passes = [lambda: os.kill(os.getpid(), signal.SIGUSR2)]
        with pytest.raises(SystemExit):
            world.execute().to_the_end()
    assert len(world.requeued) == 10


def test_the_job_stops_before_its_time_limit(world: World) -> None:
    def until_near_the_limit() -> None:
        world.now += 10 * 60 - 59
        world.steps("a", len(world.requeued) + 1)()

    for _ in range(10):
        world.passes = [until_near_the_limit]
        with pytest.raises(SystemExit):
            world.execute().to_the_end()
    assert world.signals == [signal.SIGUSR2] * 10 and len(world.requeued) == 10


def test_slurm_knows_the_limit_better(world: World) -> None:
    world.end = world.now + 120

    def work() -> None:
        world.now += 61

    world.passes = [work]
    with pytest.raises(SystemExit):
        world.execute().to_the_end()


@pytest.mark.parametrize("warned", [True, False])
def test_time_limits_without_progress_end_after_three_requeues(world: World, warned: bool) -> None:
    def nothing_but_time() -> None:
        world.now += 10 * 60 - 100 if warned else 10 * 60 - 59
        if warned:  # SLURM's own signal, early
            os.kill(os.getpid(), signal.SIGUSR2)

    for _ in range(3):
        world.passes = [nothing_but_time]
        with pytest.raises(SystemExit):
            world.execute().to_the_end()
    world.passes = [nothing_but_time]
    with pytest.raises(GiveUp, match="time limit of 10 minutes: tried 4 times without progress"):
        world.execute().to_the_end()
    assert len(world.requeued) == 3


def test_term_alone_may_be_scancel(world: World) -> None:
    """SLURM kills what it cancels; if it has not after minutes, nobody meant the job to end."""
    world.passes = [lambda: os.kill(os.getpid(), signal.SIGTERM)]
    start = world.now
    with pytest.raises(SystemExit):
        world.execute().to_the_end()
    assert world.now - start >= job.SCANCEL_SECONDS and world.requeued == ["7"]


def test_the_controller_may_be_away(world: World) -> None:
    world.passes = [lambda: os.kill(os.getpid(), signal.SIGUSR2)]
    world.refusals = ["scontrol: Unable to contact slurm controller", "scontrol gave no answer within 60 s"]
    with pytest.raises(SystemExit):
        world.execute().to_the_end()
    assert world.requeued == ["7"]
    world.refusals = ["scontrol: Requested operation is presently disabled for job 7"]
    world.passes = [lambda: os.kill(os.getpid(), signal.SIGUSR2)]
    with pytest.raises(GiveUp, match="refused to requeue: scontrol: Requested operation"):
        world.execute().to_the_end()


def others(world: World, name: str, **owner: Any) -> Path:
    path = world.run(name).path / "claim-1.json"
    path.write_text(json.dumps({"machine": "elsewhere", "host": "n2", "job": {"id": "5"}, **owner}))
    os.utime(path, (world.now - 5, world.now - 5))
    return path


def test_a_run_that_another_process_executes_is_left_to_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = others(world, "b")
    world.passes = [world.finish("a")]

    def sleep(seconds: float) -> None:
        world.now += seconds
        os.utime(path, (world.now, world.now))  # it is alive

    monkeypatch.setattr(time, "sleep", sleep)
    assert world.execute().to_the_end() == "1 done, 1 running"


def test_a_run_of_a_crashed_node_is_taken_over(world: World) -> None:
    """Its claim ages for a minute before anybody can know."""
    others(world, "b")
    world.passes = [world.finish("a"), world.finish("b")]
    start = world.now
    assert world.execute().to_the_end() == "2 done"
    assert world.now - start > claim.STALE_SECONDS - 6


def test_our_former_self_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requeued while the old process lives on a node that SLURM lost sight of: it may end, or be killed later."""
    path = others(world, "b", job={"id": "7"})
    world.passes = [world.finish("a")]
    end = world.now + 200

    def sleep(seconds: float) -> None:
        world.now += seconds
        os.utime(path, (world.now, world.now))
        if world.now > end:
            world.finish("b")()

    monkeypatch.setattr(time, "sleep", sleep)
    assert world.execute().to_the_end() == "2 done"


def test_other_code_is_refused_or_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code = {**provenance.fingerprints(), "methods/gone.py": "0"}
    with pytest.raises(GiveUp, match=r"code changed since submission \(methods/gone.py\)"):
        world.execute(code=code).to_the_end()
    world.passes = [world.finish("a", "b")]
    assert world.execute(code=code, on_code_change="warn").to_the_end() == "2 done"
    assert "the code is not what was submitted: methods/gone.py changed" in capsys.readouterr().out


def test_progress_counts_steps_of_interrupted_epochs(world: World) -> None:
    world.run("a").append_history({"step": 40})
    (world.run("a").path / "claim-2.json").write_text('{"released": true, "step": 55}')
    world.run("b").error.write_text("why")
    assert measure([world.run("a"), world.run("b")]) == Progress(1, 55)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"best": {"epochs": 5}, "idle": 0, "starts": 1}', '{"best": 3}'])
def test_a_ledger_of_another_version_or_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    """One line in the job's log, and attempts are counted anew."""
    (tmp_path / "tasks").mkdir()
    Ledger(tmp_path, 0, Progress(0, 0)).attempt(Progress(0, 5), "x")
    again = Ledger(tmp_path, 0, Progress(0, 5))
    assert (again.best, again.starts) == (Progress(0, 5), 2) and not capsys.readouterr().out
    (tmp_path / "tasks" / "0.json").write_text(content)
    again = Ledger(tmp_path, 0, Progress(1, 5))
    assert (again.best, again.idle, again.starts) == (Progress(1, 5), 0, 1)
    assert capsys.readouterr().out == (
        "tasks/0.json is damaged, or was written by another version of this program: attempts are counted anew\n"
    )


def test_a_run_that_takes_its_node_down_is_not_requeued_for_ever(world: World) -> None:
    """SLURM starts such a job again by itself: a start without a word of how the one before ended."""

    def crash() -> None:
        raise PowerCut

    for _ in range(job_starts := 4):
        world.passes = [crash]
        with pytest.raises(PowerCut):
            world.execute().to_the_end()
    with pytest.raises(
        GiveUp, match=r"^the node failed, or all of the job was killed: tried 4 times without progress$"
    ):
        world.execute()
    assert gave_up(world.submission.folder, 0).startswith("the node failed")
    assert world.ledger()["starts"] == job_starts + 1


def test_nodes_may_fail_as_often_as_there_is_progress(world: World) -> None:
    def crash_after(step: int) -> Callable[[], None]:
        def act() -> None:
            world.steps("a", step)()
            raise PowerCut

        return act

    for step in range(1, 10):
        world.passes = [crash_after(step)]
        with pytest.raises(PowerCut):
            world.execute().to_the_end()
    world.passes = [world.finish("a", "b")]
    assert world.execute().to_the_end() == "2 done"


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_killed_after_it_was_told_to_stop_is_no_attempt(world: World, number: int) -> None:
    """Preempted with too little grace for the checkpoints: SLURM kills the job before it can requeue itself."""

    world.kills = True
    for _ in range(10):
        world.passes, world.signals = [lambda: os.kill(os.getpid(), number)], []
        with pytest.raises(PowerCut):
            world.execute().to_the_end()
    assert world.ledger()["idle"] == 0


@pytest.mark.parametrize("step", ["9", None, [9], 1e400, True])
def test_steps_that_are_no_numbers_are_no_progress(tmp_path: Path, step: Any) -> None:
    run = store.RunDir(tmp_path)
    run.append_history({"epoch": 1, "step": "many"})
    (tmp_path / "claim-1.json").write_text(json.dumps({"step": step}))
    assert measure([run]) == Progress(0, 0)


@pytest.mark.parametrize("content", ['{"best": {"ended": 1e400, "steps": 1}}', 100_000 * "[", "[]", '{"best": []}'])
def test_a_ledger_of_another_version_is_begun_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "0.json").write_text(content)
    assert "damaged" in gave_up(tmp_path, 0) or gave_up(tmp_path, 0) == ""
    assert Ledger(tmp_path, 0, Progress(0, 0)).starts == 1
