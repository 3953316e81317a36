"""The committed results: experiment files plan what they say, pages show what was measured, digits come out again."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from bench import cli
from bench.planning import sweep_file

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "reference"
PAGE = ROOT / "results" / "README.md"
FILES = sorted(RESULTS.glob("*/*.toml"))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a command in a new folder; it has to succeed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code, left.value.code

    return run


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(RESULTS).as_posix())
def test_an_experiment_file_plans_its_runs(
    file: Path, bench: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for part, label in product(("train", "test"), ("cat", "dog")):
        folder = Path("data/cifar10", part, label)  # where the files on CIFAR-10 expect it
        folder.mkdir(parents=True)
        for i in range(300):
            (folder / f"{i}.jpg").touch()
    bench("sweep", str(file), "--on", "dry")
    said = sweep_file.options(file, {})
    n = len(said.method.split(",")) * int(said.seeds) * math.prod(map(len, said.grid.values()))
    assert capsys.readouterr().out.startswith(f"{said['experiment']}: {n} runs\n")


def test_git_keeps_the_reference_results_and_ignores_what_commands_write(tmp_path: Path) -> None:
    kept = ["README.md", "reference/quick/leaderboard.md", "reference/quick/figures/cost.png"]
    ignored = ["quick/leaderboard.md", "quick/runs/a/result.json", "reports/a/runs.csv"]
    ignored += ["reference/quick/runs/a/result.json", "reference/quick/report.html"]
    for name in (f"results/{name}" for name in kept + ignored):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_bytes((ROOT / ".gitignore").read_bytes())
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = [*git, "ls-files", "--others", "--exclude-standard"]
    found = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    assert sorted(found) == sorted([".gitignore", *(f"results/{name}" for name in kept)])


def test_no_link_on_the_page_is_broken() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target


NAMES = {"untrained": "random", "BYOL'": "byol_prime", "MoCo v3": "moco_v3", "Barlow Twins": "barlow_twins"}


def mean_and_half_width(values: pd.Series) -> str:
    """As the pages show it: the mean and half of the 95 % t interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.2f} ± {half:.2f}"


@pytest.mark.parametrize(
    ("heading", "name", "n_rows"),
    [("## Seven methods on CIFAR-10, small", "cifar10-mini", 7), ("## Digits", "quick", 11)],
)
def test_the_page_shows_what_the_runs_say(heading: str, name: str, n_rows: int) -> None:
    runs = pd.read_csv(RESULTS / name / "runs.csv")
    assert set(runs["state"]) == {"done"}
    section = PAGE.read_text().split(heading)[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+?)(?: \*| \(reference\))? \| (\d+) \| ([^|]+) \| ([^|]+) \|", section, re.MULTILINE)
    seen = set()
    for label, n, linear, knn in rows:
        method = NAMES.get(label, label.lower().replace("'", ""))
        own = runs[runs["method"] == method]
        if own.empty:
            continue  # of another experiment
        seen.add(method)
        assert len(own) == int(n), label
        assert mean_and_half_width(own["test_linear_top1"]) == linear, label
        assert mean_and_half_width(own["test_knn_top1"]) == knn, label
    assert seen == set(runs["method"]) and len(seen) == n_rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "seeds", "within"),
    [
        ("random", 5, 0.3),  # nothing is trained: the whole row, but for what another CPU rounds differently
        ("simclr", 1, 3.0),  # after 330 steps roundings have grown to what another seed would give
    ],
)
def test_a_part_of_the_digits_table_comes_out_again(
    method: str, seeds: int, within: float, bench: Callable[..., None], tmp_path: Path
) -> None:
    bench("sweep", str(RESULTS / "quick" / "experiment.toml"), "--method", method, "--seeds", str(seeds))
    again, committed = (
        runs[runs["method"] == method].set_index("seed")
        for runs in (pd.read_csv(results / "quick" / "runs.csv") for results in (tmp_path / "results", RESULTS))
    )
    assert sorted(again.index) == list(range(seeds))
    committed = committed.loc[again.index]
    assert list(again["run_id"]) == list(committed["run_id"])  # the same settings
    for metric in ("test_linear_top1", "test_knn_top1"):
        assert list(again[metric]) == pytest.approx(list(committed[metric]), abs=within), metric
