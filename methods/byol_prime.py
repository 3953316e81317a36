"""BYOL': the upper bound of BYOL's loss that RAFT's paper studies. arXiv 2011.10944

L = alpha |q1 - q2|^2 + beta/2 (|q1 - t1|^2 + |q2 - t2|^2),    and BYOL <= 2 BYOL' at alpha = beta = 1
"""

from torch import Tensor

from methods.byol import BYOL
from methods.losses import squared_distance
from methods.raft import RAFTConfig


class BYOLPrime(BYOL):
    Config = RAFTConfig
    config: RAFTConfig

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        q1, q2, t1, t2 = self.embeddings(x1, x2)
        align = squared_distance(q1, q2)
        follow = (squared_distance(q1, t1) + squared_distance(q2, t2)) / 2
        return {
            "loss": self.config.alpha * align + self.config.beta * follow,
            "align": align,
            "follow": follow,
        }
