"""Probes against independent truths: kNN against loops and scikit-learn, logistic regression against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from bench.evaluation import logistic, neighbours, scores
from bench.evaluation.base import L2_GRID


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Raw pixels [n, 64] (some are 0 in all images) and labels, training and test."""
    data = load_digits()
    pixels, labels = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    return pixels[:1200], labels[:1200], pixels[1200:], labels[1200:]


def knn_by_loops(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int, n_classes: int) -> float:
    correct = 0
    for query, label in zip(queries.double(), labels, strict=True):
        cosines = [float(query @ row / query.norm() / row.norm()) for row in bank.double()]
        nearest = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]
        votes = [0.0] * n_classes
        for i in nearest:
            votes[int(bank_labels[i])] += math.exp(cosines[i] / 0.1)
        correct += votes.index(max(votes)) == int(label)
    return 100 * correct / len(labels)


@pytest.mark.parametrize("k", [1, 7, 50, 1000])  # 1000: more than the bank has
def test_knn_by_loops(k: int) -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (100,), generator=g)
    x = torch.randn(100, 8, generator=g) + 2 * torch.eye(5, 8)[labels]
    expected = knn_by_loops(x[:60], labels[:60], x[60:], labels[60:], k, 5)
    assert 20 < expected < 100
    assert neighbours.knn_top1(x[:60], labels[:60], x[60:], labels[60:], k, 5) == pytest.approx(expected)


@pytest.mark.parametrize("at_once", [2**24, 3000, 1])  # 256, 2 queries and 1 query a slice
def test_knn_as_scikit_learn(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, x_test, y_test = digits()
    monkeypatch.setattr(neighbours, "SIMILARITIES", at_once)
    peer = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1), algorithm="brute")
    expected = 100 * peer.fit(x.double().numpy(), y).score(x_test.double().numpy(), y_test)
    assert neighbours.knn_top1(x, y, x_test, y_test, 20, 10) == pytest.approx(expected)


def test_knn_of_equal_features_is_at_chance() -> None:
    y = torch.arange(100) % 10
    assert neighbours.knn_top1(torch.ones(100, 4), y, torch.ones(100, 4), y, 20, 10) == pytest.approx(10)


def objective(x: np.ndarray, y: Tensor, weight: np.ndarray, bias: np.ndarray, l2: float) -> float:
    """The docstring's objective of standardised features, in float64."""
    logits = x @ weight.T + bias
    log_p = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    log_p -= logits.max(1, keepdims=True)
    return float(-log_p[np.arange(len(y)), y.numpy()].mean() + l2 / 2 * (weight**2).sum())


def scikit_learn(x: np.ndarray, y: Tensor, l2: float) -> LogisticRegression:
    """Fitted on standardised features; Newton's method, for a minimum that is one."""
    return LogisticRegression(C=1 / (l2 * len(x)), tol=1e-9, max_iter=2000, solver="newton-cg").fit(x, y.numpy())


@pytest.mark.slow
def test_logistic_regression_as_scikit_learn() -> None:
    x, y, x_test, y_test = digits()
    scaler = StandardScaler().fit(x.double().numpy())
    scaled, scaled_test = scaler.transform(x.double().numpy()), scaler.transform(x_test.double().numpy())
    for fit in logistic.fit_logistic(x, y, 10, L2_GRID):
        peer = scikit_learn(scaled, y, fit.l2)
        ours = objective(scaled, y, fit.weight.double().numpy(), fit.bias.double().numpy(), fit.l2)
        assert ours == pytest.approx(objective(scaled, y, peer.coef_, peer.intercept_, fit.l2), abs=2e-7)
        if fit.l2 >= 1e-4:  # below it the separable classes leave the weights nearly free
            np.testing.assert_allclose(fit.weight, peer.coef_, atol=0.01 * np.abs(peer.coef_).max())
        score = 100 * peer.score(scaled_test, y_test.numpy())
        assert scores.top1(fit.rank(x_test)[:, 0], y_test) == pytest.approx(score, abs=0.2)  # one image of 597


def test_logistic_regression_where_classes_overlap() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.randint(4, (3000,), generator=g)
    mixing = torch.randn(32, 32, generator=g) * torch.logspace(0, -3, 32)  # badly conditioned: 1e-6 in variance
    x = (torch.randn(3000, 32, generator=g) + torch.randn(4, 32, generator=g)[y] / 4) @ mixing.T + 5
    scaled = StandardScaler().fit_transform(x.double().numpy())
    for fit in logistic.fit_logistic(x, y, 4, L2_GRID):
        peer = scikit_learn(scaled, y, fit.l2)
        ours = objective(scaled, y, fit.weight.double().numpy(), fit.bias.double().numpy(), fit.l2)
        assert ours == pytest.approx(objective(scaled, y, peer.coef_, peer.intercept_, fit.l2), abs=1e-7)
        score = 100 * peer.score(scaled, y.numpy())
        assert scores.top1(fit.rank(x)[:, 0], y) == pytest.approx(score, abs=0.1)


def test_the_way_along_the_grid_does_not_matter() -> None:
    x, y, x_test, _ = digits()
    along = logistic.fit_logistic(x, y, 10, L2_GRID)
    for fit in along[2::3]:
        alone = logistic.fit_logistic(x, y, 10, [fit.l2])[0]
        torch.testing.assert_close(fit.weight, alone.weight, rtol=0, atol=2e-2 * float(alone.weight.abs().max()))
        agreement = (fit.rank(x_test)[:, 0] == alone.rank(x_test)[:, 0]).double().mean()
        assert agreement > 0.995


def test_strengths_span_six_decades_strongest_first() -> None:
    assert L2_GRID[0] / L2_GRID[-1] >= 1e6
    assert list(L2_GRID) == sorted(L2_GRID, reverse=True)


def test_logistic_regression_of_constant_features_gives_the_largest_class() -> None:
    y = torch.tensor([0, 1, 1, 2] * 25)
    fit = logistic.fit_logistic(torch.full((100, 3), 0.3), y, 3, [1e-3])[0]
    assert fit.rank(torch.full((2, 3), 0.3))[:, 0].tolist() == [1, 1]
    assert fit.bias.softmax(dim=0).tolist() == pytest.approx([0.25, 0.5, 0.25], abs=1e-3)


def test_logistic_regression_is_reproducible() -> None:
    x, y, _, _ = digits()
    first, second = (logistic.fit_logistic(x, y, 10, [1e-2, 1e-4])[1] for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_probes_on_a_gpu_as_on_the_cpu() -> None:
    x, y, x_test, y_test = digits()
    on_gpu = neighbours.knn_top1(x.cuda(), y, x_test.cuda(), y_test, 20, 10)
    assert on_gpu == pytest.approx(neighbours.knn_top1(x, y, x_test, y_test, 20, 10), abs=0.2)
    fit, on_cpu = logistic.fit_logistic(x.cuda(), y, 10, [1e-3])[0], logistic.fit_logistic(x, y, 10, [1e-3])[0]
    on_gpu = scores.top1(fit.rank(x_test.cuda())[:, 0], y_test)
    assert on_gpu == pytest.approx(scores.top1(on_cpu.rank(x_test)[:, 0], y_test), abs=0.2)
