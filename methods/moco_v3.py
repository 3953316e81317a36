"""MoCo v3: tell the mean teacher's embedding of the other view from those of other images. arXiv 2104.02057

Vision transformers learn their position embedding here, as timm's do; the authors' is fixed, of sines and cosines.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method, Teacher
from methods.config import TeacherConfig
from methods.losses import normalize, product


class MoCoV3Config(TeacherConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings q and k."""
    predictor_hidden: int = Field(256, ge=1)
    """Width of the predictor's hidden layer."""
    temperature: float = Field(0.2, gt=0)
    """Temperature of the softmax over the batch's keys."""
    freeze_patch_embed: bool = False
    """Vision transformers: the projection of patches stays random, as the paper has it (section 4.2, "random patch
    projection"). With those true, if it is not set."""


class MoCoV3(Method):
    Config = MoCoV3Config
    config: MoCoV3Config

    def __init__(self, backbone: nn.Module, config: MoCoV3Config) -> None:
        super().__init__(backbone, config)
        if config.freeze_patch_embed:
            backbone.get_submodule("patch_embed").requires_grad_(False)
        self.projector = heads.deep_projector(self.feature_dim, config.projector_hidden, config.projector_out, layers=2)
        self.predictor = heads.mlp(config.projector_out, config.predictor_hidden, config.projector_out)
        self.teacher = Teacher(self.backbone, self.projector, config)

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        q1 = normalize(self.predictor(self.embed(x1)))  # [n, D], one forward pass a view
        q2 = normalize(self.predictor(self.embed(x2)))
        k1, k2 = normalize(self.teacher(x1)), normalize(self.teacher(x2))  # stop-gradient
        q1, q2, k1, k2 = self.gather(q1, q2, k1, k2)  # [N, D]
        return {"loss": self.contrast(q1, k2) + self.contrast(q2, k1)}

    def contrast(self, q: Tensor, k: Tensor) -> Tensor:
        """2 T InfoNCE of queries [N, D] and keys [N, D], unit rows: key i is query i's. The paper's algorithm 1."""
        T = self.config.temperature
        logits = product(q, k.T) / T  # [N, N]
        return 2 * T * F.cross_entropy(logits, torch.arange(len(q), device=q.device))

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.backbone, self.projector, progress)
