"""Numbers do not depend on the scale of features, as far as float32 holds them; ordinary ones keep their bits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.config.sections import EvalConfig
from bench.config.views import AugmentConfig
from bench.data.datasets import Dataset
from bench.evaluation.diagnostics import effective_rank, feature_std
from bench.evaluation.judge import judge
from bench.evaluation.linear import Linear
from bench.evaluation.logistic import fit_logistic
from bench.evaluation.neighbours import knn_top1
from bench.evaluation.scale import rescaled, scales, unit
from bench.evaluation.scores import top1
from bench.evaluation.subject import Subject
from bench.training.online import OnlineProbe
from methods.base import Method

SCALES = (1e-40, 1e-20, 1e-13, 1e20, 1e37)  # the first is subnormal


@pytest.fixture
def clusters() -> tuple[Tensor, Tensor]:
    """Features [60, 5] of three classes, far apart; labels [60]."""
    labels = torch.arange(60) % 3
    noise = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    return torch.eye(3, 5)[labels] * 3 + 0.2 * noise, labels


@pytest.mark.parametrize("scale", SCALES)
def test_probes_do_not_depend_on_the_scale(clusters: tuple[Tensor, Tensor], scale: float) -> None:
    x, labels = clusters
    x = x * scale
    assert knn_top1(x[:30], labels[:30], x[30:], labels[30:], 5, 3) == 100
    (fit,) = fit_logistic(x[:30], labels[:30], 3, [1e-2])
    assert top1(fit.rank(x[30:])[:, 0], labels[30:]) == 100


class Scaled(nn.Module):
    """A backbone whose features are its images, times a number."""

    num_features = 5

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5] * self.scale


@pytest.mark.parametrize("scale", [*SCALES, 1e14])
def test_the_online_layer_learns_at_any_scale(clusters: tuple[Tensor, Tensor], scale: float) -> None:
    x, labels = clusters
    method = Method(Scaled(scale), None)
    probe = OnlineProbe(method, 3, 0, torch.device("cpu"))
    for _ in range(200):
        method.backbone(x)
        probe.step(labels)
    assert probe.layer.weight.isfinite().all()
    assert probe.top1(x * scale, labels) == 100


@pytest.mark.parametrize("scale", [*SCALES, 1.0])
def test_layers_trained_on_crops_do_not_depend_on_the_scale(clusters: tuple[Tensor, Tensor], scale: float) -> None:
    """Images of class k are bright in channel k."""
    _, labels = clusters
    images = (20 + 200 * torch.eye(3)[labels]).to(torch.uint8)[:, :, None, None].expand(-1, -1, 4, 4).contiguous()
    data = Dataset(
        *("x", ("a", "b", "c"), images, labels, torch.arange(40), torch.arange(40, 60), (0.5,) * 3, (0.25,) * 3),
        load_test=lambda: (images, labels),
    )
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ConstantPad1d((0, 2), 0.5), Scaled(scale))
    network.num_features = 5  # type: ignore[assignment]
    crops = AugmentConfig(jitter=0, gray=0)
    place = (data.mean, data.std, 4, torch.device("cpu"), 0)
    subject = Subject("x", network, data, "x", *place, EvalConfig(), crops)
    (score,) = judge(Linear(probe="augmented"), subject).scores
    assert score.test_top1 == 100


@pytest.mark.parametrize("scale", SCALES)
def test_diagnostics_do_not_depend_on_the_scale(clusters: tuple[Tensor, Tensor], scale: float) -> None:
    x, _ = clusters
    assert effective_rank(x * scale).item() == pytest.approx(effective_rank(x).item(), rel=1e-3)
    assert feature_std(x * scale).item() == pytest.approx(feature_std(x).item(), rel=1e-3)


def test_a_huge_dimension_does_not_hide_the_others(clusters: tuple[Tensor, Tensor]) -> None:
    x, labels = clusters
    huge = torch.cat([x, 1e25 * torch.randn(60, 1, generator=torch.Generator().manual_seed(1))], dim=1)
    (fit,) = fit_logistic(huge[:30], labels[:30], 3, [1e-2])
    assert top1(fit.rank(huge[30:])[:, 0], labels[30:]) > 90


def test_features_that_say_nothing_are_no_error() -> None:
    labels = torch.arange(8) % 2
    for x in (torch.zeros(8, 3), torch.full((8, 3), 1e-30), torch.full((8, 3), 1e30)):
        (fit,) = fit_logistic(x, labels, 2, [1.0])
        assert top1(fit.rank(x)[:, 0], labels) == 50
        assert knn_top1(x, labels, x, labels, 4, 2) == 50
        assert effective_rank(x).item() == pytest.approx(1, abs=1e-4)


def test_ordinary_features_keep_their_bits(clusters: tuple[Tensor, Tensor]) -> None:
    x, _ = clusters
    x[:, 4] *= 1e-9  # a dimension that is nearly dead
    assert torch.equal(unit(x), F.normalize(x, dim=1))
    assert torch.equal(rescaled(x), x)
    assert torch.equal(scales(x), torch.ones(5))
