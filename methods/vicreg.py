"""VICReg: invariance to the view, variance of every dimension, no covariance between them. arXiv 2105.04906

Averaged over dimensions; variance averaged and covariance summed over the two views, as in the authors' code. The
projector has two layers by default, as the other methods' here; the paper's has three.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method
from methods.config import MethodConfig
from methods.losses import product

EPSILON = 1e-4  # added to the variance before the root, as the paper


class VICRegConfig(MethodConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z."""
    projector_layers: int = Field(2, ge=1)
    """Layers of the projector: 3 in the paper."""
    invariance: float = Field(25.0, ge=0)
    """Weight of the distance between the views (lambda in the paper)."""
    variance: float = Field(25.0, ge=0)
    """Weight of the hinge that keeps every dimension's standard deviation at 1 (mu)."""
    covariance: float = Field(1.0, ge=0)
    """Weight of the covariances off the diagonal (nu)."""


class VICReg(Method):
    Config = VICRegConfig
    config: VICRegConfig

    def __init__(self, backbone: nn.Module, config: VICRegConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(
            self.feature_dim, config.projector_hidden, config.projector_out, config.projector_layers
        )

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.gather(self.embed(x1).float(), self.embed(x2).float())  # [N, D], one forward pass a view
        invariance = (z1 - z2).square().mean()
        variance = (_variance(z1) + _variance(z2)) / 2
        covariance = _covariance(z1) + _covariance(z2)
        weights = self.config
        loss = weights.invariance * invariance + weights.variance * variance + weights.covariance * covariance
        return {"loss": loss, "invariance": invariance, "variance": variance, "covariance": covariance}


def _variance(z: Tensor) -> Tensor:
    """Mean over dimensions of max(0, 1 - sd): [N, D] -> scalar."""
    return torch.relu(1 - (z.var(dim=0) + EPSILON).sqrt()).mean()


def _covariance(z: Tensor) -> Tensor:
    """Sum of the squared covariances of different dimensions, over D: [N, D] -> scalar."""
    z = z - z.mean(dim=0)
    c = product(z.T, z) / (len(z) - 1)  # [D, D]
    return (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]
