"""Evaluation: frozen features, nothing changed, everything chosen on validation, the test split read once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from judged import CPU, dataset, digit_images, make_backbone, subject
from torch import nn

from bench.config.sections import EvalConfig
from bench.data.augment import normalize
from bench.data.datasets import Dataset
from bench.evaluation import EVALUATIONS, crops, judge, logistic, neighbours, protocol, scores
from bench.evaluation.base import L2_GRID


def run(network: nn.Module, data: Dataset, device: torch.device = CPU, **config: Any) -> dict[str, float]:
    """What linear and kNN find, by the names of a run's result."""
    judged = subject(network, data, device, **config)
    found: dict[str, float] = {}
    for name in ("linear", "knn"):
        (score,) = judge.judge(EVALUATIONS[name](), judged).scores
        found |= {f"test_{name}_top1": score.test_top1, f"val_{name}_top1": score.val_top1}
        found |= {f"{name}_{key}": value for key, value in score.chosen.items()}
    return found


def test_features_are_the_eval_mode_outputs_of_the_centre_view() -> None:
    network, data = make_backbone(), dataset()
    index = torch.tensor([5, 599, 0])
    found = protocol.features(network, data.images, index, data.mean, data.std, CPU)
    expected = network.eval()(normalize(data.images[index], data.mean, data.std))
    torch.testing.assert_close(found, expected)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    everything = protocol.features(network, data.images, None, data.mean, data.std, CPU)
    torch.testing.assert_close(everything[index], found)


def test_features_that_are_not_finite_are_said() -> None:
    network, data = make_backbone(), dataset()
    network.get_parameter("conv1.weight").data[0, 0, 0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="non-finite features"):
        protocol.features(network, data.images, data.train, data.mean, data.std, CPU)


@pytest.mark.parametrize("probe", ["logistic", "augmented"])
def test_evaluation_changes_nothing(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "CROP_EPOCHS", 1)
    network = make_backbone()
    network.get_submodule("bn1").eval()  # a mixture of modes
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    draws = torch.get_rng_state()
    run(network, dataset(), probe=probe)
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [module.training for module in network.modules()] == modes
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), draws)


def test_metrics_by_hand() -> None:
    """Every number from the features again, with the parts that test_probes checks against scikit-learn."""
    network, data = make_backbone(), dataset()
    metrics, test = run(network, data), subject(network, data).test
    images, labels = digit_images()
    x = protocol.features(network, images, None, data.mean, data.std, CPU)
    torch.testing.assert_close(test.features, x[600:])
    assert torch.equal(test.labels, labels[600:])

    assert metrics["val_knn_top1"] == neighbours.knn_top1(x[:400], labels[:400], x[400:500], labels[400:500], 20, 10)
    assert metrics["test_knn_top1"] == neighbours.knn_top1(x[:500], labels[:500], x[600:], labels[600:], 20, 10)
    tried = {}
    for l2 in L2_GRID:
        fit = logistic.fit_logistic(x[:400], labels[:400], 10, [l2])[0]
        tried[l2] = scores.top1(fit.rank(x[400:500])[:, 0], labels[400:500])
    assert metrics["val_linear_top1"] == pytest.approx(max(tried.values()), abs=1)  # one image of 100
    assert tried[metrics["linear_l2"]] >= max(tried.values()) - 1
    fit = logistic.fit_logistic(x[:500], labels[:500], 10, [metrics["linear_l2"]])[0]
    assert metrics["test_linear_top1"] == pytest.approx(scores.top1(fit.rank(x[600:])[:, 0], labels[600:]), abs=0.4)
    assert metrics["test_linear_top1"] > 50


@pytest.mark.parametrize("probe", ["logistic", "augmented"])
def test_the_test_split_is_read_once_when_all_is_chosen(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "CROP_EPOCHS", 1)
    events: list[str] = []

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            events.append(name)
            return function(*args, **kwargs)

        return call

    for module, name in ((logistic, "fit_logistic"), (crops, "crop_heads")):
        monkeypatch.setattr(module, name, watched("fit", getattr(module, name)))
    images, labels = digit_images()
    run(make_backbone(), dataset(watched("test", lambda: (images[600:], labels[600:]))), probe=probe)
    assert events == ["fit", "fit", "test"]


def test_test_labels_decide_nothing_but_the_test_scores() -> None:
    images, labels = digit_images()
    honest = run(make_backbone(), dataset())
    shuffled = run(make_backbone(), dataset(lambda: (images[600:], (labels[600:] + 1) % 10)))
    for key in ("linear_l2", "val_linear_top1", "val_knn_top1"):
        assert honest[key] == shuffled[key]
    assert shuffled["test_linear_top1"] < 10


def test_of_equal_strengths_the_strongest_is_chosen() -> None:
    data = dataset()
    blank = replace(data, images=torch.full_like(data.images[:], 128))  # nothing to learn: all strengths score the same
    metrics = run(make_backbone(), blank)
    assert metrics["linear_l2"] == max(L2_GRID)


def test_evaluation_is_reproducible() -> None:
    first, second = run(make_backbone(), dataset()), run(make_backbone(), dataset())
    assert first == second


def test_default_k() -> None:
    assert protocol.default_k(EvalConfig(), 9_999) == 20
    assert protocol.default_k(EvalConfig(), 10_000) == 200
    assert protocol.default_k(EvalConfig(knn_k=5), 50_000) == 5


def test_augmented_probe_learns_and_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "CROP_EPOCHS", 25)
    first, second = (run(make_backbone(), dataset(), probe="augmented") for _ in range(2))
    assert first == second
    assert first["test_linear_top1"] > 30  # chance is 10
    assert first["val_linear_top1"] > 30
    assert first["linear_lr"] in crops.LR_GRID


def test_augmented_probe_survives_a_rate_that_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are trained side by side: one that overflows must leave the others alone."""
    monkeypatch.setattr(crops, "CROP_EPOCHS", 4)
    sane = run(make_backbone(), dataset(), probe="augmented")
    assert sane["linear_lr"] < 1e30
    monkeypatch.setattr(crops, "LR_GRID", (*crops.LR_GRID, 1e38))
    assert run(make_backbone(), dataset(), probe="augmented") == sane


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_evaluation_on_a_gpu_as_on_the_cpu() -> None:
    network = make_backbone()
    on_cpu = run(network, dataset())
    device = torch.device("cuda")
    on_gpu = run(network.to(device), dataset(), device)
    assert on_gpu["test_knn_top1"] == pytest.approx(on_cpu["test_knn_top1"], abs=2)
    assert on_gpu["test_linear_top1"] == pytest.approx(on_cpu["test_linear_top1"], abs=2)
