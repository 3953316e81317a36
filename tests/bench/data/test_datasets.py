"""Datasets: what a user has on disk, and what the harness makes of it. No network, no real downloads."""

import importlib
import multiprocessing
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2 import functional as tv

from bench.config.schema import AugmentConfig, DataConfig
from bench.data import cache, pictures, split
from bench.data import datasets as data
from bench.data.augment import Augmentation
from bench.data.strata import stratified
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "birds and beasts")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def config(name: str | Path, size: int = 16, **settings: Any) -> DataConfig:
    return DataConfig(name=f"folder:{name}" if isinstance(name, Path) else name, size=size, **settings)


def message(config: DataConfig, data_dir: Path) -> str:
    """The one line that the user sees."""
    with pytest.raises(UserError) as raised:
        data.load(config, data_dir)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(path: Path, size: int) -> None:
        pytest.fail(f"decoded {path}")

    monkeypatch.setattr(pictures, "decode", decode)


# digits


def test_digits_need_neither_download_nor_cache(data_dir: Path) -> None:
    digits = data.load(config("digits"), data_dir)
    test_images, test_labels = digits.load_test()
    assert digits.images.shape[1:] == test_images.shape[1:] == (3, 16, 16)
    assert digits.images.dtype == test_images.dtype == torch.uint8
    assert len(digits.images) + len(test_images) == 1797
    assert len(test_images) == pytest.approx(0.2 * 1797, abs=5)
    assert digits.labels.dtype == test_labels.dtype == torch.int64
    assert digits.classes == tuple("0123456789")
    assert torch.equal(digits.images[:, 0], digits.images[:, 2])  # gray
    assert digits.images.max() > 250
    assert not data_dir.exists()


def test_mean_and_std_are_those_of_all_training_images() -> None:
    digits = data.load(config("digits", 8), Path())
    pixels = digits.images.double() / 255
    assert digits.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-9)
    assert digits.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-9)


# splits


def test_the_validation_split_is_a_stratified_tenth_and_always_the_same() -> None:
    digits = data.load(config("digits"), Path())
    train, validation = set(digits.train.tolist()), set(digits.validation.tolist())
    assert not train & validation
    assert train | validation == set(range(len(digits.images)))
    in_class, chosen = Counter(digits.labels.tolist()), Counter(digits.labels[digits.validation].tolist())
    for label in range(10):
        assert abs(chosen[label] - in_class[label] / 10) <= 0.5
    again = data.load(config("digits"), Path())
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
    birds = data.load(config(folder), data_dir)
    assert birds.classes == CLASSES
    assert birds.images.shape == (60, 3, 16, 16)
    assert Counter(birds.labels.tolist()) == {0: 20, 1: 20, 2: 20}
    assert Counter(birds.labels[birds.validation].tolist()) == {0: 2, 1: 2, 2: 2}
    test_images, test_labels = birds.load_test()
    assert test_images.shape == (12, 3, 16, 16)
    assert Counter(test_labels.tolist()) == {0: 4, 1: 4, 2: 4}
    pixels = birds.images.double() / 255
    assert birds.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-9)
    assert birds.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-9)


@pytest.mark.parametrize(("width", "height"), [(40, 30), (9, 50), (16, 16), (5, 6)])
def test_images_are_resized_on_the_shorter_side_and_cropped_in_the_middle(
    tmp_path: Path, width: int, height: int
) -> None:
    picture(3, width, height).save(tmp_path / "x.png")
    ours = torch.tensor(pictures.decode(tmp_path / "x.png", 16)).float()
    pixels = tv.pil_to_tensor(picture(3, width, height)).float()
    expected = tv.center_crop(tv.resize(pixels, [16], antialias=True), [16])
    assert (ours - expected).abs().max() <= 2  # PIL rounds between its two passes


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "LA", "1", "I;16"])
def test_every_mode_of_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = picture(1, 16, 16)
    if mode == "I;16":
        sixteen_bits = np.asarray(image.convert("L")).astype(np.uint16) * 257
        converted = Image.fromarray(sixteen_bits)
    else:
        converted = image.convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    converted.save(path)
    pixels = pictures.decode(path, 16)
    assert pixels.shape == (3, 16, 16)
    reference = np.asarray(image if mode in ("RGBA", "CMYK") else image.convert("L").convert("RGB"))
    if mode not in ("P", "1"):  # these lose colours
        assert np.abs(pixels.transpose(1, 2, 0).astype(int) - reference).max() <= 2


