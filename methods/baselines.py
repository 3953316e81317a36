"""The two rows every table needs: an untrained backbone, and one trained with labels."""

from typing import Any

from torch import Tensor, nn

from methods.base import Method
from methods.config import MethodConfig
from methods.losses import cross_entropy


class RandomInit(Method):
    """Nothing is trained: what the architecture alone gives."""

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.gather(self.embed(x1), self.embed(x2))
        return {"loss": (z1 - z2).float().pow(2).mean()}

    def param_groups(self) -> list[dict[str, Any]]:
        return []


class Supervised(Method):
    """Cross-entropy with labels on the same views and steps: what labels would give."""

    uses_labels = True

    def __init__(self, backbone: nn.Module, config: MethodConfig, n_classes: int) -> None:
        super().__init__(backbone, config)
        self.classifier = nn.Linear(self.feature_dim, n_classes)

    def forward(self, x1: Tensor, x2: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`labels` [N]; images with label -1 (validation, unlabelled) do not count."""
        logits1, logits2 = self.classifier(self.backbone(x1)), self.classifier(self.backbone(x2))
        logits1, logits2, labels = self.gather(logits1, logits2, labels)  # of the whole batch
        return {"loss": (cross_entropy(logits1, labels) + cross_entropy(logits2, labels)) / 2}
