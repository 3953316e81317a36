"""Optimizers and schedule: LARS's formula, exclusions, rates by hand, odd updates, no waiting for the device."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.config.sections import OptimConfig
from bench.training import optim


def parameters(seed: int = 0) -> list[nn.Parameter]:
    g = torch.Generator().manual_seed(seed)
    shapes = [(8, 3, 3, 3), (16, 8), (16,), (16,), ()]  # convolution, matrix, bias, norm, scalar
    return [nn.Parameter(torch.randn(shape, generator=g)) for shape in shapes]


def give_gradients(params: list[nn.Parameter], step: int) -> None:
    g = torch.Generator().manual_seed(100 + step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=g)


def lars_step(w: Tensor, g: Tensor, v: Tensor, lr: float, decay: float, clip: bool, adapt: bool) -> None:
    """One step of LARS on one parameter, momentum .9 and eta .02, in float64: the paper's formula, line by line."""
    d = g
    if adapt and w.norm() > 0 and g.norm() > 0:
        trust = 0.02 * w.norm() / (g.norm() + decay * w.norm() + 1e-8)
        scale = min(trust / lr, 1) if clip else trust
        d = scale * (g + decay * w)
    v.mul_(0.9).add_(d)
    w.sub_(lr * v)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("lr", [1e-3, 0.5])  # the clip binds at the low rate only
def test_lars_follows_its_formula(clip: bool, lr: float) -> None:
    params = parameters()
    config = OptimConfig(name="lars", lr=lr, weight_decay=0.1, lars_clip=clip)
    optimizer = optim.build([{"params": params}], config)
    assert isinstance(optimizer, optim.LARS)
    expected = [p.detach().double().clone() for p in params]
    velocities = [torch.zeros_like(w) for w in expected]
    for step in range(5):
        give_gradients(params, step)
        optimizer.step()
        for p, w, v in zip(params, expected, velocities, strict=True):
            assert p.grad is not None
            matrix = p.ndim > 1
            lars_step(w, p.grad.double(), v, lr, 0.1 if matrix else 0.0, clip, adapt=matrix)
    for p, w in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach().double(), w, rtol=1e-5, atol=1e-6)


def test_lars_takes_a_plain_step_where_weight_or_gradient_is_zero() -> None:
    zero_weight, zero_gradient = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = optim.LARS([{"params": [zero_weight, zero_gradient], "weight_decay": 0.1}], 0.5, 0.9, 0.02, False)
    zero_weight.grad, zero_gradient.grad = torch.full((2, 2), 3.0), torch.zeros(2, 2)
    optimizer.step()
    assert torch.equal(zero_weight, torch.full((2, 2), -1.5))  # -lr g
    assert torch.equal(zero_gradient, torch.ones(2, 2))


def test_lars_leaves_out_parameters_without_gradient_and_survives_a_rate_of_zero() -> None:
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = optim.LARS([{"params": [used, unused]}], 0.0, 0.9, 0.02, True)
    used.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(used, torch.ones(2, 2))
    assert torch.equal(unused, torch.ones(2, 2))
    assert unused not in optimizer.state


def test_lars_state_survives_saving() -> None:
    runs = []
    for interrupted in (False, True):
        params = parameters()
        optimizer = optim.build([{"params": params}], OptimConfig(name="lars", lr=0.1))
        assert optimizer is not None
        for step in range(4):
            if interrupted and step == 2:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = optim.build([{"params": params}], OptimConfig(name="lars", lr=0.1))
                assert optimizer is not None
                optimizer.load_state_dict(state)
            give_gradients(params, step)
            optimizer.step()
        runs.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("name", ["sgd", "lars", "adam", "adamw"])
def test_a_mirrored_parameter_takes_the_mirrored_way(name: str) -> None:
    """Negating weight and gradient negates the trajectory bit for bit, with decay, momentum and changing rates."""
    config = OptimConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.05, "warmup_epochs": 1})
    ways = []
    for sign in (1, -1):
        params = parameters()
        for p in params:
            p.data.mul_(sign)
        optimizer = optim.build([{"params": params}], config)
        assert optimizer is not None
        for step in range(20):
            give_gradients(params, step)
            for p in params:
                assert p.grad is not None
                p.grad.mul_(sign)
            optim.set_lr(optimizer, step, 5, 4, 256, config)
            optimizer.step()
        ways.append(params)
    start = parameters()
    for p, mirrored, first in zip(*ways, start, strict=True):
        assert torch.equal(p, -mirrored)
        assert not torch.equal(p, first)


@pytest.mark.parametrize("name", ["sgd", "lars", "adam", "adamw"])
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    params = parameters()
    config = OptimConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.05})
    optimizer = optim.build([{"params": params[:2]}, {"params": params[2:], "constant_lr": True}], config)
    assert optimizer is not None
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[p] for p in params] == [0.05, 0.05, 0, 0, 0]

    everywhere = config.model_copy(update={"decay_bias_norm": True})
    optimizer = optim.build([{"params": params}], everywhere)
    assert optimizer is not None
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05]


def test_nothing_to_train_needs_no_optimizer() -> None:
    config = OptimConfig(lr=0.1)
    assert optim.build([], config) is None
    assert optim.build([{"params": []}], config) is None
    optimizer = optim.build([{"params": parameters()}, {"params": [], "constant_lr": True}], config)
    assert optimizer is not None
    assert len(optimizer.param_groups) == 2


