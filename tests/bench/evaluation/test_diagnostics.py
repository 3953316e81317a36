"""Diagnostics against closed forms and loops; they change nothing; what counts as collapsed."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import backbone
from bench.config.sections import BackboneConfig
from bench.config.views import AugmentConfig
from bench.data.augment import Augmentation
from bench.data.datasets import Dataset
from bench.evaluation import diagnostics, protocol
from bench.seeds import stream
from methods import METHODS
from methods.base import Method

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def unit(n: int, dim: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_alignment_by_hand() -> None:
    z = unit(50, 8)
    assert diagnostics.alignment(z, z) == 0
    assert diagnostics.alignment(z, -z) == pytest.approx(4)
    orthogonal = torch.eye(4)
    assert diagnostics.alignment(orthogonal, orthogonal.roll(1, dims=0)) == pytest.approx(2)


def test_uniformity_by_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "ROWS", 7)  # several slices, the last one smaller
    z = unit(40, 8)
    pairs = [math.exp(-2 * float((z[i] - z[j]).double().square().sum())) for i in range(40) for j in range(i + 1, 40)]
    assert diagnostics.uniformity(z) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)


def test_uniformity_closed_forms() -> None:
    assert diagnostics.uniformity(unit(1, 8).expand(100, 8)) == pytest.approx(0, abs=1e-5)  # one point
    assert diagnostics.uniformity(torch.eye(16)) == pytest.approx(-4)  # every |z_i - z_j|^2 is 2
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert diagnostics.uniformity(opposite) == pytest.approx(-8)


def test_effective_rank_closed_forms() -> None:
    basis = torch.linalg.qr(torch.randn(200, 32, generator=torch.Generator().manual_seed(0)))[0]  # [200, 32]
    assert diagnostics.effective_rank(basis) == pytest.approx(32, rel=1e-3)
    assert diagnostics.effective_rank(basis.T) == pytest.approx(32, rel=1e-3)
    assert diagnostics.effective_rank(basis[:, :5] @ torch.eye(5, 32)) == pytest.approx(5, rel=1e-3)
    assert diagnostics.effective_rank(torch.ones(100, 32)) == pytest.approx(1, rel=1e-3)
    assert diagnostics.effective_rank(torch.zeros(100, 32)) == pytest.approx(1, rel=1e-3)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))  # singular values 3 and 1
    assert diagnostics.effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(
        math.exp(entropy), rel=1e-4
    )


@pytest.mark.parametrize("shape", [(300, 40), (30, 40)])
def test_effective_rank_by_singular_values(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -4, 40) + 0.5
    sigma = torch.linalg.svdvals(x.double())
    p = sigma / sigma.sum() + 1e-7
    assert diagnostics.effective_rank(x) == pytest.approx(float(torch.exp(-(p * p.log()).sum())), rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_effective_rank_of_bad_features_is_a_clear_error(bad: float) -> None:
    x = torch.ones(10, 4)
    x[3, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        diagnostics.effective_rank(x)


def test_feature_std() -> None:
    x = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))
    assert diagnostics.feature_std(x) == pytest.approx(1 / 8, rel=0.01)  # isotropic
    assert diagnostics.feature_std(torch.ones(10, 4)) == pytest.approx(0, abs=1e-6)
    two = torch.tensor([[5.0, 0.0], [0.0, 0.1]])  # normalised: (1, 0), (0, 1), whose sample std is sqrt(1/2)
    assert diagnostics.feature_std(two) == pytest.approx(math.sqrt(0.5))


def dataset(n: int = 90) -> Dataset:
    images = torch.randint(256, (n, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = torch.arange(n)
    labels = index % 3
    return Dataset("noise", ("a", "b", "c"), images, labels, index[30:], index[:30], MEAN, STD, forbidden)


def forbidden() -> tuple[Tensor, Tensor]:
    raise AssertionError("the test split was touched")


def make(name: str) -> Method:
    torch.manual_seed(0)
    kind = METHODS[name]
    return kind(
        backbone.create(BackboneConfig(name="resnet10_small"), 12),
        kind.Config(),
        **({"n_classes": 3} if kind.uses_labels else {}),
    )


def augmentation() -> Augmentation:
    return Augmentation(AugmentConfig(), 12, MEAN, STD)


@pytest.mark.parametrize("name", METHODS)
def test_diagnosis_changes_nothing_and_repeats_itself(name: str) -> None:
    method, data = make(name), dataset()
    method.backbone.get_submodule("bn1").eval()  # a mixture of modes
    before = {key: value.clone() for key, value in method.state_dict().items()}
    modes = [module.training for module in method.modules()]
    draws = torch.get_rng_state()
    first = diagnostics.diagnose(method, data, augmentation(), 0, CPU)
    after = method.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [module.training for module in method.modules()] == modes
    assert all(p.grad is None for p in method.parameters())
    assert torch.equal(torch.get_rng_state(), draws)
    assert diagnostics.diagnose(method, data, augmentation(), 0, CPU) == first
    assert diagnostics.diagnose(method, data, augmentation(), 1, CPU)["alignment"] != first["alignment"]


def test_diagnosis_by_hand() -> None:
    method, data = make("simclr"), dataset()
    found = diagnostics.diagnose(method, data, augmentation(), 0, CPU)
    method.eval()
    images = data.images[data.validation]
    views = augmentation()(images, stream(0, "probe", 0))
    with torch.no_grad():
        z1, z2 = (F.normalize(method.projector(method.backbone(view)), dim=1) for view in views)
    x = protocol.features(method.backbone, images, None, MEAN, STD, CPU)
    assert found == {
        "alignment": pytest.approx(float((z1 - z2).square().sum(dim=1).mean()), rel=1e-4),
        "uniformity": pytest.approx(float(diagnostics.uniformity(z1) + diagnostics.uniformity(z2)) / 2, rel=1e-4),
        "effective_rank": pytest.approx(float(diagnostics.effective_rank(x)), rel=1e-4),
        "feature_std": pytest.approx(float(diagnostics.feature_std(x)), rel=1e-4),
    }


def test_large_validation_splits_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    method, data = make("random"), dataset()
    monkeypatch.setattr(diagnostics, "MAX_IMAGES", 10)
    few = Dataset(**{**vars(data), "validation": data.validation[torch.linspace(0, 29, 10).long()]})
    expected = diagnostics.diagnose(method, few, augmentation(), 0, CPU)
    assert diagnostics.diagnose(method, data, augmentation(), 0, CPU) == expected


def test_diagnosis_of_a_broken_network_is_said() -> None:
    method = make("simclr")
    with torch.no_grad():
        method.projector.get_parameter("0.weight").fill_(math.nan)
    with pytest.raises(RuntimeError, match="non-finite features"):
        diagnostics.diagnose(method, dataset(), augmentation(), 0, CPU)


@pytest.mark.parametrize(
    ("rank", "most", "knn", "n_classes", "collapsed"),
    [
        (30.0, 128, 80.0, 10, False),
        (1.0, 128, 80.0, 10, True),  # all features alike
        (1.4, 128, 80.0, 10, True),
        (2.0, 128, 80.0, 10, False),
        (2.0, 128, 10.0, 10, True),  # few directions, and kNN at chance
        (2.0, 128, 13.0, 10, True),  # chance on a small test set
        (2.0, 128, 25.0, 10, False),
        (2.0, 128, 1.2, 100, True),
        (2.0, 128, 5.0, 100, False),
        (9.0, 128, 50.0, 2, False),  # two classes of noise: the labels are at fault
        (30.0, 128, 10.0, 10, False),
        (1.3, 2, 100.0, 2, False),  # two validation images: their rank is at most 2
        (1.0, 2, 100.0, 2, False),
        (1.9, 2, 50.0, 2, False),
        (1.0, 2, 50.0, 2, True),
        (1.0, 1, 50.0, 2, False),  # one image has rank 1
        (1.4, 9, 90.0, 3, False),
        (1.4, 9, 33.0, 3, True),
    ],
)
def test_collapse(rank: float, most: int, knn: float, n_classes: int, collapsed: bool) -> None:
    assert diagnostics.is_collapsed(rank, most, knn, n_classes) is collapsed


def test_a_constant_network_is_collapsed() -> None:
    method, data = make("random"), dataset()
    with torch.no_grad():
        for name, p in method.backbone.named_parameters():
            if "layer4" in name or "downsample" in name:
                p.zero_()
        method.backbone.get_parameter("layer4.0.downsample.1.bias").fill_(1.0)
    found = diagnostics.diagnose(method, data, augmentation(), 0, CPU)
    assert found["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert found["feature_std"] == pytest.approx(0, abs=1e-6)
    assert found["uniformity"] == pytest.approx(0, abs=1e-5)
    assert diagnostics.is_collapsed(found["effective_rank"], 100, 90.0, 3)


def test_an_untrained_network_is_not_collapsed() -> None:
    found = diagnostics.diagnose(make("random"), dataset(), augmentation(), 0, CPU)
    assert not diagnostics.is_collapsed(found["effective_rank"], 100, 60.0, 3)
