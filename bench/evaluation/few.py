"""few: the linear probe with few labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from bench.errors import UserError
from bench.evaluation.base import Classifier, Evaluation

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bench.data.datasets import Dataset
    from bench.evaluation.subject import Subject

AMOUNT = re.compile(r"(?P<percent>\d+(\.\d+)?)%|(?P<shots>\d+)")


class Few(Evaluation):
    """Logistic regression on the frozen features of few labelled images: a share of them, or so many of each class.

    The images are drawn by class, the same for all methods and seeds; of one draw, more labels contain fewer. The L2
    strength is chosen on the whole validation split, as for `linear`: that is no test of how well a strength can be
    chosen from few labels. A share is one of the training and of the validation images, and the classifier is refitted
    on both; k of each class are training images. With 100% it is `linear`.
    """

    labels: str = "1%,10%,5"
    """Amounts, separated by commas: 1% (of the labelled images, at least one a class), 5 (of each class)."""
    draws: int = Field(3, ge=1, le=100)
    """How many draws of images; numbers are means over them."""

    @field_validator("labels")
    @classmethod
    def _amounts(cls, text: str) -> str:
        amounts = [part.strip() for part in text.split(",") if part.strip()]
        for amount in amounts:
            found = AMOUNT.fullmatch(amount)
            valid = found and (0 < float(found["percent"]) <= 100 if found["percent"] else int(found["shots"]) > 0)
            if not valid:
                raise UserError(f"few.labels: {amount!r} is no amount: 10% is a share of the labels, 5 so many a class")
        if not amounts:
            raise UserError("few.labels: name one or more amounts, e.g. 1%,10%,5")
        return ",".join(dict.fromkeys(amounts))

    def check(self, dataset: Dataset) -> None:
        """Raises UserError if a class has fewer training images than are asked for."""
        fewest, label = dataset.labels[dataset.train].bincount(minlength=len(dataset.classes)).min(dim=0)
        for amount in self.labels.split(","):
            if not amount.endswith("%") and int(amount) > fewest:
                name = dataset.classes[int(label)]
                raise UserError(f"few.labels={amount}: class {name!r} of {dataset.name} has {fewest} training images")

    def classifiers(self, subject: Subject) -> Iterator[Classifier]:
        """One an amount and draw; all labels are drawn once. Raises UserError where a class has too few images."""
        import torch

        from bench.evaluation.logistic import choose_logistic

        self.check(subject.dataset)

        for amount in self.labels.split(","):
            whole = amount in ("100%", "100.0%")
            for draw in range(1 if whole else self.draws):
                train, validation = (torch.from_numpy(part) for part in _drawn(subject, amount, draw))
                fit, told = choose_logistic(subject, train, validation)
                name = f"few_{amount.replace('%', 'pct')}" if amount.endswith("%") else f"few_{amount}shot"
                n_labels = len(train) + len(validation)
                yield Classifier(name, n_labels, told, fit.classify, {"l2": fit.l2}, draw)


def _drawn(subject: Subject, amount: str, draw: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions among the subject's labelled images: those of training, those of validation."""
    import numpy as np

    from bench.data.strata import first_of_each

    labels, n = subject.labels.numpy(), subject.n_train
    keys = np.random.PCG64(draw + 1).random_raw(
        len(labels)
    )  # the same bits in all versions; 0 drew the validation split
    if amount.endswith("%"):
        share = float(amount[:-1]) / 100

        def count(members: int) -> int:
            return max(1, round(share * members))

        parts = np.arange(n), np.arange(n, len(labels))
        train, validation = (part[first_of_each(labels[part], keys[part], count)] for part in parts)
        return train, validation
    return first_of_each(labels[:n], keys[:n], lambda members: int(amount)), np.empty(0, dtype=np.int64)
