"""Files that are large, empty, or no pictures at all: what they take, and what is said of them."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from image_folders import config, message, picture
from PIL import Image

from bench.data import datasets, pictures
from bench.data.split import Pixels


def decode(path: Path) -> tuple[Pixels, bool]:
    return pictures.decode(path.read_bytes(), 16)[:2]


def test_an_image_of_100_megapixels_is_read(tmp_path: Path) -> None:
    Image.new("L", (10_000, 10_000), 77).save(tmp_path / "x.png")
    pixels, several = decode(tmp_path / "x.png")
    assert (pixels == 77).all()
    assert not several


def test_of_large_images_one_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, inside, most = pictures._rgb, list[Image.Image](), list[int]()

    def watched(image: Image.Image) -> Image.Image:
        inside.append(image)
        most.append(len(inside))
        time.sleep(0.01)
        inside.remove(image)
        return rgb(image)

    picture(1, 40, 30).save(tmp_path / "x.png")
    monkeypatch.setattr(pictures, "_rgb", watched)
    monkeypatch.setattr(pictures, "LARGE", 40 * 30 - 1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [tmp_path / "x.png"] * 8))
    assert max(most) == 1


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"\0" * 100, "no image that can be read"),
        (HEIC, "HEIC, which is not read: save it as JPEG or PNG"),
    ],
)
def test_a_file_that_is_no_picture_says_what_it_is(folder: Path, data_dir: Path, content: bytes, reason: str) -> None:
    (folder / "train" / "cat" / "003.png").write_bytes(content)
    assert f"1 of 60 images are unreadable: train/cat/003.png ({reason}): mend" in message(config(folder), data_dir)


def test_a_picture_that_would_unpack_to_more_than_pillow_reads_is_refused_by_name(folder: Path, data_dir: Path) -> None:
    started = time.monotonic()
    header = b"P5 20000 20000 255\n"  # 400 megapixels in a file of 19 bytes
    (folder / "train" / "cat" / "003.png").write_bytes(header)
    line = message(config(folder), data_dir)
    assert "train/cat/003.png (more than 179 megapixels, the most that are read: save it smaller)" in line
    assert time.monotonic() - started < 5


def test_a_folder_that_is_called_as_a_picture_is_a_folder(folder: Path, data_dir: Path) -> None:
    (folder / "train" / "cat" / "more.jpg").mkdir()
    picture(9).save(folder / "train" / "cat" / "more.jpg" / "1.png")
    assert len(datasets.load(config(folder), data_dir).images) == 61


def test_heic_files_are_left_out_by_their_names_and_that_is_said(folder: Path, data_dir: Path) -> None:
    (folder / "train" / "cat" / "IMG_0001.HEIC").write_bytes(HEIC)
    lines = datasets.load(config(folder), data_dir).check()
    assert lines == ["left out files whose names do not end as an image's (1 .heic): train/cat/IMG_0001.HEIC"]
