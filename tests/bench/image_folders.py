"""Small image folders, cut from the photographs that scikit-learn ships."""

import multiprocessing
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from bench.config.sections import DataConfig
from bench.data import datasets, pictures
from bench.errors import UserError

CLASSES = ("cat", "dog", "emu")


@lru_cache
def photographs() -> list[Image.Image]:
    return [Image.fromarray(image) for image in load_sample_images().images]


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """A patch of a real photograph."""
    left, top = 37 * seed % 500, 23 * seed % 300
    return photographs()[seed % 2].crop((left, top, left + width, top + height))


def make_folder(root: Path, n_train: int = 20, n_test: int = 4, test: str = "test") -> Path:
    for part, n in (("train", n_train), (test, n_test)):
        for label, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for i in range(n):
                picture(100 * label + i + (50 if part == test else 0)).save(root / part / name / f"{i:03}.png")
    return root


def config(name: str | Path, size: int = 16, **settings: Any) -> DataConfig:
    return DataConfig(name=f"folder:{name}" if isinstance(name, Path) else name, size=size, **settings)


def message(config: DataConfig, data_dir: Path) -> str:
    """The one line that the user sees."""
    with pytest.raises(UserError) as raised:
        datasets.load(config, data_dir)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def make_parquet(folder: Path, root: Path, **splits: str) -> Path:
    """The same files as an image folder has, in its order, as parquet: what each split is called is said."""
    for part, split in (splits or {"train": "train", "test": "test"}).items():
        files = sorted((folder / part).rglob("*.png"))
        write_parquet(
            root / f"{split}.parquet",
            image=[{"bytes": file.read_bytes(), "path": file.name} for file in files],
            label=[file.parent.name for file in files],
        )
    return root


def write_parquet(path: Path, **columns: Any) -> Path:
    """A parquet file as pandas or polars write it, without a word on the types of columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=7)
    return path


def decode_slowly(monkeypatch: pytest.MonkeyPatch, log: Path, seconds: float) -> None:
    """Every picture takes so long, and leaves a line in the log."""
    decode = pictures.decode

    def slow(*args: Any) -> Any:
        with log.open("a") as file:
            file.write("one\n")
        time.sleep(seconds)
        return decode(*args)

    monkeypatch.setattr(pictures, "decode", slow)


def in_two_processes(load: Callable[[], None]) -> None:
    """Have two processes do it at once; both have to succeed."""
    fork = multiprocessing.get_context("fork")  # importing torch anew in each would take seconds
    processes = [fork.Process(target=load) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=600)
    assert [process.exitcode for process in processes] == [0, 0]
