"""Files and the terminal: what a reader, a spreadsheet, LaTeX and GitHub make of them."""

import io
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from fake_results import METHODS, fake_experiment, fake_grid, fake_run
from markdown_it import MarkdownIt
from rich.console import Console

from bench.errors import UserError
from bench.report.columns import cell
from bench.report.terminal import print_leaderboard
from bench.report.write import csv, write
from bench.tables.leaderboard import Tables, collect
from methods import NAMES

ODD_FOLDER = "<script>alert(1)<script>, \"q\" & 'a' | $x_1$ 50% #~^\\ `é中`"  # a folder's name has no slash
ODD_METHOD = f"m{ODD_FOLDER}"  # a run directory's name begins with it


def printed(results: Path, experiments: list[str], width: int = 80, encoding: str = "utf-8") -> str:
    buffer = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_leaderboard(collect(results, experiments), Console(file=buffer, width=width))
    buffer.flush()
    return buffer.buffer.getvalue().decode(encoding)


def rows_of(markdown: str) -> list[list[str]]:
    """The table rows of a Markdown text, as a CommonMark parser with GitHub's tables sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    rows: list[list[str]] = []
    for i, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            children = tokens[i + 1].children or []
            rows[-1].append("".join(child.content for child in children))
            assert {child.type for child in children} <= {"text", "strong_open", "strong_close", "text_special"}
    return rows


def test_all_tables_are_written_and_named(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "quick")
    written = write(tmp_path, ["quick"], ["csv", "md", "tex"])
    names = {path.name for path in written}
    assert names == {
        *("runs.csv", "history.csv", "grid.csv", "leaderboard.csv", "pairs.csv", "problems.csv"),
        *("leaderboard.md", "leaderboard.tex"),
    }
    assert all(path.parent == tmp_path / "quick" and path.exists() for path in written)


def test_csv_is_what_was_collected(tmp_path: Path) -> None:
    fake_grid(tmp_path / "sweep")
    fake_experiment(tmp_path / "sweep")
    tables = collect(tmp_path, ["sweep"])
    write(tmp_path, ["sweep"], ["csv"])
    for name in ("runs", "history", "grid", "leaderboard", "pairs"):
        frame: pd.DataFrame = getattr(tables, name)
        read = pd.read_csv(tmp_path / "sweep" / f"{name}.csv")
        assert list(read) == list(frame)
        for column in frame.select_dtypes("number"):
            assert read[column].tolist() == pytest.approx(frame[column].tolist(), nan_ok=True, rel=1e-14), column


def test_several_experiments_share_a_folder_and_a_table(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "a")
    fake_experiment(tmp_path / "b", dataset="cifar10")
    written = write(tmp_path, ["a", "b"], ["csv", "md"])
    assert {path.parent for path in written} == {tmp_path / "reports" / "a+b"}
    header, *rows = rows_of((tmp_path / "reports" / "a+b" / "leaderboard.md").read_text())[:8]
    assert header == ["method", "CIFAR-10", "Digits", "mean rank", "mean"]
    simclr = collect(tmp_path, ["a", "b"]).leaderboard.query("method == 'simclr'").set_index("dataset")
    for name, text in zip(("cifar10", "digits"), rows[0][1:3], strict=True):
        mean, half = simclr.loc[name, "test_linear_top1_mean"], simclr.loc[name, "test_linear_top1_high"]
        assert text == f"{mean:.2f} ± {half - mean:.2f}*"
    assert [row[0] for row in rows] == ["SimCLR", "BYOL", "BYOL'", "RAFT", "SimSiam", "supervised", "untrained"]
    assert {path.parent for path in write(tmp_path, [], ["csv"], out=tmp_path / "out")} == {tmp_path / "out"}


def test_unknown_names_are_user_errors(tmp_path: Path) -> None:
    fake_run(tmp_path / "quick", "byol", 0)
    with pytest.raises(
        UserError, match=r"unknown format 'htm': did you mean 'html'\? one of csv, html, md, pdf, png, tex"
    ):
        write(tmp_path, ["quick"], ["htm"])
    with pytest.raises(UserError, match=r"unknown column 'test_knn': did you mean 'test_knn_top1'\?"):
        write(tmp_path, ["quick"], ["csv"], columns=["test_knn"])
    with pytest.raises(UserError, match="no format named: one of csv, md"):
        write(tmp_path, ["quick"], [])
    with pytest.raises(UserError, match="no column named: one of rank, method"):
        write(tmp_path, ["quick"], ["csv"], columns=[])
    with pytest.raises(UserError, match="unknown metric 'loss'"):
        write(tmp_path, ["quick"], ["csv"], metric="loss")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the report"):
        write(tmp_path, ["quick"], ["csv"], out=tmp_path / "file")
    assert not (tmp_path / "quick" / "runs.csv").exists()


def test_columns_and_metric(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "e")
    write(tmp_path, ["e"], ["csv", "md"], columns=["rank", "method", "test_knn_top1"], metric="test_knn_top1")
    read = pd.read_csv(tmp_path / "e" / "leaderboard.csv")
    assert list(read)[3:] == ["rank", "method", *(f"test_knn_top1_{k}" for k in ("n", "mean", "sd", "low", "high"))]
    header, first, *_ = rows_of((tmp_path / "e" / "leaderboard.md").read_text())
    assert header == ["rank", "method", "kNN"]
    assert first[:2] == ["1", "SimCLR"]
    assert first[2].endswith("*")


def test_the_terminal_at_80_columns(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "quick")
    text = printed(tmp_path, ["quick"])
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    (raft,) = [line for line in text.splitlines() if line.startswith("RAFT ") and "±" in line]
    assert "4/5" in raft
    assert "1 failed" in raft
    text = " ".join(text.split())
    assert "RAFT seed 3 failed: FloatingPointError: non-finite loss at step 120" in text
    assert "BYOL seed 4 missing (planned)" in text
    assert "SimSiam seed 2 collapsed" in text
    assert "Digits, preset quick, protocol version 1, seeds 0-4" in text
    assert (
        "the truly best of these methods on this test set is among the * and those with collapsed seeds (Hsu's" in text
    )
    assert "over seeds of all 10 pairs of methods at once (Welch, Bonferroni)" in text
    assert "Search budget: every method: 1 configuration, 5 runs." in text


LONG = "another_package_with_a_long_name:AMethodWithALongName"


@pytest.fixture(scope="module", params=[[], [LONG]], ids=["ours", "a long name"])
def of_some_methods(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    results = tmp_path_factory.mktemp("results")
    fake_experiment(results / "e", epochs=2)
    for method in request.param:
        for seed in range(2):
            fake_run(results / "e", method, seed, epochs=2)
    return collect(results, ["e"])


@pytest.mark.parametrize("width", [0, 1, 20, 40, 60, 80, 120])
def test_nothing_is_lost_on_a_terminal_of_any_width(of_some_methods: Tables, width: int) -> None:
    """Every text of the table is there, a row's in its own order: beside or below each other, broken but never cut."""
    buffer, tables = io.StringIO(), of_some_methods
    print_leaderboard(tables, Console(file=buffer, width=width))
    text = buffer.getvalue()
    assert max(map(len, text.splitlines())) <= (width or 80)
    shown = ("method", "seeds", "test_linear_top1", "test_knn_top1", "effective_rank", "train_seconds", "flags")
    letters = "".join(text.split())
    for row in tables.leaderboard.to_dict("records"):
        cells = ["".join(cell(row, column, tables.metric).split()) for column in shown]
        if row["method"] == LONG and width in (0, 80):  # folded beside its numbers
            lines = text.partition("preset")[0].splitlines()  # without the notes
            parts = [line.split()[0] for line in lines if line and line.split()[0] in LONG]
            assert "".join(parts) == LONG
        else:
            assert re.search("(linear|kNN|seeds|eff.rank|seconds|flags)?".join(map(re.escape, cells)), letters), cells
    for words in ("RAFTseed3failed:FloatingPointError", "SimSiamseed2collapsed", "Hsu'scomparison"):
        assert words in letters


