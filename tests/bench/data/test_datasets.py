"""Datasets: what a user has on disk, and what the harness makes of it. No network, no real downloads."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import CLASSES, config, decode_slowly, in_two_processes, message, picture
from pydantic import ValidationError

from bench.config.sections import DataConfig
from bench.config.views import AugmentConfig
from bench.data import cache, datasets, pictures, split
from bench.data.augment import Augmentation
from bench.data.strata import stratified
from bench.errors import UserError


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*args: object) -> None:
        pytest.fail("decoded a file")

    monkeypatch.setattr(pictures, "decode", decode)


# digits


def test_digits_need_neither_download_nor_cache(data_dir: Path) -> None:
    digits = datasets.load(config("digits"), data_dir)
    test_images, test_labels = digits.load_test()
    assert digits.images[:].shape[1:] == test_images[:].shape[1:] == (3, 16, 16)
    assert digits.images[:].dtype == test_images[:].dtype == torch.uint8
    assert len(digits.images) + len(test_images) == 1797
    assert len(test_images) == pytest.approx(0.2 * 1797, abs=5)
    assert digits.labels.dtype == test_labels.dtype == torch.int64
    assert digits.classes == tuple("0123456789")
    assert torch.equal(digits.images[:][:, 0], digits.images[:][:, 2])  # gray
    assert digits.images[:].max() > 250
    assert not data_dir.exists()


def test_mean_and_std_are_those_of_all_training_images() -> None:
    digits = datasets.load(config("digits", 8), Path())
    pixels = digits.images[:].double() / 255
    assert digits.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-9)
    assert digits.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-9)


# splits


def test_images_are_normalised_by_imagenets_statistics_if_asked(data_dir: Path) -> None:
    own, imagenet = (
        datasets.load(DataConfig(name="digits", size=8, normalize=kind), data_dir) for kind in ("own", "imagenet")
    )
    assert (imagenet.mean, imagenet.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) != (own.mean, own.std)
    assert torch.equal(own.images, imagenet.images)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="normalize=imagenet: of red, green and blue, and channels=1"):
        DataConfig(name="digits", size=8, channels=1, normalize="imagenet")


def test_the_validation_split_is_a_stratified_tenth_and_always_the_same() -> None:
    digits = datasets.load(config("digits"), Path())
    train, validation = set(digits.train.tolist()), set(digits.validation.tolist())
    assert not train & validation
    assert train | validation == set(range(len(digits.images)))
    in_class, chosen = Counter(digits.labels.tolist()), Counter(digits.labels[digits.validation].tolist())
    for label in range(10):
        assert abs(chosen[label] - in_class[label] / 10) <= 0.5
    again = datasets.load(config("digits"), Path())
    assert torch.equal(digits.validation, again.validation)
    assert torch.equal(digits.train, again.train)


def test_the_draw_is_pinned_so_that_no_version_of_any_library_may_move_it() -> None:
    labels = np.array([0, 1] * 10)
    # the raw bits of PCG64, whose algorithm is fixed, order the members of each class
    keys = np.random.PCG64(0).random_raw(20)
    first_of_class = [min(range(label, 20, 2), key=lambda i: int(keys[i])) for label in (0, 1)]
    _, chosen = stratified(labels, 0.1, ("a", "b"), "x")
    assert chosen.tolist() == sorted(first_of_class) == [2, 11]


@pytest.mark.parametrize(("members", "expected"), [(2, 1), (3, 1), (14, 1), (16, 2), (100, 10)])
def test_small_classes_give_at_least_one_image_and_keep_one(members: int, expected: int) -> None:
    rest, chosen = stratified(np.zeros(members, dtype=np.int64), 0.1, ("only",), "x")
    assert (len(chosen), len(rest)) == (expected, members - expected)


# image folders


def test_a_folder_becomes_images_of_one_size_with_labels(folder: Path, data_dir: Path) -> None:
    birds = datasets.load(config(folder), data_dir)
    assert birds.classes == CLASSES
    assert birds.images[:].shape == (60, 3, 16, 16)
    assert Counter(birds.labels.tolist()) == {0: 20, 1: 20, 2: 20}
    assert Counter(birds.labels[birds.validation].tolist()) == {0: 2, 1: 2, 2: 2}
    test_images, test_labels = birds.load_test()
    assert test_images[:].shape == (12, 3, 16, 16)
    assert Counter(test_labels.tolist()) == {0: 4, 1: 4, 2: 4}
    pixels = birds.images[:].double() / 255
    assert birds.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-9)
    assert birds.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-9)


def test_the_test_split_is_not_read_before_it_is_asked_for(folder: Path, data_dir: Path) -> None:
    for image in (folder / "test").rglob("*.png"):
        image.write_bytes(b"not an image")  # whoever reads them now will notice
    birds = datasets.load(config(folder), data_dir)
    assert not list(data_dir.rglob("*test*"))
    with pytest.raises(UserError, match="12 of 12 images are unreadable"):
        birds.load_test()


def test_images_are_decoded_once_and_then_mapped_into_memory(
    folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    first = datasets.load(config(folder), data_dir)
    first.load_test()
    forbid_decoding(monkeypatch)
    second = datasets.load(config(folder), data_dir)
    assert torch.equal(first.images[:], second.images[:])
    assert torch.equal(first.labels, second.labels)
    assert (first.mean, first.std) == (second.mean, second.std)
    second.load_test()
    assert not [str(warning.message) for warning in recwarn if "writable" in str(warning.message)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc: the memory in use cannot be read")
def test_more_images_than_memory_may_hold_are_made_and_augmented_in_bounded_memory(tmp_path: Path) -> None:
    """300 MB of images of 224 pixels pass through less than 150 MB of memory, both into the map and out of it."""
    n, size, seen = 2_000, 224, []

    def memory() -> float:
        """MB that this process holds for itself; pages of a mapped file are not counted."""
        status = Path("/proc/self/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / 1024

    def batches() -> Iterator[split.Batch]:
        for start in range(0, n, 50):
            seen.append(memory())
            yield split.Batch(np.full((50, 3, size, size), start % 256, dtype=np.uint8), [0] * 50, [])

    before = memory()
    made = cache.cached(tmp_path / "big.npy", size, lambda: split.Source(n, ("one",), batches()))
    assert made.images[:].nbytes > 300e6
    views = Augmentation(AugmentConfig(), size, made.mean, made.std)
    for part in torch.split(torch.randperm(n), 8)[:100]:
        views(made.images[part], torch.Generator().manual_seed(0))
        seen.append(memory())
    assert max(seen) - before < 150


def test_each_size_has_a_cache_of_its_own(folder: Path, data_dir: Path) -> None:
    assert datasets.load(config(folder, 16), data_dir).images[:].shape[2] == 16
    assert datasets.load(config(folder, 20), data_dir).images[:].shape[2] == 20
    assert datasets.load(config(folder, 16), data_dir).images[:].shape[2] == 16


@pytest.mark.parametrize("damage", ["truncated", "longer", "garbage", "empty", "pickle", "no json", "bad json"])
def test_a_damaged_cache_is_made_again(folder: Path, data_dir: Path, damage: str) -> None:
    before = datasets.load(config(folder), data_dir).images[:].clone()
    (npy,) = data_dir.rglob("*train*.npy")
    content = npy.read_bytes()
    if damage == "pickle":
        np.save(npy, np.array([{"code": "would run"}], dtype=object), allow_pickle=True)
    elif damage == "no json":
        npy.with_suffix(".json").unlink()
    elif damage == "bad json":
        npy.with_suffix(".json").write_text('{"labels": [1')
    else:
        damaged = {"truncated": content[:-5], "longer": content + b"x", "garbage": b"x" * 99, "empty": b""}
        npy.write_bytes(damaged[damage])
    assert torch.equal(datasets.load(config(folder), data_dir).images[:], before)
    assert npy.read_bytes() == content


def test_two_processes_may_make_the_same_cache_at_once(
    folder: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = tmp_path / "decoded.txt"

    def load() -> None:
        assert len(datasets.load(config(folder), data_dir).images) == 60

    decode_slowly(monkeypatch, decoded, 0.01)
    in_two_processes(load)
    assert len(decoded.read_text().splitlines()) == 60  # one made it, the other waited
    assert not list(data_dir.rglob("*.tmp"))
    forbid_decoding(monkeypatch)
    load()


def test_what_a_killed_process_left_behind_is_removed(folder: Path, data_dir: Path) -> None:
    datasets.load(config(folder), data_dir)
    (npy,) = data_dir.rglob("*train*.npy")
    leftover = npy.with_name(f".{npy.name}.0123.tmp")
    leftover.write_bytes(b"half")
    npy.unlink()
    datasets.load(config(folder), data_dir)
    assert not leftover.exists()


def test_unreadable_images_are_named_and_counted(folder: Path, data_dir: Path) -> None:
    (folder / "train" / "cat" / "003.png").write_bytes(b"")
    good = (folder / "train" / "emu" / "007.png").read_bytes()
    (folder / "train" / "emu" / "007.png").write_bytes(good[: len(good) // 2])
    line = message(config(folder), data_dir)
    assert "2 of 60 images are unreadable" in line
    assert "train/cat/003.png" in line
    assert "train/emu/007.png" in line
    assert "data.skip_bad=true" in line
    assert not list(data_dir.rglob("*.npy"))


def test_skip_bad_leaves_unreadable_images_out_and_says_which(folder: Path, data_dir: Path) -> None:
    (folder / "train" / "cat" / "003.png").write_bytes(b"no image")
    for _ in range(2):  # made, then found in the cache
        birds = datasets.load(config(folder, skip_bad=True), data_dir)
        assert len(birds.images) == len(birds.labels) == 59
        assert [line.split(" (")[0] for line in birds.check()] == [
            "left out 1 unreadable training images: train/cat/003.png"
        ]
        assert torch.equal(torch.cat([birds.train, birds.validation]).sort()[0], torch.arange(59))
    assert "1 of 60 images are unreadable" in message(config(folder), data_dir)  # the cache hides nothing


def test_a_class_whose_images_are_all_unreadable_is_an_error(folder: Path, data_dir: Path) -> None:
    for image in (folder / "train" / "dog").iterdir():
        image.write_bytes(b"no image")
    assert "'dog' has 0 readable training images" in message(config(folder, skip_bad=True), data_dir)


def test_a_full_disk_is_one_clear_line(folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    line = message(config(folder), data_dir)
    assert "(No space left on device): make room" in line
    assert "--data-dir" in line
    assert not list(data_dir.rglob("*.npy")) + list(data_dir.rglob("*.tmp"))


def test_a_file_system_that_locks_no_files_is_one_line_that_says_what_to_do(
    folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(37, "No locks available")

    datasets.load(config(folder, 8), data_dir)
    monkeypatch.setattr("fcntl.flock", refuse)
    datasets.load(config(folder, 8), data_dir)  # what is cached needs no lock
    for name in (folder, "cifar10"):
        line = message(config(name), data_dir)
        assert f"the file system of {data_dir}" in line
        assert "refuses to lock files (No locks available)" in line
        assert "--data-dir DIR" in line


@pytest.mark.parametrize("name", ["folder", "cifar10"])
def test_a_data_directory_that_cannot_be_made_or_written_is_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "locked").mkdir(mode=0o500)
    for where, reason in (("file", "File exists|Not a directory"), ("locked", "Permission denied")):
        if where == "locked" and os.access(tmp_path / where, os.W_OK):
            continue  # root may write anywhere
        line = message(config(folder if name == "folder" else name), tmp_path / where)
        assert re.search(rf"cannot prepare {tmp_path / where}.* \(({reason})\)", line)
        assert "--data-dir DIR" in line


def test_a_cache_of_other_decoding_rules_is_made_anew(
    folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = datasets.load(config(folder), data_dir).images[:].clone()
    (about,) = data_dir.rglob("*train*.json")
    (npy,) = data_dir.rglob("*train*.npy")
    values = json.loads(about.read_text())
    for version in (None, pictures.VERSION - 1, pictures.VERSION + 1):  # the first version wrote none
        np.lib.format.open_memmap(npy, mode="r+")[:] = 0
        old = {key: value for key, value in values.items() if key != "version"}
        about.write_text(json.dumps(old | ({"version": version} if version else {})))
        assert torch.equal(datasets.load(config(folder), data_dir).images[:], right)


def test_a_cache_of_arrays_from_the_first_version_is_read(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    np.save(tmp_path / "x.npy", pixels)
    about = {"labels": [1, 0], "classes": ["a", "b"], "mean": [0, 0, 0], "std": [1, 1, 1], "skipped": []}
    (tmp_path / "x.json").write_text(json.dumps(about))
    found = cache.cached(tmp_path / "x.npy", 4, lambda: pytest.fail("made anew"))
    assert found.images[:].tolist() == pixels.tolist()
    assert found.labels.tolist() == [1, 0]


def test_named_datasets_need_no_fingerprint() -> None:
    assert datasets.fingerprint("cifar10") == ""


def test_a_folder_that_changed_since_the_run_was_planned_is_an_error(folder: Path, data_dir: Path) -> None:
    planned = config(folder, fingerprint=datasets.fingerprint(f"folder:{folder}"))
    datasets.load(planned, data_dir)
    picture(77).save(folder / "train" / "cat" / "new.png")
    assert "has changed" in message(planned, data_dir)


def test_an_unknown_dataset_is_answered_with_the_nearest() -> None:
    line = message(config("cifra10"), Path())
    assert "unknown dataset 'cifra10': did you mean 'cifar10'?" in line


def test_every_reader_of_the_registry_exists_and_is_what_planning_counts() -> None:
    for name, entry in datasets.DATASETS.items():
        module, _, function = entry.reader.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name
    digits = datasets.load(config("digits"), Path())
    assert datasets.pretraining_images(config("digits")) == len(digits.images)


def test_planning_imports_no_torch_and_no_reader(folder: Path) -> None:
    code = f"""
import sys
from bench.config.sections import DataConfig
from bench.data import datasets
name = "folder:{folder}"
assert datasets.pretraining_images(DataConfig(name=name, size=8)) == 60
assert len(datasets.fingerprint(name)) == 16 and datasets.DATASETS
sys.exit(", ".join({{"torch", "torchvision", "sklearn", "PIL", "numpy"}} & {{*sys.modules}}) or 0)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0
