"""Tables and figure of evaluations: numbers, marks of each column by itself, notes; encoders from elsewhere."""

import io
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fake_results import fake_encoder, fake_evaluation, fake_run
from rich.console import Console
from scipy import stats

from bench.report.evaluated import evaluations, more_numbers
from bench.report.figures import figures
from bench.report.section import Section
from bench.report.terminal import print_leaderboard
from bench.report.write import write
from bench.tables.leaderboard import Tables, collect

LEVELS = {
    "raft": [60.0, 61.0, 63.0],
    "byol": [70.0, 72.0, 71.0],
    "simclr": [69.5, 72.5, 71.0],
    "random": [80.0, 81.0, 82.0],
}
ODD = "folder:<b>$x_1$ 50%|&#@01234567"
"""What a folder's data set may be called."""


def judged(results: Path) -> None:
    """Four entries x 3 seeds, judged with few labels, and by fine-tuning but for one seed of RAFT."""
    for method, numbers in LEVELS.items():
        for seed, value in enumerate(numbers):
            run = fake_run(results / "e", method, seed, epochs=2, test_linear_top1=90.0 + seed)
            few: dict[str, float | list[float]] = {"few_1pct": [value - 5, value + 5], "few_10pct": value + 10}
            fake_evaluation(run, "few", few, n_labels={"few_1pct": 20, "few_10pct": 144})
            if (method, seed) != ("raft", 2):
                fake_evaluation(run, "finetune", {"finetune": 100 - value / 2}, top5=False)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    results = tmp_path_factory.mktemp("results")
    judged(results)
    return collect(results, ["e"])


def section(tables: Tables) -> Section:
    found = evaluations(tables, "Digits", tables.leaderboard)
    assert found
    return found


def column(found: Section, header: str) -> dict[str, str]:
    place = found.header.index(header)
    return {row[0]: row[place] for row in found.rows}


def test_columns_are_evaluations_and_rows_are_entries(tables: Tables) -> None:
    found = section(tables)
    assert found.header == ["method", "linear", "kNN", "few 1%", "few 10%", "finetune"]
    assert [row[0] for row in found.rows] == ["BYOL", "RAFT", "SimCLR", "untrained"]
    assert found.references == {3}
    half = stats.t.ppf(0.975, 2) * 1 / math.sqrt(3)
    assert column(found, "few 1%")["BYOL"] == f"71.00 ± {half:.2f}*"
    assert column(found, "few 1%")["untrained"] == f"81.00 ± {half:.2f}"
    assert column(found, "few 10%")["RAFT"].startswith("71.33 ± ")


def test_each_column_is_tested_by_itself(tables: Tables) -> None:
    """few: SimCLR and BYOL differ by 0.5, -0.5, 0: a tie; RAFT by 10, 11, 8: p = 0.008, 0.024 after Holm; not best."""
    found = section(tables)
    raft, byol = LEVELS["raft"], LEVELS["byol"]
    assert 2 * stats.ttest_rel(byol, raft).pvalue < 0.05
    assert {entry: text[-1] == "*" for entry, text in column(found, "few 1%").items()} == {
        "BYOL": True,
        "SimCLR": True,
        "RAFT": False,
        "untrained": False,
    }
    # finetune: 100 - value / 2, so that RAFT leads, with two seeds in common with the others: not tested
    assert column(found, "finetune")["RAFT"] == f"69.75 ± {stats.t.ppf(0.975, 1) * 0.25:.2f}? (2)"
    bold = {found.header[c]: found.rows[r][0] for r, c in found.bold}
    assert bold["few 1%"] == "BYOL"
    assert "finetune" not in bold


def test_what_the_notes_say(tmp_path: Path, tables: Tables) -> None:
    judged(tmp_path)
    runs = tmp_path / "e" / "runs"
    for run in runs.glob("byol-*"):
        (run / "evaluations" / "linear-01234567.error.txt").write_text("no data set: svhn\n")
    fake_evaluation(next(runs.glob("byol-*-s0")), "knn", {"knn": 50.0}, settings={"k": 3})
    told = "\n".join(section(collect(tmp_path, ["e"])).notes)
    assert "*: of each column by itself" in told
    assert "the truly best is among the *" in told and "does not mean equal" in told
    assert "?: not tested: fewer than 3 seeds in common" in told
    assert "(n): of n seeds only." in told
    assert "few 1%: 20 (2 draws); few 10%: 144; finetune: 1437" in told
    assert "set beside the defaults: k=3." in told
    assert "linear-01234567 failed of BYOL seed 0-2: no data set: svhn." in told
    told = "\n".join(section(tables).notes)
    assert "failed" not in told
    assert "beside the defaults" not in told