def test_the_terminal_says_what_was_searched(tmp_path: Path) -> None:
    fake_grid(tmp_path / "sweep")
    text = " ".join(printed(tmp_path, ["sweep"]).split())
    assert "9 configurations, 27 runs" in text
    assert "Chosen by mean validation linear accuracy" in text and "BYOL: optim.lr=0.3 method.tau=0.99" in text
    assert "1 of 9 points incomplete" in text


def test_power_prints_a_line_a_tested_pair(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "e")
    told = []
    for aim, console in ((None, io.StringIO()), (1.0, io.StringIO())):
        write(tmp_path, ["e"], ["csv"], console=Console(file=console, width=100), difference=aim, powers=True)
        told.append(console.getvalue().partition("Power: Digits")[2])
        pairs = pd.read_csv(tmp_path / "e" / "pairs.csv")
        for pair in pairs[pairs["detectable"].notna()].itertuples():
            (line,) = re.findall(rf"^{NAMES[pair.entry_a]} - {NAMES[pair.entry_b]} +(.*)$", told[-1], re.MULTILINE)
            needed = "–" if np.isnan(pair.seeds_needed) else f"{pair.seeds_needed:.0f}"
            assert line.split() == [str(pair.n), f"{pair.difference:+.2f}", f"{pair.detectable:.1f}", needed]
        assert pairs["detectable"].notna().sum() == len(re.findall(r" - ", told[-1])) >= 3
    assert "to find a true difference as large as the one seen as surely." in " ".join(told[0].split())
    assert "to find a true difference of 1 points as surely." in " ".join(told[1].split())


