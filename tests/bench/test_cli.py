"""The command line as a user meets it: exit codes, one-line errors, the same command again."""

import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from fake_results import fake_run
from PIL import Image
from readme_plugin import PLUGIN

from bench import cli
from bench.errors import UserError
from bench.files import parse_json
from bench.planning import doubts
from bench.planning.options import SweepOptions
from bench.runs import provenance, store
from bench.training import speed, workers
from methods import plugins

TINY = "--set data.size=8 --set train.epochs=2 --set train.batch_size=256 --set eval.every_epochs=2"
BOTH = f"run --method byol,random --seeds 2 --jobs 1 {TINY}"
BENCH = [sys.executable, "-c", "from bench.cli import main; main()"]


@pytest.fixture(autouse=True)
def in_a_new_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Answer:
    """What a command says and leaves."""

    code: int
    out: str
    err: str


def bench(command: str) -> Answer:
    """Run a command in this process; its workers have processes of their own."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["bench", *command.split()])
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert isinstance(left.value.code, int)
    return Answer(left.value.code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("option", ["--results", "--data-dir"])
def test_folders_whose_names_are_no_text_are_refused_before_anything_is_made(option: str) -> None:
    answer = bench(f"run --method random {option} caf\udce9")  # as Python has the byte E9
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith("caf\\udce9: its name is not text in UTF-8; rename the folder, or link to it\n")
    assert not list(Path().iterdir())


def test_names_that_no_file_system_takes() -> None:
    long = "a" * 300
    answer = bench(f"run --method random --results {long}")
    assert (answer.code, answer.err) == (2, f"bench: {long}: File name too long\n")
    answer = bench(f"run --method random --experiment {long}")
    assert (answer.code, answer.err) == (2, f"bench: experiment {long[:20]}...: 300 characters; use at most 200\n")


def test_an_output_that_is_full() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*BENCH, "list", "keys"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (2, "bench: standard output: No space left on device\n")


def test_a_working_directory_that_was_deleted() -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    answer = bench("run --method random")
    assert (answer.code, answer.err) == (2, "bench: results: the working directory was deleted; change to another\n")


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
        (
            "run --method wmse --set train.batch_size=64",
            "train.batch_size=64: wmse needs at least 128 images a step; use more, or lower what asks for them",
        ),
        (
            "run --method wmse --set method.projector_out=200",
            "wmse's method.whitening_size=128: should be above projector_out=200, as fewer images have no covariance",
        ),
        ("run --method raft --results /proc/nowhere", "cannot write results to /proc/nowhere"),
        ("run --method raft --set data.name=folder:empty", "empty"),
        ("run --method raft --set data.name=folder:absent", "absent"),
        ("run --method raft --set train.threads=0", "train.threads='0': should be greater than or equal to 1"),
        (
            "run --method raft --set train.threads=100000",
            "train.threads='100000': should be less than or equal to 1024",
        ),
        pytest.param(
            "run --method raft --device cuda",
            "--device cuda: this machine shows no CUDA device; use cpu or auto",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="it has one"),
        ),
        ("run --method raft --device tpu", "unknown --device 'tpu': did you mean 'cpu'? one of auto, cpu, cuda"),
        ("run --method raft --jobs 0", "Invalid value for '--jobs'"),
        ("run --methud raft", "No such option: --methud"),
        ("run", "which methods? give --method"),
        ("rnu", "No such command 'rnu'. Did you mean 'run'?"),
        ("", "Missing command. See: bench --help"),
        ("list", "Missing argument 'what'. See: bench list --help"),
        ("report", "has no experiments"),
        ("list method", "unknown list 'method': did you mean 'methods'?"),
    ],
)
def test_a_wrong_command_is_answered_by_one_line_and_exit_code_2(command: str, expected: str) -> None:
    folder_without_classes()
    shown = bench(command)
    assert shown.code == 2
    assert expected in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err + shown.out
    assert not Path("results").exists()


def test_there_is_a_launcher_for_each_place_that_on_takes() -> None:
    assert set(cli.LAUNCHERS) == set(get_args(SweepOptions.model_fields["on"].annotation))


@pytest.mark.parametrize("what", ["methods", "presets", "datasets", "backbones", "keys"])
def test_lists(what: str) -> None:
    shown = bench(f"list {what}")
    assert shown.code == 0
    expected = {
        "methods": "raft",
        "presets": "quick",
        "datasets": "digits",
        "backbones": "resnet18",
        "keys": "optim.lr",
    }
    assert re.search(rf"^{expected[what]}\b", shown.out, re.MULTILINE)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """An empty folder in which BOTH was executed, and what it said."""
    folder = tmp_path_factory.mktemp("executed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, bench(BOTH)


def test_from_nothing_to_a_leaderboard(executed: tuple[Path, Answer]) -> None:
    folder, said = executed
    assert said.code == 0, said.err
    assert "\x1b" not in said.out  # a log file gets plain lines
    assert said.out.count("done in") == 4
    assert re.search(r"BYOL +2 ", said.out)
    assert re.search(r"untrained +2 ", said.out)
    results = folder / "results/quick"
    for name in ("runs.csv", "history.csv", "leaderboard.csv"):
        assert (results / name).stat().st_size > 0
    for run in store.run_dirs(results):
        assert {"config.json", "metrics.jsonl", "encoder.safetensors", "result.json", "log.txt"} <= set(
            os.listdir(run.path)
        )


def test_the_same_command_again_executes_nothing(
    executed: tuple[Path, Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(executed[0])
    before = {run.run_id: run.result.read_bytes() for run in store.run_dirs(Path("results/quick"))}
    monkeypatch.setattr(provenance, "git_state", lambda: pytest.fail("nobody asks whose code executes nothing"))
    again = bench(BOTH)
    assert again.code == 0
    assert "4 of 4 runs are done already" in again.out
    assert {run.run_id: run.result.read_bytes() for run in store.run_dirs(Path("results/quick"))} == before


def test_a_refusal_that_holds_for_jobs_alone_is_no_silent_promise(
    executed: tuple[Path, Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(executed[0])
    for choice, told in (("refuse", 1), ("warn", 0)):
        said = bench(f"{BOTH.replace('run', 'sweep', 1)} --on-code-change {choice}")
        assert said.code == 0
        assert said.out.count("warning: --on-code-change refuse: not on this machine") == told


@pytest.mark.slow
def test_the_same_command_in_a_fresh_directory_gives_identical_metrics(executed: tuple[Path, Answer]) -> None:
    assert bench(f"run --method byol --seeds 1 {TINY}").code == 0
    (run,) = store.run_dirs(Path("results/quick"))
    other = store.RunDir(executed[0] / "results/quick/runs" / run.run_id)
    mine, theirs = store.read_run(run).result, store.read_run(other).result
    assert mine and theirs
    assert mine.metrics == theirs.metrics


@pytest.mark.slow
def test_two_commands_on_one_experiment_execute_each_run_once_and_both_report() -> None:
    command = f"run --method simsiam --seeds 2 --jobs 1 {TINY}"
    beside = subprocess.Popen([*BENCH, *command.split()], stdout=subprocess.PIPE, text=True)
    said = bench(command)
    out, _ = beside.communicate(timeout=600)
    assert (said.code, beside.returncode) == (0, 0)
    for run in store.run_dirs(Path("results/quick")):
        assert run.log.read_text().count("done:") == 1
    assert re.search(r"SimSiam +2 ", said.out)
    assert re.search(r"SimSiam +2 ", out)


HELD = """
import time
from bench.training import start
from bench.training.trainer import Trainer

