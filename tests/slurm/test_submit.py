"""What is sent to SLURM and what is not, with commands that only pretend."""

import getpass
import json
import os
import pickle
import shlex
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fake_results import fake_result, fake_run
from fake_slurm import FAKE, Fake
from rich.console import Console
from submitit.core.utils import DelayedSubmission

from bench.errors import UserError
from bench.planning import evaluate, plan
from bench.planning.evaluate import EvaluationRequest
from bench.planning.options import EvaluateOptions, SweepOptions
from bench.planning.request import Request
from bench.runs import status, store
from bench.runs.status import Job
from methods import plugins
from slurm import arrays, cancel, commands, submission, submit
from slurm.jobs import jobs_of
from slurm.sweep import SHOWN, Selection, Sweep, print_runs, select

CONTENT: dict[str, Any] = {  # of a submission that was never sent
    "slurm_cluster": "lab",
    "tasks": [["a"]],
    "concurrent": 1,
    "minutes": 10,
    "margin": 60,
    "data_dir": "data",
    "device": "auto",
    "command": "bench",
    "commit": "",
    "dirty": False,
    "code": {},
    "on_code_change": "refuse",
    "cluster": "default",
    "profile": {},
}


def sweep(tmp_path: Path, seeds: int = 10, profile: str = "", **options: object) -> Request:
    """10 runs for the profile `default`, which is ours or, if given, the text of the user's own."""
    if profile:
        config = tmp_path / "home" / "bench" / "clusters.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f"[default]\n{profile}")
    planned = plan.plan(["random"], range(seeds), "quick", {"data.size": "8"}, {}, "exp")
    retry = bool(options.pop("retry_failed", False))
    asked = SweepOptions(method="random", **cast(Any, {"partition": "main", **options}))
    return Request(planned, tmp_path / "results", tmp_path / "data", asked, "bench ...", retry)


def squeue(made: submission.Submission, **states: str) -> str:
    """squeue's answer: state by "job_index"."""
    rows = ((*key.removeprefix("t").rpartition("_"), state) for key, state in states.items())
    return "".join(f"{job}|{index}|{state}|None|{made.job_name}\n" for job, _, index, state in rows)


def only(tmp_path: Path) -> submission.Submission:
    (made,) = submission.read_all(tmp_path / "results" / "exp")[0]
    return made


def text(console: Console) -> str:
    return console.export_text()


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200, quiet=False)


def test_arrays_are_no_longer_than_the_cluster_allows(fake: Fake, tmp_path: Path, console: Console) -> None:
    assert submit.submit(sweep(tmp_path, seeds=10, runs_per_job=2, max_parallel=3), console) == 0
    made = only(tmp_path)
    assert [(a.job, a.first, a.tasks) for a in made.arrays] == [("101", 0, 4), ("102", 4, 1)]
    assert [len(task) for task in made.tasks] == [2] * 5
    first, second = ((fake.folder / f"script.{i}").read_text() for i in (1, 2))
    assert "--array=0-3%3" in first and "--dependency" not in first
    assert "--array" not in second and "--dependency=afterany:101" in second, "never more than 3 at a time"
    assert "submitted 10 runs in 5 jobs: 101 (4 tasks), 102 (1 tasks)" in text(console)
    with next(made.folder.glob("102_submitted.pkl")).open("rb") as file:
        task = pickle.load(file).function
    assert (task.folder, task.index) == (str(made.folder), 4)


def test_the_script_asks_for_what_the_profile_says(fake: Fake, tmp_path: Path, console: Console) -> None:
    profile = """
        account = "a b"
        qos = "q"
        constraint = "a100|h100"
        mem = "16G"
        gpus = "a100:2"
        time = "1-0"
        setup = ["module load cuda"]
        environment = { A = "x'; rm -rf $$HOME" }
        sbatch = { reservation = "course", exclusive = true, spread-job = false }
    """
    submit.submit(sweep(tmp_path, 4, profile, concurrent=2, runs_per_job=2), console)
    script = (fake.folder / "script.1").read_text()
    for line in (
        "--account='a b'",
        "--qos=q",
        "--constraint='a100|h100'",
        "--mem=16G",
        "--gpus-per-node=a100:2",
        "--time=1440",
        "--cpus-per-task=2",
        "--reservation=course",
        "--exclusive",
        "--requeue",
        "--signal=USR2@90",
    ):
        assert f"#SBATCH {line}\n" in script
    assert "\nmodule load cuda\n" in script
    assert """\nexport A="x'; rm -rf \\$HOME"\n""" in script and "spread" not in script


