"""MoCo v2: tell the mean teacher's embedding of the other view from those of earlier images. arXiv 2003.04297

Symmetric, with the teacher's rate and about the queue of the authors' CIFAR-10 demonstration. Batches are not shuffled
among devices: batch norm has the whole batch's statistics here, which tell queries nothing of their own key.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from methods.base import Method, Teacher
from methods.config import TeacherConfig
from methods.losses import normalize, product


class MoCoV2Config(TeacherConfig):
    tau: float = Field(0.99, ge=0, le=1)
    """EMA rate of the teacher; 0.999 on ImageNet."""
    tau_schedule: Literal["cosine", "constant"] = "constant"
    """constant: as the paper; cosine: tau rises to 1, as BYOL."""
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings q and k."""
    temperature: float = Field(0.2, gt=0)
    """Temperature of the softmax over the key and the queue."""
    queue: int = Field(4096, ge=1)
    """Keys K of earlier images that are kept: 65536 on ImageNet."""


class MoCoV2(Method):
    Config = MoCoV2Config
    config: MoCoV2Config
    queue: Tensor  # [K, D], unit rows, the newest first

    def __init__(self, backbone: nn.Module, config: MoCoV2Config) -> None:
        super().__init__(backbone, config)
        hidden, out = config.projector_hidden, config.projector_out
        self.projector = nn.Sequential(
            nn.Linear(self.feature_dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
        )
        self.teacher = Teacher(self.backbone, self.projector, config)
        self.register_buffer("queue", normalize(torch.randn(config.queue, out)))

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        q1, q2 = normalize(self.embed(x1)), normalize(self.embed(x2))  # [n, D], one forward pass a view
        k1, k2 = normalize(self.teacher(x1)), normalize(self.teacher(x2))  # stop-gradient
        q1, q2, k1, k2 = self.gather(q1, q2, k1, k2)  # [N, D]
        earlier = self.queue.clone()  # the queue moves on before the backward pass
        loss = (self.contrast(q1, k2, earlier) + self.contrast(q2, k1, earlier)) / 2
        self.queue.copy_(torch.cat([k1, k2, earlier])[: len(earlier)])
        return {"loss": loss}

    def contrast(self, q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
        """InfoNCE of queries [N, D], their keys [N, D] and the queue [K, D]. Algorithm 1 of arXiv 1911.05722."""
        logits = torch.cat([(q * k).sum(dim=1, keepdim=True), product(q, queue.T)], dim=1)  # [N, 1 + K]
        target = torch.zeros(len(q), dtype=torch.long, device=q.device)
        return F.cross_entropy(logits / self.config.temperature, target)

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.backbone, self.projector, progress)
