"""What the hardware allows: a step's convolutions and matrix products, each alone."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.training.stopwatch import median_seconds
from bench.training.trainer import Trainer

_Product = nn.Conv2d | nn.Linear


def roofline_seconds(job: Trainer, views: tuple[Tensor, ...], budget: float) -> float:
    """Seconds of the convolutions and matrix products of one step on `views`, forwards and backwards, without the rest.

    One after the other, in the step's precision; layers of one shape are measured once. About `budget` seconds of work.
    """
    calls = _calls(job, views)
    dtype = torch.bfloat16 if job.config.train.precision == "bfloat16" else torch.float32
    total, first = 0.0, True
    for (with_grad, *_), (module, x, count) in calls.items():
        x = x.to(dtype).requires_grad_(with_grad and not first)  # no gradient is asked of the pixels
        first = False
        weight = module.weight.detach().to(dtype).requires_grad_(with_grad)
        total += count * median_seconds(_product(module, x, weight), job.device, budget / len(calls))
    return total


def _calls(job: Trainer, views: tuple[Tensor, ...]) -> dict[tuple[Any, ...], tuple[_Product, Tensor, int]]:
    """Of each shape of a product in a forward pass: a layer, its input, how many there are. With a gradient or not."""
    calls: dict[tuple[Any, ...], tuple[_Product, Tensor, int]] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module = cast(_Product, module)
        x = inputs[0].detach()
        strides = _options(module) if isinstance(module, nn.Conv2d) else ()
        key = (torch.is_grad_enabled(), x.shape, module.weight.shape, strides)
        calls[key] = (module, x, calls[key][2] + 1 if key in calls else 1)

    hooks = [m.register_forward_hook(record) for m in job.method.modules() if isinstance(m, _Product)]
    compiled = [module for module in job.method.modules() if "forward" in module.__dict__]
    forwards = [module.__dict__.pop("forward") for module in compiled]
    job.forward(*views, job.labels[: len(views[0])])  # uncompiled, so that the hooks see all
    if job.online:
        job.online.seen.clear()
    for module, forward in zip(compiled, forwards, strict=True):
        module.forward = forward
    for hook in hooks:
        hook.remove()
    return calls


def _options(conv: nn.Conv2d) -> tuple[Any, ...]:
    return conv.stride, conv.padding, conv.dilation, conv.groups


def _product(module: _Product, x: Tensor, weight: Tensor) -> Callable[[], None]:
    """A layer's product without bias: forwards, and backwards where its weight wants a gradient."""

    def forward() -> Tensor:
        if isinstance(module, nn.Conv2d):
            return torch.conv2d(x, weight, None, *_options(module))
        return nn.functional.linear(x, weight)

    if not weight.requires_grad:
        return lambda: cast(None, forward())
    gradient = torch.ones_like(forward().detach())
    wanted = [t for t in (x, weight) if t.requires_grad]
    return lambda: cast(None, torch.autograd.grad(forward(), wanted, gradient))
