"""BYOL: predict the mean teacher's embedding of the other view. arXiv 2006.07733"""

from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method, Teacher
from methods.config import PredictorKind, TeacherConfig
from methods.losses import normalize, squared_distance


class BYOLConfig(TeacherConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z, q and t."""
    predictor: PredictorKind = "mlp"
    """mlp; mlp_no_bn (without batch norm); linear_bn (Linear - BatchNorm, the linear predictor of RAFT's authors at the
    time of their paper); linear (one matrix, without batch norm); none (identity)."""
    predictor_hidden: int = Field(256, ge=1)
    """Width of the hidden layer of mlp and mlp_no_bn."""
    predictor_frozen: bool = False
    """The predictor keeps its random initial weights."""


class BYOL(Method):
    Config = BYOLConfig
    config: BYOLConfig

    def __init__(self, backbone: nn.Module, config: BYOLConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(self.feature_dim, config.projector_hidden, config.projector_out)
        self.predictor = heads.predictor(
            config.predictor, config.projector_out, config.predictor_hidden, config.predictor_frozen
        )
        self.teacher = Teacher(self.backbone, self.projector, config)

    def embeddings(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
        """Unit predictions q1, q2 and teacher targets t1, t2 [N, D] of two views: one forward pass a view."""
        q1 = normalize(self.predictor(self.projector(self.backbone(x1))))  # [n, D]
        q2 = normalize(self.predictor(self.projector(self.backbone(x2))))
        t1, t2 = normalize(self.teacher(x1)), normalize(self.teacher(x2))  # stop-gradient
        return self.gather(q1, q2, t1, t2)  # [N, D]

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        q1, q2, t1, t2 = self.embeddings(x1, x2)
        return {"loss": (squared_distance(q1, t2) + squared_distance(q2, t1)) / 2}

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.backbone, self.projector, progress)
