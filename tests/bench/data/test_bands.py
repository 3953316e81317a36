"""Images of any number of channels: .npy files, and TIFF files whose bands lie in every way that they may."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import config, message, picture
from PIL import Image

from bench.data import bands, datasets, pictures

BANDS = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)  # [C, H, W]


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def tiff(values: Any, **how: Any) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="minisblack", **how)
    return buffer.getvalue()


def test_an_array_has_its_channels_last_or_none() -> None:
    assert bands.read(npy(BANDS.transpose(1, 2, 0)), 5).tolist() == BANDS.tolist()
    assert bands.read(npy(BANDS[0]), 1).tolist() == BANDS[:1].tolist()


def test_bands_of_a_tiff_are_samples_planes_or_pages() -> None:
    files = {
        "samples": tiff(BANDS.transpose(1, 2, 0), planarconfig="contig"),
        "planes": tiff(BANDS, planarconfig="separate"),
        "pages": tiff(BANDS),
    }
    for how, content in files.items():
        assert bands.read(content, 5).tolist() == BANDS.tolist(), how


def test_of_sixteen_bits_65535_is_white() -> None:
    values = np.array([[0, 257, 65535]], dtype=np.uint16)
    assert bands.read(npy(values), 1).tolist() == [[[0, 1, 255]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (BANDS, "not that of an image of 5 channels"),  # channels first
        (BANDS[0], "not that of an image of 5 channels"),
        (BANDS.transpose(1, 2, 0).astype(np.float32), "values of type float32: save it as uint8 or uint16"),
        (BANDS.transpose(1, 2, 0).astype(np.uint16), "its values end at 209 of 65535"),
        (np.array([{}]), "pickle"),
    ],
)
def test_other_arrays_are_refused_with_the_reason(values: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        bands.read(npy(values), 5)


def test_a_photograph_has_no_five_channels_and_gray_ones_have_one(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    with pytest.raises(ValueError, match=r"no \.npy or TIFF file, which images of 5 channels have to be"):
        pictures.decode(content, 16, 5)
    gray = pictures.decode(content, 30, 1).pixels
    assert gray.tolist() == [np.asarray(picture(0).convert("L").crop((5, 0, 35, 30))).tolist()]


def test_arrays_are_images_where_a_folder_has_no_others(tmp_path: Path, data_dir: Path) -> None:
    for part, n in (("train", 6), ("test", 2)):
        for label in (0, 1):
            (tmp_path / "x" / part / f"c{label}").mkdir(parents=True)
            for i in range(n):
                values = np.full((6, 6, 5), 60 * label + 10 * i, dtype=np.uint8)
                np.save(tmp_path / "x" / part / f"c{label}" / f"{i}.npy", values)
    found = datasets.load(config(tmp_path / "x", 6, channels=5), data_dir)
    assert found.images[:].shape == (12, 5, 6, 6) and len(found.mean) == len(found.std) == 5
    assert "not that of an image of 3 channels" in message(config(tmp_path / "x", 6), data_dir)
    Image.new("RGB", (6, 6)).save(tmp_path / "x" / "train" / "c0" / "y.png")
    assert "train/c0 has 1 images" in message(config(tmp_path / "x", 6), data_dir)


def test_gray_digits_are_the_same_values_once() -> None:
    gray, colour = (datasets.load(config("digits", channels=n), Path()) for n in (1, 3))
    assert gray.images[:].shape[1] == 1
    assert (gray.images[:] == colour.images[:]).all()
    assert gray.mean == colour.mean[:1] and gray.std == colour.std[:1]


def test_a_named_set_has_no_other_channels(data_dir: Path) -> None:
    assert message(config("cifar10", channels=5), data_dir).startswith("data.channels=5: cifar10 has colours or gray")


def test_without_the_library_for_tiff_one_line_says_what_to_install(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "x" / part / name).mkdir(parents=True)
            for i in range(2):
                (tmp_path / "x" / part / name / f"{i}.tif").write_bytes(b"%d" % i + part.encode() + name.encode())
    monkeypatch.setattr(bands, "can_read_tiff", lambda: False)
    assert "pip install tifffile" in message(config(tmp_path / "x", channels=5), data_dir)


@pytest.mark.parametrize(("shape", "planes"), [((20, 30, 5), "contig"), ((5, 20, 30), "separate")])
def test_five_bands_are_no_photograph(shape: tuple[int, ...], planes: str) -> None:
    """Pillow takes some of them, or says nothing that helps."""
    with pytest.raises(ValueError, match=r"data.channels=N"):
        pictures.decode(tiff(np.zeros(shape, np.uint8), planarconfig=planes), 16, 3)
