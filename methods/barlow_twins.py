"""Barlow Twins: make the cross-correlation of two views the identity. arXiv 2103.03230

The projector has two layers by default, as the other methods' here; the paper's has three.
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method
from methods.config import MethodConfig
from methods.losses import product


class BarlowTwinsConfig(MethodConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z."""
    projector_layers: int = Field(2, ge=1)
    """Layers of the projector: 3 in the paper."""
    off_diagonal: float = Field(0.005, ge=0)
    """Weight of redundancy reduction (lambda in the paper)."""
    scale: float = Field(0.1, gt=0)
    """Factor of the whole loss, which is a sum over dimensions; as solo-learn on CIFAR-10."""


class BarlowTwins(Method):
    Config = BarlowTwinsConfig
    config: BarlowTwinsConfig

    def __init__(self, backbone: nn.Module, config: BarlowTwinsConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(
            self.feature_dim, config.projector_hidden, config.projector_out, config.projector_layers
        )

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.gather(self.embed(x1).float(), self.embed(x2).float())  # [N, D], one forward pass a view
        z1, z2 = (F.batch_norm(z, None, None, training=True) for z in (z1, z2))
        c = product(z1.T, z2) / len(z1)  # [D, D], the cross-correlation of the embeddings
        invariance = (1 - c.diagonal()).square().sum()
        redundancy = c.square().sum() - c.diagonal().square().sum()
        loss = self.config.scale * (invariance + self.config.off_diagonal * redundancy)
        return {"loss": loss, "invariance": invariance, "redundancy": redundancy}
