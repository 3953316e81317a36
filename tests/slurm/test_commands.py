"""SLURM's answers amid what a site adds to them: nothing is mistaken for a job, and no job is overlooked."""

import time

import pytest
from fake_slurm import Fake

from bench.errors import UserError
from slurm import commands
from slurm.commands import SlurmError, TaskState

BANNER = """\x1b[1;33m*** Welcome to lab: maintenance on Monday ***\x1b[0m
Your previous job 77 ran 3 s of 4 h.

Quota = 80 % | 5 TB
"""


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_told", set())


@pytest.mark.parametrize(
    "answer",
    [
        "Submitted batch job 55473\n",
        "Your previous job 77 ran 3 s of 4 h.\nSubmitted batch job 55473\n",
        f"{BANNER}Submitted batch job 55473 on cluster lab\nGood luck with job 55473, the 3rd of 5.\n",
        "\x1b[32mSubmitted batch job 55473\x1b[0m\r\n",
        "sbatch: Submitted batch job 55473\n12345\n",
        "55473\n",
        "55473;lab\n",
        f"{BANNER}55473\n",
    ],
)
def test_the_job_that_sbatch_names(fake: Fake, answer: str) -> None:
    fake.say("sbatch.out", answer)
    assert commands.submit(fake.folder / "config", "name", []) == "55473"


@pytest.mark.parametrize(
    "answer", ["", BANNER, "Job 55473 wurde eingereicht\n", "1\n2\n", "Submitted batch job 1\nSubmitted batch job 2\n"]
)
def test_the_queue_tells_what_sbatch_does_not(fake: Fake, answer: str) -> None:
    fake.say("sbatch.out", answer)
    fake.say("named.out", f"{BANNER}55472|name\n55473|name\n99|other\n")
    assert commands.submit(fake.folder / "config", "name", ["55472"]) == "55473"
    fake.say("named.out", "")
    with pytest.raises(SlurmError, match=r"^sbatch: no job id in its answer: '") as error:
        commands.submit(fake.folder / "config", "name", [])
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize("where", ["{banner}{rows}", "{rows}{banner}", "{banner}{rows}{banner}"])
def test_notices_around_squeues_rows(fake: Fake, capsys: pytest.CaptureFixture[str], where: str) -> None:
    rows = "101|2|\x1b[32mRUNNING\x1b[0m|None|ours\n101|3|PENDING|Resources|ours|main\n102|N/A|RUNNING|None|a|b\n"
    header = "ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|REASON|NAME\n"
    fake.say("squeue.out", where.format(banner=BANNER, rows=header + rows))
    for _ in range(2):
        states = commands.task_states(["101", "102"], ["ours"])
        assert states == {("101", 2): TaskState("RUNNING"), ("101", 3): TaskState("PENDING", "Resources")}
    told = capsys.readouterr().err
    assert told.count("note: squeue also printed: ") == 1, "once"


@pytest.mark.parametrize(
    "row",
    [
        "101_2 main bench-ou user R 3:00 1 n1",  # the default columns
        "  101_[3-5%2]|ours|PENDING",
        "lab|101|2|RUNNING|None|ours",  # a column before
        "101|[3-5]|PENDING|None|ours",  # without --array
        "101|2|läuft|None|ours",
        "user ours R 3:00",
    ],
)
def test_a_row_of_ours_that_cannot_be_read_is_no_notice(fake: Fake, row: str) -> None:
    """A job that looks lost would be submitted twice."""
    fake.say("squeue.out", f"101|1|RUNNING|None|ours\n{row}\n")
    with pytest.raises(SlurmError, match=r"^squeue prints other columns than it was asked for: '") as error:
        commands.task_states(["101"], ["ours"])
    assert row.strip() in str(error.value)


LOST = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


@pytest.mark.parametrize("where", ["squeue.out", "squeue"])
def test_an_error_whose_status_a_wrapper_lost_is_no_empty_queue(fake: Fake, where: str) -> None:
    """`squeue "$@" 2>&1 | cat` and `squeue "$@" | cat`: every job would look lost."""
    fake.say(where, f"{BANNER}{LOST}\n" if where == "squeue.out" else f"#!/bin/bash\necho '{LOST}' >&2\n")
    for ask in (lambda: commands.task_states(["101"], ["ours"]), lambda: commands.named("ours")):
        if where == "squeue.out":
            fake.say("named.out", f"{LOST}\n")
        with pytest.raises(SlurmError, match="Unable to contact slurm controller") as error:
            ask()
        assert error.value.unreachable


def test_an_error_beside_rows_is_a_notice_and_a_forgotten_job_has_none(fake: Fake) -> None:
    invalid = "slurm_load_jobs error: Invalid job id specified\n"
    fake.say("squeue.out", f"{invalid}101|1|RUNNING|None|ours\n")
    assert commands.task_states(["101", "99"], ["ours"]) == {("101", 1): TaskState("RUNNING")}
    fake.say("squeue.out", invalid)
    assert commands.task_states(["99"], ["ours"]) == {}


