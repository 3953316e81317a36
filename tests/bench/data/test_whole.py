"""Whole pictures: crops and centre views against torchvision, their cache, and a run on them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_folders import photographs
from PIL import Image
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from bench.config.schema import RunConfig, resolve
from bench.config.sections import DataConfig
from bench.config.views import AugmentConfig, ViewConfig
from bench.data import datasets, folders, pictures, shards
from bench.data.augment import Augmentation, apply, draw
from bench.data.crop import place
from bench.data.whole import Images, Pictures, Whole, centre, chosen
from bench.errors import UserError

CPU = torch.device("cpu")
PLAIN = AugmentConfig(flip=0.5, jitter=0, gray=0, crop_min=0.08)
SHAPES = [(427, 640), (640, 427), (20, 400), (3000, 20), (1, 1), (256, 256), (97, 101)]


def pixels(height: int, width: int) -> Tensor:
    """A piece of a photograph, repeated where it is too small; uint8 [3, H, W]."""
    photo = np.asarray(photographs()[0])
    piece = np.tile(photo, (-(-height // photo.shape[0]), -(-width // photo.shape[1]), 1))[:height, :width]
    return torch.from_numpy(piece.copy()).permute(2, 0, 1)


@pytest.mark.parametrize("size", [32, 224])
def test_crops_are_torchvisions(size: int) -> None:
    """Within 2 of 255, given the same picture, box and flip; shrunk with antialiasing, or enlarged."""
    some = [pixels(*shape) for shape in SHAPES]
    whole = Whole(some, CPU)
    drawn = draw(PLAIN.views()[0], len(some), *whole.sides(), torch.Generator().manual_seed(0))
    views = apply(whole, drawn, size)
    for i, picture in enumerate(some):
        box = [int(side[i]) for side in (drawn.top, drawn.left, drawn.height, drawn.width)]
        expected = tv.resized_crop(picture, *box, [size, size], antialias=True)
        expected = tv.horizontal_flip(expected) if drawn.flip[i] else expected
        assert (views[i] * 255 - expected).abs().max() <= 2


@pytest.mark.parametrize("share", [1.0, 0.875])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape) > 8])
def test_centre_views_are_torchvisions(shape: tuple[int, int], share: float) -> None:
    picture = pixels(*shape)
    expected = v2.Compose([v2.Resize(round(64 / share), antialias=True), v2.CenterCrop(64)])(picture)
    assert (centre(picture, 64, share).int() - expected.int()).abs().max() <= 2


@pytest.mark.parametrize("shape", [(427, 640), (100, 30), (400, 20)])
def test_areas_and_aspects_are_distributed_as_torchvisions(shape: tuple[int, int]) -> None:
    """Whole distributions of 4,000 crops, by Kolmogorov and Smirnov's test."""
    n, view = 4000, ViewConfig(crop_min=0.08)
    height, width = (torch.full((n,), side) for side in shape)
    drawn = draw(view, n, height, width, torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    picture = torch.empty(3, *shape)
    crop = v2.RandomResizedCrop(8, scale=(0.08, 1), ratio=(3 / 4, 4 / 3))
    theirs = [crop.make_params([picture]) for _ in range(n)]
    for ours, expected in (
        (drawn.height * drawn.width, [p["height"] * p["width"] for p in theirs]),
        (drawn.width.double() / drawn.height, [p["width"] / p["height"] for p in theirs]),
        (drawn.top, [p["top"] for p in theirs]),
        (drawn.left, [p["left"] for p in theirs]),
    ):
        assert stats.ks_2samp(ours.numpy(), expected).pvalue > 0.001


def test_boxes_of_equal_pictures_are_those_of_images_of_one_size() -> None:
    """What is known of all images at once, or of each, draws alike; and a part draws as it does in the whole."""
    view, n = ViewConfig(), 50
    uniform = torch.rand(22, n, generator=torch.Generator().manual_seed(0))
    draws = (uniform[:10], uniform[10:20], uniform[20], uniform[21])
    sides = torch.full((n,), 40), torch.full((n,), 30)
    assert all(torch.equal(a, b) for a, b in zip(place(view, 40, 30, *draws), place(view, *sides, *draws), strict=True))
    whole, part = (draw(view, n, 40, 30, torch.Generator().manual_seed(0), chosen) for chosen in (None, slice(10, 20)))
    assert all(torch.equal(a[10:20], b) for a, b in zip(whole, part, strict=True))


def test_colours_are_those_of_images_of_one_size() -> None:
    """Where nothing is resized, pictures and a tensor of the same pixels give the same views."""
    config = AugmentConfig(crop_min=1, crop_max=1, ratio_min=1, ratio_max=1, gray=0.3, blur=0.5, solarize=0.3)
    images = torch.stack([pixels(64, 64), pixels(64, 64).flip(1), pixels(64, 64).flip(2)])
    views = Augmentation(config, 64, (0.5,) * 3, (0.2,) * 3)
    one, other = (views(given, torch.Generator().manual_seed(0)) for given in (images, Whole(list(images), CPU)))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def folder_of(path: Path, n: int = 24) -> Path:
    """Pictures of odd shapes and kinds in two classes, train and test."""
    photo = photographs()[0]
    for part in ("train", "test"):
        for i in range(n):
            file = path / part / "ab"[i % 2] / f"{i:03d}"
            file.parent.mkdir(parents=True, exist_ok=True)
            piece = photo.crop((i, (part == "test"), 200 + 7 * i, 150)).resize((150 + 5 * i, 100 + (i * 37) % 90))
            piece.save(file.with_suffix(".png"))
    odd = {
        "wide.png": photo.resize((400, 20)),
        "long.png": photo.resize((20, 3000)),
        "dot.png": photo.resize((1, 1)),
        "cmyk.jpg": photo.convert("CMYK"),
        "palette.png": photo.quantize(16),
    }
    for name, picture in odd.items():
        picture.save(path / "train" / "a" / name)
    turned = Image.Exif()
    turned[0x0112] = 6  # held upright: to be turned by a quarter
    photo.resize((120, 60)).save(path / "train" / "b" / "turned.jpg", exif=turned)
    deep = (np.asarray(photo.convert("L"), dtype=np.uint16) * 257)[:80, :90]
    Image.fromarray(deep).save(path / "train" / "b" / "deep.png")
    clear = photo.resize((90, 70)).quantize(16)
    clear.save(path / "train" / "b" / "clear.png", transparency=0)
    return path


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("odd"))


