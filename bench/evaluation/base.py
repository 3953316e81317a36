"""What an evaluation is: settings, and classifiers that it fits on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.config.sections import Group

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.datasets import Dataset
    from bench.evaluation.subject import Subject, Test

BEST = 5  # classes that a classifier names for an image, where there are so many
L2_GRID = tuple(10.0**-i for i in range(-1, 7))  # of the logistic probe, strongest first: 10, 1, ... 1e-6; 7 decades


@dataclass(frozen=True)
class Classifier:
    """Something that tells the classes of images, final before any test image is read."""

    variant: str
    """What numbers of it are called: `linear` in test_linear_top1, `few_1pct` in test_few_1pct_top1."""
    n_labels: int
    """Labelled images that it was fitted on."""
    validation: Tensor
    """int64 [n_val, min(5, C)]: classes of the validation images, most likely first (`subject.ranked`)."""
    predict: Callable[[Test], Tensor]
    """The same of the test images, [M, min(5, C)]."""
    chosen: dict[str, float] = field(default_factory=dict)
    """What validation chose: l2, lr."""
    draw: int = 0
    """Which of several draws of labelled images."""


class Evaluation(Group):
    """Base of the evaluations. Fields are settings, each with a docstring; all of them are part of its identity."""

    def check(self, dataset: Dataset) -> None:
        """Before anything is fitted. Raises UserError if these settings cannot judge on this data set."""

    def classifiers(self, subject: Subject) -> Iterator[Classifier]:
        """Fit, and choose on validation; `subject` gives no test image."""
        raise NotImplementedError
