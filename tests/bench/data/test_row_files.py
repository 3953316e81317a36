"""Where tables of images come from: parquet files of this machine, and the Hub."""

import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import datasets as hugging_face
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from image_folders import config, make_parquet, message, write_parquet

from bench.data import datasets, row_files
from bench.data.rows import Choice
from bench.errors import UserError


def refused(name: str, choice: Choice | None = None) -> str:
    with pytest.raises(UserError) as raised:
        datasets.fingerprint(name, choice=choice or Choice())
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> Path:
    return make_parquet(folder, tmp_path / "table")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.parquet", "train"),
        ("data/train-00000-of-00002.parquet", "train"),
        ("train-00000-of-00001-b21c8e1b3a0f8b2c.parquet", "train"),
        ("validation_1.parquet", "validation"),
        ("plain_text/test/0000.parquet", "test"),
        ("Train/part-0.parquet", "train"),
        ("unsupervised-00000-of-00001.parquet", "unsupervised"),
        ("extra/0.parquet", "extra"),
    ],
)
def test_a_files_split_is_in_its_name_or_that_of_a_folder(path: str, split: str) -> None:
    assert row_files.split_of(Path(path)) == split


def test_a_split_in_several_files_is_their_rows_in_order(folder: Path, table: Path, data_dir: Path) -> None:
    whole = datasets.load(config(f"parquet:{table}"), data_dir)
    rows = pq.read_table(table / "train.parquet")
    (table / "train.parquet").unlink()
    for i, start in enumerate((0, 25, 50)):
        pq.write_table(rows.slice(start, 25), table / f"train-{i:05}-of-00003.parquet")
    parts = datasets.load(config(f"parquet:{table}"), data_dir)
    assert torch.equal(parts.images[:], whole.images[:])
    assert torch.equal(parts.labels, whole.labels)
    assert datasets.pretraining_images(config(f"parquet:{table}")) == 60


def test_names_of_classes_are_those_that_the_library_wrote(table: Path, data_dir: Path) -> None:
    features = hugging_face.Features(
        image=hugging_face.Image(decode=False), label=hugging_face.ClassLabel(names=["emu", "dog", "cat"])
    )
    for part in ("train", "test"):
        found = pq.read_table(table / f"{part}.parquet").to_pydict()
        hugging_face.Dataset.from_dict(found, features).to_parquet(table / f"{part}.parquet")
    found = datasets.load(config(f"parquet:{table}"), data_dir)
    assert found.classes == ("emu", "dog", "cat")
    assert found.labels[0] == 2  # a cat


def test_the_fingerprint_follows_the_content_and_not_the_place(table: Path, tmp_path: Path) -> None:
    before = datasets.fingerprint(f"parquet:{table}")
    table.rename(tmp_path / "elsewhere")
    name = f"parquet:{tmp_path / 'elsewhere'}"
    assert datasets.fingerprint(name) == before
    assert datasets.fingerprint(name, choice=Choice("image", "label", "train", "test")) == before
    file = tmp_path / "elsewhere" / "train.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    assert datasets.fingerprint(name) != before


