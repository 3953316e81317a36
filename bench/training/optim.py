"""Optimizers and the learning-rate schedule: one code path for every method.

Nothing here waits for the device: rates are Python floats, and no branch looks at a tensor's value. Every
update is odd in (parameter, gradient): negating both negates the trajectory bit for bit, which the theorem of
arXiv 2011.10944 (RAFT from -h is BYOL' from h) needs.
"""

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor

from bench.config.sections import OptimConfig

WARMUP_START = 3e-5  # first learning rate of a warm-up, as in solo-learn


def build(
    groups: list[dict[str, Any]], config: OptimConfig, embeddings: Iterable[Tensor] = ()
) -> torch.optim.Optimizer | None:
    """The optimizer of `Method.param_groups()`; None when there is nothing to train.

    Each group is split into weights (ndim > 1) and biases and normalisation parameters (ndim <= 1). These
    have neither weight decay nor LARS's adaptation, unless `config.decay_bias_norm`; nor have `embeddings`, whatever
    their shape, unless `config.decay_embeddings`. `set_lr` sets the rates.
    """
    spared = set() if config.decay_embeddings else {id(p) for p in embeddings}
    split = [part for group in groups for part in _split(group, config, spared)]
    if not split:
        return None
    if config.name == "lars":
        return LARS(split, config.lr, config.momentum, config.lars_eta, config.lars_clip)
    on_cuda = all(p.is_cuda for group in split for p in group["params"])
    kernels: dict[str, Any] = {"fused": True} if on_cuda else {"foreach": True}
    if config.name == "sgd":
        return torch.optim.SGD(split, config.lr, config.momentum, **kernels)
    betas = config.beta1, config.beta2
    if config.name == "adam":
        return torch.optim.Adam(split, config.lr, betas, **kernels)
    return torch.optim.AdamW(split, config.lr, betas, **kernels)


def _split(group: dict[str, Any], config: OptimConfig, spared: Collection[int]) -> Iterable[dict[str, Any]]:
    """A group's weights, then its biases, normalisation parameters and what is spared; empty parts are left out."""

    def is_weight(p: Tensor) -> bool:
        return config.decay_bias_norm or (p.ndim > 1 and id(p) not in spared)

    weights = [p for p in group["params"] if is_weight(p)]
    others = [p for p in group["params"] if not is_weight(p)]
    for params, decay, adapt in ((weights, config.weight_decay, True), (others, 0.0, False)):
        if params:
            lars = {"adapt": adapt} if config.name == "lars" else {}
            yield {**group, "params": params, "weight_decay": decay, **lars}


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (arXiv 1708.03888, equation 6) in front of SGD with momentum.

    For a parameter w with gradient g, where neither is all zeros and its group has "adapt":

        trust = eta |w| / (|g| + weight_decay |w|)          (eps = 1e-8 in the denominator)
        scale = min(trust / lr, 1) if clip else trust       (clip: never a rate above the schedule's)
        d = scale (g + weight_decay w)

    and d = g otherwise; then v = momentum v + d, w = w - lr v. This is the variant of solo-learn (eta .02,
    clipped) and Lightning Bolts. All parameters of a group are updated at once (foreach).
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float, eta: float, clip: bool) -> None:
        """Groups may bring "weight_decay" (default 0) and "adapt" (default True)."""
        defaults = {"lr": lr, "momentum": momentum, "eta": eta, "clip": clip}
        super().__init__(params, {**defaults, "weight_decay": 0.0, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "LARS evaluates no closure"
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            updates = [p.grad for p in params]
            if group["adapt"]:
                updates = _adapted(params, updates, group)
            fresh = [(p, d) for p, d in zip(params, updates, strict=True) if not self.state[p]]
            for p, d in fresh:  # v = 0 before the first step
                self.state[p]["momentum_buffer"] = torch.zeros_like(d)
            velocities = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, updates)
            torch._foreach_add_(params, velocities, alpha=-group["lr"])


def _adapted(params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """d = scale (g + weight_decay w) for each parameter, by LARS's formula."""
    w_norm = torch.stack(torch._foreach_norm(params))  # [P]
    g_norm = torch.stack(torch._foreach_norm(grads))  # [P]
    scale = group["eta"] * w_norm / (g_norm + group["weight_decay"] * w_norm + 1e-8)
    if group["clip"]:
        scale = (scale / max(group["lr"], 1e-30)).clamp(max=1.0)  # a rate of 0 moves nothing at any scale
    adapt = (w_norm > 0) & (g_norm > 0)
    decay = torch.where(adapt, group["weight_decay"], 0.0)
    scale = torch.where(adapt, scale, 1.0)
    updates = torch._foreach_mul(params, list(decay.unbind()))
    torch._foreach_add_(updates, grads)
    torch._foreach_mul_(updates, list(scale.unbind()))
    return list(updates)


def set_lr(
    optimizer: torch.optim.Optimizer,
    step: int,
    steps_per_epoch: int,
    epochs: int,
    batch_size: int,
    config: OptimConfig,
) -> float:
    """Set the learning rate of update `step` (0, 1, ... epochs * steps_per_epoch - 1) and return it.

    With peak = config.lr * batch_size / 256, W warm-up steps and T steps in all:

        step < W:   start + (peak - start) step / W,  start = 3e-5 (or peak, if that is less); step / (W - 1) where
                    config.warmup_peak is "last"
        step >= W:  peak (1 + cos(pi (step - W) / (T - W))) / 2,  or peak where config.schedule is "constant"

    so the peak is reached at step W, and the cosine's 0 would be at step T, right after the last. Groups with
    "constant_lr" keep the peak rate from the first step to the last.
    """
    peak = config.lr * batch_size / 256
    total = epochs * steps_per_epoch
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        start = min(WARMUP_START, peak)
        length = warmup if config.warmup_peak == "after" else max(warmup - 1, 1)
        lr = start + (peak - start) * step / length
    elif config.schedule == "constant":
        lr = peak
    else:
        lr = peak * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2
    for group in optimizer.param_groups:
        group["lr"] = peak if group.get("constant_lr") else lr
    return lr