def test_val_stands_in_for_test_and_test_is_preferred(tmp_path: Path, data_dir: Path) -> None:
    folder = make_folder(tmp_path / "x", test="val", n_test=2)
    assert len(data.load(config(folder), data_dir).load_test()[1]) == 6
    for name in CLASSES:
        (folder / "test" / name).mkdir(parents=True)
    picture(0).save(folder / "test" / "cat" / "0.png")
    assert len(data.load(config(folder), data_dir).load_test()[1]) == 1


def test_hidden_and_foreign_files_do_not_count_and_subfolders_do(folder: Path, data_dir: Path) -> None:
    cat = folder / "train" / "cat"
    (cat / ".DS_Store").write_bytes(b"x")
    (cat / "._000.png").write_bytes(b"x")
    (cat / "notes.txt").write_text("x")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (cat / "more").mkdir()
    picture(9).save(cat / "more" / "A.JPG")
    birds = data.load(config(folder), data_dir)
    assert birds.classes == CLASSES
    assert Counter(birds.labels.tolist())[0] == 21


def test_the_test_split_is_not_read_before_it_is_asked_for(folder: Path, data_dir: Path) -> None:
    for image in (folder / "test").rglob("*.png"):
        image.write_bytes(b"not an image")  # whoever reads them now will notice
    birds = data.load(config(folder), data_dir)
    assert not list(data_dir.rglob("*test*"))
    with pytest.raises(UserError, match="12 of 12 images are unreadable"):
        birds.load_test()


