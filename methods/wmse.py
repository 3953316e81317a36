"""W-MSE: views agree after each batch of embeddings is whitened, which keeps them apart. arXiv 2007.06346

With the authors' sizes on CIFAR-10, of two views. Their sub-batches are drawn from the batch; here they are
neighbours in it, as its order is random already, and each iteration shifts where they begin.
"""

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from methods import heads
from methods.base import Method
from methods.config import MethodConfig
from methods.losses import normalize, product, squared_distance


class WMSEConfig(MethodConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer: 1024 in the paper."""
    projector_out: int = Field(64, ge=1)
    """Dimension D of the embeddings z."""
    whitening_size: int = Field(128, ge=2, validate_default=True)
    """Images that are whitened together, at least: above `projector_out`, and a batch has as many."""
    whitening_iterations: int = Field(1, ge=1)
    """Ways to cut a batch into such parts that the loss is the mean of; 4 on STL-10."""

    @field_validator("whitening_size")
    @classmethod
    def _invertible(cls, size: int, given: ValidationInfo) -> int:
        if size <= (dim := given.data.get("projector_out", 0)):
            raise ValueError(f"above projector_out={dim}, as fewer images have no covariance that can be inverted")
        return size

    @property
    def smallest_batch(self) -> int:
        return self.whitening_size


class WMSE(Method):
    Config = WMSEConfig
    config: WMSEConfig

    def __init__(self, backbone: nn.Module, config: WMSEConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(self.feature_dim, config.projector_hidden, config.projector_out)

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.gather(self.embed(x1).float(), self.embed(x2).float())  # [N, D], one forward pass a view
        size, iterations = self.config.whitening_size, self.config.whitening_iterations
        losses = []
        for i in range(iterations):
            w1, w2 = (normalize(whiten(z.roll(i * size // iterations, dims=0), size)) for z in (z1, z2))
            losses.append(squared_distance(w1, w2))
        return {"loss": torch.stack(losses).mean()}


def whiten(z: Tensor, size: int) -> Tensor:
    """[N, D] -> [N, D]: of every `size` rows or some more, the mean is 0 and the covariance the identity."""
    parts = []
    for part in z.tensor_split(len(z) // size):
        centred = part - part.mean(dim=0)
        factor, failed = torch.linalg.cholesky_ex(product(centred.T, centred) / (len(part) - 1))  # [D, D], lower
        factor = factor.where(failed == 0, torch.nan)  # which ends the run, without waiting for the device here
        parts.append(torch.linalg.solve_triangular(factor, centred.T, upper=False).T)
    return torch.cat(parts)