def test_no_table_where_the_leaderboard_shows_all(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 0, test_linear_top1=90.0, val_linear_top1=87.0, linear_l2=0.001)
    fake_evaluation(run, "linear", {"linear": 90.0})
    tables = collect(tmp_path, ["e"])
    assert evaluations(tables, "Digits", tables.leaderboard) is None
    more = more_numbers(tables, "Digits", tables.leaderboard)
    assert more
    assert more.header == ["method", "evaluation", "top-1", "top-5", "balanced", "F1"]
    assert more.rows == [["RAFT", "linear", "90.00 ± –", "95.00 ± –", "89.00 ± –", "88.00 ± –"]]


def test_no_tables_without_evaluations(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "raft", 0)
    tables = collect(tmp_path, ["e"])
    assert evaluations(tables, "Digits", tables.leaderboard) is None
    assert more_numbers(tables, "Digits", tables.leaderboard) is None


def test_more_numbers(tables: Tables) -> None:
    found = more_numbers(tables, "Digits", tables.leaderboard)
    assert found
    by_row = {(row[0], row[1]): row[2:] for row in found.rows}
    half = f"{stats.t.ppf(0.975, 2) / math.sqrt(3):.2f}"
    assert by_row["BYOL", "few 1%"] == [
        f"71.00 ± {half}",
        f"85.50 ± {stats.t.ppf(0.975, 2) / 2 / math.sqrt(3):.2f}",
        f"70.00 ± {half}",
        f"69.00 ± {half}",
    ]
    assert by_row["BYOL", "finetune"][1] == "–"  # no top-5 there
    assert found.references == {r for r, row in enumerate(found.rows) if row[0] == "untrained"}


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_terminal_shows_all_numbers(tables: Tables, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    print_leaderboard(tables, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "More numbers" not in text
    first = "Evaluations: Digits" if width == 200 else "Evaluations: Digits (1 of"
    assert first in " ".join(text.split())
    numbers = {number.split(" (")[0] for row in section(tables).rows for number in row[1:]}
    assert all(number in " ".join(text.split()) for number in numbers)


def test_all_formats_have_the_tables(tmp_path: Path) -> None:
    judged(tmp_path)
    write(tmp_path, ["e"], ["csv", "md", "tex", "html"])
    folder = tmp_path / "e"
    texts = {kind: (folder / name).read_text() for kind, name in (("md", "leaderboard.md"), ("html", "report.html"))}
    for text in texts.values():
        assert "Evaluations: Digits" in text
        assert "More numbers: Digits" in text
    tex = (folder / "leaderboard.tex").read_text()
    assert r"\caption{Evaluations: Digits}" in tex
    assert "More numbers" not in tex
    assert r"71.00 $\pm$ 2.48}$^{*}$" in tex
    assert r"69.75 $\pm$ 3.18$^{?}$ (2)" in tex


def test_names_of_data_sets_are_shown_as_they_are(tmp_path: Path) -> None:
    for seed in range(2):
        fake_evaluation(fake_run(tmp_path / "e", "raft", seed), "linear", {"linear": 50.0 + seed}, dataset="cifar10")
    for path in tmp_path.glob("e/runs/*/evaluations/*.json"):
        path.write_text(path.read_text().replace('"dataset": "cifar10"', f'"dataset": "{ODD}"'))
    write(tmp_path, ["e"], ["md", "tex", "html"])
    markdown = (tmp_path / "e" / "leaderboard.md").read_text()
    assert r"linear on folder:&lt;b&gt;\$x\_1\$ 50%\|&amp;\#@01234567" in markdown
    page = (tmp_path / "e" / "report.html").read_text()
    assert "linear on folder:&lt;b&gt;$x_1$ 50%|&amp;#@01234567" in page
    assert "<b>" not in page
    tex = (tmp_path / "e" / "leaderboard.tex").read_text()
    assert r"folder:\textless{}b\textgreater{}\$x\_1\$ 50\%\textbar{}\&\#@01234567" in tex


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex")
def test_wide_tables_are_parted_for_latex(tmp_path: Path) -> None:
    for seed in range(3):
        run = fake_run(tmp_path / "e", "raft", seed, epochs=2)
        for dataset in ("cifar10", "cifar100", "svhn", "stl10", "fashion_mnist"):
            fake_evaluation(run, "few", {"few_1pct": 50.0 + seed, "few_10pct": 60.0 - seed}, dataset=dataset)
    write(tmp_path, ["e"], ["tex"])
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "leaderboard.tex"]
    told = subprocess.run(command, cwd=tmp_path / "e", capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-2000:]
    assert "Overfull" not in told.stdout
    assert "multiply defined" not in told.stdout
    assert r"\caption{Evaluations: Digits (2 of" in (tmp_path / "e" / "leaderboard.tex").read_text()


def test_encoders_from_elsewhere_are_rows_below_the_references(tmp_path: Path) -> None:
    judged(tmp_path)
    encoder = fake_encoder(tmp_path / "e", "resnet50")
    fake_evaluation(encoder, "linear", {"linear": 90.0}, n_test=360)
    fake_evaluation(encoder, "few", {"few_1pct": [60.0, 64.0, 66.0]})
    fake_evaluation(encoder, "linear", {"linear": 40.0}, dataset="svhn", n_test=26032)
    tables = collect(tmp_path, ["e"])
    assert tables.leaderboard["entry"].tolist()[-2:] == ["random", "resnet50"]
    row = tables.leaderboard.iloc[-1]
    assert (row["method"], row["source"], row["content_hash"]) == ("", "timm:resnet50.a1_in1k", "3f2a0123456789ab")
    assert (row["reference"], row["mark"], row["planned"], row["done"], row["points"]) == (True, "", 0, 0, 0)
    assert math.isnan(row["rank"])
    assert math.isnan(row["alignment_mean"])
    p, n, z = 0.9, 360, stats.norm.ppf(0.975)  # Wilson's interval, as in his paper
    middle, half = (p + z * z / 2 / n), z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    low, high = (100 * (middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert [row[f"test_linear_top1_{key}"] for key in ("n", "mean", "low", "high")] == pytest.approx([1, 90, low, high])
    half = stats.t.ppf(0.975, 2) * math.sqrt(28 / 3) / math.sqrt(3)
    assert row["test_few_1pct_top1_mean"] == pytest.approx(190 / 3)
    assert row["test_few_1pct_top1_high"] == pytest.approx(190 / 3 + half)
    assert set(tables.pairs["entry_a"]) | set(tables.pairs["entry_b"]) == {"raft", "byol", "simclr", "random"}
    found = section(tables)
    assert found.header[0] == "entry"
    assert found.references == {3, 4}
    assert column(found, "linear")["resnet50"] == f"90.00 [{low:.2f}, {high:.2f}]"
    assert column(found, "few 1%")["resnet50"] == f"63.33 [{190 / 3 - half:.2f}, {190 / 3 + half:.2f}]"
    assert column(found, "finetune")["resnet50"] == "–"
    assert column(found, "linear on SVHN")["resnet50"].startswith("40.00 [")
    assert column(found, "linear on SVHN")["BYOL"] == "–"


def test_sources_of_encoders_are_told_in_every_format(tmp_path: Path) -> None:
    judged(tmp_path)
    fake_evaluation(fake_encoder(tmp_path / "e", "mine", "file:/a_b/$x$.pth"), "knn", {"knn": 90.0})
    write(tmp_path, ["e"], ["csv", "md", "tex", "html", "png"])
    markdown, tex, page = (
        (tmp_path / "e" / name).read_text() for name in ("leaderboard.md", "leaderboard.tex", "report.html")
    )
    assert r"Not trained here: mine: file:/a\_b/\$x\$.pth, 3f2a0123456789ab (hash of the weights)" in markdown
    assert r"file:/a\_b/\$x\$.pth" in tex
    assert "mine: file:/a_b/$x$.pth" in page
    assert "not trained here" in page
    (line,) = [line for line in markdown.splitlines() if line.startswith("| mine |")][:1]
    assert line.split(" | ")[1:3] == ["–", "–"]
    told = (tmp_path / "e" / "evaluations.csv").read_text().splitlines()
    assert [line for line in told if line.startswith("e,,mine,,,,knn,")]


def test_a_name_that_is_taken_says_where_it_is_from(tmp_path: Path) -> None:
    for name in ("e", "f"):
        fake_run(tmp_path / name, "raft", "ef".index(name))
        for encoder in ("raft", "resnet50"):
            fake_evaluation(fake_encoder(tmp_path / name, encoder), "knn", {"knn": 90.0})
    board = collect(tmp_path, ["e", "f"]).leaderboard
    assert board["entry"].tolist() == ["raft", "raft (e)", "raft (f)", "resnet50", "resnet50 (f)"]


def test_an_encoder_stands_on_the_boards_of_its_data_set(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "raft", 0)
    fake_run(tmp_path / "e", "raft", 0, dataset="cifar10")
    fake_evaluation(fake_encoder(tmp_path / "e", "a"), "knn", {"knn": 90.0})
    fake_evaluation(fake_encoder(tmp_path / "e", "b"), "knn", {"knn": 90.0}, dataset="svhn")
    fake_encoder(tmp_path / "e", "c")
    board = collect(tmp_path, ["e"]).leaderboard
    by_dataset = {name: set(own["entry"]) for name, own in board.groupby("dataset")}
    assert by_dataset == {"digits": {"raft", "a", "b", "c"}, "cifar10": {"raft", "b", "c"}}
    write(tmp_path, ["e"], ["md", "png"])  # several boards side by side


def test_damaged_encoders_are_told(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "raft", 0)
    fake_encoder(tmp_path / "e", "copy", name="resnet50")
    fake_encoder(tmp_path / "e", "old", content_hash=None)
    (fake_encoder(tmp_path / "e", "torn") / "encoder.json").write_text("{")
    (fake_encoder(tmp_path / "e", "gone") / "encoder.json").unlink()
    made = fake_evaluation(fake_encoder(tmp_path / "e", "judged"), "knn", {"knn": 90.0})
    made.write_text("{}")
    tables = collect(tmp_path, ["e"])
    told = dict(zip(tables.problems["path"], tables.problems["reason"], strict=True))
    assert told.pop("encoders/torn").endswith(": left out")
    assert told == {
        "encoders/copy": "of another encoder, resnet50: left out",
        "encoders/old": "encoder.json: content_hash is None: input should be a valid string: left out",
        "encoders/gone": "encoder.json: No such file or directory: left out",
        "encoders/judged": f"evaluations/{made.name}: it has no schema version: not a file of this program, or edited",
    }
    assert tables.leaderboard["entry"].tolist() == ["raft", "judged"]


def test_few_labels_have_a_figure(tmp_path: Path, tables: Tables) -> None:
    drawn = {name: figure for name, _, figure in figures(tables)}
    (axes,) = drawn["few-labels"].axes
    assert axes.get_xscale() == "log"
    lines = [np.column_stack(line.get_data()).tolist() for line in axes.lines if line.get_linestyle() != "None"]
    assert lines[1] == [[20, 71], [144, 81]]  # in the order of the methods
    judged(tmp_path)
    fake_evaluation(next((tmp_path / "e" / "runs").glob("byol-*-s0")), "linear", {"linear": 90.0})
    drawn = {name: figure for name, _, figure in figures(collect(tmp_path, ["e"]))}
    assert [tick.get_text() for tick in drawn["few-labels"].axes[0].get_xticklabels()] == ["20", "144", "1437"]


def test_no_such_figure_without_few_labels(tmp_path: Path) -> None:
    fake_evaluation(fake_run(tmp_path / "e", "raft", 0), "finetune", {"finetune": 90.0})
    assert "few-labels" not in {name for name, _, _ in figures(collect(tmp_path, ["e"]))}