def test_one_seed_has_a_dash(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0, test_linear_top1=91.234)
    text = printed(tmp_path, ["e"])
    assert "91.23 ± –" in text
    assert "*" not in text


def test_nothing_done_yet(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0, state="planned")
    assert "0/1" in printed(tmp_path, ["e"])
    write(tmp_path, ["e"], ["csv", "md", "tex"])


def test_odd_names_on_any_terminal(tmp_path: Path) -> None:
    for seed in range(2):
        fake_run(tmp_path / "e", "[red]x[bold]", seed, dataset=f"folder:/data/{ODD_FOLDER}")
    assert "[red]x[bold]" in printed(tmp_path, ["e"])
    assert "+/-" in printed(tmp_path, ["e"], encoding="ascii")


def test_odd_names_in_csv(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "=1+1", 0, dataset=f"folder:/data/{ODD_FOLDER}")
    write(tmp_path, ["e"], ["csv"])
    read = pd.read_csv(tmp_path / "e" / "leaderboard.csv")
    assert read["dataset"][0] == f"folder:{ODD_FOLDER}@01234567"  # the name and the content, no path
    assert read["method"][0] == "'=1+1"  # no formula for a spreadsheet to run


def test_formulas_are_disarmed_and_numbers_are_not() -> None:
    frame = pd.DataFrame({"text": ["=A1", "+1", "-x", "@f", "\tx", "a=1"], "number": [-1.5, 2, 3, 4, 5, 6]})
    lines = csv(frame).decode().splitlines()
    assert lines == ["text,number", "'=A1,-1.5", "'+1,2.0", "'-x,3.0", "'@f,4.0", "'\tx,5.0", "a=1,6.0"]


def test_markdown_shows_odd_names_as_they_are(tmp_path: Path) -> None:
    for seed in range(3):
        fake_run(tmp_path / "e", ODD_METHOD, seed)
        fake_run(tmp_path / "e", "byol", seed)
    write(tmp_path, ["e"], ["md"])
    text = (tmp_path / "e" / "leaderboard.md").read_text()
    assert "<script>" not in text
    rows = rows_of(text)
    assert {len(row) for row in rows} == {9}
    assert ODD_METHOD in {row[0] for row in rows}


def test_a_label_is_shown_as_it_is_by_every_format(tmp_path: Path) -> None:
    labels = ["=1+1", "a|b, <b>_x_</b> $\\alpha$ 50 % & #1", "[red]x[/red] ± 中"]
    for i, label in enumerate(labels):
        for seed in range(3):
            overrides = {"method.tau": 0.1 * i}
            fake_run(tmp_path / "e", "raft", seed, label=label, overrides=overrides, about=["method.tau"], epochs=2)
    assert set(labels) <= {line.split("  ")[0] for line in printed(tmp_path, ["e"], width=200).splitlines()}
    write(tmp_path, ["e"], ["csv", "md", "tex", "html"])
    folder = tmp_path / "e"
    assert set(pd.read_csv(folder / "leaderboard.csv")["entry"]) == {"'=1+1", *labels[1:]}
    pairs = pd.read_csv(folder / "pairs.csv")
    assert set(pairs["entry_a"]) | set(pairs["entry_b"]) == {"'=1+1", *labels[1:]}
    assert set(pairs["method_a"]) == set(pairs["method_b"]) == {"raft"}
    header, *rows = rows_of((folder / "leaderboard.md").read_text())
    assert header[0] == "entry" and {row[0] for row in rows} == set(labels)
    assert "<b>" not in (folder / "report.html").read_text() and "&lt;b&gt;" in (folder / "report.html").read_text()
    compile_tex(folder, "leaderboard.tex")