def test_images_are_decoded_once_and_then_mapped_into_memory(
    folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    first = data.load(config(folder), data_dir)
    first.load_test()
    forbid_decoding(monkeypatch)
    second = data.load(config(folder), data_dir)
    assert torch.equal(first.images, second.images)
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
    assert made.images.nbytes > 300e6
    views = Augmentation(AugmentConfig(), size, made.mean, made.std)
    for part in torch.split(torch.randperm(n), 8)[:100]:
        views(made.images[part], torch.Generator().manual_seed(0))
        seen.append(memory())
    assert max(seen) - before < 150


def test_each_size_has_a_cache_of_its_own(folder: Path, data_dir: Path) -> None:
    assert data.load(config(folder, 16), data_dir).images.shape[2] == 16
    assert data.load(config(folder, 20), data_dir).images.shape[2] == 20
    assert data.load(config(folder, 16), data_dir).images.shape[2] == 16


@pytest.mark.parametrize("damage", ["truncated", "longer", "garbage", "empty", "pickle", "no json", "bad json"])
def test_a_damaged_cache_is_made_again(folder: Path, data_dir: Path, damage: str) -> None:
    before = data.load(config(folder), data_dir).images.clone()
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
    assert torch.equal(data.load(config(folder), data_dir).images, before)
    assert npy.read_bytes() == content


def test_two_processes_may_make_the_same_cache_at_once(
    folder: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, decoded = pictures.decode, tmp_path / "decoded.txt"

    def slow_decode(path: Path, size: int) -> split.Pixels:
        with decoded.open("a") as file:
            file.write(f"{path}\n")
        time.sleep(0.01)
        return decode(path, size)

    def load() -> None:
        assert len(data.load(config(folder), data_dir).images) == 60

    monkeypatch.setattr(pictures, "decode", slow_decode)
    fork = multiprocessing.get_context("fork")  # importing torch anew in each would take seconds
    processes = [fork.Process(target=load) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(decoded.read_text().splitlines()) == 60  # one made it, the other waited
    assert not list(data_dir.rglob("*.tmp"))
    forbid_decoding(monkeypatch)
    load()


def test_what_a_killed_process_left_behind_is_removed(folder: Path, data_dir: Path) -> None:
    data.load(config(folder), data_dir)
    (npy,) = data_dir.rglob("*train*.npy")
    leftover = npy.with_name(f".{npy.name}.0123.tmp")
    leftover.write_bytes(b"half")
    npy.unlink()
    data.load(config(folder), data_dir)
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
        birds = data.load(config(folder, skip_bad=True), data_dir)
        assert len(birds.images) == len(birds.labels) == 59
        assert [name.split(" (")[0] for name in birds.skipped] == ["train/cat/003.png"]
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
    assert "No space left on device" in message(config(folder), data_dir)
    assert not list(data_dir.rglob("*.npy")) + list(data_dir.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        ([], "no such folder"),
        (["."], "expected PATH/train/<class>"),
        (["train/cat", "train/dog"], "expected PATH/train/<class>"),
        (["train", "test"], "0 classes"),
        (["train/cat", "test/cat"], "1 classes"),
        (["train/cat", "train/dog", "test/cat"], "train/cat has 0 images, at least 2 are needed"),
    ],
)
def test_a_folder_that_is_no_image_folder_is_one_clear_line(
    tmp_path: Path, data_dir: Path, make: list[str], expected: str
) -> None:
    root = tmp_path / "x"
    for name in make:
        (root / name).mkdir(parents=True, exist_ok=True)
    line = message(config(root), data_dir)
    assert expected in line
    assert str(root) in line
    with pytest.raises(UserError, match=expected.replace("(", r"\(")):
        data.fingerprint(f"folder:{root}")


def test_a_class_that_only_the_test_split_has_is_an_error(folder: Path, data_dir: Path) -> None:
    (folder / "test" / "yak").mkdir()
    assert "yak" in message(config(folder), data_dir)


def test_a_test_split_without_images_is_an_error(folder: Path, data_dir: Path) -> None:
    for image in (folder / "test").rglob("*.png"):
        image.unlink()
    assert "test/ has no images" in message(config(folder), data_dir)


# identity


def test_the_fingerprint_follows_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    before = data.fingerprint(f"folder:{folder}")
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert data.fingerprint(f"folder:{moved}") == before
    picture(77).save(moved / "test" / "cat" / "new.png")
    assert data.fingerprint(f"folder:{moved}") != before


def test_an_edit_that_keeps_names_and_sizes_is_another_dataset(folder: Path) -> None:
    before = data.fingerprint(f"folder:{folder}")
    file = next((folder / "train" / "cat").iterdir())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert data.fingerprint(f"folder:{folder}") != before


def test_named_datasets_need_no_fingerprint() -> None:
    assert data.fingerprint("cifar10") == ""


def test_a_folder_that_changed_since_the_run_was_planned_is_an_error(folder: Path, data_dir: Path) -> None:
    planned = config(folder, fingerprint=data.fingerprint(f"folder:{folder}"))
    data.load(planned, data_dir)
    picture(77).save(folder / "train" / "cat" / "new.png")
    assert "has changed" in message(planned, data_dir)


def test_an_unknown_dataset_is_answered_with_the_nearest() -> None:
    line = message(config("cifra10"), Path())
    assert "unknown dataset 'cifra10': did you mean 'cifar10'?" in line


# torchvision's datasets


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
        ("stl10", "stl10_binary.tar.gz"),
        ("svhn", "train_32x32.mat and test_32x32.mat"),
        ("fashion_mnist", "images-idx3-ubyte.gz"),
    ],
)
def test_missing_data_offline_is_one_line_that_says_what_to_put_where(
    name: str, files: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError(OSError(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr("urllib.request.urlopen", offline)
    start = time.monotonic()
    line = message(config(name, 32), data_dir)
    assert line.startswith(f"{name} is not in {data_dir} and could not be downloaded (")
    assert "Temporary failure in name resolution" in line
    assert files in line
    assert line.endswith("or use --data-dir")
    assert time.monotonic() - start < 5
    assert capfd.readouterr() == ("", "")


def test_gray_channels_last_images_are_brought_to_three_channels_and_the_size(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gray = torch.arange(20 * 28 * 28).remainder(256).to(torch.uint8).view(20, 28, 28)
    colour = np.asarray(load_sample_images().images[0][:32, :640]).reshape(32, 20, 32, 3).swapaxes(0, 1).copy()
    labels = [0, 1] * 10

    def fashion(root: str, train: bool, download: bool) -> SimpleNamespace:
        return SimpleNamespace(data=gray, targets=torch.tensor(labels), classes=["shirt", "boot"])

    def cifar(root: str, train: bool, download: bool) -> SimpleNamespace:
        return SimpleNamespace(data=colour, targets=labels, classes=["cat", "dog"])

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fashion)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", cifar)
    clothes = data.load(config("fashion_mnist", 32), data_dir)
    assert clothes.images.shape == (20, 3, 32, 32)
    expected = tv.resize(gray[:, None], [32], antialias=True)
    assert torch.equal(clothes.images, expected.expand(-1, 3, -1, -1))
    pets = data.load(config("cifar10", 32), data_dir)
    assert torch.equal(pets.images, torch.tensor(colour).permute(0, 3, 1, 2))
    assert pets.labels.tolist() == labels
    assert pets.classes == ("cat", "dog")


def test_stl10_pretrains_on_unlabelled_images_and_leaves_the_test_split_alone(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def stl10(root: str, split: str, download: bool) -> SimpleNamespace:
        asked.append(split)
        labels = np.array([0, 1] * 20 + [-1] * 60) if split == "train+unlabeled" else np.array([0, 1] * 4)
        pixels = np.zeros((len(labels), 3, 96, 96), dtype=np.uint8)
        return SimpleNamespace(data=pixels, labels=labels, classes=["cat", "dog"])

    monkeypatch.setattr(torchvision.datasets, "STL10", stl10)
    stl = data.load(config("stl10", 24), data_dir)
    assert asked == ["train+unlabeled"]
    assert stl.images.shape == (100, 3, 24, 24)
    assert (stl.labels == -1).sum() == 60
    assert (len(stl.train), len(stl.validation)) == (36, 4)
    assert (stl.labels[torch.cat([stl.train, stl.validation])] >= 0).all()
    assert stl.load_test()[0].shape == (8, 3, 24, 24)
    data.load(config("stl10", 24), data_dir)
    assert asked == ["train+unlabeled", "test"]  # the second time the cache answers


def test_svhn_fetches_its_test_file_before_training_but_does_not_read_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    split_list = torchvision.datasets.SVHN.split_list

    def svhn(root: str, split: str, download: bool) -> SimpleNamespace:
        assert split == "train"
        return SimpleNamespace(data=np.zeros((40, 3, 32, 32), dtype=np.uint8), labels=np.arange(40) % 10)

    def download_url(url: str, root: str, name: str, md5: str) -> None:
        fetched.append(name)

    svhn.split_list = split_list  # type: ignore[attr-defined]
    monkeypatch.setattr(torchvision.datasets, "SVHN", svhn)
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", download_url)
    assert data.load(config("svhn", 32), data_dir).classes == tuple("0123456789")
    assert fetched == ["test_32x32.mat"]


def test_every_reader_of_the_registry_exists_and_is_what_planning_counts() -> None:
    for name, entry in data.DATASETS.items():
        module, _, function = entry.reader.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name
    digits = data.load(config("digits"), Path())
    assert data.pretraining_images("digits") == len(digits.images)


def test_planning_imports_no_torch_and_no_reader(folder: Path) -> None:
    code = f"""
import sys
from bench.data import datasets
name = "folder:{folder}"
assert datasets.pretraining_images(name) == 60 and len(datasets.fingerprint(name)) == 16 and datasets.DATASETS
sys.exit(", ".join({{"torch", "torchvision", "sklearn", "PIL", "numpy"}} & {{*sys.modules}}) or 0)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0
