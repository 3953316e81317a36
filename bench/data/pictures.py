"""Image files and arrays -> uint8 images of one size.

What a file's picture is, whatever its format. The rules have a VERSION: caches of another one are made anew. They are
no part of a folder's fingerprint, which is of names and bytes: runs keep their names.
- Eight bits a channel are taken as they are; palettes, CMYK and one bit become RGB as Pillow does it.
- Gray of 16 or 32 bits is divided by 257: white is 65535. An image whose values end below 4096 is refused, as it is
  of 12 bits or fewer in a larger file and would be black; so are values beyond 0..65535. Of colours of 16 bits the
  upper eight are taken, and refused where they end below 16. Floats are times 255: values beyond 0..1 are refused.
- It is turned as EXIF says that the camera was held.
- Transparent parts show white, as on a page, not the colours that are stored below them.
- Of several frames or pages the first is taken, and `decode` says so.
- Colour profiles are not applied.

What is too large for Pillow, or HEIC, is refused. Of images beyond LARGE pixels one is in memory at a time, however
many threads decode.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from bench.data import bands
from bench.data.split import Batch, Pixels
from bench.data.whole import shape

# Pillow warns of its own lines, not of files; what matters raises.
warnings.filterwarnings("ignore", module=r"PIL\.")

VERSION = 2
AT_ONCE = 256  # images in memory, at most,
PIXELS_AT_ONCE = AT_ONCE * 256**2  # and their pixels
LARGE = 50_000_000  # pixels: 200 MB as Pillow holds them, and as much again while they are converted
_ONE_LARGE = threading.Lock()
HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})  # major brands of such a file's first box
FEW_BITS = 12  # an integer image of more, whose values need no more than these, is not white at its maximum
SAMPLE_FORMAT, PHOTOMETRIC, SAMPLES = 339, 262, 277  # TIFF tags
MOST_SAMPLES = 4  # a pixel: red, green, blue and how opaque; cyan, magenta, yellow, black
BANDS = "other than 1 or 3 bands need --set data.channels=N, of all images"
SIGNED, WHITE_IS_ZERO = 2, 0  # their values


def resized(images: Tensor, size: int, n_channels: int = 3) -> Pixels:
    """uint8 [k, C, H, W] -> [k, n_channels, size, size]: shorter side resized with antialiasing, centre crop.

    C is n_channels, or 1 and 3 become each other.
    """
    if images.shape[1] == 3 and n_channels == 1:
        images = tv.rgb_to_grayscale(images)
    if images.shape[2:] != (size, size):
        images = tv.center_crop(tv.resize(images, [size], antialias=True), [size])
    pixels: Pixels = images.expand(-1, n_channels, -1, -1).numpy()
    return pixels


def array_batches(images: Tensor, labels: Sequence[int], size: int, n_channels: int = 3) -> Iterator[Batch]:
    """Batches of images uint8 [N, 1 or 3, H, W] that are in memory already."""
    for start in range(0, len(images), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        yield Batch(resized(images[part], size, n_channels), [int(label) for label in labels[part]])


class Decoded(NamedTuple):
    """An image file's picture."""

    pixels: Pixels
    several: bool  # whether the file has more frames or pages
    height: int  # of the picture in the file, upright
    width: int


def decode(content: bytes, size: int, n_channels: int = 3, whole: bool = False) -> Decoded:
    """An image file of any size and mode -> uint8 [C, size, size].

    Resized on its shorter side, centre crop; of 1 channel, gray as Pillow makes it. whole: no crop, and never enlarged:
    [H, W, C]. .npy files, and images of neither 1 nor 3 channels: `bench.data.bands`. Raises ValueError if it cannot
    tell what is black and white, and nearly anything if the file is damaged.
    """
    if _is_bands(content, n_channels):
        values = torch.from_numpy(bands.read(content, n_channels))
        height, width = values.shape[1:]
        if whole:
            return Decoded(_shrunk(values, size).permute(1, 2, 0).numpy(), False, height, width)
        return Decoded(resized(values[None], size, n_channels)[0], False, height, width)
    with _opened(content) as image:
        picture = _in_channels(image, n_channels)
        several, (width, height) = _has_more(image), picture.size
        if whole:
            if min(picture.size) > size:
                picture = tv.resize(picture, [*shape(height, width, size)], antialias=True)
            return Decoded(np.atleast_3d(np.asarray(picture)), several, height, width)
        picture = tv.center_crop(tv.resize(picture, [size], antialias=True), [size])
    return Decoded(np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1), several, height, width)