def test_without_labels_rows_are_called_methods(tmp_path: Path) -> None:
    for method in ("raft", "byol"):
        for seed in range(3):
            fake_run(tmp_path / "e", method, seed, epochs=2)
    write(tmp_path, ["e"], ["md", "html"])
    assert "entr" not in (tmp_path / "e" / "leaderboard.md").read_text()
    assert ">entry<" not in (tmp_path / "e" / "report.html").read_text()


def test_markdown_has_every_configuration_of_a_sweep(tmp_path: Path) -> None:
    fake_grid(tmp_path / "sweep")
    write(tmp_path, ["sweep"], ["md"])
    rows = rows_of((tmp_path / "sweep" / "leaderboard.md").read_text())
    header = next(i for i, row in enumerate(rows) if "optim.lr" in row)
    assert rows[header][:4] == ["method", "method.tau", "optim.lr", "seeds"]
    points = {(row[1], row[2]): row for row in rows[header + 1 : header + 10]}
    assert len(points) == 9 and points["0.9", "1"][3] == "2/3"
    grid = collect(tmp_path, ["sweep"]).grid
    for point in grid.to_dict("records"):
        shown = points[f"{point['method.tau']:g}", f"{point['optim.lr']:g}"]
        half = scipy.stats.t.ppf(0.975, point["done"] - 1) * point["val_linear_top1_sd"] / point["done"] ** 0.5
        assert shown[4] == f"{point['val_linear_top1_mean']:.2f} ± {half:.2f}"
        assert (shown[-1] == "chosen") == point["chosen"]


def compile_tex(folder: Path, name: str) -> None:
    pdflatex = shutil.which("pdflatex")
    if pdflatex is None:
        assert os.environ.get("CI") != "true", "pdflatex is not installed"
        pytest.skip("pdflatex is not installed")
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / name).with_suffix(".pdf").stat().st_size > 1000


def test_latex_compiles_with_odd_names(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "e", seeds=3)
    for seed in range(3):
        fake_run(tmp_path / "e", ODD_METHOD, seed)
    fake_run(tmp_path / "f", "byol", 0, dataset=f"folder:/data/{ODD_FOLDER}")
    for method in ("[red]x", "*star", "中文"):  # a row must not begin with what \\\\ takes as its argument
        fake_run(tmp_path / "f", method, 0)
    out = tmp_path / "out"
    write(tmp_path, ["e", "f"], ["tex"], out=out)
    text = (out / "leaderboard.tex").read_text()
    assert r"\toprule" in text
    assert r"$\pm$" in text
    assert r"\textbf{" in text
    assert "[U+4E2D]" in text
    compile_tex(out, "leaderboard.tex")
    paper = r"\documentclass{article}\usepackage{booktabs}\begin{document}Text.\input{leaderboard}More.\end{document}"
    (out / "paper.tex").write_text(paper)
    compile_tex(out, "paper.tex")


def test_latex_fits_the_text_of_an_article(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "e")
    write(tmp_path, ["e"], ["tex"])
    folder = tmp_path / "e"
    text = (
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{leaderboard}\ref{tab:digits}\end{document}"
    )
    (folder / "paper.tex").write_text(text)
    compile_tex(folder, "paper.tex")
    compile_tex(folder, "paper.tex")  # the label is known the second time
    log = (folder / "paper.log").read_text()
    assert "Overfull" not in log
    assert "undefined" not in log


def test_latex_marks_the_best_and_its_ties(tmp_path: Path) -> None:
    for seed in range(5):
        fake_run(tmp_path / "e", "byol", seed, test_linear_top1=90.0 + seed)
        fake_run(tmp_path / "e", "raft", seed, test_linear_top1=89.7 + seed + (-1) ** seed)
    write(tmp_path, ["e"], ["tex"])
    text = (tmp_path / "e" / "leaderboard.tex").read_text()
    assert r"\textbf{92.00 $\pm$ 1.96}$^{*}$" in text  # t quantile 2.776 * sqrt(2.5 / 5)
    assert r"$\pm$" in text.split("RAFT &")[1]
    tied = text.split("RAFT &")[1].split(r"\\")[0]
    assert "$^{*}$" in tied
    assert r"\textbf" not in tied  # bold is the best alone


