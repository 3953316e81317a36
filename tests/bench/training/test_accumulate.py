"""Slices of a batch: what the methods of the registry make of them is in test_distributed.py."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.errors import UserError
from bench.planning import plan
from bench.planning.prepare import prepare
from bench.team import ALONE
from bench.training import accumulate
from methods.base import Method
from methods.config import MethodConfig


class Flat(nn.Module):
    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.float64))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(x @ self.weight)
        return dropped


class Counted(Method):
    """A loss of the whole batch, and a buffer that counts the steps."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__(Flat(), MethodConfig())
        self.register_buffer("steps", torch.zeros(()))
        self.fails = False

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        (z,) = self.gather(self.backbone(x))
        self.steps += 1
        if self.fails:
            raise RuntimeError("no loss")
        return {"loss": z.std(dim=0).sum(), "images": torch.tensor(float(len(z)))}


X = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def backward(method: Counted, slices: int = 3) -> dict[str, Tensor]:
    draw = torch.manual_seed
    return accumulate.backward(method, method.forward, [X], slices, ALONE, draw)


def test_unequal_slices_give_the_whole_batchs_gradient() -> None:
    method, alone = Counted().eval(), Counted().eval()
    logged = backward(method)
    alone(X)["loss"].backward()
    assert logged["images"] == 7
    torch.testing.assert_close(method.backbone.weight.grad, alone.backbone.weight.grad, rtol=1e-12, atol=1e-12)


def test_what_a_method_keeps_changes_once_a_step() -> None:
    method = Counted()
    for _ in range(2):
        backward(method)
    assert method.steps == 2


def test_both_passes_draw_alike() -> None:
    """With dropout the loss that a slice finds in the second pass is that of the first, slice by slice."""
    method, losses = Counted(), []
    forward = method.forward

    def noted(x: Tensor) -> dict[str, Tensor]:
        found = forward(x)
        losses.append(found["loss"].item())
        return found

    accumulate.backward(method, noted, [X], 3, ALONE, torch.manual_seed)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)


def test_the_method_is_as_before_when_something_fails() -> None:
    method = Counted()
    method.fails = True
    with pytest.raises(RuntimeError, match="no loss"):
        backward(method)
    assert method.gather(X) == (X,)


def test_batch_norm_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    planned = plan.plan(["byol"], [0], "quick", {"train.accumulate": "2"}, {}, "e")
    with pytest.raises(UserError, match=r"train.accumulate=2: byol on resnet10_small has batch norm \(\d+ layers, "):
        prepare(planned, tmp_path)


def test_more_slices_than_images_are_refused(tmp_path: Path) -> None:
    planned = plan.plan(["supervised"], [0], "quick", {"train.accumulate": "999"}, {}, "e")
    with pytest.raises(UserError, match=r"train.accumulate=999: a batch has \d+ images; use 1 to \d+ slices"):
        prepare(planned, tmp_path)


def test_supervised_on_a_transformer_is_prepared(tmp_path: Path) -> None:
    chosen = {"train.accumulate": "2", "backbone.name": "vit_tiny_patch16_224"}
    prepare(plan.plan(["supervised"], [0], "quick", chosen, {}, "e"), tmp_path)


def test_one_slice_is_as_before_and_two_are_another_run() -> None:
    before, one, two = (
        plan.plan(["supervised"], [0], "quick", chosen, {}, "e")[0]["run_id"]
        for chosen in ({}, {"train.accumulate": "1"}, {"train.accumulate": "2"})
    )
    assert before == one != two
