"""Projectors and predictors."""

from itertools import pairwise

from torch import Tensor, nn

from methods.config import PredictorKind


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation in float32, whatever autocast makes of the layer before it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """BYOL's head: Linear - BatchNorm - ReLU - Linear, [N, inputs] -> [N, outputs]."""
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),  # the normalisation that follows would remove a bias
        BatchNorm(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs),
    )


def deep_projector(inputs: int, hidden: int, outputs: int, layers: int) -> nn.Sequential:
    """SimSiam's projector: `layers` Linear - BatchNorm, ReLU between them; the last norm has no affine part."""
    widths = [inputs, *[hidden] * (layers - 1), outputs]
    blocks: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        last = i == layers - 1
        blocks += [nn.Linear(n_in, n_out, bias=False), BatchNorm(n_out, affine=not last)]
        blocks += [] if last else [nn.ReLU(inplace=True)]
    return nn.Sequential(*blocks)


def predictor(kind: PredictorKind, dim: int, hidden: int) -> nn.Module:
    """h: [N, dim] -> [N, dim]. mlp: BYOL's head; linear: one matrix; none: the identity (the paper's ablation)."""
    if kind == "mlp":
        return mlp(dim, hidden, dim)
    return nn.Linear(dim, dim, bias=False) if kind == "linear" else nn.Identity()
