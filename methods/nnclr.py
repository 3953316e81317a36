"""NNCLR: tell the nearest neighbour of the other view, among earlier images, from other images. arXiv 2104.14548

The projector has two layers by default, as the other methods' here; the paper's has three. Both end with batch norm.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method
from methods.config import MethodConfig
from methods.losses import normalize, product


class NNCLRConfig(MethodConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z and p."""
    projector_layers: int = Field(2, ge=1)
    """Layers of the projector: 3 in the paper."""
    predictor_hidden: int = Field(256, ge=1)
    """Width of the predictor's hidden layer."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the softmax over the batch."""
    support: int = Field(4096, ge=1)
    """Embeddings K of earlier images among which neighbours are looked for: 98304 on ImageNet."""


class NNCLR(Method):
    Config = NNCLRConfig
    config: NNCLRConfig
    support: Tensor  # [K, D], unit rows, the newest first

    def __init__(self, backbone: nn.Module, config: NNCLRConfig) -> None:
        super().__init__(backbone, config)
        hidden, out = config.projector_hidden, config.projector_out
        self.projector = nn.Sequential(
            heads.mlp(self.feature_dim, hidden, out, config.projector_layers), heads.BatchNorm(out)
        )
        self.predictor = heads.mlp(out, config.predictor_hidden, out)
        self.register_buffer("support", normalize(torch.randn(config.support, out)))

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.embed(x1), self.embed(x2)  # [n, D], one forward pass a view
        p1, p2 = normalize(self.predictor(z1)), normalize(self.predictor(z2))
        p1, p2, z1, z2 = self.gather(p1, p2, normalize(z1.detach()), normalize(z2.detach()))  # [N, D]
        loss = (self.contrast(self.neighbours(z1), p2) + self.contrast(self.neighbours(z2), p1)) / 2
        self.support.copy_(torch.cat([z1, self.support])[: len(self.support)])  # of one view, as the paper
        return {"loss": loss}

    def neighbours(self, z: Tensor) -> Tensor:
        """The rows of the support set that are nearest to embeddings [N, D], unit rows -> [N, D]."""
        return self.support[product(z, self.support.T).argmax(dim=1)]

    def contrast(self, neighbours: Tensor, p: Tensor) -> Tensor:
        """InfoNCE of neighbours [N, D] and predictions [N, D], unit rows. The paper's algorithm 1."""
        logits = product(neighbours, p.T) / self.config.temperature  # [N, N]
        return F.cross_entropy(logits, torch.arange(len(p), device=p.device))
