"""What every method has to keep: the registry's keep it, and each check finds a method that does not."""

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from bench.errors import UserError
from bench.training import conformance
from methods import METHODS, MethodConfig, heads, plugins
from methods.base import Method
from methods.losses import normalize, squared_distance


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "crops"), [(name, crops) for name in METHODS for crops in conformance.crops(name)])
def test_every_method_keeps_it(name: str, crops: int, check: Callable[[str, int], None]) -> None:
    check(name, crops)


def test_methods_that_take_small_crops_are_tried_with_them() -> None:
    assert {name for name in METHODS if conformance.crops(name) != (0,)} == {"dino", "swav"}


def test_an_unknown_method_is_told() -> None:
    with pytest.raises(UserError, match="did you mean 'byol'"):
        [*conformance.faults("boyl")]


class Sound(Method):
    """Two views agree, and the embeddings of a batch spread."""

    Config = MethodConfig

    def __init__(self, backbone: nn.Module, config: MethodConfig) -> None:
        super().__init__(backbone, config)
        self.projector = heads.mlp(self.feature_dim, 16, 8)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.gather(normalize(self.embed(x1)), normalize(self.embed(x2)))
        self.seen.copy_(z1.detach().mean(dim=0))
        return {"loss": squared_distance(z1, z2) - z1.var(dim=0).sum()}


class Bfloat16(Sound):
    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.embed(x1) @ self.embed(x2).T).mean()}


class Nothing(Sound):
    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        return {"total": super().forward(x1, x2)["loss"]}


class Concatenated(Sound):
    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = normalize(self.embed(torch.cat([x1, x2]))).chunk(2)
        return {"loss": squared_distance(z1, z2)}


class InPlace(Sound):
    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        return super().forward(x1.mul_(2), x2)


class OwnBackbone(Sound):
    def __init__(self, backbone: nn.Module, config: MethodConfig) -> None:
        super().__init__(backbone, config)
        nn.init.zeros_(next(self.backbone.parameters()))


class NoStop(Sound):
    """Its "teacher" learns, and no optimizer has it."""

    def __init__(self, backbone: nn.Module, config: MethodConfig) -> None:
        super().__init__(backbone, config)
        self.teacher = heads.mlp(self.feature_dim, 16, 8)

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        return {"loss": squared_distance(normalize(self.embed(x1)), normalize(self.teacher(self.backbone(x2))))}

    def param_groups(self) -> list[dict[str, Any]]:
        return [{"params": [*self.backbone.parameters(), *self.projector.parameters()]}]


class Unused(Sound):
    def __init__(self, backbone: nn.Module, config: MethodConfig) -> None:
        super().__init__(backbone, config)
        self.spare = nn.Linear(3, 3)


class Forgets(Sound):
    """Counts its steps where no checkpoint looks."""

    steps = 0

    def after_step(self, progress: float) -> None:
        self.steps += 1

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        return {"loss": super().forward(x1, x2)["loss"] * (1 + self.steps)}


class NotGathered(Sound):
    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        self.gather(x1.new_zeros(len(x1), 1))
        z1, z2 = normalize(self.embed(x1)), normalize(self.embed(x2))
        return {"loss": squared_distance(z1, z2) - z1.var(dim=0).sum()}


class PartOfTheBatch(Sound):
    """Its buffer has what the last part of the batch gave."""

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        own = normalize(self.embed(x1))
        z1, z2 = self.gather(own, normalize(self.embed(x2)))
        self.seen.copy_(own.detach().mean(dim=0))
        return {"loss": squared_distance(z1, z2)}


class Reads(Sound):
    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        logged = super().forward(x1, x2)
        return logged if logged["loss"].item() < 1e9 else {}


class Drifts(Sound):
    def embed(self, x: Tensor) -> Tensor:
        self.seen.add_(1)
        return super().embed(x)


class Flat(Sound):
    def embed(self, x: Tensor) -> Tensor:
        return super().embed(x).flatten()

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        return {"loss": squared_distance(self.embed(x1)[None], self.embed(x2)[None])}


class Raises(Sound):
    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        raise ZeroDivisionError("of its own")


class SmallViews(MethodConfig):
    most_views: ClassVar[int | None] = None


class Crops(Sound):
    """Gathers the two views and forgets the small ones."""

    Config = SmallViews

    def forward(self, x1: Tensor, x2: Tensor, *crops: Tensor) -> dict[str, Tensor]:
        own, others = normalize(self.embed(x1)), [normalize(self.embed(x)) for x in crops]
        z1, z2 = self.gather(own, normalize(self.embed(x2)))
        return {"loss": squared_distance(z1, z2) - z1.var(dim=0).sum() + sum(squared_distance(z, own) for z in others)}


def faults(monkeypatch: pytest.MonkeyPatch, kind: type[Method]) -> dict[str, str]:
    """What is found wrong, by the check's name, and how many small views it was given."""
    place = plugins.Found(f"{__name__}:{kind.__name__}", "a test")
    monkeypatch.setattr(plugins, "found", lambda own: {"mine": place})
    found = [fault for _, fault in conformance.faults("mine")]
    tried = itertools.product(conformance.CHECKS, conformance.crops("mine"))
    names = [check.__name__ + f", {small} small views" * (small > 0) for check, small in tried]
    return {name: fault for name, fault in zip(names, found, strict=True) if fault}


class Noisy(Sound):
    """Draws in a step, as dropout does; a run sets the seed of every step."""

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        z1, z2 = self.gather(normalize(self.embed(x1)), normalize(self.embed(x2)))
        return {"loss": squared_distance(z1, z2 + torch.randn(1)) - z1.var(dim=0).sum()}


def test_draws_of_a_step_are_no_state_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "resume" not in faults(monkeypatch, Noisy)


def test_a_sound_method_has_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(monkeypatch, Sound) == {}


@pytest.mark.parametrize(
    ("kind", "check", "told"),
    [
        (Bfloat16, "loss", "under bfloat16 the loss is torch.bfloat16"),
        (Nothing, "loss", '"loss" is missing'),
        (Concatenated, "views", "the backbone saw batches of [48] for 2 views of 24"),
        (InPlace, "views", "forward changes the views"),
        (OwnBackbone, "pairing", "changes the backbone's initial weights: 0.weight"),
        (NoStop, "gradients", "has a gradient and is not optimized: a stop-gradient is missing"),
        (Unused, "gradients", "spare.weight is optimized and has no gradient"),
        (Forgets, "resume", "differs after a resume"),
        (NotGathered, "devices", "where the batch is split"),
        (Crops, "devices, 2 small views", "has another gradient where the batch is split"),
        (PartOfTheBatch, "devices", "seen is another where the batch is split"),
        (Reads, "waiting", "a step reads values of tensors (item"),
        (Drifts, "evaluation", "embed changes seen in eval mode"),
        (Flat, "evaluation", "embed gives (192,) for 24 images"),
        (Raises, "loss", "ZeroDivisionError: of its own"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_each_check_finds_what_it_is_for(
    monkeypatch: pytest.MonkeyPatch, kind: type[Method], check: str, told: str
) -> None:
    assert told in faults(monkeypatch, kind)[check]
