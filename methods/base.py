"""What a method is: an online network that learns from views of images, and perhaps a mean teacher."""

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from methods.config import MethodConfig, TeacherConfig


class Method(nn.Module):
    """Base of all methods. A subclass builds its heads in __init__ and its loss in forward."""

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    uses_labels: ClassVar[bool] = False
    """True for the supervised baseline alone: the others never see labels."""

    def __init__(self, backbone: nn.Module, config: Any) -> None:
        """`backbone`: [N, 3, H, W] -> [N, num_features], the online network, what evaluation sees.

        It has the attributes num_features and recreate(), which makes the same network with new initial weights.
        """
        super().__init__()
        self.backbone = backbone
        self.feature_dim = cast(int, backbone.num_features)
        self.config = config
        self.projector: nn.Module = nn.Identity()
        self.gather: Callable[..., tuple[Tensor, ...]] = all_are_here
        """Of this device's part of a batch, [n, ...] -> of the whole batch, [N, ...]: what losses are computed of."""

    forward: Callable[..., dict[str, Tensor]]
    """Views [N, 3, H, W] of the same images -> {"loss": scalar, and scalars worth logging}.

    (self, x1, x2), or (self, *views) where the Config says that there may be more (`most_views`): the first two have
    one size then, and those after them any.
    """

    def embed(self, x: Tensor) -> Tensor:
        """z = g(f(x)): projector outputs [N, D] of images [N, 3, H, W], for the diagnostics."""
        return cast(Tensor, self.projector(self.backbone(x)))

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameters for the optimizer; a group with "constant_lr": True keeps its rate. Empty: nothing to train."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def before_step(self, progress: float) -> None:
        """Called before every optimizer step; `progress` in [0, 1) is the share of the training that is done."""

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step, with the same `progress`."""


def batch_norms(network: nn.Module) -> list[str]:
    """The names of its layers that normalise over a batch."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def all_are_here(*parts: Tensor) -> tuple[Tensor, ...]:
    """`Method.gather` on one device, which has the whole batch."""
    return parts


class Teacher(nn.Module):
    """Mean teacher f', g': an exponential moving average of online networks. No gradient; batch statistics.

    Parameters are averaged. Buffers (batch-norm's running statistics) are the teacher's own: it runs in train mode,
    as in BYOL's code, and so never reads them.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module, config: TeacherConfig) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.projector = copy.deepcopy(projector)
        self.config = config
        if config.teacher_init == "random":
            self.backbone.load_state_dict(backbone.recreate().state_dict())  # type: ignore[operator]
            _reinitialise(self.projector)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """z' = g'(f'(x)) [N, D] of images [N, 3, H, W]."""
        return cast(Tensor, self.projector(self.backbone(x)))

    def tau(self, progress: float) -> float:
        """BYOL: tau_k = end - (end - tau) (cos(pi k / K) + 1) / 2, with progress = k / K and an end of 1."""
        if self.config.tau_schedule == "constant":
            return self.config.tau
        end = self.config.tau_end
        return end - (end - self.config.tau) * (math.cos(math.pi * progress) + 1) / 2

    @torch.no_grad()
    def follow(self, backbone: nn.Module, projector: nn.Module, progress: float) -> None:
        """teacher <- tau teacher + (1 - tau) online, at once for all parameters."""
        online: list[Tensor] = [*backbone.parameters(), *projector.parameters()]
        own: list[Tensor] = [*self.backbone.parameters(), *self.projector.parameters()]
        torch._foreach_lerp_(own, online, 1 - self.tau(progress))


def _reinitialise(head: nn.Module) -> None:
    """Draw new initial weights in place, by every layer's own rule."""
    for module in head.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
