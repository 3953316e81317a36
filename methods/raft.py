"""RAFT: align the two views, run away from the mean teacher. arXiv 2011.10944

    L = alpha |q1 - q2|^2 - beta/2 (|q1 - t1|^2 + |q2 - t2|^2)

The paper's theorem: with -h for the predictor h, |q - t|^2 becomes 4 - |q - t|^2, so L(h) = L_BYOL'(-h) - 4 beta.
"""

from pydantic import Field
from torch import Tensor

from methods.byol import BYOL, BYOLConfig
from methods.losses import squared_distance


class RAFTConfig(BYOLConfig):
    alpha: float = Field(1.0, ge=0)
    """Weight of the alignment of the two views."""
    beta: float = Field(1.0, ge=0)
    """Weight of the distance to the teacher's embedding of the same view."""


class RAFT(BYOL):
    Config = RAFTConfig
    config: RAFTConfig

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        q1, q2, t1, t2 = self.embeddings(x1, x2)
        align = squared_distance(q1, q2)
        runaway = (squared_distance(q1, t1) + squared_distance(q2, t2)) / 2
        return {
            "loss": self.config.alpha * align - self.config.beta * runaway,
            "align": align,
            "runaway": runaway,
        }
