"""What a run asks of the machine: convolutions in the fastest memory format that is safe."""

import logging

import pytest
import torch
from torch import Tensor, nn

from bench.config.schema import RunConfig
from bench.planning import plan
from bench.training.machine import memory_format, seed_draws
from bench.training.trainer import build_method


class Backbone(nn.Module):
    num_features = 6

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.stem = conv

    def forward(self, images: Tensor) -> Tensor:
        return self.stem(images).mean(dim=(2, 3))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("conv", "safe"),
    [
        (nn.Conv2d(3, 6, 1, stride=2), False),
        (nn.Conv2d(7, 6, 1, stride=(1, 2)), False),
        (nn.Conv2d(8, 6, 1, stride=2), True),
        (nn.Conv2d(3, 6, 1), True),
        (nn.Conv2d(3, 6, 3, stride=2), True),
        (nn.Conv2d(6, 6, 1, stride=2, groups=2), True),
    ],
)
def test_channels_last_is_left_out_where_onednn_writes_past_its_buffers(
    conv: nn.Conv2d, safe: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The cases are what crashed or did not under ONEDNN_MAX_CPU_ISA=AVX2 and MALLOC_CHECK_=3."""
    backbone = Backbone(conv)
    with caplog.at_level(logging.INFO, logger="bench"):
        found = memory_format(backbone, torch.device("cpu"))
    assert found == (torch.channels_last if safe else torch.contiguous_format)
    assert ("channels_last is left out: stem, Conv2d(" in caplog.text) == (not safe)
    assert memory_format(backbone, torch.device("cuda")) == torch.channels_last


@pytest.mark.parametrize("seed", [0, 3, 2**62 + 1])
def test_what_is_drawn_on_a_cpu_is_what_torch_draws_after_this_seed(seed: int) -> None:
    torch.manual_seed(seed)
    expected = torch.rand(5)
    seed_draws(seed, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet10_small", torch.channels_last), ("repvgg_a0", torch.contiguous_format)],
)
def test_known_backbones(name: str, expected: torch.memory_format) -> None:
    chosen = {"backbone.name": name, "backbone.stem": "imagenet"}
    (planned,) = plan.plan(["simclr"], [0], "quick", chosen, {}, "x")
    method = build_method(RunConfig(**planned["config"]), 0, 10)
    assert memory_format(method.backbone, torch.device("cpu")) == expected