def test_only_what_has_no_live_process_is_submitted(fake: Fake, tmp_path: Path, console: Console) -> None:
    """10 runs, 4 + 4 + 2 tasks: done, planned, running, failed, timed out, and gone from SLURM's memory."""
    request = sweep(tmp_path)
    submit.submit(request, console)
    made = only(tmp_path)
    runs = [store.RunDir(tmp_path / "results" / "exp" / "runs" / run["run_id"]) for run in request.planned]
    runs[0].result.write_text("{}")
    runs[1].error.write_text("why\n")
    alive = {"t101_2": "PENDING", "t101_3": "RUNNING", "t102_0": "COMPLETING", "t102_1": "CONFIGURING"}
    fake.say("squeue.out", squeue(made, **alive, t102_2="TIMEOUT"))
    fake.say("sacct.out", "102_2|TIMEOUT|0:15\n102_3|FAILED|9:0\n103_0|CANCELLED by 5|0:0\n103_1|OUT_OF_MEMORY|0:1\n")
    selection = select(request)
    assert selection.todo == [run.run_id for run in runs[6:]]
    assert list(selection.states.values()) == ["done", "failed", *["queued"] * 4, *["lost"] * 4]
    jobs, notes = jobs_of(request.experiment, [run.run_id for run in runs[5:9]])
    assert [job.detail for job in jobs.values()] and not notes
    details = [jobs[run.run_id].detail for run in runs[5:9]]
    assert details == ["job 102_1", "job 102_2: TIMEOUT", "job 102_3: FAILED, exit code 9:0", "job 103_0: CANCELLED"]
    submit.submit(request, console)
    assert submission.read_all(request.experiment)[0][1].tasks == [[run.run_id] for run in runs[6:]]


def test_a_failed_run_is_retried_when_asked(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 1, retry_failed=True)
    (run,) = plan.write(request.planned, request.results)
    run.error.write_text("why\n")
    assert submit.submit(sweep(tmp_path, 1), console) == 1
    fake.say("refuse", "1")
    with pytest.raises(UserError, match="sbatch: Too many jobs"):
        submit.submit(request, console)
    assert run.error.read_text() == "why\n", "nothing was submitted: it is still known as failed"
    assert submit.submit(request, console) == 0
    assert not run.error.exists()


def test_a_refused_array_takes_back_those_before_it(fake: Fake, tmp_path: Path, console: Console) -> None:
    fake.say("refuse", "3")
    with pytest.raises(UserError, match=r"^sbatch: Too many jobs; cancelled the 2 arrays before it$"):
        submit.submit(sweep(tmp_path), console)
    assert fake.calls("scancel") == ["scancel --quiet 101 102"]
    assert only(tmp_path).cancelled()
    assert len(select(sweep(tmp_path)).todo) == 10


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "sbatch.error",
            "sbatch: error: invalid account\nallocation failure: Invalid account\n",
            "sbatch: invalid acc",
        ),
        ("scontrol.error", "slurm_load_ctl_conf error: Unable to contact slurm controller\n", "scontrol: .*contact"),
    ],
)
def test_nothing_is_left_of_what_slurm_refuses(
    fake: Fake, tmp_path: Path, console: Console, file: str, content: str, message: str
) -> None:
    fake.say(file, content)
    with pytest.raises(UserError, match=message) as error:
        submit.submit(sweep(tmp_path), console)
    assert "\n" not in str(error.value)
    assert not [path for path in (tmp_path / "results").rglob("*") if path.is_file()]


def test_an_unknown_partition(fake: Fake, tmp_path: Path, console: Console) -> None:
    with pytest.raises(UserError, match=r"unknown partition 'shrot': did you mean 'short'\? one of main, short"):
        submit.submit(sweep(tmp_path, partition="main,shrot"), console)
    assert not (tmp_path / "results").exists()


def test_without_slurm(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="SLURM is not installed here: no 'sbatch' on the PATH"):
        submit.submit(sweep(tmp_path), console)
    assert submit.dry(sweep(tmp_path, runs_per_job=4), console) == 0
    shown = text(console)
    assert "arrays of at most 1001 tasks, as profile 'default' says" in shown
    assert "exp: 10 runs" in shown and "3 jobs in 1 array, 4 runs a job" in shown
    assert "#SBATCH --array=0-2%3" in shown and "no estimate" in shown
    assert not (tmp_path / "results").exists()


