"""The committed results: sweep files plan what they say, pages show what was measured, digits come out again."""

import math
import re
import runpy
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
from bench.planning.plan import parse_seeds
from bench.report.names import entry_name
from bench.tables.leaderboard import collect

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "reference"
PAGE = ROOT / "results" / "README.md"
SPREAD = [f"{loss}, {kind}" for loss in ("RAFT", "BYOL'", "BYOL") for kind in ("MLP", "linear + BN")]  # embeddings
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
def test_a_sweep_file_plans_its_runs(
    file: Path, bench: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for data, part, label in product(("cifar10", "digits-turned"), ("train", "test"), ("cat", "dog")):
        folder = Path("data", data, part, label)  # where the files expect them
        folder.mkdir(parents=True)
        for i in range(300):
            (folder / f"{i}.jpg").touch()
    bench("sweep", str(file), "--on", "dry")
    said = sweep_file.options(file, {})
    methods = [*filter(None, said.method.split(",")), *(entry.method for entry in said.entry)]
    points = math.prod(map(len, said.grid.values()))
    n = len(methods) * len(parse_seeds(said.seeds)) * points
    if said.search:  # its first stage, in which the untrained network has no part
        searched = sum(method != "random" for method in methods)
        n = searched * int(said.search.get("points", points)) * int(said.search["seeds"])
    assert capsys.readouterr().out.startswith(f"{said.experiment}: {n} runs\n")


def test_the_bookkeeping_that_is_measured_ends_in_runs_that_tables_take(tmp_path: Path) -> None:
    measure = runpy.run_path(str(RESULTS / "speed" / "measure.py"))
    assert measure["_bookkeeping"](5, tmp_path)["runs"] == 5
    assert list(collect(tmp_path, ["many"]).leaderboard["done"]) == [5]
    assert measure["_search"](3, tmp_path / "search")["runs"] == 6


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


@pytest.fixture(scope="module")
def page() -> str:
    """The page of results, on one line."""
    return " ".join(PAGE.read_text().split())


def shown(values: pd.Series) -> str:
    """Mean and half of the 95 % t interval, if there are two values."""
    if len(values) == 1:
        return f"{values.item():.2f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.2f} ± {half:.2f}"


def rows_of(name: str) -> dict[str, pd.DataFrame]:
    """The done runs that stand in an experiment's table, by the names of its rows, in the leaderboard's order."""
    runs = pd.read_csv(RESULTS / name / "runs.csv")
    leaderboard = pd.read_csv(RESULTS / name / "leaderboard.csv")
    done = runs[(runs["state"] == "done") & runs["chosen"]]
    of = done["entry" if "entry" in done else "method"]  # of a version without entries
    return {entry_name(entry): done[of == entry] for entry in leaderboard["entry"]}


LOSSES = ("RAFT", "BYOL'", "BYOL", "alignment alone")


def predictors(name: str, seeds: int, losses: tuple[str, ...] = LOSSES) -> list[list[str]]:
    """Linear accuracy, uniformity of z and effective rank of the features, (n) of n seeds only.

    A row a predictor that was run, a column a loss.
    """
    rows = rows_of(name)

    def cell(name: str) -> str:
        own = rows.get(name)
        if own is None or own.empty:
            return "–"
        rank = f"{own['effective_rank'].mean():.1f}"
        fewer = f" ({len(own)})" * (len(own) < seeds)
        return f"{shown(own['test_linear_top1'])}, {shown(own['uniformity'])}, {rank}{fewer}"

    kinds = ("MLP", "linear + BN", "MLP without BN", "linear", "none", "MLP frozen")
    table = [[kind, *(cell(f"{loss}, {kind}") for loss in losses)] for kind in kinds]
    table.append(["linear, computed", *(cell("DirectPred") if loss == "BYOL" else "–" for loss in losses)])
    return [row for row in table if set(row[1:]) != {"–"}]


def small() -> list[list[str]]:
    """CIFAR-10 at 16 pixels: a row an entry, best first, references last."""
    board = pd.read_csv(RESULTS / "cifar10-small" / "leaderboard.csv")
    seeds = rows_of("cifar10-small")
    rows = []
    for _, row in board.iterrows():
        own = seeds[entry_name(row["entry"])]
        rate = row["overrides"].partition("optim.lr=")[2].partition(" ")[0] or "–"
        accuracies = [shown(own[f"test_{name}_top1"]) for name in ("linear", "knn")]
        told = [f"{own['uniformity'].mean():.2f}", f"{own['effective_rank'].mean():.1f}"]
        rows.append([entry_name(row["entry"]), rate, str(len(own)), *accuracies, *told])
    return rows


def why() -> list[list[str]]:
    """Linear accuracy and uniformity with a matrix as predictor, of seed 0: a row what was changed."""

    def cell(table: str, entry: str) -> str:
        runs = pd.read_csv(RESULTS / table / "runs.csv")
        (run,) = runs[(runs["entry"] == entry) & (runs["seed"] == 0)].to_dict("records")
        return f"{run['test_linear_top1']:.2f}, {run['uniformity']:.2f}"

    rows = [
        ("digits", "330, of which 22", "predictors", ""),
        ("digits", "1,562, of which 22", "predictors-why", ", digits, 1562 steps"),
        ("digits", "1,562, of which 781", "predictors-why", ", digits, 1562 steps, warm-up 781"),
        ("CIFAR-10", "1,562, of which 22", "predictors-why", ", CIFAR-10, warm-up 22"),
        ("CIFAR-10", "1,562, of which 781", "predictors-cifar10", ""),
        ("CIFAR-10, views by crops alone", "1,562, of which 781", "predictors-why", ", CIFAR-10, crops alone"),
    ]
    return [
        [data, steps, *(cell(table, f"{loss}, linear{changed}") for loss in ("RAFT", "BYOL"))]
        for data, steps, table, changed in rows
    ]


def judged(name: str) -> dict[str, pd.DataFrame]:
    """The runs of an experiment of evaluations, by the names of rows, in the leaderboard's order."""
    runs = pd.read_csv(RESULTS / "evaluations" / name / "runs.csv")
    leaderboard = pd.read_csv(RESULTS / "evaluations" / name / "leaderboard.csv", keep_default_na=False)
    return {entry_name(entry): runs[runs["entry"] == entry].set_index("seed") for entry in leaderboard["entry"]}


def test_every_number_in_the_tables_of_the_page_is_what_the_runs_say() -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE)
    tables = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()] for block in blocks
    ]
    on_cifar10 = ("RAFT", "BYOL", "alignment alone")
    expected = [
        (["method", "rate", "seeds", "linear", "kNN", "uniformity", "eff. rank"], small()),
        (["predictor", *LOSSES], predictors("predictors", 5)),
        (["predictor", *on_cifar10], predictors("predictors-cifar10", 3, on_cifar10)),
        (["data", "steps, warm-up", "RAFT", "BYOL"], why()),
    ]
    measured = [table for table in tables if table[0] != ["question", "answer", "runs"]]
    assert len(measured) == len(expected)
    for (header, _, *rows), (columns, runs) in zip(measured, expected, strict=True):
        assert header == columns
        assert rows == runs


