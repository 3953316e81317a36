"""The committed results: their experiment files plan what they say, and the digits table comes out again."""

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from bench import cli

RESULTS = Path(__file__).parent.parent / "results"
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
    assert capsys.readouterr().out.startswith(file.parent.name)


@pytest.mark.parametrize(
    ("method", "seeds", "within"),
    [
        ("random", 5, 0.3),  # nothing is trained: the whole row, but for what another CPU rounds differently
        ("simclr", 1, 3.0),  # after 330 steps roundings have grown to what another seed would give
    ],
)
def test_the_digits_table_comes_out_again(
    method: str, seeds: int, within: float, bench: Callable[..., None], tmp_path: Path
) -> None:
    bench("sweep", str(RESULTS / "quick" / "experiment.toml"), "--method", method, "--seeds", str(seeds))
    again, committed = (
        pd.read_csv(results / "quick" / "runs.csv").query("method == @method").set_index("seed")
        for results in (tmp_path / "results", RESULTS)
    )
    assert sorted(again.index) == list(range(seeds))
    committed = committed.loc[again.index]
    assert list(again["run_id"]) == list(committed["run_id"])  # the same settings
    for metric in ("test_linear_top1", "test_knn_top1"):
        assert list(again[metric]) == pytest.approx(list(committed[metric]), abs=within), metric
