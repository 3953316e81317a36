"""The datasets that torchvision downloads: what is taken from the disk, and what is said without a network."""

import time
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

from bench.data import datasets as data


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
