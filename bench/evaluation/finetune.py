"""finetune: the whole encoder and a linear layer on it, trained on the labelled images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.evaluation.base import Classifier, Evaluation

if TYPE_CHECKING:
    from bench.evaluation.subject import Subject

RATES = {  # of 256 images of a batch, slowest first: what validation chooses from
    "sgd": (0.01, 0.05, 0.2, 1.0),  # SimCLR: 0.05
    "adamw": (1e-4, 3e-4, 1e-3, 3e-3),  # MAE: 5e-4 to 1e-3
}


class Finetune(Evaluation):
    """Fine-tuning: a copy of the whole encoder is trained on the labels; validation chooses the learning rate.

    By default as SimCLR (arXiv 2002.05709, B.5): SGD with Nesterov momentum .9, crops and flips alone (those of the
    run's first view), neither weight decay nor warm-up; 20 epochs for its 30, and the rate falls to 0 by cosine. Vision
    transformers are rather trained with adamw, weight_decay 0.05 and layer_decay 0.75 (MAE, arXiv 2111.06377, A.1).
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: with Nesterov momentum .9; adamw: betas .9 and .999. Rates tried: .01 to 1; 1e-4 to 3e-3 (adamw)."""
    epochs: int = Field(20, ge=1)
    """Passes over the labelled images, for each rate and once more for the chosen one."""
    batch_size: int = Field(256, ge=2)
    """Images a step; rates grow with it. What does not fill a batch goes to the others."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 term added to the gradient (adamw: decoupled); none on biases, normalisation and position embeddings."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the rate from one layer to the one before it: of ResNets their stages, of transformers their blocks."""

    def classifiers(self, subject: Subject) -> Iterator[Classifier]:
        """One: trained on training images while validation chooses, then on both (of equal rates the slowest).

        A rate at which training diverges is left out. Raises RuntimeError where all do, Interrupted, UserError.
        """
        from bench.evaluation.protocol import outputs
        from bench.evaluation.scores import ranked, top1
        from bench.evaluation.tuning import tune
        from bench.seeds import Probe

        dataset, place = subject.dataset, (subject.mean, subject.std, subject.device)
        tried = []
        for rate in RATES[self.optimizer]:
            network = tune(subject, self, dataset.train, rate, Probe.TUNING_CHOICE)
            logits = outputs(network, dataset.images, dataset.validation, *place)
            if logits.isfinite().all():
                validation = ranked(logits)
                tried.append((top1(validation[:, 0], subject.labels[subject.n_train :]), rate, validation))
        if not tried:
            raise RuntimeError("fine-tuning diverges at every learning rate that is tried")
        _, rate, validation = max(tried, key=lambda attempt: attempt[0])
        tuned = tune(subject, self, subject.index, rate, Probe.TUNING_FINAL)
        told = partial(outputs, tuned)
        yield Classifier(
            "finetune",
            len(subject.index),
            validation,
            lambda test: ranked(told(test.images, None, *place)),
            {"lr": rate},
        )
