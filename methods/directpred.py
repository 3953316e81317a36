"""DirectPred: BYOL with a linear predictor that is computed, not trained. arXiv 2102.06810

Its eigenvectors are those of the correlation of the projector's outputs, its eigenvalues the square roots: section 4
and the authors' code (facebookresearch/luckmatters, predictor_reg=corr, balance_type=boost_scale). Here the average of
correlations starts at 0 and the predictor as the identity; theirs with the first batch's, and at random. On GPUs the
decomposition waits for the device, once a step.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method, Teacher
from methods.config import TeacherConfig
from methods.losses import normalize, product, squared_distance


class DirectPredConfig(TeacherConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension D of the embeddings."""
    correlation_momentum: float = Field(0.3, ge=0, lt=1)
    """EMA rate of the correlation matrix (rho in the paper)."""
    epsilon: float = Field(0.1, ge=0)
    """Added to the predictor's eigenvalues, of which the largest is 1 before that."""


class DirectPred(Method):
    Config = DirectPredConfig
    config: DirectPredConfig
    correlation: Tensor  # [D, D]
    predictor: Tensor  # [D, D], symmetric; no parameter, so it has no gradient and may follow `gather`

    def __init__(self, backbone: nn.Module, config: DirectPredConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(self.feature_dim, config.projector_hidden, config.projector_out)
        self.teacher = Teacher(self.backbone, self.projector, config)
        self.register_buffer("correlation", torch.zeros(config.projector_out, config.projector_out))
        self.register_buffer("predictor", torch.eye(config.projector_out))

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.embed(x1).float(), self.embed(x2).float()  # [n, D], one forward pass a view
        t1, t2 = normalize(self.teacher(x1)), normalize(self.teacher(x2))  # stop-gradient
        z1, z2, t1, t2 = self.gather(z1, z2, t1, t2)  # [N, D]
        q1, q2 = normalize(product(z1, self.predictor)), normalize(product(z2, self.predictor))
        z = torch.cat([z1, z2]).detach()
        self.correlation.lerp_(product(z.T, z) / len(z), 1 - self.config.correlation_momentum)
        return {"loss": (squared_distance(q1, t2) + squared_distance(q2, t1)) / 2}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.backbone, self.projector, progress)
        s, u = torch.linalg.eigh(self.correlation.double())  # [D], [D, D]; the one wait for a GPU in a step
        s = (s.clamp(min=0) / s.max()).sqrt() + self.config.epsilon
        self.predictor.copy_(u * s @ u.T)