def test_what_the_page_says_of_cifar10_at_16_pixels_is_what_the_runs_say(page: str) -> None:
    rows, pairs = rows_of("cifar10-small"), pd.read_csv(RESULTS / "cifar10-small" / "pairs.csv")
    tested = pairs[pairs["p_holm"].notna()].set_index(["entry_a", "entry_b"])
    equivalent = tested["verdict"].str.contains("equivalent")
    assert f"{tested['significant'].sum()} of {len(tested)} pairs differ, {equivalent.sum()} are equivalent" in page
    assert (tested["significant"] | equivalent).all() and "every pair of methods is decided" in page
    both = tested[tested["significant"] & equivalent]
    assert list(both.index) == [("directpred", "vicreg")]
    assert f"(DirectPred and VICReg are both: {both['difference'].item():.1f} apart)" in page
    means = {name: runs["test_linear_top1"].mean() for name, runs in rows.items()}
    references = {"supervised", "untrained", "untrained, branches on"}
    above = min(means[name] for name in set(means) - references) - means["untrained, branches on"]
    assert f"the last method is {above:.1f} points above" in page
    ahead = tested.loc["simclr"]
    assert ahead["significant"].all() and (ahead["difference"] > 0).all()
    assert f"by {ahead['difference'].min():.1f} to {ahead['difference'].max():.1f} points" in page
    assert equivalent.loc[("raft", "byol_prime")] and tested.loc[("raft", "byol"), "significant"]
    raft, bound = means["RAFT"] - means["BYOL"], means["BYOL'"] - means["BYOL"]
    assert f"are equivalent, and {raft:.1f} and {bound:.1f} points ahead of BYOL" in page
    history = pd.read_csv(RESULTS / "cifar10-small" / "history.csv")
    reported = history[history["seed"].isin(rows["RAFT"]["seed"])]
    curves = reported.pivot_table("val_knn_top1", "epoch", "entry")
    apart = curves["raft"] - curves["byol"]
    assert f"from {apart[2]:.1f} points of kNN on validation after two to {apart[8]:.1f} after eight" in page


