"""`bench speed` measures what it says it does."""

import json

import pytest
import torch
from torchvision.transforms import v2

from bench import plan, speed
from bench.config import RunConfig
from bench.errors import UserError


def config(method: str = "byol", preset: str = "quick", **overrides: str) -> RunConfig:
    chosen = {"data.size": "8", "train.batch_size": "64"} | {k.replace("__", "."): v for k, v in overrides.items()}
    (planned,) = plan.plan([method], [0], preset, chosen, {}, "x")
    return RunConfig(**planned["config"])


@pytest.mark.parametrize("method", ["byol", "supervised"])
def test_a_step_and_its_parts_are_measured(method: str) -> None:
    measured = speed.measure(config(method), "cpu")
    rates = ("step", "augment", "pil", "pil_step", "evaluation")
    assert all(measured[f"{name}_images_per_second"] > 0 for name in rates)
    assert 0 < measured["roofline_share"] < 1.5  # a rough bound: timings are noisy
    assert 0 < measured["augment_share"] < 1
    assert measured["peak_memory_mb"] > 50
    steps = 30 * (1437 // 64)
    assert measured["projected_hours"] == pytest.approx(steps * 64 / measured["step_images_per_second"] / 3600)
    assert json.loads(json.dumps(measured)) == measured
    assert "images/s" in speed.describe(measured)


def test_an_untrained_backbone_has_no_step_to_measure() -> None:
    with pytest.raises(UserError, match="no training step"):
        speed.measure(config("random"), "cpu")


def test_the_pil_pipeline_has_the_operations_of_the_preset_and_no_others() -> None:
    first, second = speed._pil_transforms(config(preset="cifar10", augment__view2__solarize="0.2"))
    names = [type(step).__name__ for step in first.transforms]
    assert names[:4] == ["RandomResizedCrop", "RandomHorizontalFlip", "RandomApply", "RandomGrayscale"]
    assert [type(step) for step in second.transforms[4:5]] == [v2.RandomSolarize]
    digits, _ = speed._pil_transforms(config())
    assert "RandomHorizontalFlip" not in [type(step).__name__ for step in digits.transforms]


def test_a_part_is_timed_until_the_device_has_done_it() -> None:
    x = torch.randn(400, 400)
    once, ten_times = (
        speed._seconds(lambda: x @ x, torch.device("cpu")),
        speed._seconds(lambda: [x @ x for _ in range(10)], torch.device("cpu")),
    )
    assert 3 < ten_times / once < 30
