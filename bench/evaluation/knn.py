"""knn: the classes of the nearest labelled images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from bench.evaluation.base import Classifier, Evaluation

if TYPE_CHECKING:
    from torch import Tensor

    from bench.evaluation.subject import Subject


class Knn(Evaluation):
    """Weighted k nearest neighbours by cosine; nothing is fitted or chosen."""

    k: int = Field(0, ge=0)
    """Neighbours; 0: as the run's eval.knn_k."""

    def classifiers(self, subject: Subject) -> Iterator[Classifier]:
        """One. Validation images are told by the training images, test images by both."""
        from bench.evaluation.neighbours import vote
        from bench.evaluation.protocol import default_k

        k = self.k or default_k(subject.eval, len(subject.index))
        n = subject.n_train

        def told(bank: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
            return vote(bank, labels, queries, k, subject.n_classes)

        validation = told(subject.features[:n], subject.labels[:n], subject.features[n:])
        by_all = partial(told, subject.features, subject.labels)
        yield Classifier("knn", len(subject.index), validation, lambda test: by_all(test.features))
