"""Tables of images become the same cache as image folders, bit for bit, and end in results."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from image_folders import CLASSES, config, decode_slowly, in_two_processes, make_parquet, message, write_parquet
from typer.testing import CliRunner

from bench.cli import app
from bench.config.sections import DataConfig
from bench.data import datasets


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> Path:
    return make_parquet(folder, tmp_path / "table")


def of(table: Path, **settings: Any) -> DataConfig:
    return config(f"parquet:{table}", **settings)


def test_equal_files_give_equal_bits_in_a_folder_and_in_parquet(folder: Path, table: Path, data_dir: Path) -> None:
    ours, theirs = (datasets.load(each, data_dir) for each in (of(table), config(folder)))
    assert torch.equal(ours.images[:], theirs.images[:])
    assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(ours.validation, theirs.validation)
    assert (ours.classes, ours.mean, ours.std) == (theirs.classes, theirs.mean, theirs.std)
    for own, other in zip(ours.load_test(), theirs.load_test(), strict=True):
        assert torch.equal(own[:], other[:])
    assert ours.check() == theirs.check() == []


@pytest.mark.slow
def test_a_parquet_folder_ends_in_a_result(table: Path, data_dir: Path, tmp_path: Path) -> None:
    settings = [f"data.name=parquet:{table}", "data.size=8", "train.epochs=1", "train.batch_size=16"]
    command = ["run", "--method", "simsiam", "--seeds", "1", "--results", str(tmp_path / "r"), "--data-dir"]
    words = [*command, str(data_dir), *(word for each in settings for word in ("--set", each))]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (result,) = (tmp_path / "r").rglob("result.json")
    assert json.loads(result.read_text())["dataset"].startswith("parquet:table@")


def test_a_planned_run_whose_images_are_cached_needs_no_table(table: Path, data_dir: Path) -> None:
    planned = of(table, fingerprint=datasets.fingerprint(f"parquet:{table}"))
    before = datasets.load(planned, data_dir)
    before.load_test()
    shutil.rmtree(table)
    after = datasets.load(planned, data_dir)
    assert torch.equal(before.images[:], after.images[:])
    assert after.check() == []


def test_a_table_that_changed_since_the_run_was_planned_is_an_error(table: Path, data_dir: Path) -> None:
    planned = of(table, fingerprint="0" * 16)
    assert "has changed since the run was planned" in message(planned, data_dir)


def test_unreadable_rows_are_named_and_may_be_left_out(folder: Path, table: Path, data_dir: Path) -> None:
    files = sorted((folder / "train").rglob("*.png"))
    images = [file.read_bytes() for file in files]
    images[3], images[8] = b"", images[8][:40]
    write_parquet(table / "train.parquet", image=images, label=[file.parent.name for file in files])
    line = message(of(table), data_dir)
    assert "2 of 60 images are unreadable: train row 3 (" in line
    assert "train row 8 (" in line
    left = datasets.load(of(table, skip_bad=True), data_dir)
    assert len(left.images) == 58
    assert "train row 3" in left.check()[0]


def test_rows_without_a_label_are_trained_on_and_not_judged(folder: Path, table: Path, data_dir: Path) -> None:
    files = sorted((folder / "train").rglob("*.png"))
    labels = [None if i % 4 == 0 else file.parent.name for i, file in enumerate(files)]
    write_parquet(table / "train.parquet", image=[file.read_bytes() for file in files], label=labels)
    found = datasets.load(of(table), data_dir)
    assert (len(found.images), int((found.labels == -1).sum())) == (60, 15)
    assert found.classes == CLASSES
    assert (found.labels[torch.cat([found.train, found.validation])] >= 0).all()


def test_two_processes_may_cache_a_table_at_once_and_one_that_is_killed_leaves_nothing(
    table: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = tmp_path / "decoded.txt"

    def load() -> None:
        assert len(datasets.load(of(table), data_dir).images) == 60

    decode_slowly(monkeypatch, decoded, 0.02)
    killed = multiprocessing.get_context("fork").Process(target=load)
    killed.start()
    while not decoded.exists():
        time.sleep(0.005)
    os.kill(killed.pid or 0, signal.SIGKILL)
    killed.join(timeout=600)
    assert not list(data_dir.rglob("rows-*.json"))
    decoded.unlink()
    in_two_processes(load)
    assert len(decoded.read_text().splitlines()) == 60  # one made it, the other waited
    assert not list(data_dir.rglob("*.tmp"))


def test_images_may_be_files_beside_the_table(folder: Path, tmp_path: Path, data_dir: Path) -> None:
    for part in ("train", "test"):
        files = sorted((folder / part).rglob("*.png"))
        paths = [{"bytes": None, "path": str(file.relative_to(folder))} for file in files]
        write_parquet(folder / f"{part}.parquet", image=paths, label=[file.parent.name for file in files])
    ours, theirs = (datasets.load(each, data_dir) for each in (of(folder), config(folder)))
    assert torch.equal(ours.images[:], theirs.images[:])
