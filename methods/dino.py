"""DINO: match the mean teacher's sharpened and centred distribution over prototypes. arXiv 2104.14294

The paper's, with method.head=dino, teacher_temperature=0.07, a warm-up of it, frozen prototypes and small crops
(augment.view3); by default two views, the projector of the other methods here, and a temperature that stays.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method, Teacher
from methods.config import TeacherConfig
from methods.losses import from_other_views


class DINOConfig(TeacherConfig):
    most_views: ClassVar[int | None] = None
    head: Literal["mlp", "dino"] = "mlp"
    """mlp: Linear - BatchNorm - ReLU - Linear, as the other methods' here; dino: the paper's, three linear layers with
    GELU and no batch norm, whose weights begin with a standard deviation of 0.02."""
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layers."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z (the paper's bottleneck)."""
    prototypes: int = Field(1024, ge=2)
    """Classes K of the distributions that are matched."""
    student_temperature: float = Field(0.1, gt=0)
    """Temperature of the student's softmax."""
    teacher_temperature: float = Field(0.04, gt=0)
    """Temperature of the teacher's softmax: below the student's, it sharpens."""
    teacher_temperature_start: float = Field(0.04, gt=0)
    """Where `temperature_warmup` begins."""
    temperature_warmup: float = Field(0.0, ge=0, le=1)
    """Share of the training in which the teacher's temperature goes from its start to its value."""
    freeze_prototypes: float = Field(0.0, ge=0, le=1)
    """Share of the training in which the prototypes do not learn: the paper's first epoch."""
    center_momentum: float = Field(0.9, ge=0, lt=1)
    """EMA rate of the centre, the mean of the teacher's outputs."""


class DINO(Method):
    Config = DINOConfig
    config: DINOConfig
    center: Tensor  # [K]

    def __init__(self, backbone: nn.Module, config: DINOConfig) -> None:
        super().__init__(backbone, config)
        head = heads.dino if config.head == "dino" else heads.mlp
        self.projector = head(self.feature_dim, config.projector_hidden, config.projector_out)
        self.prototypes = heads.Prototypes(config.projector_out, config.prototypes)
        self.teacher = Teacher(self.backbone, nn.Sequential(self.projector, self.prototypes), config)
        self.register_buffer("center", torch.zeros(config.prototypes))
        self.temperature = config.teacher_temperature

    def forward(self, *views: Tensor) -> dict[str, Tensor]:
        s = [self.prototypes(self.embed(x)) for x in views]  # [n, K], one forward pass a view
        t = [self.teacher(x) for x in views[:2]]  # stop-gradient
        *s, t1, t2 = self.gather(*s, *t)  # [N, K]
        p = [((t - self.center) / self.temperature).softmax(dim=1) for t in (t1, t2)]
        q = [(each / self.config.student_temperature).log_softmax(dim=1) for each in s]
        loss = from_other_views(p, q)
        self.center.lerp_(torch.cat([t1, t2]).mean(dim=0), 1 - self.config.center_momentum)
        return {"loss": loss}

    def before_step(self, progress: float) -> None:
        config = self.config
        end, start, warmup = config.teacher_temperature, config.teacher_temperature_start, config.temperature_warmup
        self.temperature = start + (end - start) * progress / warmup if progress < warmup else end
        self.prototypes.requires_grad_(progress >= config.freeze_prototypes)

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.backbone, nn.Sequential(self.projector, self.prototypes), progress)
