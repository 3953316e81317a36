"""SimCLR: tell the other view of an image from all other images. arXiv 2002.05709"""

from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method
from methods.config import MethodConfig
from methods.losses import normalize, nt_xent


class SimCLRConfig(MethodConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z."""
    projector_layers: int = Field(2, ge=1)
    """Layers of the projector: 2 in the paper, 3 in its successor (arXiv 2006.10029)."""
    projector_norm: bool = True
    """Batch norm after the hidden layers: the authors' code has it, the paper and solo-learn do not."""
    temperature: float = Field(0.2, gt=0)
    """Temperature of the softmax over the 2N - 1 other views."""


class SimCLR(Method):
    Config = SimCLRConfig
    config: SimCLRConfig

    def __init__(self, backbone: nn.Module, config: SimCLRConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(
            self.feature_dim,
            config.projector_hidden,
            config.projector_out,
            config.projector_layers,
            config.projector_norm,
        )

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = normalize(self.embed(x1)), normalize(self.embed(x2))  # [n, D], one forward pass a view
        z1, z2 = self.gather(z1, z2)  # [N, D]
        return {"loss": nt_xent(z1, z2, self.config.temperature)}