def rates(config: OptimConfig, steps_per_epoch: int, epochs: int, batch_size: int, **group: Any) -> list[float]:
    """The rate of every step; that of the parameters where `group` says something of them."""
    optimizer = optim.build([{"params": parameters(), **group}], config)
    assert optimizer is not None
    found = []
    for step in range(epochs * steps_per_epoch):
        lr = optim.set_lr(optimizer, step, steps_per_epoch, epochs, batch_size, config)
        assert {g["lr"] for g in optimizer.param_groups} == {optimizer.param_groups[0]["lr"]}
        found.append(optimizer.param_groups[0]["lr"] if group else lr)
    return found


def test_schedule_by_hand() -> None:
    config = OptimConfig(lr=0.4, warmup_epochs=2)
    found = rates(config, steps_per_epoch=10, epochs=10, batch_size=512)  # peak .8; 20 warm-up steps of 100
    assert found[0] == pytest.approx(3e-5)
    assert found[10] == pytest.approx((3e-5 + 0.8) / 2)  # half way up
    assert found[20] == pytest.approx(0.8)
    assert found[60] == pytest.approx(0.4)  # half way down
    assert found[40] == pytest.approx(0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert 0 < found[99] == pytest.approx(0.8 * math.sin(math.pi / 160) ** 2)  # one step before 0
    assert found[:21] == sorted(found[:21])
    assert found[20:] == sorted(found[20:], reverse=True)


def test_a_warmup_may_end_with_the_peak_as_solo_learns_does() -> None:
    """Its LinearWarmupCosineAnnealingLR, by its own recursion: the peak at step W - 1 and at step W."""
    config = OptimConfig(lr=0.4, warmup_epochs=2, warmup_peak="last")
    found = rates(config, steps_per_epoch=10, epochs=10, batch_size=256)
    theirs = [3e-5]
    for step in range(1, 100):
        if step < 20:
            theirs.append(theirs[-1] + (0.4 - 3e-5) / 19)
        elif step == 20:
            theirs.append(0.4)
        else:
            rise = [1 + math.cos(math.pi * (k - 20) / 80) for k in (step, step - 1)]
            theirs.append(rise[0] / rise[1] * theirs[-1])
    assert found == pytest.approx(theirs, rel=1e-9)
    assert found[19] == found[20] == pytest.approx(0.4)


def test_schedule_without_warmup_starts_at_the_peak() -> None:
    assert rates(OptimConfig(lr=0.1), steps_per_epoch=1, epochs=2, batch_size=128) == [0.05, pytest.approx(0.025)]


def test_schedule_of_warmup_alone() -> None:
    found = rates(OptimConfig(lr=1, warmup_epochs=5), steps_per_epoch=2, epochs=1, batch_size=256)
    assert found == [pytest.approx(3e-5), pytest.approx(3e-5 + (1 - 3e-5) / 10)]


def test_warmup_never_starts_above_the_peak() -> None:
    found = rates(OptimConfig(lr=1e-5, warmup_epochs=1), steps_per_epoch=4, epochs=2, batch_size=256)
    assert found[:4] == [pytest.approx(1e-5)] * 4


def test_constant_schedule_after_warmup() -> None:
    config = OptimConfig(lr=0.1, warmup_epochs=1, schedule="constant")
    found = rates(config, steps_per_epoch=2, epochs=3, batch_size=256)
    assert found[2:] == [0.1] * 4
    assert found[0] == pytest.approx(3e-5)


def test_a_constant_group_keeps_the_peak() -> None:
    config = OptimConfig(lr=0.1, warmup_epochs=1)
    found = rates(config, steps_per_epoch=4, epochs=3, batch_size=256, constant_lr=True)
    assert found == [0.1] * 12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("name", ["sgd", "lars", "adam", "adamw"])
def test_a_step_on_a_gpu_waits_for_nothing(name: str) -> None:
    params = [nn.Parameter(p.detach().cuda()) for p in parameters()]
    config = OptimConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.05})
    optimizer = optim.build([{"params": params}], config)
    assert optimizer is not None
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()  # makes its state
    torch.cuda.set_sync_debug_mode("error")
    try:
        optim.set_lr(optimizer, 1, 5, 4, 256, config)
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_embeddings_are_spared_like_biases_unless_they_are_to_decay(name: str) -> None:
    params = parameters()
    position, matrix = params[0], params[1]

    def decay_of(parameter: nn.Parameter, **settings: Any) -> float:
        config = OptimConfig.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.1, **settings})
        optimizer = optim.build([{"params": params}], config, [position])
        assert optimizer is not None
        (decay,) = (g["weight_decay"] for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        return float(decay)

    assert (decay_of(position), decay_of(matrix)) == (0.1, 0.1)  # as before
    assert (decay_of(position, decay_embeddings=False), decay_of(matrix, decay_embeddings=False)) == (0.0, 0.1)
    assert decay_of(position, decay_embeddings=False, decay_bias_norm=True) == 0.1


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adams_betas_are_those_of_its_paper(name: str) -> None:
    """arXiv 1412.6980, algorithm 1, for two steps of one number; no decay, so both are Adam."""
    w = nn.Parameter(torch.tensor([[1.0]], dtype=torch.float64))
    config = OptimConfig.model_validate({"name": name, "lr": 0.1, "beta1": 0.5, "beta2": 0.8})
    optimizer = optim.build([{"params": [w]}], config)
    assert optimizer is not None
    expected, m, v = 1.0, 0.0, 0.0
    for t, g in ((1, 3.0), (2, -1.0)):
        w.grad = torch.full_like(w, g)
        optimizer.step()
        m, v = 0.5 * m + 0.5 * g, 0.8 * v + 0.2 * g * g
        expected -= 0.1 * (m / (1 - 0.5**t)) / (math.sqrt(v / (1 - 0.8**t)) + 1e-8)
    assert w.item() == pytest.approx(expected, rel=1e-9)