def test_dry_names_the_rows_of_the_leaderboard(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 2)
    submit.dry(replace(request, planned=[{**run, "entry": "untrained, small"} for run in request.planned]), console)
    config_hash = request.planned[0]["config_hash"]
    assert f"  random-{config_hash}  untrained, small  data.size=8: 2 new (seeds 0-1)" in text(console)


def test_of_many_configurations_the_first_are_told_and_the_others_counted(tmp_path: Path, console: Console) -> None:
    rates = {"optim.lr": [repr(0.001 * (1 + i)) for i in range(SHOWN + 20)]}
    planned = plan.plan(["raft"], range(2), "quick", {}, rates, "exp")
    states = {run["run_id"]: "done" if run["seed"] else "new" for run in planned}
    request = replace(sweep(tmp_path), planned=planned)
    print_runs(request, Selection(states, [], []), console)
    lines = text(console).splitlines()
    assert len(lines) == 1 + SHOWN + 1 and lines[-1].strip() == "and 20 configurations more: 20 new, 20 done"


def test_another_label_reaches_runs_that_are_done_though_nothing_is_submitted(
    fake: Fake, tmp_path: Path, console: Console
) -> None:
    request = sweep(tmp_path, 1)
    (run,) = plan.write(request.planned, request.results)
    (run.path / "claim-1.json").write_text('{"released": true}')
    run.result.write_text(json.dumps(fake_result(run.run_id)))
    relabelled = replace(request, planned=[{**planned, "entry": "new"} for planned in request.planned])
    assert submit.submit(relabelled, console) == 0
    assert "nothing to submit" in text(console)
    assert json.loads(run.config.read_text())["entry"] == "new"


def test_dry_shows_the_script_that_is_sent(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path)
    submit.dry(request, console)
    shown = text(console).partition("script of the first array:\n")[2].strip()
    submit.submit(request, console)
    made = only(tmp_path)
    sent = (fake.folder / "script.1").read_text().strip()
    assert shown.replace("SUBMISSION", made.folder.name).replace("=bench-exp\n", f"={made.job_name}\n") == sent