def test_a_large_file_is_known_by_its_size_and_evenly_spaced_blocks(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, rows in enumerate((7, 9)):
        write_parquet(table / f"extra-{i}.parquet", image=[bytes(range(256)) * 200] * rows, label=["a"] * rows)
    monkeypatch.setattr(row_files, "HASHED_BYTES", 1000)
    monkeypatch.setattr(row_files, "BLOCK", 100)
    name, choice = f"parquet:{table}", Choice(test_split="extra")
    before = datasets.fingerprint(name, choice=choice)
    content = bytearray((table / "extra-1.parquet").read_bytes())
    content[50] ^= 1  # in the first block
    (table / "extra-1.parquet").write_bytes(content)
    assert datasets.fingerprint(name, choice=choice) != before


# failures


def test_what_is_no_folder_of_parquet_files_is_one_line(table: Path, tmp_path: Path) -> None:
    assert "there is no such folder" in refused(f"parquet:{tmp_path / 'nowhere'}")
    assert "one file is one split: name a folder" in refused(f"parquet:{table / 'train.parquet'}")
    (tmp_path / "empty").mkdir()
    assert "no *.parquet file is in it" in refused(f"parquet:{tmp_path / 'empty'}")
    (table / "test.parquet").unlink()
    assert "no split is called test or validation; it has train" in refused(f"parquet:{table}")


def test_damaged_files_are_named(table: Path, data_dir: Path) -> None:
    content = (table / "test.parquet").read_bytes()
    for wrong in (b"", b"no table", content[: len(content) // 2]):
        (table / "test.parquet").write_bytes(wrong)
        line = refused(f"parquet:{table}")
        assert f"cannot read {table / 'test.parquet'} (" in line
        assert "replace or remove it" in line


def test_damage_in_the_middle_of_a_file_is_found_as_it_is_read(table: Path, data_dir: Path) -> None:
    images = pq.ParquetFile(table / "train.parquet").metadata.row_group(3).column(0)
    content = bytearray((table / "train.parquet").read_bytes())
    content[images.data_page_offset : images.data_page_offset + 20] = bytes(20)
    (table / "train.parquet").write_bytes(content)
    assert datasets.fingerprint(f"parquet:{table}")
    assert f"cannot read {table / 'train.parquet'} (" in message(config(f"parquet:{table}"), data_dir)
    assert not list(data_dir.rglob("*.tmp"))


def test_files_of_one_split_with_other_columns_are_refused(table: Path) -> None:
    write_parquet(table / "train-1.parquet", image=[b"x"], label=[3])
    assert "train.parquet has other columns than train-1.parquet" in refused(f"parquet:{table}")


def test_columns_and_splits_of_what_is_no_table_are_refused(folder: Path) -> None:
    line = refused(f"folder:{folder}", Choice(label_column="label"))
    assert line.startswith("data.label_column=label: folder:")
    assert "data.test_split=x: cifar10 has no columns" in refused("cifar10", Choice(test_split="x"))


@pytest.mark.parametrize("name", ["hf:mnist", "parquet:."])
def test_a_missing_library_is_one_line_that_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "datasets is not installed; pip install 'ssl-bench[hf]'" in refused(name)


# the Hub


def out_of_reach(*arguments: Any, **settings: Any) -> Any:
    raise urllib.error.URLError("Name or service not known")


def hub(monkeypatch: pytest.MonkeyPatch, give: Any) -> list[tuple[Any, ...]]:
    """The library's answer, as there is no network in tests; returns what it was asked for."""
    asked = []

    def load_dataset(*arguments: Any) -> Any:
        asked.append(arguments)
        if isinstance(give, Exception):
            raise give
        return give

    monkeypatch.setattr(hugging_face, "load_dataset", load_dataset)
    monkeypatch.setattr(urllib.request, "urlopen", out_of_reach)
    return asked


def test_a_set_of_the_hub_gives_the_bits_of_the_same_files_in_a_folder(
    folder: Path, table: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {part: str(table / f"{part}.parquet") for part in ("train", "test")}
    answer = hugging_face.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "hub"))
    asked = hub(monkeypatch, answer)
    ours, theirs = (datasets.load(config(name), data_dir) for name in ("hf:me/birds#small", folder))
    assert asked == [("me/birds", "small")]
    assert torch.equal(ours.images[:], theirs.images[:])
    assert torch.equal(ours.labels, theirs.labels)
    for own, other in zip(ours.load_test(), theirs.load_test(), strict=True):
        assert torch.equal(own[:], other[:])
    assert datasets.pretraining_images(config("hf:me/birds")) == 60


def test_the_fingerprint_of_a_set_of_the_hub_follows_its_images_and_labels(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(change: int, label: str) -> str:
        rows = pq.read_table(table / "train.parquet").to_pydict()
        rows["image"][5]["bytes"] += bytes(change)
        rows["label"][7] = label
        both = {part: hugging_face.Dataset(pa.table(rows)) for part in ("train", "test")}
        hub(monkeypatch, hugging_face.DatasetDict(both))
        return datasets.fingerprint("hf:me/birds")

    assert of(0, "cat") == of(0, "cat")
    assert len({of(0, "cat"), of(1, "cat"), of(0, "dog")}) == 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (hugging_face.exceptions.DatasetNotFoundError("x"), "the Hub has no such data set"),
        (ConnectionError("Couldn't reach 'me/birds' on the Hub"), "out of reach and no copy is on this machine"),
        (ValueError("Config name is missing.\nPlease pick one among: ['a', 'b']"), r"pick one among: \['a', 'b'\]"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(error: Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, error)
    with pytest.raises(UserError, match=rf"hf:me/birds: .*{line}"):
        datasets.fingerprint("hf:me/birds")


def test_without_a_network_the_answer_comes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", out_of_reach)
    monkeypatch.setattr(hugging_face.config, "HF_DATASETS_CACHE", str(tmp_path))
    started = time.monotonic()
    assert "the Hub is out of reach" in refused("hf:me/birds")
    assert time.monotonic() - started < 5  # the library alone tries for 24 s
    assert not hugging_face.config.HF_HUB_OFFLINE


def test_an_empty_name_is_an_unknown_dataset() -> None:
    assert "unknown dataset 'hf:'" in refused("hf:")
