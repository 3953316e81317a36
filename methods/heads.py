"""Projectors and predictors."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from methods.config import PredictorKind
from methods.losses import normalize, product


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation in float32, whatever autocast makes of the layer before it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def mlp(inputs: int, hidden: int, outputs: int, layers: int = 2, norm: bool = True) -> nn.Sequential:
    """BYOL's head: Linear - BatchNorm - ReLU, all but the last of `layers`, and Linear: [N, inputs] -> [N, outputs].

    norm=False: without batch norm.
    """
    widths = [inputs, *[hidden] * (layers - 1)]
    blocks: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        blocks += [nn.Linear(n_in, n_out, bias=not norm)]  # a normalisation that follows would remove a bias
        blocks += [BatchNorm(n_out)] if norm else []
        blocks += [nn.ReLU(inplace=True)]
    return nn.Sequential(*blocks, nn.Linear(widths[-1], outputs))


def dino(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """DINO's head before its prototypes: three linear layers with GELU between them, weights of a normal of 0.02."""
    layers = [nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)]
    for layer in layers:
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])


class Prototypes(nn.Linear):
    """Cosines of embeddings with K unit prototypes, in float32: [N, D] -> [N, K]."""

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__(dim, prototypes, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        return product(normalize(z), normalize(self.weight).T)


def deep_projector(inputs: int, hidden: int, outputs: int, layers: int) -> nn.Sequential:
    """SimSiam's projector: `layers` Linear - BatchNorm, ReLU between them; the last norm has no affine part."""
    widths = [inputs, *[hidden] * (layers - 1), outputs]
    blocks: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        last = i == layers - 1
        blocks += [nn.Linear(n_in, n_out, bias=False), BatchNorm(n_out, affine=not last)]
        blocks += [] if last else [nn.ReLU(inplace=True)]
    return nn.Sequential(*blocks)


def predictor(kind: PredictorKind, dim: int, hidden: int, frozen: bool = False) -> nn.Module:
    """h: [N, dim] -> [N, dim]; frozen: with its initial weights for good, which gradients pass but do not move.

    mlp: BYOL's head, Linear - BatchNorm - ReLU - Linear; mlp_no_bn: the same without the norm; linear_bn: Linear -
    BatchNorm, the linear predictor of RAFT's authors at the time of their paper (commit d781be0 of their code);
    linear: one matrix (their later code's has a bias too); none: the identity. Whatever h is, but for the identity,
    another choice of the last layer's parameters is -h, as the paper's theorem needs.
    """
    layers: dict[PredictorKind, Callable[[], nn.Module]] = {
        "mlp": lambda: mlp(dim, hidden, dim),
        "mlp_no_bn": lambda: nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)),
        "linear_bn": lambda: nn.Sequential(nn.Linear(dim, dim, bias=False), BatchNorm(dim)),
        "linear": lambda: nn.Linear(dim, dim, bias=False),
        "none": nn.Identity,
    }
    return layers[kind]().requires_grad_(not frozen)
