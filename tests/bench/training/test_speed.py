"""`bench speed` measures what it says it does."""

import json
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torchvision.transforms import v2

from bench.config.schema import RunConfig
from bench.errors import UserError
from bench.planning import plan
from bench.training import speed


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


class Asleep:
    """A transform that takes 20 ms and no core."""

    def __call__(self, picture: object) -> torch.Tensor:
        time.sleep(0.02)
        return torch.zeros(1)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_loader_is_as_fast_as_its_workers_and_no_faster(workers: int) -> None:
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    seconds = speed._loader_seconds(images, 4, workers, (Asleep(), Asleep()))
    assert seconds == pytest.approx(4 * 2 * 0.02 / workers, rel=0.3)


def test_the_pil_pipeline_is_also_measured_around_the_step() -> None:
    images, used = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), []
    transforms = (torchvision.transforms.ToTensor(), torchvision.transforms.ToTensor())
    seconds = speed._loader_seconds(images, 4, 1, transforms, lambda x1, x2: used.append(time.sleep(0.05)))
    assert len(used) == speed.PREFETCH + speed.MIN_TIMED
    assert seconds == pytest.approx(0.05, rel=0.25)


def test_settings_without_a_step_are_the_users_error() -> None:
    with pytest.raises(UserError, match=r"train.epochs=0; there is no training step to measure"):
        speed.measure(config(train__epochs="0"), "cpu")
    with pytest.raises(UserError, match=r"train.batch_size=1800: digits has 14\d\d images"):
        speed.measure(config(train__batch_size="1800"), "cpu")


def test_lightlys_transforms_have_the_size_of_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """lightly is no dependency: a module of its shape stands in for it."""
    views: list[tuple[int, float]] = []

    def view(input_size: int, gaussian_blur: float) -> v2.Transform:
        views.append((input_size, gaussian_blur))
        return v2.Compose([v2.Resize(input_size), v2.PILToTensor()])

    def both(view_1_transform: v2.Transform, view_2_transform: v2.Transform) -> SimpleNamespace:
        return SimpleNamespace(transforms=[view_1_transform, view_2_transform])

    module = SimpleNamespace(BYOLTransform=both, BYOLView1Transform=view, BYOLView2Transform=view)
    monkeypatch.setitem(sys.modules, "lightly", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "lightly.transforms", SimpleNamespace(byol_transform=module))
    monkeypatch.setattr(speed, "find_spec", lambda name: name == "lightly")
    measured = speed.measure(config(), "cpu")
    assert views == [(8, 0.0), (8, 0.0)]
    assert measured["lightly_images_per_second"] > 0
    assert "lightly" in speed.describe(measured)
