"""The command line as a user meets it: exit codes, one-line errors, the same command again."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_results import fake_run
from PIL import Image

from bench import cli
from bench.files import parse_json
from bench.runs import store

TINY = "--set data.size=8 --set train.epochs=2 --set train.batch_size=256 --set eval.every_epochs=2"
BENCH = [sys.executable, "-c", "from bench.cli import main; main()"]


@pytest.fixture(autouse=True)
def in_a_new_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bench(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command in this process; -> its exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", *command.split()])
    with pytest.raises(SystemExit) as left:
        cli.main()
    code = left.value.code
    return code if isinstance(code, int) else int(code is not None)


def started(command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*BENCH, *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def folder_without_classes() -> None:
    Path("empty/train").mkdir(parents=True)
    Path("empty/test").mkdir()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("run --method rapt", "unknown method 'rapt': did you mean 'raft'? one of barlow_twins"),
        ("run --method raft --preset quik", "unknown preset 'quik': did you mean 'quick'? one of cifar10"),
        ("run --method raft --set optim.lrr=1", "unknown key 'optim.lrr': did you mean 'optim.lr'"),
        ("run --method simclr --set method.tau=1", "unknown key of simclr 'method.tau'"),
        ("run --method raft --set optim.lr=fast", "optim.lr='fast': should be a valid number"),
        ("run --method raft --set optim.lr", "--set 'optim.lr': expected KEY=VALUE"),
        ("run --method raft --set data.name=cifra10", "unknown dataset 'cifra10': did you mean 'cifar10'"),
        ("run --method raft --set backbone.name=resnet81", "unknown backbone 'resnet81': did you mean 'resnet"),
        ("run --method raft --seeds 0", "--seeds '0': give a number of seeds"),
        ("run --method raft --seeds=-1", "--seeds '-1': give a number of seeds"),
        ("run --method raft --seeds a", "--seeds 'a': give a number of seeds"),
        ("run --method raft --set train.batch_size=9999", "train.batch_size=9999: digits has"),
        ("run --method raft --results /proc/nowhere", "cannot write results to /proc/nowhere"),
        ("run --method raft --set data.name=folder:empty", "empty"),
        ("run --method raft --set data.name=folder:absent", "absent"),
        ("run --method raft --device tpu", "unknown --device 'tpu': did you mean 'cpu'? one of auto, cpu, cuda"),
        ("run --method raft --jobs 0", "Invalid value for '--jobs'"),
        ("run --methud raft", "No such option: --methud"),
        ("run", "which methods? give --method"),
        ("rnu", "No such command 'rnu'. Did you mean 'run'?"),
        ("report", "has no experiments"),
        ("list method", "unknown list 'method': did you mean 'methods'?"),
    ],
)
def test_a_wrong_command_is_answered_by_one_line_and_exit_code_2(
    command: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_without_classes()
    assert bench(command, monkeypatch) == 2
    shown = capsys.readouterr()
    assert expected in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err + shown.out
    assert not Path("results").exists()


@pytest.mark.parametrize("what", ["methods", "presets", "datasets", "backbones", "keys"])
def test_lists(what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(f"list {what}", monkeypatch) == 0
    expected = {
        "methods": "raft",
        "presets": "quick",
        "datasets": "digits",
        "backbones": "resnet18",
        "keys": "optim.lr",
    }
    assert re.search(rf"^{expected[what]}\b", capsys.readouterr().out, re.MULTILINE)


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        begun = time.perf_counter()
        subprocess.run([*BENCH, "--help"], check=True, capture_output=True)
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(7)) < 0.4


def test_from_nothing_to_a_leaderboard_and_the_same_command_again() -> None:
    command = f"run --method byol,random --seeds 2 {TINY}"
    first = started(command)
    out, err = first.communicate(timeout=200)
    assert first.returncode == 0, err
    assert "\x1b" not in out  # a log file gets plain lines
    assert out.count("done in") == 4
    assert re.search(r"byol +2 ", out)
    assert re.search(r"random +2 ", out)
    results = Path("results/quick")
    for name in ("runs.csv", "history.csv", "leaderboard.csv"):
        assert (results / name).stat().st_size > 0
    for run in store.run_dirs(results):
        assert {"config.json", "metrics.jsonl", "encoder.safetensors", "result.json", "log.txt"} <= set(
            os.listdir(run.path)
        )
    before = {run.run_id: run.result.read_bytes() for run in store.run_dirs(results)}
    again = started(command)
    out, _ = again.communicate(timeout=100)
    assert again.returncode == 0
    assert "4 of 4 runs are done already" in out
    assert {run.run_id: run.result.read_bytes() for run in store.run_dirs(results)} == before


@pytest.mark.slow
def test_the_same_command_in_a_fresh_directory_gives_identical_metrics() -> None:
    for where in ("a", "b"):
        process = started(f"run --method raft --seeds 1 --results {where} {TINY}")
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    first, second = (store.read_run(store.run_dirs(Path(where) / "quick")[0]) for where in ("a", "b"))
    assert first.result and second.result
    assert first.result.metrics == second.result.metrics


@pytest.mark.slow
def test_two_commands_on_one_experiment_execute_each_run_once_and_both_report() -> None:
    command = f"run --method simsiam --seeds 3 --jobs 1 {TINY}"
    both = [started(command), started(command)]
    outputs = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    for run in store.run_dirs(Path("results/quick")):
        assert run.log.read_text().count("done:") == 1
    assert all(re.search(r"simsiam +3 ", out) for out, _ in outputs)


@pytest.mark.slow
def test_an_interrupted_command_says_so_and_resumes() -> None:
    command = f"run --method simclr --seeds 1 {TINY} --set train.epochs=60"
    process = started(command)
    (run,) = [None]
    deadline = time.monotonic() + 100
    while run is None or not run.last_epoch():
        assert time.monotonic() < deadline
        time.sleep(0.05)
        run = next(iter(store.run_dirs(Path("results/quick"))), None)
    process.send_signal(signal.SIGINT)  # to the command alone: it tells its workers
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "the same command resumes" in out
    assert store.read_run(run).state == "interrupted"
    again = started(command)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    assert "resumed at step" in run.log.read_text()


@pytest.mark.slow
def test_a_failed_run_gives_exit_code_1_and_its_reason() -> None:
    process = started(f"run --method byol --seeds 1 {TINY} --set optim.lr=1e30")
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "1 of 1 runs did not finish" in out
    assert "non-finite" in out


@pytest.mark.slow
def test_a_terminal_gets_one_live_line_a_run() -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [*BENCH, *f"run --method byol --seeds 1 {TINY} --set train.epochs=12".split()],
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(main, 65536):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait(60) == 0
    text = shown.decode(errors="replace")
    assert re.search(r"epoch \d+/12 +loss .* images/s .* left", text)
    assert "\x1b[" in text


@pytest.mark.slow
def test_an_image_folder_from_the_pictures_to_the_table() -> None:
    for split, n in (("train", 40), ("test", 10)):
        for label in ("dark", "light"):
            Path(f"pictures/{split}/{label}").mkdir(parents=True)
            for i in range(n):
                level = (20 if label == "dark" else 200) + i
                Image.new("RGB", (20 + i, 30 + n), (level, level // 2, 255 - level)).save(
                    f"pictures/{split}/{label}/{i}.png"
                )
    Path("pictures/train/dark/broken.png").write_bytes(b"not a picture")
    command = f"run --method supervised {TINY} --set data.name=folder:pictures --set train.batch_size=32"
    process = started(command)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "broken.png" in err
    assert err.count("\n") == 1
    process = started(f"{command} --set data.skip_bad=true")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "left out 1 unreadable training images" in out
    assert re.search(r"^folder:pictures@[0-9a-f]{8}, preset quick", out, re.MULTILINE)  # a name, not a path


def test_a_broken_test_image_is_told_before_training() -> None:
    for split in ("train", "test"):
        for label, level in (("dark", 20), ("light", 200)):
            Path(f"pictures/{split}/{label}").mkdir(parents=True)
            for i in range(10):
                Image.new("RGB", (8, 8), (level + i,) * 3).save(f"pictures/{split}/{label}/{i}.png")
    Path("pictures/test/dark/broken.png").write_bytes(b"not a picture")
    process = started(f"run --method supervised {TINY} --set data.name=folder:pictures --set train.batch_size=8")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "broken.png" in err
    assert not Path("results").exists()


@pytest.mark.slow
def test_when_a_worker_is_killed_the_runs_it_had_not_begun_are_executed_all_the_same() -> None:
    process = started(f"run --method simclr --seeds 2 --jobs 1 {TINY} --set train.epochs=20")
    deadline = time.monotonic() + 100
    claims: list[Path] = []
    while not claims:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        claims = [*Path("results").glob("quick/runs/*/claim-1.json")]
    os.kill(parse_json(claims[0].read_text())["pid"], signal.SIGKILL)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "killed: out of memory?" in out
    assert sorted(record.state for record in store.records(Path("results/quick"))) == ["done", "interrupted"]


@pytest.mark.parametrize("columns", ["0", "", "30"])
def test_the_report_is_there_whatever_columns_says(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run(Path("results/e"), "byol", 0, epochs=2)
    monkeypatch.setenv("COLUMNS", columns)
    assert bench("report e --format csv", monkeypatch) == 0
    said = capsys.readouterr().out
    assert "BYOL" in said and "linear" in said and "wrote results/e/runs.csv" in said
