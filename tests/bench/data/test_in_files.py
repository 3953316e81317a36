"""Pictures that stay in their files (data.cache=files): decoded whole, at their own size, when they are cut."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from image_folders import photographs
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from bench.config.schema import RunConfig, resolve
from bench.config.sections import DataConfig, EvalConfig, judged_on
from bench.config.views import AugmentConfig
from bench.data import datasets, folders, pictures, shards
from bench.data.augment import apply, draw
from bench.data.crop import InFile, cut
from bench.data.whole import Pictures, Whole, chosen
from bench.errors import UserError

CPU = torch.device("cpu")
PLAIN = AugmentConfig(flip=0.5, jitter=0, gray=0, crop_min=0.08)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs as JPEG of several sizes, one of them held upright, and odd ones as PNG."""
    path = tmp_path_factory.mktemp("photos")
    for part in ("train", "test"):
        for i in range(12):
            file = path / part / "ab"[i % 2] / f"{i:03d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            photo = photographs()[i // 2 % 2]
            photo.crop((i, i, 400 + 20 * i, 300 + 10 * i)).resize((300 + 17 * i, 250 + 7 * i)).save(file)
    turned = Image.Exif()
    turned[0x0112] = 6
    photographs()[0].save(path / "train" / "a" / "turned.jpg", exif=turned)
    photographs()[0].resize((1000, 20)).save(path / "train" / "b" / "wide.png")
    return path


def data(folder: Path, size: int = 96, **settings: float | str) -> DataConfig:
    return DataConfig(**{"name": f"folder:{folder}", "size": size, "cache": "files", **settings})


def test_crops_are_torchvisions_of_the_whole_file(folder: Path, tmp_path: Path) -> None:
    """Within 2 of 255, given the same box and flip, of the file at its own resolution, upright."""
    images = datasets.load(data(folder, 224), tmp_path).images
    whole = chosen(images, torch.arange(len(images)), CPU)
    assert isinstance(whole, Whole)
    names = [name for name, _ in folders.read(f"folder:{folder}").train]
    drawn = draw(PLAIN.views()[0], len(names), *whole.sides(), torch.Generator().manual_seed(0))
    views = apply(whole, drawn, 224)
    for i, name in enumerate(names):
        box = [int(side[i]) for side in (drawn.top, drawn.left, drawn.height, drawn.width)]
        with Image.open(folder / name) as file:
            upright = file.rotate(-90, expand=True) if "turned" in name else file.convert("RGB")
        expected = tv.resized_crop(tv.pil_to_tensor(upright), *box, [224, 224], antialias=True)
        expected = tv.horizontal_flip(expected) if drawn.flip[i] else expected
        assert (views[i] * 255 - expected).abs().max() <= 2, name


def test_nothing_is_kept_but_what_was_found(folder: Path, tmp_path: Path) -> None:
    datasets.load(data(folder), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 3000


def test_statistics_are_those_of_a_cache_of_256_pixels(folder: Path, tmp_path: Path) -> None:
    files = datasets.load(data(folder), tmp_path)
    stored = datasets.load(data(folder, cache="pixels", store=256), tmp_path)
    assert (files.mean, files.std) == (stored.mean, stored.std)
    assert torch.equal(files.labels, stored.labels)


def test_files_are_looked_at_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = datasets.load(data(folder), tmp_path)

    def refused(*args: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(pictures, "decode", refused)
    assert torch.equal(datasets.load(data(folder), tmp_path).images[:], first.images[:])


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(folder: Path) -> None:
    content = (folder / "train" / "a" / "turned.jpg").read_bytes()
    shapes = {shrink: tuple(pictures.at_own_size(content, 3, shrink).shape) for shrink in (0.5, 1.9, 2.0, 3.9, 4.0)}
    assert shapes == {0.5: (3, 640, 427), 1.9: (3, 640, 427), 2: (3, 320, 214), 3.9: (3, 320, 214), 4: (3, 160, 107)}
    assert pictures.at_own_size(content, 1, 2).shape == (1, 320, 214)


def test_a_crop_of_it_is_no_coarser_and_hardly_another(folder: Path) -> None:
    """Against the crop of all pixels: what libjpeg averages and what is interpolated differ by a few levels."""
    content = (folder / "train" / "a" / "turned.jpg").read_bytes()
    asked: list[float] = []

    def read(shrink: float) -> torch.Tensor:
        asked.append(shrink)
        return pictures.at_own_size(content, 3, shrink)

    boxes = [(11, 5, 600, 401, False), (203, 31, 190, 250, True)]
    for size, shrink in ((32, 190 / 64), (45, 190 / 90), (90, 190 / 180)):
        ours = cut([InFile((3, 640, 427), read)], boxes, size)
        expected = cut([pictures.at_own_size(content, 3, 1)], boxes, size)
        assert asked.pop() == shrink
        assert (ours.float() - expected.float()).abs().mean() < 1.5


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"nothing")])
def test_a_file_that_is_gone_in_the_middle_is_named(
    folder: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    images = datasets.load(data(copy), tmp_path).images
    change(copy / "train" / "a" / "000.jpg")
    with pytest.raises(RuntimeError, match=r"train/a/000.jpg could be read when the run began"):
        images[:]


def test_unreadable_files_are_told_at_once_or_left_out(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "train" / "a" / "000.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"1 of 14 images are unreadable: train/a/000.jpg"):
        datasets.load(data(copy), tmp_path)
    found = datasets.load(data(copy, skip_bad=True), tmp_path)
    assert isinstance(found.images, Pictures) and len(found.images) == len(found.labels) == 13
    assert torch.equal(found.images[:], datasets.load(data(folder), tmp_path).images[1:])


def test_what_was_looked_at_before_a_stop_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 5)
    datasets.load(data(folder), tmp_path)
    (index,) = tmp_path.glob("cache/*train*files")
    (index / "all.json").unlink()
    (index / "00001.json").unlink()
    decoded: list[object] = []
    decode = pictures.decode

    def noted(*args: object) -> object:
        decoded.append(args)
        return decode(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "decode", noted)
    datasets.load(data(folder), tmp_path)
    assert len(decoded) == 5


def config(**overrides: str) -> RunConfig:
    values = {"method_name": "byol", "method": {}, "backbone": {"name": "resnet10_small"}, "augment": {}, "eval": {}}
    values |= {"data": {"name": "folder:x", "size": 224}, "optim": {"lr": 1}, "train": {"epochs": 1, "batch_size": 8}}
    return resolve(values, overrides)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"data.name": "cifar10"}, "cifar10 has no files of pictures"),
        ({"data.name": "parquet:x"}, "parquet:x has no files of pictures"),
        ({"data.store": "256"}, "store=256: of cached pixels"),
    ],
)
def test_settings_that_cannot_be(overrides: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        config(**{"data.cache": "files", **overrides})


def test_no_resolution_is_chosen_where_nothing_is_stored() -> None:
    chosen = config(**{"data.cache": "files", "data.eval_crop": "0.875"}).data
    assert (chosen.store, chosen.whole) == (0, True)


@pytest.mark.parametrize(("name", "store", "cache"), [("folder:y", 0, "files"), ("parquet:y", 256, "pixels")])
def test_the_data_to_be_judged_on_are_whole_too(name: str, store: int, cache: str) -> None:
    trained = DataConfig(name="folder:x", size=224, cache="files", eval_crop=0.875)
    judged = judged_on(trained, EvalConfig(data=name))
    assert (judged.store, judged.cache, judged.eval_crop) == (store, cache, 0.875)
