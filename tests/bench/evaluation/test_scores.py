"""Scores against scikit-learn's, whatever classes are missing from truth or predictions."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, top_k_accuracy_score
from torch import Tensor

from bench.evaluation import scores


def case(kind: str) -> tuple[Tensor, Tensor, int]:
    """Predictions and labels [200] of 6 classes."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (200,), generator=g)
    predicted = torch.where(torch.rand(200, generator=g) < 0.6, labels, torch.randint(6, (200,), generator=g))
    if kind == "a class without images":
        labels[labels == 2] = 3
    elif kind == "a class that is never predicted":
        predicted[predicted == 5] = 0
    elif kind == "a class in neither":
        labels[labels == 4] = 0
        predicted[predicted == 4] = 1
    elif kind == "unbalanced":
        labels[:150] = 1
    elif kind == "all of one class":
        predicted[:] = 3
    return predicted, labels, 6


KINDS = ["all there", "a class without images", "a class that is never predicted", "a class in neither"]
KINDS += ["unbalanced", "all of one class"]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_as_scikit_learn(kind: str) -> None:
    predicted, labels, n = case(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are only predicted
        expected = balanced_accuracy_score(labels, predicted)
        f1 = f1_score(labels, predicted, average="macro", zero_division=0)
    assert scores.top1(predicted, labels) == pytest.approx(100 * (predicted == labels).float().mean().item())
    assert scores.balanced(predicted, labels, n) == pytest.approx(100 * expected)
    assert scores.macro_f1(predicted, labels, n) == pytest.approx(100 * f1)
    matrix = confusion_matrix(labels, predicted, labels=np.arange(n))
    np.testing.assert_array_equal(scores.confusion(predicted, labels, n), matrix)


def test_scores_by_hand() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    assert scores.top1(predicted, labels) == 75
    assert scores.balanced(predicted, labels, 2) == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert scores.macro_f1(predicted, labels, 2) == pytest.approx(100 * (4 / 5 + 2 / 3) / 2)


@pytest.mark.parametrize("n_classes", [10, 100])
def test_top5_as_scikit_learn(n_classes: int) -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(n_classes, (300,), generator=g)
    logits = torch.randn(300, n_classes, generator=g) + torch.eye(n_classes)[labels]
    expected = top_k_accuracy_score(labels, logits, k=5, labels=np.arange(n_classes))
    assert 0.1 < expected < 0.99
    assert scores.top5(scores.ranked(logits), labels) == pytest.approx(100 * expected)


def test_of_equal_scores_the_lowest_class_is_told_first() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0, 3.0, 1.0, 1.0], [0.0] * 7, [-torch.inf, 0, -torch.inf, 1, 2, 3, 4]])
    assert scores.ranked(logits).tolist() == [[1, 2, 4, 0, 5], [0, 1, 2, 3, 4], [6, 5, 4, 3, 1]]


def test_of_few_classes_all_are_told() -> None:
    assert scores.ranked(torch.tensor([[0.1, 0.7, 0.2]])).tolist() == [[1, 2, 0]]


def test_many_classes_are_ranked_by_a_stable_sort() -> None:
    """As many as ImageNet has, most of them equal."""
    logits = torch.zeros(2, 1000)
    logits[0, 700] = 1
    assert scores.ranked(logits).tolist() == [[700, 0, 1, 2, 3], [0, 1, 2, 3, 4]]
