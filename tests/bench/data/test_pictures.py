"""Files of any format -> pictures: what is black, what is white, what is up, and what is refused."""

import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_folders import config, message, picture
from PIL import Image, PngImagePlugin, TiffImagePlugin
from torchvision.transforms.v2 import functional as tv

from bench.data import datasets, pictures
from bench.data.split import Pixels


def decode(path: Path) -> tuple[Pixels, bool]:
    return pictures.decode(path.read_bytes(), 16)[:2]


@pytest.mark.parametrize(("width", "height"), [(40, 30), (9, 50), (16, 16), (5, 6)])
def test_images_are_resized_on_the_shorter_side_and_cropped_in_the_middle(
    tmp_path: Path, width: int, height: int
) -> None:
    picture(3, width, height).save(tmp_path / "x.png")
    ours = torch.tensor(decode(tmp_path / "x.png")[0]).float()
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
    pixels, _ = decode(path)
    assert pixels.shape == (3, 16, 16)
    reference = np.asarray(image if mode in ("RGBA", "CMYK") else image.convert("L").convert("RGB"))
    if mode not in ("P", "1"):  # these lose colours
        assert np.abs(pixels.transpose(1, 2, 0).astype(int) - reference).max() <= 2


def gray(levels: np.ndarray, path: Path, **options: Any) -> np.ndarray:
    """What becomes of an array that Pillow saves: gray [H, W]."""
    Image.fromarray(levels).save(path, **options)
    pixels, _ = decode(path)
    assert (pixels == pixels[:1]).all()
    return np.asarray(pixels[0])


RAMP = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("float.tif", (RAMP / 255).astype(np.float32)),
        ("int32.tif", (RAMP * 257).astype(np.int32)),
        ("uint16.tif", (RAMP * 257).astype(np.uint16)),
        ("uint16.png", (RAMP * 257).astype(np.uint16)),
        ("uint8.tif", RAMP.astype(np.uint8)),
    ],
)
def test_gray_of_any_depth_keeps_its_levels(tmp_path: Path, name: str, levels: np.ndarray) -> None:
    assert gray(levels, tmp_path / name).tolist() == RAMP.tolist()


@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_a_portable_graymap_says_what_is_white(tmp_path: Path, white: int) -> None:
    levels = np.rint(RAMP / 255 * white).astype(np.uint8 if white < 256 else ">u2")
    (tmp_path / "x.pgm").write_bytes(f"P5 16 16 {white}\n".encode() + levels.tobytes())
    pixels, _ = decode(tmp_path / "x.pgm")
    assert np.abs(pixels[0].astype(int) - RAMP).max() <= 1


def test_white_that_is_stored_as_zero_is_white(tmp_path: Path) -> None:
    for name, levels in (("8.tif", RAMP.astype(np.uint8)), ("16.tif", (RAMP * 257).astype(np.uint16))):
        Image.fromarray(levels).save(tmp_path / name)
        tags = (tmp_path / name).read_bytes()
        marker = (262).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
        (tmp_path / name).write_bytes(tags.replace(marker + b"\1\0", marker + b"\0\0"))
        assert decode(tmp_path / name)[0][0].tolist() == (255 - RAMP).tolist(), name