def at_own_size(content: bytes, n_channels: int, shrink: float) -> Tensor:
    """An image file -> uint8 [C, H, W] of its own height and width; of a JPEG file, perhaps a `shrink`-th of them.

    Such a file is decoded at a half, a quarter or an eighth where that is no smaller, in less time. Raises as `decode`.
    """
    if _is_bands(content, n_channels):
        return torch.from_numpy(bands.read(content, n_channels))
    with _opened(content) as image:
        scale = max(step for step in (1, 2, 4, 8) if step <= max(1, shrink))
        if image.format == "JPEG":
            image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
        pixels = np.atleast_3d(np.array(_in_channels(image, n_channels)))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _is_bands(content: bytes, n_channels: int) -> bool:
    return n_channels not in (1, 3) or content.startswith(bands.NPY)


def _in_channels(image: Image.Image, n_channels: int) -> Image.Image:
    """A picture just opened, in RGB or gray."""
    return _rgb(image) if n_channels == 3 else _rgb(image).convert("L")


def _shrunk(values: Tensor, size: int) -> Tensor:
    """uint8 [C, H, W], its shorter side at most `size`."""
    height, width = values.shape[1:]
    return tv.resize(values, [*shape(height, width, size)], antialias=True) if min(height, width) > size else values


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """An image file. Raises ValueError if it is empty, HEIC, or has more pixels than Pillow reads."""
    if not content:
        raise ValueError("an empty file")
    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        raise ValueError("HEIC, which is not read: save it as JPEG or PNG")
    try:
        opened = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        if content.startswith(bands.TIFF):
            raise ValueError(f"a TIFF file that Pillow does not read; {BANDS}") from None
        raise
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 10**6
        raise ValueError(f"more than {most:.0f} megapixels, the most that are read: save it smaller") from None
    if (samples := getattr(opened, "tag_v2", {}).get(SAMPLES, 1)) > MOST_SAMPLES:
        raise ValueError(f"a TIFF file of {samples} bands, of which Pillow would drop some; {BANDS}")
    with opened as image, _ONE_LARGE if image.width * image.height > LARGE else contextlib.nullcontext():
        yield image


def _has_more(image: Image.Image) -> bool:
    """Whether there are frames or pages behind the first. MPO: a photograph, and previews of it."""
    try:
        return image.format != "MPO" and int(getattr(image, "n_frames", 1)) > 1
    except Exception:  # there are, and they are damaged; the first is whole
        return True


def _rgb(image: Image.Image) -> Image.Image:
    """A picture just opened, in RGB, upright, on white."""
    tags = getattr(image, "tag_v2", {})
    white_is_zero = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    signed = SIGNED in np.atleast_1d(tags.get(SAMPLE_FORMAT, 0))
    halved = any(
        ";16" in str(tile) for tile in getattr(image, "tile", ())
    )  # 16 bits a channel, of which Pillow keeps 8
    image.load()
    transparent = image.info.get("transparency")
    if halved and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in transparent)
    if image.format != "TIFF":  # which Pillow has turned; early versions would turn it twice
        with contextlib.suppress(Exception):  # damaged EXIF data: the picture itself is whole
            ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(("I", "F")):
        return _from_deep_gray(image, white_is_zero, transparent)
    if signed:
        raise ValueError(f"signed values in mode {image.mode}: save it with values from 0")
    if halved:  # before transparent parts become white
        _refuse_few_bits(int(np.asarray(image.convert("RGB")).max()) << 8, "16-bit channels")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or transparent is not None:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_gray(image: Image.Image, white_is_zero: bool, transparent: object) -> Image.Image:
    """Gray of more than 8 bits, integers or floats, -> RGB."""
    values = np.asarray(image)
    low, high, white = values.min(), values.max(), 1 if image.mode == "F" else 65535
    if not (low >= 0 and high <= white):  # NaN, too
        raise ValueError(f"values from {low:g} to {high:g} where 0 is black and {white} white: save it in that range")
    if image.mode != "F":
        _refuse_few_bits(int(high), "16 bits")
    levels = values * 255.0 + 0.5 if image.mode == "F" else values / 257  # the latter is not rounded: cached as ever
    gray = levels.clip(0, 255).astype(np.uint8)
    if white_is_zero:
        gray = 255 - gray
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return Image.fromarray(gray).convert("RGB")


def _refuse_few_bits(high: int, where: str) -> None:
    """high: largest value of 0..65535."""
    if 0 < high < 2**FEW_BITS:
        raise ValueError(f"its values end at {high} of 65535, {FEW_BITS} bits or fewer in {where}: save it rescaled")
