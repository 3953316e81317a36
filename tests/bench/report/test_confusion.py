"""Confusion matrices: counted by hand, read back from the figure."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_results import fake_evaluation, fake_run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import style
from bench.report.confusion import confusion_figure
from bench.report.figures import figures
from bench.report.write import write
from bench.tables.leaderboard import collect

CAT_DOG_OWL = np.array(["cat", "dog", "owl"])
LABELS = [0, 0, 0, 0, 1, 1, 2, 2]


def judged(run: Path, predicted: Any, labels: Any = LABELS, **more: Any) -> Path:
    """Give a run its linear evaluation on its own data, with these predictions; returns their file."""
    path = fake_evaluation(run, "linear", {"linear": 50.0}).with_suffix(".npz")
    np.savez_compressed(path, predicted=np.array(predicted, np.uint8), labels=np.array(labels, np.uint8), **more)
    return path


def confusion(results: Path) -> Figure | None:
    tables = collect(results, ["e"])
    with style.applied():
        return confusion_figure(tables, tables.leaderboard)


def drawn(results: Path) -> Figure:
    figure = confusion(results)
    assert figure
    return figure


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes if axes.images}


def percent(axes: Axes) -> list[list[float]]:
    shown: list[list[float]] = np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan).tolist()
    return shown


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_seeds_are_summed_and_rows_are_percent_of_a_class(tmp_path: Path) -> None:
    judged(fake_run(tmp_path / "e", "raft", 0), [[0, 0, 0, 0, 1, 0, 2, 2]], classes=CAT_DOG_OWL)
    judged(fake_run(tmp_path / "e", "raft", 1), [[0, 0, 1, 2, 1, 1, 2, 2]], classes=CAT_DOG_OWL)
    axes = panels(drawn(tmp_path))["RAFT"]
    assert percent(axes) == [[75, 12.5, 12.5], [25, 75, 0], [0, 0, 100]]
    assert sorted(text.get_text() for text in axes.texts) == ["100", "12", "12", "25", "75", "75"]  # 0 is not written
    assert names(axes) == ["cat", "dog", "owl"]


def test_an_entry_has_a_panel_and_says_what_is_missing(tmp_path: Path) -> None:
    for seed in range(2):
        judged(fake_run(tmp_path / "e", "byol", seed), [LABELS])
        fake_run(tmp_path / "e", "simclr", seed)
    judged(fake_run(tmp_path / "e", "raft", 0), [[0, 0, 0, 0, 0, 0, 0, 0]])
    fake_run(tmp_path / "e", "raft", 1)
    figure = drawn(tmp_path)
    assert list(panels(figure)) == ["RAFT\n1 of 2 seeds", "BYOL"]
    assert figure.get_supxlabel() == "predicted class\nwithout predictions: SimCLR"


def test_files_without_names_show_indices(tmp_path: Path) -> None:
    """Nor need a file hold every class: no image of class 1, so nothing is said of it."""
    judged(fake_run(tmp_path / "e", "raft", 0), [[0, 2]], [0, 2])
    judged(fake_run(tmp_path / "e", "raft", 1), [[0, 0]], [0, 0])
    axes = panels(drawn(tmp_path))["RAFT"]
    assert names(axes) == ["0", "1", "2"]
    np.testing.assert_array_equal(percent(axes), [[100, 0, 0], [np.nan] * 3, [0, 0, 100]])


def test_many_classes_have_few_ticks_and_no_numbers(tmp_path: Path) -> None:
    every = list(range(100))
    judged(fake_run(tmp_path / "e", "raft", 0), [every], every, classes=np.array([f"class {i}" for i in every]))
    axes = panels(drawn(tmp_path))["RAFT"]
    assert names(axes) == [f"class {i}" for i in range(0, 100, 10)]
    assert not axes.texts


def test_no_figure_without_predictions(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "e", "raft", 0)
    assert not confusion(tmp_path)
    fake_evaluation(run, "knn", {"knn": 50.0}).with_suffix(".npz").write_bytes(b"never read")
    failed = judged(fake_run(tmp_path / "e", "raft", 1), [LABELS]).with_suffix(".json")
    failed.unlink()  # not done, then
    assert not confusion(tmp_path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"predicted": np.zeros((1, 3), np.uint8), "labels": np.zeros(4, np.uint8)},
        {"predicted": np.zeros(4, np.uint8), "labels": np.zeros(4, np.uint8)},
        {"predicted": np.zeros((1, 0), np.uint8), "labels": np.zeros(0, np.uint8)},
        {"predicted": np.full((1, 4), -1), "labels": np.zeros(4, np.uint8)},
        {"predicted": np.full((1, 4), 0.5), "labels": np.zeros(4, np.uint8)},
        {"predicted": np.full((1, 4), 2**40), "labels": np.zeros(4, np.uint8)},
        {"predicted": np.full((1, 4), 3), "labels": np.zeros(4, np.uint8), "classes": CAT_DOG_OWL},
        {"predicted": np.array([["a"]], object), "labels": np.zeros(1, np.uint8)},
        {"labels": np.zeros(4, np.uint8)},
        b"",
        b"torn",
        None,
    ],
)
def test_a_damaged_file_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arrays: Mapping[str, Any] | bytes | None
) -> None:
    path = judged(fake_run(tmp_path / "e", "raft", 0), [LABELS])
    judged(fake_run(tmp_path / "e", "byol", 0), [LABELS])
    path.unlink()
    if isinstance(arrays, bytes):
        path.write_bytes(arrays)
    elif arrays:
        np.savez(path, **arrays)
    with caplog.at_level(logging.WARNING):
        figure = drawn(tmp_path)
    assert list(panels(figure)) == ["BYOL"]
    assert figure.get_supxlabel().endswith("without predictions: RAFT")
    (told,) = [record.getMessage() for record in caplog.records if "confusion" in record.name]
    assert told.startswith(f"left out of the confusion matrices: {path}: ")
    assert "\n" not in told


def test_a_file_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = judged(fake_run(tmp_path / "e", "raft", 0), [LABELS])
    whole = path.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not confusion(tmp_path)
    middle = len(whole) // 3
    path.write_bytes(whole[:middle] + b"\0\xff" * 20 + whole[middle + 40 :])
    assert not confusion(tmp_path)


def test_every_board_has_its_own_and_the_page_shows_them(tmp_path: Path) -> None:
    judged(fake_run(tmp_path / "e", "raft", 0), [LABELS], classes=CAT_DOG_OWL)
    run = fake_run(tmp_path / "e", "raft", 0, dataset="cifar10")
    path = judged(run, [[0, 0]], [0, 1]).with_suffix(".json")
    path.write_text(path.read_text().replace('"digits"', '"cifar10"'))
    found = {name: own for name, _, own in figures(collect(tmp_path, ["e"])) if name.startswith("confusion")}
    assert {name: len(names(panels(figure)["RAFT"])) for name, figure in found.items()} == {
        "confusion-digits": 3,
        "confusion-cifar10": 2,
    }
    write(tmp_path, ["e"], ["png", "html"])
    there = {path.name for path in (tmp_path / "e" / "figures").glob("confusion*")}
    assert there == {"confusion-digits.png", "confusion-cifar10.png"}
    page = (tmp_path / "e" / "report.html").read_text()
    assert 'id="figure-confusion-digits"' in page and 'id="figure-confusion-cifar10"' in page