def test_what_the_page_says_of_few_labels_and_finetuning_is_what_the_runs_say(page: str) -> None:
    rows = judged("digits")
    assert all(len(runs) == 5 for runs in rows.values())

    def said(variant: str, names: list[str]) -> list[str]:
        return [shown(rows[name][f"test_{variant}_top1"]) for name in names]

    names = ["SimCLR", "RAFT", "BYOL", "untrained"]
    assert "SimCLR has {}, RAFT {}, BYOL {} and the untrained network {}".format(*said("few_1pct", names)) in page
    assert "with all, {}, {}, {} and {}".format(*said("linear", names)) in page
    assert "RAFT {}, BYOL {}, untrained {}".format(*said("finetune", names[1:])) in page


def test_what_the_page_says_of_the_predictors_is_what_the_runs_say(page: str) -> None:
    pairs = pd.read_csv(RESULTS / "predictors" / "pairs.csv")
    tested = pairs[pairs["p_holm"].notna()]
    better = tested[tested["significant"]]
    assert f"{len(better)} of {len(tested)} pairs differ" in page
    assert set(better["entry_a"]) <= set(SPREAD) and (better["difference"] > 0).all()
    assert not set(better["entry_b"]) & set(SPREAD)
    spread = [runs["uniformity"] for name, runs in rows_of("predictors").items() if name in SPREAD]
    assert len(spread) == len(SPREAD)
    assert f"between {max(map(max, spread)):.2f} and {min(map(min, spread)):.2f} in every run" in page


def test_what_the_page_says_of_the_predictors_on_cifar10_is_what_the_runs_say(page: str) -> None:
    rows = rows_of("predictors-cifar10")
    kinds = ("MLP", "linear + BN", "MLP without BN", "linear")
    own = pd.concat([rows[f"{loss}, {kind}"] for loss in ("RAFT", "BYOL") for kind in kinds])
    ends = own["uniformity"].max(), own["uniformity"].min()
    assert "with batch norm or without uniformity ends between {:.2f} and {:.2f}".format(*ends) in page
    means = own.groupby("entry")["test_linear_top1"].mean()
    assert f"accuracy between {means.min():.1f} and {means.max():.1f} %" in page
    pairs = pd.read_csv(RESULTS / "predictors-cifar10" / "pairs.csv")
    both = pairs[pairs["entry_a"].isin(means.index) & pairs["entry_b"].isin(means.index)]
    differ = both[both["significant"].astype(bool)]
    assert f"of the {len(both)} pairs of these rows {len(differ)} differ" in page
    assert {*zip(differ["entry_a"], differ["entry_b"], strict=True)} == {
        ("RAFT, MLP", "RAFT, linear"),
        ("RAFT, MLP", "BYOL, linear + BN"),
    }
    assert not both["verdict"].str.contains("equivalent").any()
    untrained = rows["untrained"]["test_linear_top1"].mean()
    alone = [runs["test_linear_top1"].mean() for name, runs in rows.items() if name.startswith("alignment alone")]
    assert alone and max(alone) < untrained
    none = rows["RAFT, none"]
    assert none["test_linear_top1"].min() == 10 and none["effective_rank"].min() < 1.01


