"""How good predictions are, in percent."""

import torch
from torch import Tensor

from bench.evaluation.base import BEST


def ranked(scores: Tensor) -> Tensor:
    """Scores [n, C] -> the classes with the highest, int64 [n, min(5, C)], best first; of equal scores the lowest."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :BEST]


def top1(predicted: Tensor, labels: Tensor) -> float:
    """Accuracy of predicted class indices [n]."""
    assert len(labels) > 0
    return 100 * (predicted == labels.to(predicted.device)).double().mean().item()


def top5(told: Tensor, labels: Tensor) -> float:
    """Share of images whose class is among the five told first, [n, 5]."""
    return 100 * (told == labels.to(told.device)[:, None]).any(dim=1).double().mean().item()


def balanced(predicted: Tensor, labels: Tensor, n_classes: int) -> float:
    """Mean over classes of the share of their images that is told rightly; over those that have images [n]."""
    matrix = confusion(predicted, labels, n_classes)
    images = matrix.sum(dim=1)
    return 100 * (matrix.diagonal()[images > 0] / images[images > 0]).mean().item()


def macro_f1(predicted: Tensor, labels: Tensor, n_classes: int) -> float:
    """Mean over classes of F1 = 2 right / (images + predictions); over those that have images or predictions."""
    matrix = confusion(predicted, labels, n_classes)
    seen = matrix.sum(dim=0) + matrix.sum(dim=1)
    return 100 * (2 * matrix.diagonal()[seen > 0] / seen[seen > 0]).mean().item()


def confusion(predicted: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """float64 [C, C]: how many images of class i (row) are predicted as class j (column)."""
    pairs = labels.cpu() * n_classes + predicted.cpu()
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes).double()
