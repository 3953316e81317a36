"""Methods as their papers write them, in torch alone: what a step of ours is held against.

Where a paper and its authors' code differ, or ours scales a loss by a constant, the line says so.
"""

import copy
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

FEATURES, HIDDEN, OUT = 12, 32, 16
STEPS, WARMUP = 20, 5
PEAK, FIRST = 0.1, 3e-5  # learning rates
MOMENTUM, DECAY = 0.9, 1e-3


class Backbone(nn.Sequential):
    """[N, 3, 8, 8] -> [N, 12]."""

    num_features = FEATURES

    def __init__(self) -> None:
        first, second = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, FEATURES, 3, bias=False)
        norms = nn.BatchNorm2d(6), nn.BatchNorm2d(FEATURES)
        pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        super().__init__(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), *pool)


def head(inputs: int, hidden: int = HIDDEN) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, OUT)
    )


def normed_head(inputs: int) -> nn.Sequential:
    """Batch norm at its end too, without an affine part."""
    layers = nn.Linear(inputs, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(HIDDEN, OUT, bias=False), nn.BatchNorm1d(OUT, affine=False))


class Plain(nn.Module):
    """An online network, and a teacher where tau is set, that learn by SGD with momentum."""

    tau: ClassVar[float | None] = None
    decays_all: ClassVar[bool] = False
    """Biases and the parameters of batch norm decay too."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.projector = head(FEATURES)

    def begin(self, weights: Mapping[str, Tensor]) -> None:
        """From these weights of an online network; the teacher begins as its copy."""
        self.load_state_dict(weights)
        if self.tau is not None:
            own = {"backbone": self.backbone, "projector": self.projector}
            self.teacher = nn.ModuleDict(copy.deepcopy(own)).requires_grad_(False)
        self.trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.trained.items()}

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        raise NotImplementedError

    def rate(self, step: int, name: str) -> float:
        """Linear warm-up, and half a cosine that would reach 0 after the last step."""
        if step < WARMUP:
            return FIRST + (PEAK - FIRST) * step / WARMUP
        return PEAK / 2 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))

    def step(self, step: int, x1: Tensor, x2: Tensor) -> float:
        """An optimizer step and, after it, the teacher's; returns the loss before it."""
        loss = self.loss(x1, x2)
        gradients = torch.autograd.grad(loss, list(self.trained.values()))
        with torch.no_grad():
            for (name, p), g in zip(self.trained.items(), gradients, strict=True):
                if p.ndim > 1 or self.decays_all:
                    g = g + DECAY * p
                self.velocity[name] = MOMENTUM * self.velocity[name] + g
                p.sub_(self.rate(step, name) * self.velocity[name])
            if self.tau is not None:
                tau = 1 - (1 - self.tau) * (math.cos(math.pi * step / STEPS) + 1) / 2  # BYOL's schedule
                for name, p in self.teacher.named_parameters():
                    p.copy_(tau * p + (1 - tau) * self.trained[name])
        return loss.item()

    def embed(self, x1: Tensor, x2: Tensor) -> list[Tensor]:
        return [self.projector(self.backbone(x)) for x in (x1, x2)]

    def targets(self, x1: Tensor, x2: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return [unit(self.teacher["projector"](self.teacher["backbone"](x))) for x in (x1, x2)]


def unit(z: Tensor) -> Tensor:
    return z / (z * z).sum(dim=1, keepdim=True).sqrt()


class BYOL(Plain):
    """arXiv 2006.07733, equations 2 to 5."""

    tau = 0.9

    def __init__(self) -> None:
        super().__init__()
        self.predictor = head(OUT)

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        q1, q2 = (unit(self.predictor(z)) for z in self.embed(x1, x2))
        t1, t2 = self.targets(x1, x2)
        there, back = ((q1 - t2) ** 2).sum(dim=1).mean(), ((q2 - t1) ** 2).sum(dim=1).mean()
        return (there + back) / 2  # ours is the directions' mean, the paper's their sum


class SimSiam(Plain):
    """arXiv 2011.10566, algorithm 1; the predictor's rate is constant (section 4.2), all decays (the authors' code)."""

    decays_all = True

    def __init__(self) -> None:
        super().__init__()
        self.projector = normed_head(FEATURES)
        self.predictor = head(OUT, 8)

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        z1, z2 = self.embed(x1, x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return distance(p1, z2) / 2 + distance(p2, z1) / 2

    def rate(self, step: int, name: str) -> float:
        return PEAK if name.startswith("predictor") else super().rate(step, name)


def distance(p: Tensor, z: Tensor) -> Tensor:
    """SimSiam's D(p, z)."""
    return -(unit(p) * unit(z.detach())).sum(dim=1).mean()


class SimCLR(Plain):
    """arXiv 2002.05709, equation 1: a pair of views at a time."""

    temperature = 0.2

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        z = unit(torch.cat(self.embed(x1, x2)))
        n = len(x1)
        total = torch.zeros(())
        for i in range(2 * n):
            similar = torch.exp(z @ z[i] / self.temperature)
            total = total - torch.log(similar[(i + n) % (2 * n)] / (similar.sum() - similar[i]))
        return total / (2 * n)


class MoCoV3(Plain):
    """arXiv 2104.02057, algorithm 1."""

    tau, temperature = 0.99, 0.2

    def __init__(self) -> None:
        super().__init__()
        self.projector = normed_head(FEATURES)
        self.predictor = head(OUT)

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        q1, q2 = (unit(self.predictor(z)) for z in self.embed(x1, x2))
        k1, k2 = self.targets(x1, x2)
        return self.contrast(q1, k2) + self.contrast(q2, k1)

    def contrast(self, q: Tensor, k: Tensor) -> Tensor:
        scores = torch.exp(torch.mm(q, k.t()) / self.temperature)
        return -2 * self.temperature * torch.log(scores.diagonal() / scores.sum(dim=1)).mean()


class BarlowTwins(Plain):
    """arXiv 2103.03230, algorithm 1; batch norm's epsilon is the authors' code's, the scale solo-learn's."""

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        a, b = ((z - z.mean(dim=0)) / (z.var(dim=0, unbiased=False) + 1e-5).sqrt() for z in self.embed(x1, x2))
        c = torch.mm(a.t(), b) / len(a)
        weights = torch.full((OUT, OUT), 0.005).fill_diagonal_(1)
        return 0.1 * (weights * (c - torch.eye(OUT)) ** 2).sum()


class VICReg(Plain):
    """arXiv 2105.04906, algorithm 1, with their code's mean over views of the variances."""

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        a, b = self.embed(x1, x2)
        loss = 25 * ((a - b) ** 2).mean()
        for z in (a, b):
            c = torch.cov(z.t())
            loss = loss + 25 * torch.relu(1 - torch.sqrt(c.diagonal() + 1e-4)).mean() / 2
            loss = loss + (c**2 * (1 - torch.eye(OUT))).sum() / OUT
        return loss


class WMSE(Plain):
    """arXiv 2007.06346, section 3, whitened by orthogonalising one dimension after another: the whole batch at once."""

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        w1, w2 = (unit(self.whitened(z)) for z in self.embed(x1, x2))
        return ((w1 - w2) ** 2).sum(dim=1).mean()

    def whitened(self, z: Tensor) -> Tensor:
        q, r = torch.linalg.qr(z - z.mean(dim=0))
        w: Tensor = math.sqrt(len(z) - 1) * q * r.diagonal().sign()
        return w


METHODS: dict[str, type[Plain]] = {
    "byol": BYOL,
    "simsiam": SimSiam,
    "simclr": SimCLR,
    "moco_v3": MoCoV3,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "wmse": WMSE,
}