train = Trainer.train

def held(job, claim, should_stop, *rest):
    end = time.monotonic() + 900

    def told():
        while (job.seed, job.step) == (0, 7) and not should_stop() and time.monotonic() < end:
            time.sleep(0.02)
        return should_stop()

    train(job, claim, told, *rest)

Trainer.train = held
start.main()
"""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> str:
    """A file to start workers with: the run of seed 0 stays in its second epoch until it is told to stop, or killed."""
    Path("held.py").write_text(HELD)
    monkeypatch.setenv("PYTHONPATH", str(Path(workers.__file__).parents[2]))
    return str(Path("held.py").absolute())


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 600
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


@pytest.mark.slow
def test_a_terminal_gets_one_live_line_a_run_and_an_interrupted_command_resumes(held: str) -> None:
    command = f"run --method simclr --seeds 1 {TINY} --set train.epochs=4"
    start_held = f"from bench.training import workers; workers.START = {held!r}; from bench.cli import main; main()"
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", start_held, *command.split()],
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(terminal)
    shown: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(main, 65536):
                shown.append(chunk)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    wait_for(lambda: re.search(rb"epoch 1/4 +loss .* images/s .* left", b"".join(shown)))
    process.send_signal(signal.SIGINT)  # to the command alone: it tells its workers
    assert process.wait(600) == 128 + signal.SIGINT
    reader.join()
    assert b"\x1b[" in b"".join(shown)
    assert b"the same command resumes" in b"".join(shown)
    (run,) = store.run_dirs(Path("results/quick"))
    assert store.read_run(run).state == "interrupted"
    again = bench(command)
    assert again.code == 0, again.err
    assert re.search(r"resumed at step \d", run.log.read_text())  # 7, or one where the signal came before


@pytest.mark.slow
def test_a_failed_run_gives_exit_code_1_and_its_reason() -> None:
    said = bench(f"run --method byol --seeds 1 {TINY} --set optim.lr=1e30")
    assert said.code == 1
    assert "1 of 1 runs did not finish" in said.out
    assert "non-finite" in said.out


def draw_pictures(broken: str) -> None:
    """pictures/: two classes, 40 training and 10 test images each, and a file that is none."""
    for split, n in (("train", 40), ("test", 10)):
        for label in ("dark", "light"):
            Path(f"pictures/{split}/{label}").mkdir(parents=True)
            for i in range(n):
                level = (20 if label == "dark" else 200) + i
                Image.new("RGB", (20 + i, 30 + n), (level, level // 2, 255 - level)).save(
                    f"pictures/{split}/{label}/{i}.png"
                )
    Path("pictures", broken).write_bytes(b"not a picture")


FOLDER = f"run --method supervised {TINY} --set data.name=folder:pictures --set train.batch_size=32"


@pytest.mark.slow
def test_an_image_folder_from_the_pictures_to_the_table() -> None:
    draw_pictures("train/dark/broken.png")
    said = bench(FOLDER)
    assert said.code == 2
    assert "broken.png" in said.err
    assert said.err.count("\n") == 1
    said = bench(f"{FOLDER} --set data.skip_bad=true")
    assert said.code == 0, said.err
    assert "left out 1 unreadable training images" in said.out
    assert re.search(r"^folder:pictures@[0-9a-f]{8}, preset quick", said.out, re.MULTILINE)  # a name, not a path


def test_a_broken_test_image_is_told_before_training() -> None:
    draw_pictures("test/dark/broken.png")
    said = bench(FOLDER)
    assert said.code == 2
    assert "broken.png" in said.err
    assert not Path("results").exists()


@pytest.mark.slow
def test_when_a_worker_is_killed_the_runs_it_had_not_begun_are_executed_all_the_same(
    held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "START", held)

    def kill_the_first() -> None:
        claim = wait_for(lambda: next(Path("results").glob("quick/runs/*/claim-1.json"), None))
        os.kill(parse_json(claim.read_text())["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    said = bench(f"run --method simclr --seeds 2 --jobs 1 {TINY}")
    killer.join()
    assert said.code == 1
    assert "killed: out of memory?" in said.out
    assert sorted(record.state for record in store.records(Path("results/quick"))) == ["done", "interrupted"]


@pytest.mark.parametrize("columns", ["0", "", "30"])
def test_the_report_is_there_whatever_columns_says(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run(Path("results/e"), "byol", 0, epochs=2)
    monkeypatch.setenv("COLUMNS", columns)
    said = bench("report e --format csv")
    assert said.code == 0
    assert "BYOL" in said.out and "linear" in said.out and "wrote results/e/runs.csv" in said.out


@pytest.mark.parametrize(
    ("device", "has", "precision", "warned"),
    [
        ("cpu", False, "bfloat16", True),
        ("cpu", False, "float32", False),
        ("cpu", True, "bfloat16", False),
        ("cuda:0", False, "bfloat16", False),
    ],
)
def test_speed_warns_of_bfloat16_where_the_processor_has_none(
    device: str, has: bool, precision: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        raise UserError("enough")

    monkeypatch.setattr(doubts, "_has_bfloat16", lambda: has)
    monkeypatch.setattr(workers, "devices", lambda _: [device])
    monkeypatch.setattr(speed, "measure", measured)
    said = bench(f"speed --set train.precision={precision}").err.splitlines()
    assert said[-1] == "bench: enough"
    assert [line[:32] for line in said[:-1]] == ["warning: train.precision=bfloat1"] * warned


def test_a_machine_without_a_temporary_folder_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(Path("missing").absolute())])
    monkeypatch.setattr(cli, "app", lambda **_: tempfile.gettempdir())  # as importing torch._dynamo does
    said = bench("speed")
    assert said.code == 2
    (line,) = said.err.splitlines()
    assert line.startswith("bench: No usable temporary directory found in")
    assert line.endswith(": set TMPDIR to a folder that can be written to")


@pytest.mark.slow
def test_a_published_table_is_made_again_from_nothing() -> None:
    """On the machine that made it the numbers are the same to the last digit, with its threads; others are told."""
    Path("paper.toml").write_text('method = ["simclr"]\nseeds = 2\nexperiment = "mine"\n')
    assert bench(f"sweep paper.toml --jobs 1 {TINY} --set train.threads=2").code == 0
    published = Path("paper")
    published.mkdir()
    table = Path("results/mine/runs.csv").read_text()
    (published / "runs.csv").write_text(table)
    settings = "".join(f"{each}\n" for each in TINY.replace("--set ", "").split())
    (published / "experiment.toml").write_text(Path("paper.toml").read_text() + f"[set]\n{settings}")
    answer = bench("verify paper --runs 1")
    assert answer.code == 0, answer.err
    assert "earlier call" not in answer.out
    assert re.search(r"^same  simclr-\w+-s\d: the same 10 numbers$", answer.out, re.MULTILINE)
    assert answer.out.endswith("paper: 1 of 2 runs made again: 1 same\n")
    (experiment,) = Path("results").glob("verify-paper-????????")
    (run,) = store.run_dirs(experiment)
    accuracy = store.read_run(run).result.metrics.test_linear_top1  # type: ignore[union-attr]
    (published / "runs.csv").write_text(table.replace(f"{accuracy},", "1.5,", 1))
    before = run.result.stat().st_mtime_ns
    answer = bench("verify paper --runs 1")
    assert answer.code == 1 and "different  simclr-" in answer.out and "1.5 ->" in answer.out
    assert run.result.stat().st_mtime_ns == before, "what was made again is not made a third time"
    assert re.search(rf"^1 of these were made by an earlier call, until 20.*: remove {experiment} to", answer.out, re.M)
    (published / "experiment.toml").unlink()
    assert bench("verify paper --runs 1").out == answer.out, "its rows say what to plan"
    assert bench("verify paper --statistics").code == 0, "there is no table beside runs.csv"


def test_a_bundle_is_one_file_that_checks_elsewhere() -> None:
    for seed in range(3):
        fake_run(Path("results/x"), "raft", seed)
        fake_run(Path("results/x"), "simclr", seed)
    said = bench("report x --bundle paper.zip --format csv,md")
    assert said.code == 0 and said.out.endswith("wrote paper.zip\n")
    assert {path.name for path in Path("results/x").iterdir()} == {"runs"}, "nothing is written but the file"
    shutil.unpack_archive("paper.zip")
    shutil.rmtree("results")
    assert bench("verify paper --statistics").code == 0
    assert bench("report x --bundle paper.tar").err.startswith("bench: --bundle paper.tar: a bundle is a .zip file")
    assert bench("report x --unredacted").err == "bench: --unredacted: it is for --bundle\n"


def test_tables_are_computed_again_from_their_runs_alone() -> None:
    for seed in range(3):
        for method in ("raft", "simclr"):
            fake_run(Path("results/x"), method, seed)
    assert bench("report x --format csv").code == 0
    shutil.move("results/x/pairs.csv", "pairs.csv")
    shutil.move("results/x", "paper")
    shutil.rmtree("paper/runs")
    same = bench("verify paper --statistics")
    assert (
        same.code == 0 and "leaderboard.csv: 0 differences in " in same.out and "not checked: settings of" in same.out
    )
    text = Path("pairs.csv").read_text().replace(",raft,", ",raft?,")
    Path("paper/pairs.csv").write_text(text)
    other = bench("verify paper --statistics")
    assert other.code == 1 and "raft?: no such row by runs.csv" in other.out
    assert not Path("results").exists() or not list(Path("results").glob("*")), "nothing is made"
    assert bench("verify paper --statistics --write").code == 1, "what was there differed"
    assert bench("verify paper --statistics").code == 0
    assert bench("verify paper --write").err == "bench: --write: only what --statistics computes can be written\n"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The README's method of one's own, in the working directory; no other command has it but those that name it."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    Path("align_uniform.py").write_text(PLUGIN)
    return Path("align_uniform.py")


@pytest.mark.slow
def test_a_method_of_ones_own_is_trained_and_its_results_are_read_without_it(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own.toml").write_text('method = ["align_uniform", "random"]\nplugin = "align_uniform.py"\n')
    answer = bench(f"sweep own.toml --jobs 1 {TINY} --set method.projector_hidden=32 --method align_uniform")
    assert answer.code == 0, answer.err
    (run,) = store.run_dirs(Path("results/quick"))
    assert run.run_id.startswith("align_uniform-")
    monkeypatch.setenv(plugins.VARIABLE, "")
    assert "1 done" in bench("status").out
    assert bench("report --format csv").code == 0
    answer = bench("evaluate quick --with few")
    told = "bench: quick has runs of align_uniform: name the plug-in with --plugin FILE.py\n"
    assert (answer.code, answer.err) == (2, told)
    assert bench("evaluate quick --with knn --set knn.k=3 --plugin align_uniform.py").code == 0


def test_a_plugin_is_listed_checked_and_refused_in_one_line(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench(f"list methods --plugin {plugin}").out.endswith("arXiv 2005.10242 (from plug-in align_uniform.py)\n")
    answer = bench(f"check-method align_uniform --plugin {plugin}")
    assert answer.code == 0 and len(re.findall("^ok ", answer.out, re.MULTILINE)) == 8
    plugin.write_text(PLUGIN.replace("self.gather(", "(").replace("squared_distance(z1, z2)", "z1.var(dim=0).sum()"))
    monkeypatch.setenv(plugins.VARIABLE, "")
    plugins._found.cache_clear()
    answer = bench(f"check-method align_uniform --plugin {plugin}")
    assert answer.code == 1 and "WRONG  the loss and gradients of the whole batch" in answer.out
    answer = bench("run --method byol --plugin nowhere.py")
    assert answer.code == 2 and answer.err.endswith("nowhere.py: there is no such Python file\n")


def test_a_plugin_that_changes_is_other_code(plugin: Path) -> None:
    plugins.use([plugin])
    submitted = provenance.fingerprints()
    plugin.write_text(PLUGIN + "\n")
    assert provenance.code_changes(submitted) == ["plug-in align_uniform.py"]
