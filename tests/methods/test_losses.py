"""Losses against independent formulas."""

import math

import pytest
import torch
from torch import Tensor

from methods.losses import cross_entropy, normalize, nt_xent, squared_distance


def rows(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_squared_distance_is_the_mean_squared_euclidean_distance() -> None:
    a, b = normalize(rows(7, 5, 0)), normalize(rows(7, 5, 1))
    expected = sum((a[i] - b[i]).pow(2).sum().item() for i in range(7)) / 7
    assert squared_distance(a, b).item() == pytest.approx(expected, abs=1e-6)


def test_nt_xent_equals_a_double_loop() -> None:
    z1, z2, temperature = normalize(rows(6, 4, 2)), normalize(rows(6, 4, 3)), 0.3
    z = [*z1.double(), *z2.double()]
    total = 0.0
    for i in range(12):
        positive = (i + 6) % 12
        scores = [math.exp(float(z[i] @ z[k]) / temperature) for k in range(12) if k != i]
        total -= math.log(math.exp(float(z[i] @ z[positive]) / temperature) / sum(scores))
    assert nt_xent(z1, z2, temperature).item() == pytest.approx(total / 12, rel=1e-5)


def test_nt_xent_of_indistinguishable_views_is_the_log_of_the_candidates() -> None:
    z = normalize(torch.ones(5, 3))
    assert nt_xent(z, z, 0.2).item() == pytest.approx(math.log(2 * 5 - 1), rel=1e-6)


def test_losses_stay_in_float32_under_autocast() -> None:
    z1, z2 = rows(8, 4, 4), rows(8, 4, 5)
    exact = nt_xent(normalize(z1), normalize(z2), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        a, b = normalize(z1), normalize(z2)
        assert nt_xent(a, b, 0.1).item() == exact.item()
        assert squared_distance(a, b).dtype == torch.float32


def test_cross_entropy_leaves_unlabelled_images_out() -> None:
    logits = rows(6, 3, 6)
    labels = torch.tensor([0, -1, 2, 1, -1, -1])
    log_p = logits.double().log_softmax(dim=1)
    expected = -(log_p[0, 0] + log_p[2, 2] + log_p[3, 1]) / 3
    assert cross_entropy(logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)
    assert cross_entropy(logits, torch.full((6,), -1)).item() == 0