def test_a_notice_that_names_our_job_in_passing_hides_nothing(fake: Fake) -> None:
    fake.say("squeue.out", "Your previous job 101 ran 3 s\n101|1|RUNNING|None|ours\n")
    assert commands.task_states(["101"], ["ours"]) == {("101", 1): TaskState("RUNNING")}


def test_only_ids_are_taken_for_jobs_of_a_name(fake: Fake) -> None:
    """They are cancelled."""
    fake.say("named.out", f"{BANNER}101|ours\n101|ours\n12\n13|ours-too\n102|ours|main\n")
    assert commands.named("ours") == {"101", "102"}


def test_notices_around_what_sacct_says(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        "JobID|State|ExitCode\n101_2|TIMEOUT|0:15\n101_2.batch|CANCELLED|0:15\n101_[3-5%2]|PENDING|0:0\n"
        "101_4|CANCELLED by 1000|0:0|n1\n102|FAILED|9:0\n101_5||0:0\n101_6|CANCELLED+|0:0\n101_7|FAILED|\n"
    )
    fake.say("sacct.out", BANNER + rows + BANNER)
    assert commands.ends(["101", "102"]) == {
        ("101", 2): "TIMEOUT",
        ("101", 4): "CANCELLED",
        ("102", 0): "FAILED, exit code 9:0",
        ("101", 6): "CANCELLED",
        ("101", 7): "FAILED",
    }
    assert "note: sacct also printed: *** Welcome" in capsys.readouterr().err


def test_notices_around_the_configuration(fake: Fake) -> None:
    content = (
        "Configuration data as of 2026-01-01\n\x1b[1mClusterName\x1b[0m = lab\nMaxArraySize\t= 4\nPath = a = b\n\n"
    )
    fake.say("config", f"{BANNER}{content}Slurmctld(primary) at ci is UP\n{BANNER}")
    found = commands.configuration()
    assert (found["ClusterName"], found["MaxArraySize"], found["Path"]) == ("lab", "4", "a = b")


@pytest.mark.parametrize("answer", ["", BANNER, "ClusterName =\n"])
def test_a_cluster_without_a_name_is_none(fake: Fake, answer: str) -> None:
    """Its jobs would be taken for another cluster's."""
    fake.say("config", answer)
    with pytest.raises(SlurmError, match="scontrol show config names no ClusterName"):
        commands.configuration()


def test_words_of_a_banner_are_no_partitions(fake: Fake) -> None:
    fake.say("sinfo.out", f"{BANNER}main\nshort\n")
    commands.check_partition("main,short")
    with pytest.raises(UserError, match=r"unknown partition 'Welcome': one of main, short$"):
        commands.check_partition("Welcome")
    fake.say("sinfo.out", BANNER)
    commands.check_partition("main")  # nothing is known: sbatch will tell


@pytest.mark.parametrize("status", ["#!/bin/bash\nexit 3\n", "#!/no/such/interpreter\n", "no script at all\x00"])
def test_a_wrapper_that_fails_without_a_word(fake: Fake, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    monkeypatch.setenv("PATH", str(fake.folder))
    fake.say("squeue", status)
    with pytest.raises(SlurmError, match=r"^squeue(: ended with status 3, without a word| cannot be started: )"):
        commands.call("squeue")


@pytest.mark.parametrize(
    ("left", "seconds"),
    [
        ("5", None),
        ("0:05", 5),
        ("59:00", 3540),
        ("2:03:04", 7384),
        ("1-02:03:04", 93784),
        ("UNLIMITED", None),
        ("", None),
    ],
)
def test_the_end_of_a_job_is_told_by_the_time_that_is_left(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, left: str, seconds: int | None
) -> None:
    """Not by the hour of its end: where clocks change, there are two of it."""
    monkeypatch.setattr(time, "time", lambda: 1792888200.0)
    fake.say("squeue.out", f"{BANNER}100|9:99:99\n101|{left}\n102|UNLIMITED\n")
    assert commands.end_of("101") == (None if seconds is None else 1792888200.0 + seconds)
    (call,) = fake.calls("squeue")
    assert "--format=%A|%L" in call


def test_the_hour_of_a_clock_change(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """2026-10-25 00:30 UTC in Berlin: 90 minutes are left, and 02:30 comes twice until then."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 1792888200.0)
    assert time.localtime(1792888200.0)[3:5] == (2, 30)
    fake.say("squeue.out", "101|1:30:00\n")
    end = commands.end_of("101")
    monkeypatch.undo()
    time.tzset()
    assert end == 1792888200.0 + 5400
