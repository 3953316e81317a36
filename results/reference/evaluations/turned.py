"""Another data set out of digits, as a folder of images: every digit turned by a quarter, dark on light.

    python results/reference/evaluations/turned.py          writes data/digits-turned

Training and test images are those of `digits`, so no encoder that was trained on one of the two data sets has seen a
test image of the other.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from bench.data.digits import TEST_SHARE
from bench.data.strata import stratified


def write(folder: Path) -> None:
    """1,797 gray images of 8 x 8 pixels: folder/train/<class>/<number>.png and folder/test/..."""
    digits = load_digits()
    classes = tuple(str(name) for name in digits.target_names)
    parts = stratified(digits.target.astype(np.int64), TEST_SHARE, classes, "digits")
    for part, chosen in zip(("train", "test"), parts, strict=True):
        for number in chosen:
            pixels = 255 - np.rint(digits.images[number] * (255 / 16)).astype(np.uint8)  # [8, 8]
            place = folder / part / classes[digits.target[number]]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rot90(pixels)).save(place / f"{number:04}.png")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "data/digits-turned"))