def data(folder: Path, store: int = 110, size: int = 96, **settings: float) -> DataConfig:
    return DataConfig(name=f"folder:{folder}", size=size, store=store, **settings)


def kept(images: Images, number: int) -> Tensor:
    assert isinstance(images, Pictures)
    picture = images.read(number)
    assert isinstance(picture, Tensor)
    return picture


def test_pictures_keep_their_shape_and_are_never_enlarged(odd: Path, tmp_path: Path) -> None:
    found = datasets.load(data(odd), tmp_path)
    assert isinstance(found.images, Pictures) and len(found.images) == 24 + 8
    names = [name for name, _ in folders.read(f"folder:{odd}").train]
    shapes = {Path(name).stem: tuple(kept(found.images, i).shape[1:]) for i, name in enumerate(names)}
    assert shapes["wide"] == (20, 400) and shapes["long"] == (3000, 20) and shapes["dot"] == (1, 1)
    assert shapes["turned"] == (120, 60)
    assert shapes["cmyk"] == (110, 164)  # 427 x 640: the shorter side is 110
    assert found.images[:3].shape == (3, 3, 96, 96)
    dot = found.images[torch.tensor([names.index("train/a/dot.png")])]
    assert torch.equal(dot, kept(found.images, names.index("train/a/dot.png"))[None].expand(1, 3, 96, 96))


