"""Fit everything that an evaluation asks for, then read the test split: in this order for every evaluation there is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bench.evaluation.base import BEST, Classifier, Evaluation
from bench.evaluation.scores import balanced, macro_f1, top1, top5
from bench.evaluation.subject import Subject
from bench.runs.evaluations import Score

TOP5_FROM = 10  # classes: of fewer, five are most


@dataclass(frozen=True)
class Judged:
    """What an evaluation found."""

    scores: list[Score]
    """One a classifier."""
    predicted: npt.NDArray[np.integer]
    """[classifiers, M]: the class of every test image, in the smallest type that holds them."""
    labels: npt.NDArray[np.integer]
    """[M]."""


def judge(evaluation: Evaluation, subject: Subject) -> Judged:
    """Scores of all classifiers of an evaluation. Changes no weight of the subject. Raises Interrupted, UserError."""
    classifiers = list(evaluation.classifiers(subject))  # all is chosen here
    test = subject.test
    told = [classifier.predict(test) for classifier in classifiers]
    small = np.min_scalar_type(subject.n_classes - 1)
    predicted = np.stack([classes[:, 0].cpu().numpy() for classes in told]).astype(small)
    scores = [_score(c, classes, test.labels, subject) for c, classes in zip(classifiers, told, strict=True)]
    return Judged(scores, predicted, test.labels.numpy().astype(small))


def _score(classifier: Classifier, told: Tensor, labels: Tensor, subject: Subject) -> Score:
    n, predicted = subject.n_classes, told[:, 0]
    return Score(
        variant=classifier.variant,
        draw=classifier.draw,
        n_labels=classifier.n_labels,
        n_test=len(labels),
        test_top1=top1(predicted, labels),
        test_top5=top5(told[:, :BEST], labels) if n >= TOP5_FROM else None,
        test_balanced=balanced(predicted, labels, n),
        test_f1=macro_f1(predicted, labels, n),
        val_top1=top1(classifier.validation[:, 0], subject.labels[subject.n_train :]),
        chosen=classifier.chosen,
    )
