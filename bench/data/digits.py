"""The digits images that scikit-learn ships."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from bench.config.sections import DataConfig
from bench.data.pictures import resized
from bench.data.split import Moments, Split
from bench.data.strata import stratified

TEST_SHARE = 0.2  # scikit-learn's digits come without a split


def read(config: DataConfig, data_dir: Path) -> tuple[Split, Callable[[], Split]]:
    """The training split, and a function that reads the test split; `data_dir` is not used."""
    return _split(config, test=False), partial(_split, config, test=True)


def _split(config: DataConfig, test: bool) -> Split:
    digits = load_digits()
    classes = tuple(str(name) for name in digits.target_names)
    labels = digits.target.astype(np.int64)
    chosen = stratified(labels, TEST_SHARE, classes, "digits")[int(test)]
    pixels = torch.from_numpy(np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8))  # 0..16 -> 0..255
    pixels = torch.from_numpy(resized(pixels[:, None], config.size, config.channels).copy())  # [n, C, S, S]
    moments = Moments(config.channels)
    moments.add(pixels.numpy())
    return Split(pixels, torch.from_numpy(labels[chosen]), classes, moments.mean, moments.std)
