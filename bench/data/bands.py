"""Images of any number of channels: arrays of numpy, and TIFF files, whose bands Pillow does not read.

uint8 is taken as it is; uint16 is divided by 257: white is 65535. EXIF orientation and transparency are not looked at.
"""

import io
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.split import Pixels

Values = npt.NDArray[Any]

NPY = b"\x93NUMPY"  # how such files begin
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: of more than 4 GB
NEEDED = "TIFF of other than 1 or 3 bands needs tifffile: pip install tifffile, or the extra [tiff]"
FEWEST_BITS = 2**12
"""Of 65535: an image that ends below is of 12 bits or fewer in a larger file, and would be black."""


def can_read_tiff() -> bool:
    """Whether the library that it takes is installed."""
    return find_spec("tifffile") is not None


def read(content: bytes, n_channels: int) -> Pixels:
    """The bytes of a .npy file ([H, W] or [H, W, C]) or of a TIFF file -> uint8 [n_channels, H, W].

    Of TIFF, bands may be samples of a pixel, planes, or pages. Raises ValueError on anything else.
    """
    if content.startswith(NPY):
        values, bands = np.load(io.BytesIO(content), allow_pickle=False), -1
    elif content.startswith(TIFF):
        values, bands = _tiff(content)
    else:
        raise ValueError(f"no .npy or TIFF file, which images of {n_channels} channels have to be")
    if values.ndim == 2:
        values, bands = values[None], 0
    if values.ndim != 3 or values.shape[bands] != n_channels:
        raise ValueError(f"its shape is {values.shape}, not that of an image of {n_channels} channels")
    return np.ascontiguousarray(np.moveaxis(_eight_bits(values), bands, 0))


def _tiff(content: bytes) -> tuple[Values, int]:
    """The first image of a TIFF file, and which of its axes is that of the bands."""
    if not can_read_tiff():
        raise ValueError(NEEDED)
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as file:
        first = file.series[0]
        values, axes = first.asarray(), first.axes
    band = next((place for place, axis in enumerate(axes) if axis not in "YX"), 0)
    return values, band


def _eight_bits(values: Values) -> Pixels:
    if values.dtype == np.uint8:
        return values
    if values.dtype != np.uint16:
        raise ValueError(f"values of type {values.dtype}: save it as uint8 or uint16")
    high = int(values.max(initial=0))
    if 0 < high < FEWEST_BITS:
        raise ValueError(f"its values end at {high} of 65535, 12 bits or fewer in 16 bits: save it rescaled")
    return (values // 257).astype(np.uint8)
