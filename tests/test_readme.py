"""What the pages say is what there is: links, names, numbers, examples, and the first two commands in a fresh clone."""

import os
import re
import subprocess
import sysconfig
import venv
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from bench.config.schema import PROTOCOL
from bench.planning import sweep_file
from bench.planning.toml import read_toml
from bench.runs.identity import SCHEMA
from methods import METHODS
from slurm import clusters

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CHANGELOG = ROOT / "CHANGELOG.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md", "methods/README.md")),
    *(ROOT / name for name in ("slurm/README.md", "results/README.md", "results/reference/speed/README.md")),
    CHANGELOG,
]
TO_COME = {"training/distributed.py"}  # bench/README.md says so


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_no_link_is_broken(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target.replace("\\", "")).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if page != CHANGELOG], ids=by_name)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    for name in {*re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|toml|yml))", text)} - TO_COME:
        assert (ROOT / name).exists() or (page.parent / name).exists(), name
    for name in {*re.findall(r"`((?:bench|methods|slurm)(?:\.\w+)+)", text)} - {"bench.py"}:
        module, _, attribute = name.rpartition(".")
        try:
            import_module(name)
        except ModuleNotFoundError:
            assert hasattr(import_module(module), attribute), name


def test_the_first_page_is_short_and_has_one_figure() -> None:
    assert len(README.splitlines()) <= 150
    assert len(re.findall(r"^!\[", README, re.MULTILINE)) == 1


def test_the_leaderboard_is_that_of_the_reference_results() -> None:
    board = pd.read_csv(ROOT / "results" / "reference" / "quick" / "leaderboard.csv")
    row = r"^\| .+?( \*)?(?: \(reference\))? \| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$"
    shown = re.findall(row, README, re.MULTILINE)

    def accuracy(row: "pd.Series[float]", metric: str) -> str:
        half = (row[f"{metric}_high"] - row[f"{metric}_low"]) / 2
        return f"{row[f'{metric}_mean']:.2f} ± {half:.2f}"

    assert len(shown) == len(board)
    for (star, n, linear, knn, rank), (_, row) in zip(shown, board.iterrows(), strict=True):
        assert bool(star) == (row["mark"] in ("best", "candidate"))
        assert int(n) == row["done"]
        assert linear == accuracy(row, "test_linear_top1") and knn == accuracy(row, "test_knn_top1")
        assert rank == f"{row['effective_rank_mean']:.1f}"


def test_the_example_method_is_the_file_as_it_stands() -> None:
    page = (ROOT / "methods" / "README.md").read_text()
    ((path, code),) = re.findall(r"```python\n# (methods/barlow_twins\.py)\n(.*?)```", page, re.DOTALL)
    assert (ROOT / path).read_text() == code
    (line,) = re.findall(r"```python\n# methods/__init__\.py\n(.*?)```", page, re.DOTALL)
    assert line in (ROOT / "methods" / "__init__.py").read_text()


def test_the_example_needs_no_more_than_its_registry_line() -> None:
    naming = [
        path
        for folder in ("bench", "methods", "slurm")
        for path in (ROOT / folder).rglob("*.py")
        if "BarlowTwins" in path.read_text() and path.name != "barlow_twins.py"
    ]
    assert [path.name for path in naming] == ["__init__.py"]


def test_the_table_of_methods_has_each_with_its_paper_and_its_file() -> None:
    rows = re.findall(
        r"^\|[^|]+\|([^|]*)\|[^|]+\| \[(\w+\.py)\]", (ROOT / "methods" / "README.md").read_text(), re.MULTILINE
    )
    files = [place.partition(":")[0].rpartition(".")[2] + ".py" for place in METHODS.places.values()]
    assert sorted(file for _, file in rows) == sorted(files)
    for paper, file in rows:
        docstring = (ROOT / "methods" / file).read_text().split('"""')[1]
        for number in re.findall(r"\[([\d.]+)\]", paper):
            assert f"arXiv {number}" in docstring, file