def test_footnotes_say_what_the_marks_mean(tmp_path: Path) -> None:
    fake_experiment(tmp_path / "e")
    write(tmp_path, ["e"], ["md", "tex"])
    texts = [printed(tmp_path, ["e"]), *((tmp_path / "e" / f"leaderboard.{s}").read_text() for s in ("md", "tex"))]
    for text in texts:
        words = " ".join(text.replace("\\", "").replace("{}", "").split())
        assert "interval over training seeds (t), on one fixed test set" in words
        assert "It does not mean equal" in words
        assert "pairs of methods at once" in words
        assert "Seeds differ (" in words


def test_damaged_files_are_warned_of_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(14):
        run = fake_run(tmp_path / "e", "byol", seed)
        if seed:
            (run / "result.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        write(tmp_path, ["e"], ["csv", "md"])
    assert len(caplog.messages) == 11
    assert run.parent.name in caplog.messages[0]
    assert "and 3 more" in caplog.messages[-1]
    assert len(pd.read_csv(tmp_path / "e" / "problems.csv")) == 13
    assert (tmp_path / "e" / "leaderboard.md").read_text().count("result.json") >= 13
    assert "13 files could not be used" in printed(tmp_path, ["e"])


def test_names_that_are_no_text_are_shown_and_crash_nothing(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0)
    for name in (b"x\xff-01234567-s1", b"esc\x1b[31m\xe2\x80\xae-01234567-s1"):
        (tmp_path / "e" / "runs" / os.fsdecode(name)).mkdir()
    failed = fake_run(tmp_path / "e", "raft", 0, state="failed")
    (failed / "error.txt").write_text("\x1b[31mred\x07\n")
    for path in write(tmp_path, ["e"], ["csv", "md", "tex", "html"]):
        assert not set("\x1b\x07\u202e") & set(path.read_text(encoding="utf-8")), path
    shown = printed(tmp_path, ["e"])
    assert r"x\udcff" in shown.replace("\n", "")
    assert "\x1b" not in shown


def test_what_is_no_more_does_not_stay(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0)
    cifar = fake_run(tmp_path / "e", "byol", 1, dataset="cifar10")
    write(tmp_path, ["e"], ["csv", "png"])
    (tmp_path / "e" / "figures" / "mine.png").write_text("not of the report")
    assert (tmp_path / "e" / "overall.csv").exists()
    assert (tmp_path / "e" / "figures" / "leaderboard-cifar10.png").exists()
    shutil.rmtree(cifar)
    write(tmp_path, ["e"], ["csv", "png"])
    assert not (tmp_path / "e" / "overall.csv").exists()
    names = {path.name for path in (tmp_path / "e" / "figures").iterdir()}
    assert {"leaderboard.png", "mine.png"} <= names
    assert not [name for name in names if "cifar10" in name or "digits" in name]


def test_older_pages_are_told(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0)
    write(tmp_path, ["e"], ["csv", "md"])
    buffer = io.StringIO()
    write(tmp_path, ["e"], ["csv"], console=Console(file=buffer, width=100))
    assert "leaderboard.md: older than these numbers" in buffer.getvalue()


def test_a_full_disk_does_not_hide_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run(tmp_path / "e", "byol", 0)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.report.write.write_atomic", full)
    buffer = io.StringIO()
    with pytest.raises(UserError, match="No space left on device"):
        write(tmp_path, ["e"], ["csv"], console=Console(file=buffer, width=80))
    assert "BYOL" in buffer.getvalue()


def test_the_terminal_shows_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0)
    buffer = io.StringIO()
    write(tmp_path, ["e"], ["csv"], columns=["method", "uniformity"], console=Console(file=buffer, width=80))
    header = buffer.getvalue().splitlines()[1]
    assert header.split() == ["method", "uniformity"]


def test_csv_and_the_terminal_need_no_heavy_imports(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", METHODS[0], 0)
    code = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from bench.report import terminal, write; from bench.tables import leaderboard\n"
        "results = Path(sys.argv[1])\n"
        "terminal.print_leaderboard(leaderboard.collect(results, ['e']), Console())\n"
        "write.write(results, ['e'], ['csv', 'md', 'tex'])\n"
        "print(sorted({'torch', 'matplotlib', 'seaborn', 'jinja2'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