def test_the_script_names_plugins(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of the environment a cluster hands on."""
    planned = Sweep.of(sweep(tmp_path))
    assert planned.parameters()["setup"] is None
    monkeypatch.setenv(plugins.VARIABLE, "/my own/method.py")
    assert planned.parameters()["setup"] == [f"export {plugins.VARIABLE}='/my own/method.py'"]


def test_dry_estimates_from_earlier_runs(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path)
    for run, seconds in zip(plan.write(request.planned[:2], request.results), (3000, 4200), strict=True):
        timing = {"train_seconds": seconds, "eval_seconds": 0}
        run.result.write_text(json.dumps(fake_result(run.run_id, timing=timing)))
    submit.dry(request, console)
    assert "about 8.00 GPU-hours, as earlier runs took 60 min each" in text(console)


def test_what_cannot_be_known_is_said(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 1)
    submit.submit(request, console)
    run_id = request.planned[0]["run_id"]
    fake.say("sacct.error", "sacct: error: Problem talking to the database: Connection refused\n")
    jobs, notes = jobs_of(request.experiment, [run_id])
    assert jobs[run_id].state == "ended" and "accounting does not answer" in notes[0]
    fake.say("config", "ClusterName = other\n")
    jobs, notes = jobs_of(request.experiment, [run_id])
    assert jobs[run_id].state == "unknown" and notes == ["submitted on cluster lab, this is other: ask there"]
    fake.say("scontrol.error", "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)\n")
    jobs, notes = jobs_of(request.experiment, [run_id])
    assert jobs[run_id].state == "unknown" and "SLURM cannot be asked" in notes[0]
    assert select(request).todo == [], "better none than twice"
    (only(tmp_path).folder / "submission.json").write_text("{")
    assert "submission.json cannot be read" in jobs_of(request.experiment, [run_id])[1][0]


def test_another_clusters_numbers_are_not_ours(fake: Fake, tmp_path: Path, console: Console) -> None:
    """A cluster set up anew counts from 1 again: a stranger's job 101 says nothing about our runs."""
    request = sweep(tmp_path, 1)
    submit.submit(request, console)
    fake.say("squeue.out", "101|N/A|RUNNING|None|train.sh\n")
    assert len(select(request).todo) == 1
    fake.say("squeue.out", f"101|N/A|RUNNING|None|{only(tmp_path).job_name}\n")
    assert select(request).todo == []
    fake.say("squeue.error", "slurm_load_jobs error: Invalid job id specified\n")
    assert len(select(request).todo) == 1


def test_cancel(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path)
    submit.submit(request, console)
    made = only(tmp_path)
    fake.say("squeue.out", squeue(made, t101_0="COMPLETED", t102_0="RUNNING", t103_0="PENDING", t103_1="PENDING"))
    cancel.cancel(request.experiment, console)
    assert fake.calls("scancel") == ["scancel --quiet 102 103"]
    assert "cancelled 3 jobs of exp" in text(console)
    fake.say("squeue.out", "")
    assert set(select(request).states.values()) == {"cancelled"}


def test_cancel_does_not_hide_what_was_lost_before(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 2)
    submit.submit(request, console)
    made = only(tmp_path)
    fake.say("squeue.out", squeue(made, t101_0="FAILED", t101_1="RUNNING"))
    cancel.cancel(request.experiment, console)
    fake.say("squeue.out", "")
    fake.say("sacct.out", "101_0|FAILED|9:0\n101_1|CANCELLED by 0|0:0\n")
    states = list(select(request).states.values())
    assert states == ["lost", "cancelled"]


def test_a_cancel_that_slurm_refuses_is_not_noted(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 1)
    submit.submit(request, console)
    fake.say("squeue.out", squeue(only(tmp_path), t101_0="PENDING").replace("|0|", "|N/A|"))
    fake.say("scancel.error", "scancel: error: Unable to contact slurm controller\n")
    with pytest.raises(UserError, match="contact"):
        cancel.cancel(request.experiment, console)
    assert not only(tmp_path).cancelled()


def test_runs_are_not_lost_while_they_are_being_submitted(fake: Fake, tmp_path: Path, console: Console) -> None:
    """`bench status` beside a `bench sweep` that waits for sbatch's answer."""
    request = sweep(tmp_path, 1)
    submit.submit(request, console)
    made = replace(only(tmp_path), arrays=(), pid=os.getpid())
    made.write()
    run_id = request.planned[0]["run_id"]
    jobs, _ = jobs_of(request.experiment, [run_id])
    assert jobs[run_id] == Job("queued", "being submitted")
    replace(made, pid=2**22 + 1).write()  # its process is gone
    assert jobs_of(request.experiment, [run_id])[0][run_id].state == "ended"


@pytest.mark.parametrize("ahead", [-3600, 0, 3600])
def test_another_hosts_submitter_is_judged_by_the_file_systems_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Clocks of login nodes differ: with this machine's, a live submitter's arrays would be cancelled."""
    made = replace(submission.create(tmp_path / "exp", **CONTENT), host="elsewhere")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ahead)
    assert made.in_progress()
    os.utime(made.folder / "submission.json", (now - 200, now - 200))
    assert not made.in_progress()


def test_what_a_dead_submitter_left_in_the_queue_is_cancelled(fake: Fake, tmp_path: Path, console: Console) -> None:
    """Killed between sbatch's answer and its own note: the tasks have nothing to do, the runs are sent again."""
    request = sweep(tmp_path, 1)
    submit.submit(request, console)
    made = replace(only(tmp_path), arrays=(), pid=2**22 + 1)
    made.write()
    fake.say("named.out", f"101|{made.job_name}\n")
    assert submit.submit(request, console) == 0
    assert fake.calls("scancel") == ["scancel --quiet 101"]
    assert "cancelled its 101" in text(console)
    assert [array.job for array in submission.read_all(request.experiment)[0][1].arrays] == ["102"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_an_array_is_written_down(
    fake: Fake, tmp_path: Path, console: Console, number: signal.Signals
) -> None:
    seen: list[int] = []
    before = signal.signal(number, lambda number, _: seen.append(number))
    fake.say("sbatch", FAKE.replace("cd ", f"kill -{int(number)} $PPID; cd ", 1))
    try:
        submit.submit(sweep(tmp_path, 1), console)
    finally:
        signal.signal(number, before)
    assert seen == [number]
    assert [array.job for array in only(tmp_path).arrays] == ["101"]


def test_two_processes_do_not_submit_an_experiment_at_once(
    fake: Fake, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "LOCK_SECONDS", 0.1)
    request = sweep(tmp_path, 1)
    with submit._alone(request.experiment), pytest.raises(UserError, match="another process is submitting exp"):
        submit.submit(request, console)
    assert submit.submit(request, console) == 0


def test_the_users_own_filters_hide_no_job(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.say("squeue", "#!/bin/bash\nexport -p | grep -c 'SQUEUE_\\|SLURM_TIME_FORMAT'; exit 0\n")
    monkeypatch.setenv("SQUEUE_PARTITION", "short")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    assert commands.call("squeue").strip() == "0"


@pytest.mark.parametrize("missing", ["sbatch", "srun", "scancel"])
def test_a_part_of_slurm_is_not_enough(
    fake: Fake, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    (fake.folder / missing).unlink()
    monkeypatch.setenv("PATH", f"{fake.folder}:/nowhere")
    with pytest.raises(UserError, match=f"SLURM is not installed here: no '{missing}' on the PATH"):
        submit.submit(sweep(tmp_path, 1), console)
    assert not (tmp_path / "results").exists()


def test_a_damaged_result_is_executed_again_when_asked(fake: Fake, tmp_path: Path, console: Console) -> None:
    (run,) = plan.write(sweep(tmp_path, 1).planned, tmp_path / "results")
    run.result.write_text("")
    assert submit.submit(sweep(tmp_path, 1), console) == 1
    assert submit.submit(sweep(tmp_path, 1, retry_failed=True), console) == 0
    assert store.read_run(run).state == "planned"


def test_a_run_that_was_begun_elsewhere_outlives_a_refusal(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 1)
    (run,) = plan.write(request.planned, request.results)
    (run.path / "claim-1.json").write_text("{}")
    made = submission.create(request.experiment, **CONTENT)
    with pytest.raises(UserError), submit._unplanned_if_refused(made, [run]):
        raise UserError("refused")
    assert run.config.exists()


def test_slurm_is_asked_as_often_for_300_lost_runs_as_for_3(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster that lost all of it: every run has a log, a note of its job, and a reason to be found."""
    asked, listed = [], []
    list_directory = os.listdir

    def listdir(path: Path) -> list[str]:
        listed.append(Path(path))
        return list_directory(path)

    monkeypatch.setattr(os, "listdir", listdir)
    for n in (3, 300):
        experiment = tmp_path / f"exp{n}"
        tasks = [[f"raft-0123abcd-s{i}"] for i in range(n)]
        made = submission.create(experiment, **{**CONTENT, "tasks": tasks})
        replace(made, arrays=tuple(submission.Array(str(100 + k), k * n // 3, n // 3) for k in range(3))).write()
        for i, (run_id,) in enumerate(tasks):
            folder = experiment / "runs" / run_id
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}")
            (made.folder / "tasks" / f"{i}.json").write_text("{}")
            (made.folder / f"{100 + i // (n // 3)}_{i % (n // 3)}_0_log.out").write_text("")
        assert status.survey(experiment, jobs_of).counts == {"lost": n}
        asked.append(len(fake.calls("")))
        assert len([path for path in listed if path.is_relative_to(made.folder)]) == 2
    assert asked == [3, 6], "scontrol, squeue and sacct, once each"


def test_from_inside_a_job(fake: Fake, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch would inherit an interactive job's limits from its variables."""
    fake.say("sbatch", FAKE.replace("cd ", "export -p | grep SLURM_ >$(dirname $0)/seen; cd ", 1))
    variables = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "100", "SLURM_CONF": "here"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    submit.submit(sweep(tmp_path, 1), console)
    assert (fake.folder / "seen").read_text() == 'declare -x SLURM_CONF="here"\n'
    assert variables.items() <= os.environ.items()


def test_the_users_variables_for_srun_do_not_reach_the_job(
    fake: Fake, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """srun reads SLURM_* in the job's script; what it takes to reach the controller stays."""
    fake.say("sbatch", FAKE.replace("cd ", "export -p | grep SLURM_ >$(dirname $0)/seen; cd ", 1))
    for name in ("SLURM_JWT", "SLURM_GPUS", "SLURM_PARTITION", "SLURM_HINT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    submit.submit(sweep(tmp_path, 1), console)
    assert (fake.folder / "seen").read_text() == 'declare -x SLURM_JWT="x"\n'


def test_slurms_complaints_fit_on_a_line() -> None:
    assert commands.one_line("sbatch: error: a b\nsbatch: error: a b\nfatal: c\n\n") == "a b; c"


def test_the_users_sbatch_variables_do_not_win_over_the_script(
    fake: Fake, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    with arrays.outside_of_jobs():
        assert "SBATCH_JOB_NAME" not in os.environ
    assert os.environ["SBATCH_JOB_NAME"] == "mine"


def test_a_run_whose_planning_was_killed_half_way_is_submitted(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path)
    empty = tmp_path / "results" / "exp" / "runs" / request.planned[0]["run_id"]
    empty.mkdir(parents=True)
    assert empty.name in select(request).todo
    submit.submit(request, console)
    assert store.read_run(store.RunDir(empty)).state == "planned"


@pytest.mark.parametrize(
    "message", ["Zero Bytes were transmitted or received", "Transport endpoint is not connected", "standby mode"]
)
def test_a_controller_that_is_away_for_a_moment_is_no_refusal(message: str) -> None:
    assert commands.SlurmError(f"scontrol: {message}").unreachable
    assert not commands.SlurmError("scontrol: Invalid job id specified").unreachable


@pytest.mark.parametrize(
    "answer", ["Your previous job 77 ran 3 s\nSubmitted batch job 55473\n", "55473\n", "55473;lab\n"]
)
def test_the_right_job_is_written_down(fake: Fake, tmp_path: Path, console: Console, answer: str) -> None:
    for name, runs in (("one", 1), ("four", 4)):  # a job alone, and an array
        request = replace(sweep(tmp_path, runs), results=tmp_path / name)
        fake.say("sbatch.out", answer)
        assert submit.submit(request, console) == 0
        ((made,), _) = submission.read_all(request.experiment)
        assert [array.job for array in made.arrays] == ["55473"]
        jobs = [f"55473_{i}" for i in range(4)] if runs == 4 else ["55473"]
        files = {path.name for path in made.folder.iterdir()}
        assert files == {"submission.json", "tasks", "55473_submission.sh", *(f"{job}_submitted.pkl" for job in jobs)}


def test_nothing_is_left_where_sbatch_names_no_job(fake: Fake, tmp_path: Path, console: Console) -> None:
    """SLURM may have taken it nevertheless: what has its name is cancelled."""
    fake.say("sbatch.out", "Bonjour\n")
    with pytest.raises(UserError, match=r"sbatch: no job id in its answer: 'Bonjour'$"):
        submit.submit(sweep(tmp_path), console)
    assert not (tmp_path / "results" / "exp").exists()


def test_status_amid_notices(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 2)
    submit.submit(request, console)
    fake.say("squeue.out", "Welcome to lab!\n" + squeue(only(tmp_path), t101_0="RUNNING"))
    fake.say("sacct.out", "slurmdbd will be down on Monday\n101_1|FAILED|9:0\n")
    jobs, notes = jobs_of(request.experiment, [run["run_id"] for run in request.planned])
    assert [job.detail for job in jobs.values()] == ["job 101_0", "job 101_1: FAILED, exit code 9:0"] and not notes
    fake.say("squeue.out", "101_1 main bench-exp user R\n" + squeue(only(tmp_path), t101_0="RUNNING"))
    jobs, (note,) = jobs_of(request.experiment, [run["run_id"] for run in request.planned])
    assert {job.state for job in jobs.values()} == {"unknown"} and "squeue prints other columns" in note
    assert select(request).todo == [], "better none than twice"


@pytest.mark.parametrize("name", ["50%jitter", "a%b", "100%", "%A", "back\\slash", "line\nbreak", "tab\t", "bell\x07"])
def test_paths_that_slurm_would_change_are_refused(fake: Fake, tmp_path: Path, console: Console, name: str) -> None:
    """%j is SLURM's, a backslash is dropped, a line break ends the #SBATCH line."""
    request = replace(sweep(tmp_path, 1), results=tmp_path / name)
    for launcher in (submit.submit, submit.dry):
        with pytest.raises(
            UserError, match=r"SLURM takes no path of logs with '.*' in it; choose other --results"
        ) as error:
            launcher(request, console)
        assert "\n" not in str(error.value) and not request.results.exists()


@pytest.mark.parametrize("name", ["two words", "it's", 'a"b', "a#b", "ünï", "$HOME", "a;b", "*", "~", "-x"])
def test_paths_reach_slurm_as_they_are(fake: Fake, tmp_path: Path, console: Console, name: str) -> None:
    request = replace(sweep(tmp_path, 1), results=tmp_path / name)
    submit.submit(request, console)
    ((made,), _) = submission.read_all(request.experiment)
    script = (fake.folder / "script.1").read_text()
    (line,) = (line for line in script.splitlines() if line.startswith("#SBATCH --output"))
    assert sbatch_words(line) == ["#SBATCH", f"--output={made.folder}/%j_0_log.out"]
    (command,) = (shlex.split(line) for line in script.splitlines() if line.startswith("srun"))
    assert command[:4] == ["srun", "--unbuffered", "--output", f"{made.folder}/%j_%t_log.out"]
    assert command[-1] == str(made.folder)


def sbatch_words(line: str) -> list[str]:
    """A line as sbatch reads it: quotes of both kinds group, a backslash escapes even in quotes, # begins a comment."""
    words, quote, escaped = [""], "", False
    for character in line.removeprefix("#SBATCH"):
        if escaped:
            words[-1], escaped = words[-1] + character, False
        elif character == "\\":
            escaped = True
        elif quote:
            words[-1], quote = (words[-1], "") if character == quote else (words[-1] + character, quote)
        elif character in "'\"":
            quote = character
        elif character == "#":
            break
        elif character.isspace():
            words.append("")
        else:
            words[-1] += character
    return ["#SBATCH", *filter(None, words)]


def test_a_user_without_a_name(fake: Fake, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    submit.submit(sweep(tmp_path, 1), console)
    assert only(tmp_path).user == str(os.getuid())


def test_without_a_folder_for_temporary_files(
    fake: Fake, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(UserError, match="point TMPDIR to a folder that can be written"):
        submit.submit(sweep(tmp_path, 1), console)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["submission.json", "pkl"])
def test_nothing_is_left_where_the_disk_is_full(
    fake: Fake, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if name == "pkl":
        monkeypatch.setattr(DelayedSubmission, "dump", full)
    else:
        monkeypatch.setattr(submission.Submission, "write", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        submit.submit(sweep(tmp_path, 1), console)
    assert not (tmp_path / "results" / "exp").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 0},
        {"schema": 2},
        {"schema": None},
        {"tasks": {"0": "a"}},
        {"minutes": "soon"},
        {"arrays": [{"id": "101"}]},
        {"arrays": {}},
        {"margin": None},
        None,
    ],
)
def test_a_submission_of_another_version(fake: Fake, tmp_path: Path, change: dict[str, Any] | None) -> None:
    made = submission.create(tmp_path / "exp", **CONTENT)
    path = made.folder / "submission.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps([content] if change is None else {**content, **change}))
    found, (problem,) = submission.read_all(tmp_path / "exp")
    assert not found
    reason = "(written by another version of this program): its jobs are not known"
    assert problem == f"{made.folder}: submission.json cannot be read {reason}"


def test_folders_of_submissions_that_cannot_be_read(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 1)
    submit.submit(request, console)
    (only(tmp_path).folder / "tasks").rmdir()
    ((_, job),) = jobs_of(request.experiment, [request.planned[0]["run_id"]])[0].items()
    assert job.detail == "job 101: SLURM does not know it any more"
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "jobs").write_text("no folder")
    assert submission.read_all(tmp_path / "exp") == (
        [],
        [f"{tmp_path}/exp/jobs cannot be read (Not a directory): jobs are not known"],
    )


def test_what_a_later_version_adds_does_not_matter(tmp_path: Path) -> None:
    made = submission.create(tmp_path / "exp", **CONTENT)
    path = made.folder / "submission.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "added": 1}))
    assert replace(submission.read(made.folder), log=(), evaluations=()) == made


def test_a_jobs_note_of_another_version(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = sweep(tmp_path, 1)
    submit.submit(request, console)
    for content in ("[]", "{", "3"):
        (only(tmp_path).folder / "tasks" / "0.json").write_text(content)
        ((_, job),) = jobs_of(request.experiment, [request.planned[0]["run_id"]])[0].items()
        assert job.detail == "job 101: tasks/0.json is damaged, or was written by another version of this program"


def test_a_job_runs_our_code_whatever_lies_in_its_working_directory(
    fake: Fake, tmp_path: Path, console: Console
) -> None:
    """The command of the batch script, in a folder with files that are called like ours, like Python's and torch."""
    request = sweep(tmp_path, 1)
    submit.submit(request, console)
    made = only(tmp_path)
    request.experiment.joinpath("runs", request.planned[0]["run_id"], "result.json").write_text("{}")  # nothing to do
    hostile = tmp_path / "hostile"
    for name in ("methods", "slurm", "submitit"):
        (hostile / name).mkdir(parents=True)
        (hostile / name / "__init__.py").write_text("raise RuntimeError('hostile')")
    for name in ("bench", "queue", "random", "platform", "signal", "token", "numpy", "job", "start"):
        (hostile / f"{name}.py").write_text("raise RuntimeError('hostile')")
    (fake.folder / "srun").write_text('#!/bin/bash\nexec "${@:4}"\n')  # after --unbuffered --output PATH
    environment = {**os.environ, "SLURM_JOB_ID": "101"}
    script = fake.folder / "script.1"
    done = subprocess.run(["bash", str(script)], cwd=hostile, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing left to do: 1 " in done.stdout
    assert made.folder.joinpath("101_0_result.pkl").exists()


def judged(tmp_path: Path, *run_ids: str, **options: Any) -> EvaluationRequest:
    """`few` of runs "METHOD SEED" that are done."""
    experiment = tmp_path / "results" / "exp"
    for method, seed in () if experiment.exists() else map(str.split, run_ids):
        fake_run(experiment, method, int(seed))
    retry_failed = bool(options.pop("retry_failed", False))
    asked = EvaluateOptions(**cast(Any, {"evaluations": "few", "partition": "main", **options}))
    wanted = evaluate.wanted(asked)
    return evaluate.request(experiment, wanted, tmp_path / "data", asked, "bench evaluate", retry_failed)


def test_evaluations_are_submitted_like_a_sweep_and_counted(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = judged(tmp_path, "byol 0", "byol 1", "raft 0", runs_per_job=2)
    (key,) = request.work.keys
    experiment = request.experiment
    runs = [run["run_id"] for run in request.planned]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.planning.prepare.read_datasets", lambda *_: [])
        assert submit.submit(request, console) == 0
        made = only(tmp_path)
        assert made.evaluations == [key] and made.tasks == [runs[:2], runs[2:]]
        assert f"3 runs, to be judged by {key}" in text(console)
        fake.say("squeue.out", squeue(made, t101_0="PENDING", t101_1="RUNNING"))
        assert submit.submit(request, console) == 0
        assert "nothing to submit" in text(console), "all are queued"
    folder = experiment / "runs" / runs[0] / "evaluations"
    folder.mkdir(parents=True)
    (folder / f"{key}.json").write_text("{}")

    def counts() -> dict[str, int]:
        ((title, found),) = status.with_evaluations(status.survey(experiment, jobs_of), jobs_of).judged
        assert title == f"few ({key})"
        return dict(found)

    assert counts() == {"done": 1, "queued": 2}
    fake.say("squeue.out", squeue(made, t101_1="RUNNING"))
    fake.say("sacct.out", "")
    assert counts() == {"done": 1, "lost": 1, "queued": 1}
    cancel.cancel(experiment, console)
    assert fake.calls("scancel")


def test_training_does_not_wait_for_jobs_that_judge(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = judged(tmp_path, "byol 0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.planning.prepare.read_datasets", lambda *_: [])
        submit.submit(request, console)
    run = request.planned[0]["run_id"]
    fake.say("squeue.out", squeue(only(tmp_path), t101_0="PENDING"))
    (key,) = request.work.keys
    assert jobs_of(request.experiment, [run], [key])[0][run].state == "queued"
    assert jobs_of(request.experiment, [run], [key, "knn-01234567"])[0] == {}, "that one no job makes"
    assert jobs_of(request.experiment, [run])[0] == {}


def test_what_failed_is_submitted_again_only_when_asked(fake: Fake, tmp_path: Path, console: Console) -> None:
    request = judged(tmp_path, "byol 0")
    (key,) = request.work.keys
    folder = request.experiment / "runs" / request.planned[0]["run_id"] / "evaluations"
    folder.mkdir(parents=True)
    (folder / f"{key}.error.txt").write_text("no luck\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.planning.prepare.read_datasets", lambda *_: [])
        assert submit.submit(request, console) == 1
        assert (folder / f"{key}.error.txt").exists()
        again = judged(tmp_path, "byol 0", retry_failed=True)
        fake.say("sbatch.error", "no")
        with pytest.raises(UserError):
            submit.submit(again, console)
        assert (folder / f"{key}.error.txt").exists(), "put back"
        (fake.folder / "sbatch.error").unlink()
        assert submit.submit(again, console) == 0
    assert not (folder / f"{key}.error.txt").exists()
