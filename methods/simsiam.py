"""SimSiam: predict the other view's embedding, with a stop-gradient and no teacher. arXiv 2011.10566"""

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method
from methods.config import MethodConfig, PredictorKind
from methods.losses import normalize


class SimSiamConfig(MethodConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layers."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z and p."""
    projector_layers: int = Field(2, ge=1)
    """Layers of the projector: 3 on ImageNet, 2 on CIFAR-10."""
    predictor: PredictorKind = "mlp"
    """mlp (a bottleneck), mlp_no_bn (without batch norm), linear_bn (Linear - BatchNorm), linear (one matrix) or none
    (identity)."""
    predictor_hidden: int = Field(64, ge=1)
    """Width of the bottleneck of mlp and mlp_no_bn: a quarter of projector_out in the paper."""
    predictor_frozen: bool = False
    """The predictor keeps its random initial weights (the paper's table 1, row b: it does not learn)."""
    predictor_constant_lr: bool = True
    """Keep the predictor's learning rate constant, as the paper does."""


class SimSiam(Method):
    Config = SimSiamConfig
    config: SimSiamConfig

    def __init__(self, backbone: nn.Module, config: SimSiamConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.deep_projector(
            self.feature_dim, config.projector_hidden, config.projector_out, config.projector_layers
        )
        self.predictor = heads.predictor(
            config.predictor, config.projector_out, config.predictor_hidden, config.predictor_frozen
        )

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.embed(x1), self.embed(x2)  # [n, D], one forward pass a view
        p1, p2 = normalize(self.predictor(z1)), normalize(self.predictor(z2))
        t1, t2 = normalize(z1.detach()), normalize(z2.detach())  # stop-gradient
        p1, p2, t1, t2 = self.gather(p1, p2, t1, t2)  # [N, D]
        cos = ((p1 * t2).sum(dim=1).mean() + (p2 * t1).sum(dim=1).mean()) / 2
        return {"loss": -cos}

    def param_groups(self) -> list[dict[str, Any]]:
        encoder = [*self.backbone.parameters(), *self.projector.parameters()]
        predictor = {
            "params": [p for p in self.predictor.parameters() if p.requires_grad],
            "constant_lr": self.config.predictor_constant_lr,
        }
        return [{"params": encoder}, predictor]
