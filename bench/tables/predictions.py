"""Which test images every classifier told rightly: the files of predictions beside the evaluations."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Predictions(NamedTuple):
    """What the classifiers of one evaluation said of the test images."""

    predicted: NDArray[np.integer]
    """[classifiers, M]"""
    labels: NDArray[np.integer]
    """[M]"""
    classes: tuple[str, ...]
    """Their names; () in a file of a version that stored none."""


def read(path: Path) -> Predictions:
    """Raises ValueError, one line, if the file is missing, damaged or holds no classes."""
    try:
        with np.load(path, allow_pickle=False) as file:
            predicted, labels = file["predicted"], file["labels"]
            classes = tuple(map(str, file["classes"])) if "classes" in file.files else ()
    except Exception as error:  # of zipfile, zlib or numpy, whatever a torn file makes them raise
        raise ValueError(" ".join(str(error).split()) or "cannot be read") from None
    if labels.ndim != 1 or predicted.ndim != 2 or not predicted.size or predicted.shape[1] != len(labels):
        raise ValueError(f"predicted is {list(predicted.shape)}, labels {list(labels.shape)}")
    if predicted.dtype.kind not in "iu" or labels.dtype.kind not in "iu" or min(predicted.min(), labels.min()) < 0:
        raise ValueError("predicted and labels are no classes")
    return Predictions(predicted, labels, classes)