@pytest.mark.parametrize(
    ("name", "levels", "expected"),
    [
        ("x.tif", RAMP.astype(np.int32), "end at 255 of 65535"),
        ("x.tif", (RAMP - 128).astype(np.int32), "values from -128 to 127 where 0 is black and 65535 white"),
        ("x.tif", (RAMP * 2**20).astype(np.int32), "values from 0 to 2.67387e.08"),
        ("x.tif", RAMP.astype(np.float32), "values from 0 to 255 where 0 is black and 1 white"),
        ("x.tif", np.full((16, 16), np.nan, np.float32), "values from nan to nan"),
        ("x.tif", (RAMP * 16).astype(np.uint16), "end at 4080 of 65535, 12 bits or fewer"),
        ("x.png", (RAMP * 16).astype(np.uint16), "end at 4080 of 65535, 12 bits or fewer"),
    ],
)
def test_an_image_that_would_be_black_or_cut_is_refused(
    tmp_path: Path, name: str, levels: np.ndarray, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        gray(levels, tmp_path / name)


def test_signed_bytes_are_refused(tmp_path: Path) -> None:
    signed = TiffImagePlugin.ImageFileDirectory_v2()
    signed[339] = 2
    with pytest.raises(ValueError, match="signed values"):
        gray(RAMP.astype(np.uint8), tmp_path / "x.tif", tiffinfo=signed)


def png_of_16_bits(path: Path, levels: np.ndarray, colour: int) -> None:
    """Pillow writes no colours of 16 bits. `levels`: [H, W, channels]."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = levels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_colours_of_16_bits_keep_their_upper_half_and_12_bits_are_refused(tmp_path: Path) -> None:
    levels = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2) * 257
    png_of_16_bits(tmp_path / "x.png", levels, colour=2)
    assert decode(tmp_path / "x.png")[0].transpose(1, 2, 0).tolist() == (levels // 257).tolist()
    png_of_16_bits(tmp_path / "x.png", levels >> 4, colour=2)
    with pytest.raises(ValueError, match="12 bits or fewer in 16-bit channels"):
        decode(tmp_path / "x.png")


def test_12_bits_below_transparent_parts_are_refused_too(tmp_path: Path) -> None:
    levels = np.stack([RAMP * 16] * 3 + [np.where(RAMP < 16, 0, 65535)], axis=2)
    png_of_16_bits(tmp_path / "x.png", levels, colour=6)
    with pytest.raises(ValueError, match="12 bits or fewer in 16-bit channels"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_the_camera_was_held(tmp_path: Path, ending: str, orientation: int) -> None:
    stored = np.zeros((16, 16, 3), dtype=np.uint8)
    stored[:8, :8], stored[:8, 8:], stored[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # red green / blue black
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, Any] = {"lossless": True} if ending == ".webp" else {}
    Image.fromarray(stored).save(tmp_path / f"x{ending}", exif=exif, **options)
    # EXIF 2.3, 4.6.4: where the stored first row and first column are to be seen
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    pixels = decode(tmp_path / f"x{ending}")[0].transpose(1, 2, 0)
    corners = (slice(2, None, 11), slice(2, None, 11))  # JPEG blurs edges
    assert np.abs(pixels[corners].astype(int) - upright[corners]).max() <= 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white_whatever_colour_is_stored_below(tmp_path: Path, mode: str) -> None:
    hidden = np.zeros((16, 16, 4), dtype=np.uint8)
    hidden[:8] = (200, 200, 200, 255)
    hidden[8:12] = (0, 0, 0, 128)
    image = Image.fromarray(hidden)
    if mode == "P":
        image = Image.fromarray(np.repeat(np.array([0, 2, 1], np.uint8), [8, 4, 4])[:, None].repeat(16, axis=1), "P")
        image.putpalette([200, 200, 200, 0, 0, 0, 127, 127, 127])
        image.info["transparency"] = 1
    else:
        image = image.convert(mode)
    image.save(tmp_path / "x.png")
    column = decode(tmp_path / "x.png")[0][:, :, 0]
    assert column.tolist() == [[200] * 8 + [127] * 4 + [255] * 4] * 3


def test_of_several_frames_the_first_is_taken_and_that_is_said(tmp_path: Path) -> None:
    frames = [Image.new("L", (16, 16), level) for level in (10, 200)]
    for ending in (".gif", ".tif", ".webp", ".png"):
        path = tmp_path / f"x{ending}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        pixels, several = decode(path)
        assert several, ending
        assert abs(int(pixels.max()) - 10) <= 2, ending
        content = path.read_bytes()
        if ending != ".webp":  # cut off behind the first frame
            path.write_bytes(content[: 3 * len(content) // 4])
            assert decode(path)[1]
            assert decode(path)[0].tolist() == pixels.tolist(), ending
        frames[0].save(path)
        assert not decode(path)[1], ending


@pytest.mark.parametrize("ending", [".bmp", ".gif", ".jpg", ".png", ".ppm", ".tif", ".tga", ".webp"])
def test_a_file_that_is_cut_off_is_unreadable(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    picture(1).save(path)
    content = path.read_bytes()
    for length in (0, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises((OSError, ValueError, SyntaxError)):
            decode(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_leave_the_picture_as_it_is(tmp_path: Path) -> None:
    picture(1, 16, 16).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    pixels, _ = decode(tmp_path / "x.png")
    assert pixels.transpose(1, 2, 0).tolist() == np.asarray(picture(1, 16, 16)).tolist()


# what is told of them


def test_images_of_one_colour_and_of_several_frames_are_told_by_name(folder: Path, data_dir: Path) -> None:
    Image.new("RGB", (20, 20), (7, 8, 9)).save(folder / "train" / "cat" / "000.png")
    picture(5).save(folder / "test" / "dog" / "000.tif", save_all=True, append_images=[picture(6)])
    assert datasets.load(config(folder), data_dir).check() == [
        "1 of 60 training images are of one colour: train/cat/000.png",
        "1 test images have several frames or pages, of which the first is taken: test/dog/000.tif",
    ]


def test_a_refused_image_is_named_with_the_reason(folder: Path, data_dir: Path) -> None:
    Image.fromarray(RAMP.astype(np.int32)).save(folder / "train" / "cat" / "x.tif")
    line = message(config(folder), data_dir)
    assert "1 of 61 images are unreadable: train/cat/x.tif (its values end at 255 of 65535" in line


def test_a_set_that_ends_far_below_white_is_told(folder: Path, data_dir: Path) -> None:
    """14 bits in 16-bit files, or the digits' 0 to 16 in bytes."""
    for i, image in enumerate(sorted((folder / "train").rglob("*.png"))):
        levels = np.random.default_rng(i).integers(0, 2**14, (16, 16)).astype(np.uint16)
        levels[0, 0] = 2**14 - 1
        Image.fromarray(levels).save(image)
    n = len(list((folder / "train").rglob("*.png")))
    for _ in range(2):  # made, and from the cache
        (line,) = datasets.load(config(folder), data_dir).check()
        assert line == f"no pixel of the {n} training images is above 63 of 255: were they saved rescaled?"


def test_a_set_without_contrast_is_told(folder: Path, data_dir: Path) -> None:
    mask = Image.fromarray((np.arange(256).reshape(16, 16) % 4).astype(np.uint8))  # levels 0 to 3: black to the eye
    for i, image in enumerate(sorted((folder / "train").rglob("*.png"))):
        mask.save(image, pnginfo=note(i))
    assert datasets.load(config(folder), data_dir).check() == [
        "pixels of training images hardly differ (standard deviation 0.0044, white is 1)"
    ]
    for i, image in enumerate(sorted((folder / "train").rglob("*.png"))):
        Image.new("L", (16, 16), i % 5).save(image, pnginfo=note(i))
    (first, *rest) = datasets.load(config(folder), data_dir).check()
    assert first.startswith("60 of 60 training images are of one colour: train/cat/000.png, train/cat/001.png,")
    assert rest == []


def note(number: int) -> PngImagePlugin.PngInfo:
    """Makes equal pictures different files."""
    info = PngImagePlugin.PngInfo()
    info.add_text("number", str(number))
    return info


def test_many_copies_in_a_class_are_told(folder: Path, data_dir: Path) -> None:
    for i in range(1, 20):
        shutil.copy(folder / "train" / "cat" / "000.png", folder / "train" / "cat" / f"{i:03}.png")
    assert datasets.load(config(folder), data_dir).check() == [
        "19 of 60 training images are copies (the same bytes) of others"
    ]
