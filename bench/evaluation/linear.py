"""linear: a linear classifier on frozen features, its regularisation chosen on validation, refitted on all labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal

from bench.evaluation.base import Classifier, Evaluation

if TYPE_CHECKING:
    from bench.evaluation.subject import Subject


class Linear(Evaluation):
    """Linear probe: logistic regression on frozen features; its strength is chosen on validation."""

    probe: Literal["", "logistic", "augmented"] = ""
    """logistic: L2 logistic regression; augmented: 100 epochs of SGD on crops and flips; "": as the run's eval.probe"""

    def classifiers(self, subject: Subject) -> Iterator[Classifier]:
        """One: fitted on training images while validation chooses, then on both (of equals: strongest, slowest)."""
        if (self.probe or subject.eval.probe) == "logistic":
            yield _logistic(subject)
        else:
            yield _augmented(subject)


def _logistic(subject: Subject) -> Classifier:
    import torch

    from bench.evaluation.logistic import choose_logistic

    n = subject.n_train
    parts = torch.arange(len(subject.index)).tensor_split([n])
    fit, validation = choose_logistic(subject, *parts)
    return Classifier("linear", len(subject.index), validation, fit.classify, {"l2": fit.l2})


def _augmented(subject: Subject) -> Classifier:
    from bench.evaluation.crops import LR_GRID, classes, crop_heads
    from bench.evaluation.scores import top1
    from bench.seeds import Probe

    fit = partial(crop_heads, subject)
    n = subject.n_train
    heads = fit(subject.dataset.train, LR_GRID, Probe.CHOICE)
    tried = [classes(head, subject.features[n:]) for head in heads]
    scores = [top1(told[:, 0], subject.labels[n:]) for told in tried]
    chosen = scores.index(max(scores))
    (head,) = fit(subject.index, [LR_GRID[chosen]], Probe.FINAL)
    choice = {"lr": LR_GRID[chosen]}
    return Classifier("linear", len(subject.index), tried[chosen], lambda test: classes(head, test.features), choice)