def test_statistics_are_of_all_pixels(odd: Path, tmp_path: Path) -> None:
    found = datasets.load(data(odd), tmp_path)
    assert isinstance(found.images, Pictures)
    every = torch.cat([kept(found.images, i).flatten(1) for i in range(len(found.images))], dim=1).double() / 255
    assert found.mean == pytest.approx(every.mean(dim=1).tolist())
    assert found.std == pytest.approx(every.std(dim=1, correction=0).tolist())


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every picture that is decoded."""
    calls: list[int] = []
    decode = pictures.decode

    def noted(*args: Any) -> Any:
        calls.append(1)
        return decode(*args)

    monkeypatch.setattr(pictures, "decode", noted)
    return calls


def test_a_cache_is_used_again_and_one_of_other_rules_is_not(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = datasets.load(data(odd), tmp_path)
    calls = counted(monkeypatch)
    again = datasets.load(data(odd), tmp_path)
    assert not calls and torch.equal(first.images[:], again.images[:])
    monkeypatch.setattr(pictures, "VERSION", 99)
    datasets.load(data(odd), tmp_path)
    assert len(calls) == 32
    datasets.load(data(odd, store=0), tmp_path)  # squares have a cache of their own
    assert len(calls) == 64


@pytest.mark.parametrize("damage", ["cut", "gone", "json"])
def test_a_damaged_shard_alone_is_made_again(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(shards, "SHARD", 10)
    first = datasets.load(data(odd), tmp_path).images[:]
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir() and "train" in path.name)
    pixels_of, text = folder / "00001.bin", folder / "00001.json"
    if damage == "cut":
        os.truncate(pixels_of, 100)
    elif damage == "gone":
        pixels_of.unlink()
    else:
        text.write_text("{")
    calls = counted(monkeypatch)
    assert torch.equal(datasets.load(data(odd), tmp_path).images[:], first)
    assert len(calls) == 10


MAKE = """
import sys, time
from pathlib import Path
from bench.config.sections import DataConfig
from bench.data import datasets, pictures, shards
shards.SHARD = 5
decode = pictures.decode
def slow(*args):
    time.sleep(0.05)
    return decode(*args)
pictures.decode = slow
datasets.load(DataConfig(name="folder:" + sys.argv[1], size=96, store=110), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_what_was_made_before_a_kill_is_kept(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", MAKE, str(odd), str(tmp_path)])
    made: list[Path] = []
    while len(made) < 2:
        made = [*tmp_path.glob("cache/*train*/0000?.json")]
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*train*/0000?.json")}
    assert 2 <= len(kept) < 7
    monkeypatch.setattr(shards, "SHARD", 5)
    found = datasets.load(data(odd), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert torch.equal(found.images[:], datasets.load(data(odd), tmp_path / "other").images[:])


def test_a_full_disk_is_told_before_anything_is_made(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 10**5))
    with pytest.raises(UserError, match=r"32 pictures will take about 0.0 GB, and .* has 0.0 GB left"):
        datasets.load(data(odd), tmp_path)
    assert not [*tmp_path.glob("cache/*/*.bin")]


def test_unreadable_pictures_stop_it_or_are_left_out(odd: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "bad", 8)
    (folder / "train" / "a" / "000.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"1 of 16 images are unreadable: train/a/000.png"):
        datasets.load(data(folder), tmp_path)
    found = datasets.load(data(folder, skip_bad=True), tmp_path)
    assert len(found.images) == len(found.labels) == 15


def test_a_batch_reads_the_pictures_of_its_numbers(odd: Path, tmp_path: Path) -> None:
    images = datasets.load(data(odd), tmp_path).images
    whole = chosen(images, torch.tensor([3, 0, 3]), CPU)
    assert isinstance(whole, Whole) and isinstance(images, Pictures)
    assert all(torch.equal(torch.as_tensor(a), kept(images, i)) for a, i in zip(whole.pictures, (3, 0, 3), strict=True))


def config(**overrides: str) -> RunConfig:
    values = {"method_name": "byol", "method": {}, "backbone": {"name": "resnet10_small"}, "augment": {}, "eval": {}}
    values |= {"data": {"name": "folder:x", "size": 32}, "optim": {"lr": 1}, "train": {"epochs": 1, "batch_size": 8}}
    return resolve(values, overrides)


def test_large_pictures_are_kept_whole_unless_said_otherwise() -> None:
    assert config().data.store == config(**{"data.size": "64"}).data.store == 0
    assert config(**{"data.size": "224"}).data.store == 256
    assert config(**{"data.size": "96"}).data.store == 110
    assert config(**{"data.size": "96", "data.store": "0"}).data.store == 0
    assert config(**{"data.size": "96", "data.name": "stl10"}).data.store == 0


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"data.name": "cifar10", "data.store": "64"}, "cifar10 is kept at its own size"),
        ({"data.eval_crop": "0.875"}, "needs whole pictures: data.store=37"),
        ({"data.store": "16"}, "store=16 is below size=32"),
    ],
)
def test_settings_that_cannot_be(overrides: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        config(**overrides)