def test_the_sweep_file_and_the_profile_of_the_cluster_page_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "slurm" / "README.md").read_text()
    blocks = dict(re.findall(r"```toml\n# (\S+)\n(.*?)```", page, re.DOTALL))
    sweep, profiles = tmp_path / "paper.toml", tmp_path / "bench" / "clusters.toml"
    profiles.parent.mkdir()
    sweep.write_text(blocks["paper.toml"])
    profiles.write_text(blocks["clusters.toml"])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    options = sweep_file.options(sweep, {})
    planned = sweep_file.planned(sweep, options)
    (n,) = set(re.findall(r"^paper: (\d+) runs$", page, re.MULTILINE))
    assert len(planned) == int(n)
    for run, lr in re.findall(r"^  (\w+-[0-9a-f]{8})  data\S+ train\S+ optim\.lr=(\S+):", page, re.MULTILINE):
        assert any(p["run_id"] == f"{run}-s0" and p["overrides"]["optim.lr"] == lr for p in planned)
    assert clusters.load("lab", {}).account == "vision"
    sweep.write_text(blocks["rows.toml"])
    rows = sweep_file.planned(sweep, sweep_file.options(sweep, {}))
    assert [run.get("entry", run["method"]) for run in rows[:3]] == ["RAFT, no predictor", "RAFT, long", "byol"]
    assert len(rows) == 15
    sweep.write_text(blocks["search.toml"])
    runs = sweep_file.planned(sweep, sweep_file.options(sweep, {}))
    search = [run["config"]["train"]["epochs"] for run in runs if "search" in run and run["method"] == "raft"]
    assert sorted({*search}) == [2, 5, 10] and len(search) == 3 * 8 * 2  # as the page says


def test_the_changelog_has_the_versions_that_the_code_has() -> None:
    assert f"**Protocol version {PROTOCOL}**" in CHANGELOG.read_text()
    assert f"**Schema version {SCHEMA}**" in CHANGELOG.read_text()


def test_continuous_integration_runs_the_pythons_that_we_say() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (tried,) = re.findall(r"python: \[(.*)\]", workflow)
    said = [name.rpartition(" ")[2] for name in read_toml(ROOT / "pyproject.toml")["project"]["classifiers"]]
    assert re.findall(r"[\d.]+", tried) == [version for version in said if version.startswith("3.")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of what is committed, and an empty environment that finds this one's packages: no download."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing to clone")
    folder = tmp_path_factory.mktemp("fresh") / "ssl-bench"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    venv.create(folder / ".venv")
    packages = sysconfig.get_path("purelib", vars={"base": str(folder / ".venv")})
    (Path(packages) / "outer.pth").write_text(sysconfig.get_path("purelib"))
    (folder / ".venv" / "bin" / "ruff").symlink_to(Path(sysconfig.get_path("scripts")) / "ruff")
    for tool in ("pip", "mypy"):
        (folder / ".venv" / "bin" / tool).write_text(f'#!/bin/sh\nexec {folder}/.venv/bin/python -m {tool} "$@"\n')
        (folder / ".venv" / "bin" / tool).chmod(0o755)
    return folder


def shell(clone: Path, command: str) -> str:
    """What a command prints in the clone, in an empty HOME; it has to succeed."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE") if key in os.environ}
    environment = {**kept, "HOME": str(clone.parent), "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
    environment["MYPY_CACHE_DIR"] = str(ROOT / ".mypy_cache")  # what it has found out about torch takes a minute
    done = subprocess.run(
        ["bash", "-c", command], cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_the_first_command_runs_in_a_fresh_clone_and_leaves_it_clean(clone: Path) -> None:
    small = "--set train.epochs=2 --set data.size=8 --set train.batch_size=256 --jobs 2"  # the job itself takes minutes
    printed = shell(clone, f"make run ARGS='{small}'")
    assert "bench run --method raft --seeds 5" in printed
    assert re.search(r"^(raft|RAFT) +5 ", printed, re.MULTILINE)
    assert len(list((clone / "results" / "quick" / "runs").glob("*/encoder.safetensors"))) == 5
    assert shell(clone, "git status --porcelain") == ""
    listed = shell(clone, "source .venv/bin/activate && cd .. && bench list methods")
    assert listed.startswith("raft")


@pytest.mark.slow
def test_the_second_command_passes_in_a_fresh_clone(clone: Path) -> None:
    few = ".venv/bin/python -m pytest tests/bench/config/test_presets.py"
    assert re.search(r"^\d+ passed|\[100%\]$", shell(clone, f"make test PYTEST='{few}'"), re.MULTILINE)
    assert shell(clone, "git status --porcelain") == ""
