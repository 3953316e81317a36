"""SwAV: predict the other view's assignment to prototypes, which are kept equally used. arXiv 2006.09882

Prototypes are unit vectors by their definition, where the authors' code scales them after each step.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method
from methods.config import MethodConfig
from methods.losses import from_other_views, normalize


class SwAVConfig(MethodConfig):
    most_views: ClassVar[int | None] = None
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z."""
    prototypes: int = Field(1024, ge=2)
    """Number K of the prototypes: 3000 on ImageNet."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the predicted distribution over prototypes."""
    epsilon: float = Field(0.05, gt=0)
    """Entropy of the assignments: the smaller, the harder."""
    iterations: int = Field(3, ge=1)
    """Of Sinkhorn's algorithm."""
    queue: int = Field(0, ge=0)
    """Embeddings of earlier images, of each of the first two views, that are assigned with a batch small beside K."""
    queue_from: float = Field(0.15, ge=0, le=1)
    """Share of the training from which the queue is used; it should be full by then, as its zeros are assigned too."""
    freeze_prototypes: float = Field(0.0, ge=0, le=1)
    """Share of the training in which the prototypes do not learn: the paper's first epoch."""


class SwAV(Method):
    Config = SwAVConfig
    config: SwAVConfig
    queue: Tensor  # [2, L, D], the newest first

    def __init__(self, backbone: nn.Module, config: SwAVConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(self.feature_dim, config.projector_hidden, config.projector_out)
        self.prototypes = heads.Prototypes(config.projector_out, config.prototypes)
        self.register_buffer("queue", torch.zeros(2, config.queue, config.projector_out))
        self.queued = False

    def forward(self, *views: Tensor) -> dict[str, Tensor]:
        z = [normalize(self.embed(x)) for x in views]  # [n, D], one forward pass a view
        *scores, z1, z2 = self.gather(*map(self.prototypes, z), *(each.detach() for each in z[:2]))  # [N, K], [N, D]
        log_p = [(each / self.config.temperature).log_softmax(dim=1) for each in scores]
        with torch.no_grad():
            earlier = [self.prototypes(queue) for queue in self.queue] if self.queued else [scores[0][:0]] * 2
            q = [self.assign(torch.cat(both))[: len(z1)] for both in zip(scores[:2], earlier, strict=True)]
            newest = torch.cat([torch.stack([z1, z2]), self.queue], dim=1)
            self.queue.copy_(newest[:, : self.config.queue])
        return {"loss": from_other_views(q, log_p)}

    def assign(self, scores: Tensor) -> Tensor:
        """Sinkhorn's algorithm: scores [M, K] -> distributions over prototypes [M, K] that use each about equally."""
        q = ((scores - scores.amax()) / self.config.epsilon).exp()
        for _ in range(self.config.iterations):
            q = q / q.sum(dim=0, keepdim=True).clamp(min=1e-30)  # of a prototype that is far from all
            q = q / q.sum(dim=1, keepdim=True)
        return q

    def before_step(self, progress: float) -> None:
        self.queued = self.config.queue > 0 and progress >= self.config.queue_from
        self.prototypes.requires_grad_(progress >= self.config.freeze_prototypes)
