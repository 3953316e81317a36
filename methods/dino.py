"""DINO: match the mean teacher's sharpened and centred distribution over prototypes. arXiv 2104.14294

Two global views; no small crops, no warm-up of the teacher's temperature, no epoch of frozen prototypes, and a
projector of two layers, as the other methods' here, before the prototypes; the paper's has three.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method, Teacher
from methods.config import TeacherConfig
from methods.losses import normalize, product


class DINOConfig(TeacherConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z (the paper's bottleneck)."""
    prototypes: int = Field(1024, ge=2)
    """Classes K of the distributions that are matched."""
    student_temperature: float = Field(0.1, gt=0)
    """Temperature of the student's softmax."""
    teacher_temperature: float = Field(0.04, gt=0)
    """Temperature of the teacher's softmax: below the student's, it sharpens."""
    center_momentum: float = Field(0.9, ge=0, lt=1)
    """EMA rate of the centre, the mean of the teacher's outputs."""


class Prototypes(nn.Linear):
    """Cosines of embeddings with K unit prototypes, in float32: [N, D] -> [N, K]."""

    def forward(self, z: Tensor) -> Tensor:
        return product(normalize(z), normalize(self.weight).T)


class DINO(Method):
    Config = DINOConfig
    config: DINOConfig
    center: Tensor  # [K]

    def __init__(self, backbone: nn.Module, config: DINOConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(self.feature_dim, config.projector_hidden, config.projector_out)
        self.prototypes = Prototypes(config.projector_out, config.prototypes, bias=False)
        self.teacher = Teacher(self.backbone, nn.Sequential(self.projector, self.prototypes), config)
        self.register_buffer("center", torch.zeros(config.prototypes))

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        s1, s2 = self.prototypes(self.embed(x1)), self.prototypes(self.embed(x2))  # [n, K], one forward pass a view
        t1, t2 = self.teacher(x1), self.teacher(x2)  # stop-gradient
        s1, s2, t1, t2 = self.gather(s1, s2, t1, t2)  # [N, K]
        loss = (self.cross_entropy(t1, s2) + self.cross_entropy(t2, s1)) / 2
        mean = torch.cat([t1, t2]).mean(dim=0)  # [K]
        self.center.lerp_(mean, 1 - self.config.center_momentum)
        return {"loss": loss}

    def cross_entropy(self, t: Tensor, s: Tensor) -> Tensor:
        """H(teacher, student) of outputs [N, K]: the teacher's centred and sharpened."""
        p = ((t - self.center) / self.config.teacher_temperature).softmax(dim=1)
        return -(p * (s / self.config.student_temperature).log_softmax(dim=1)).sum(dim=1).mean()

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.backbone, nn.Sequential(self.projector, self.prototypes), progress)
