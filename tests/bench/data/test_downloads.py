"""The datasets that torchvision downloads: what is taken from the disk, and what is said without a network."""

import gzip
import hashlib
import pickle
import re
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from image_folders import config, message
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2 import functional as tv

from bench.data import datasets, downloads


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError(OSError(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
        ("stl10", "stl10_binary.tar.gz"),
        ("svhn", "train_32x32.mat and test_32x32.mat"),
        ("fashion_mnist", "images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, unpacked or as .gz"),
    ],
)
def test_missing_data_offline_is_one_line_that_says_what_to_put_where(
    name: str, files: str, data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = message(config(name, 32), data_dir)
    assert line.startswith(f"{name} is not in {data_dir} and could not be downloaded (")
    assert "Temporary failure in name resolution" in line
    assert files in line
    assert line.endswith("or use --data-dir")
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
    clothes = datasets.load(config("fashion_mnist", 32), data_dir)
    assert clothes.images[:].shape == (20, 3, 32, 32)
    expected = tv.resize(gray[:, None], [32], antialias=True)
    assert torch.equal(clothes.images[:], expected.expand(-1, 3, -1, -1))
    pets = datasets.load(config("cifar10", 32), data_dir)
    assert torch.equal(pets.images[:], torch.tensor(colour).permute(0, 3, 1, 2))
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
    stl = datasets.load(config("stl10", 24), data_dir)
    assert asked == ["train+unlabeled"]
    assert stl.images[:].shape == (100, 3, 24, 24)
    assert (stl.labels == -1).sum() == 60
    assert (len(stl.train), len(stl.validation)) == (36, 4)
    assert (stl.labels[torch.cat([stl.train, stl.validation])] >= 0).all()
    assert stl.load_test()[0][:].shape == (8, 3, 24, 24)
    datasets.load(config("stl10", 24), data_dir)
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
    assert datasets.load(config("svhn", 32), data_dir).classes == tuple("0123456789")
    assert fetched == ["test_32x32.mat"]


# files that lie there already: what the messages name is what is taken


def write_idx(path: Path, array: np.ndarray, packed: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    content = header + array.tobytes()
    if packed:  # without a file name in the header and at another level than the published files
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
    else:
        path.write_bytes(content)


def test_fashion_mnist_is_read_from_files_of_any_checksum_packed_or_not(data_dir: Path) -> None:
    raw = data_dir / "FashionMNIST" / "raw"
    for part, n, packed in (("train", 60_000, True), ("t10k", 10_000, False)):
        pixels = np.zeros((n, 28, 28), dtype=np.uint8)
        pixels[:, 0, 0] = np.arange(n) % 251
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels, packed)
        write_idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8), packed)
    clothes = datasets.load(config("fashion_mnist", 28), data_dir)
    assert clothes.images[:][:, 0, 0, 0].tolist() == [i % 251 for i in range(60_000)]
    assert clothes.labels.tolist() == [i % 10 for i in range(60_000)]
    assert clothes.classes[9] == "Ankle boot"
    assert clothes.load_test()[0][:].shape == (10_000, 3, 28, 28)


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [("cut", "damaged"), ("fewer", "damaged or another file"), ("labels of MNIST", "is of another dataset")],
)
def test_files_that_are_not_fashion_mnists_are_refused_by_name(
    data_dir: Path, packed: bool, damage: str, expected: str
) -> None:
    raw, labels = data_dir / "FashionMNIST" / "raw", (np.arange(60_000) % 10).astype(np.uint8)
    if damage == "labels of MNIST":
        labels[0] = 5  # zeros are fewer than fives
    write_idx(raw / "train-images-idx3-ubyte", np.zeros((60_000, 28, 28), dtype=np.uint8), packed)
    write_idx(raw / "train-labels-idx1-ubyte", labels[: 59_999 if damage == "fewer" else None], packed)
    if damage == "cut":
        (file,) = raw.glob("train-labels*")
        file.write_bytes(file.read_bytes()[:-9])
    line = message(config("fashion_mnist", 28), data_dir)
    assert re.search(rf"^fashion_mnist: {raw}/train-labels-idx1-ubyte.* {expected}", line)
    assert line.endswith("replace it, or remove it to have it downloaded")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("form", ["archive", "folder"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_an_archive_as_published_is_taken_and_so_is_the_folder_unpacked_from_it(
    name: str, form: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files in the published layout; torchvision is told their checksums."""
    cls = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "stl10": "STL10"}[name]
    library = getattr(torchvision.datasets, cls)
    top = tmp_path / "published" / library.base_folder
    top.mkdir(parents=True)
    listed = [*library.train_list, *library.test_list]
    for file, _ in listed:
        if name == "stl10":
            size = {"X.bin": 20 * 3 * 96 * 96, "y.bin": 20}.get(file.partition("_")[2])
            content = bytes([1, 2] * ((size or 0) // 2))
        else:
            labels = {"labels": [0, 1] * 10, "fine_labels": [0, 1] * 10}
            content = pickle.dumps({"data": np.full((20, 3072), 7, np.uint8), **labels})
        (top / file).write_bytes(content)
    if name == "stl10":
        (top / library.class_names_file).write_text("cat\ndog\n")
    else:
        meta = library.meta
        (top / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: ["cat", "dog"]}))
        monkeypatch.setattr(library, "meta", {**meta, "md5": md5(top / meta["filename"])})
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(library, attribute, [[f, md5(top / f)] for f, _ in getattr(library, attribute)])
    data_dir.mkdir()
    if form == "archive":
        with tarfile.open(data_dir / library.filename, "w:gz") as archive:
            archive.add(top, library.base_folder)
        monkeypatch.setattr(library, "tgz_md5", md5(data_dir / library.filename))
    else:
        shutil.copytree(top, data_dir / library.base_folder)
    dataset = datasets.load(config(name, 32), data_dir)
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.images) == {"cifar10": 100, "cifar100": 20, "stl10": 40}[name]
    assert len(dataset.load_test()[0]) == 20
    assert library.filename in getattr(downloads, name).places
    assert library.base_folder in getattr(downloads, name).places


@pytest.mark.parametrize("name", ["cifar10", "svhn", "stl10"])
def test_files_that_are_not_as_published_are_named(name: str, data_dir: Path) -> None:
    data_dir.mkdir()
    file = getattr(downloads, name.replace("svhn", "_svhn")).places[0]
    (data_dir / file).write_bytes(b"recompressed")
    line = message(config(name, 32), data_dir)
    assert line.startswith(f"{name} in {data_dir} is incomplete, damaged or not as published ({file})")
    assert "as published" in line.partition("): put")[2]