def test_what_the_search_on_digits_changed_is_what_the_page_says(page: str) -> None:
    now, *before = (rows_of(name) for name in ("quick", "quick-untuned", "quick-newer"))
    untuned = before[0] | before[1]
    moved = {
        name: runs["test_linear_top1"].mean() - untuned[name]["test_linear_top1"].mean() for name, runs in now.items()
    }
    barlow, byol = moved.pop("Barlow Twins"), moved.pop("BYOL")
    assert f"Barlow Twins gained {barlow:.1f} points" in page and f"BYOL {byol:.1f} at nearly its own" in page
    assert f"no other mean moved by more than {max(map(abs, moved.values())):.1f}" in page
    pairs = pd.read_csv(RESULTS / "quick" / "pairs.csv")
    better = pairs[pairs["significant"]]
    least, most = better["difference"].min(), better["difference"].max()
    assert f"SimCLR, LeJEPA, MoCo v3, NNCLR and W-MSE are {least:.1f} to {most:.1f} points ahead" in page
    assert set(better["entry_a"]) == {"simclr", "lejepa", "moco_v3", "nnclr", "wmse"}
    assert f"({len(better)} of {pairs['p_holm'].notna().sum()} pairs, Holm-adjusted)" in page
    assert not pairs["verdict"].str.contains("equivalent").any()


def test_how_far_a_run_made_again_is_from_itself_is_what_the_page_says(page: str) -> None:
    """The same run ids in tables of several commits, all on one kind of processor."""
    quick, ablation, predictors = (
        pd.read_csv(RESULTS / name / "runs.csv").set_index("run_id")
        for name in ("quick-untuned", "raft-ablation", "predictors")
    )
    metrics = ["test_linear_top1", "test_knn_top1", "uniformity", "effective_rank"]
    both = predictors.loc[predictors.index.intersection(ablation.index)]
    again = both[both["git_commit"] != ablation.loc[both.index, "git_commit"]]
    pd.testing.assert_frame_equal(again[metrics], ablation.loc[again.index, metrics], check_exact=True)
    assert f"{len(again)} runs of raft-ablation, made again" in page and f"the other {len(both) - len(again)}" in page
    apart = (quick["test_linear_top1"] - ablation["test_linear_top1"]).dropna().abs()
    assert f"{len(apart)} runs of `quick-untuned`" in page
    assert f"{apart.mean():.1f} points on average, {apart.max():.1f} at most" in page


PUBLISHED = sorted(path.parent for path in RESULTS.rglob("runs.csv"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.relative_to(RESULTS).as_posix())
def test_the_tables_are_what_their_runs_give(
    folder: Path, bench: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    bench("verify", str(folder), "--statistics")
    lines = capsys.readouterr().out.splitlines()
    compared = {line.partition(":")[0] for line in lines if ": 0 differences in " in line}
    tables = {"grid.csv", "leaderboard.csv", "pairs.csv", "leaderboard.md"}
    assert {path.name for path in folder.iterdir()} & tables <= compared
    away = "data.name=folder:" in (folder / "runs.csv").read_text()
    assert any("not proven by their hash" in line for line in lines) == away


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
    bench("sweep", str(RESULTS / "quick-untuned" / "experiment.toml"), "--method", method, "--seeds", str(seeds))
    again, committed = (
        runs[runs["method"] == method].set_index("seed")
        for runs in map(pd.read_csv, (tmp_path / "results/quick/runs.csv", RESULTS / "quick-untuned" / "runs.csv"))
    )
    assert sorted(again.index) == list(range(seeds))
    committed = committed.loc[again.index]
    assert list(again["run_id"]) == list(committed["run_id"])  # the same settings
    for metric in ("test_linear_top1", "test_knn_top1"):
        assert list(again[metric]) == pytest.approx(list(committed[metric]), abs=within), metric
