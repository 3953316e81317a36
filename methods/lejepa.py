"""LeJEPA: views agree, and embeddings are distributed as a standard normal (SIGReg). arXiv 2511.08544

As the authors' minimal example (rbalestr-lab/lejepa), of two views and with a projector of two layers, as the other
methods' here; theirs has four views, a projector of three layers, and 16 dimensions in place of 128.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from methods import heads
from methods.base import Method
from methods.config import MethodConfig
from methods.losses import product


class LeJEPAConfig(MethodConfig):
    projector_hidden: int = Field(256, ge=1)
    """Width of the projector's hidden layer."""
    projector_out: int = Field(128, ge=1)
    """Dimension of the embeddings z."""
    sigreg: float = Field(0.02, ge=0, le=1)
    """Weight of SIGReg (lambda in the paper); agreement of the views has the rest to 1."""
    slices: int = Field(256, ge=1)
    """Random directions that a step projects on."""
    knots: int = Field(17, ge=2)
    """Points of the integral over [0, 3], the characteristic functions' argument."""


class LeJEPA(Method):
    Config = LeJEPAConfig
    config: LeJEPAConfig
    directions: Tensor  # [D, slices], unit columns: a buffer, so that all devices and a resumed run have the same

    def __init__(self, backbone: nn.Module, config: LeJEPAConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(self.feature_dim, config.projector_hidden, config.projector_out)
        self.register_buffer("directions", torch.empty(config.projector_out, config.slices))
        self.draw_directions(0)

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.gather(self.embed(x1).float(), self.embed(x2).float())  # [N, D], one forward pass a view
        agreement = (z1 - z2).square().mean() / 4  # mean |z - mean of the views|^2, a dimension
        sigreg = (self.epps_pulley(z1) + self.epps_pulley(z2)) / 2
        loss = self.config.sigreg * sigreg + (1 - self.config.sigreg) * agreement
        return {"loss": loss, "agreement": agreement, "sigreg": sigreg}

    def epps_pulley(self, z: Tensor) -> Tensor:
        """N integral of |phi_N(t) - phi(t)|^2 phi(t) over [-3, 3] of embeddings [N, D], mean over directions."""
        t = torch.linspace(0, 3, self.config.knots, device=z.device)
        phi = (-t.square() / 2).exp()  # the characteristic function of a standard normal, and the integral's weight
        angles = product(z, self.directions)[:, :, None] * t  # [N, slices, knots]
        error = (angles.cos().mean(dim=0) - phi).square() + angles.sin().mean(dim=0).square()
        return 2 * len(z) * torch.trapezoid(error * phi, t).mean()

    def after_step(self, progress: float) -> None:
        self.draw_directions(1 + int(progress * 2**40))

    def draw_directions(self, seed: int) -> None:
        drawn = torch.randn(self.directions.shape, generator=torch.Generator().manual_seed(seed))
        self.directions.copy_(drawn / drawn.norm(dim=0))
