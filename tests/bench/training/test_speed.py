"""`bench speed` measures what it says it does."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2
from torchvision.transforms.functional import to_tensor

from bench.config.schema import RunConfig
from bench.errors import UserError
from bench.planning import plan
from bench.runs.store import RunDir
from bench.training import machine, pictures, roofline, speed
from bench.training.trainer import Trainer


def config(method: str = "byol", preset: str = "quick", **overrides: str) -> RunConfig:
    chosen = {"data.size": "8", "train.batch_size": "64"} | {k.replace("__", "."): v for k, v in overrides.items()}
    (planned,) = plan.plan([method], [0], preset, chosen, {}, "x")
    return RunConfig(**planned["config"])


@pytest.mark.parametrize("method", ["byol", "supervised"])
def test_a_step_and_its_parts_are_measured(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[float] = []

    def noted(*given: Any) -> float:
        products.append(roofline.roofline_seconds(*given))
        return products[-1]

    monkeypatch.setattr(speed, "roofline_seconds", noted)
    measured = speed.measure(config(method), "cpu", seconds=1e6)  # enough on any machine
    rates = ("step", "augment", "pil", "pil_step", "evaluation")
    assert all(measured[f"{name}_images_per_second"] > 0 for name in rates)
    assert all(measured[f"{name}_ms"] > 0 for name in ("augment", "forward", "backward", "optimizer", "ema"))
    step_seconds = 64 / measured["step_images_per_second"]
    assert measured["augment_images_per_second"] == pytest.approx(64 / (measured["augment_ms"] / 1000))
    assert measured["augment_share"] == pytest.approx(measured["augment_ms"] / 1000 / step_seconds)
    assert [measured["roofline_share"]] == pytest.approx([seconds / step_seconds for seconds in products])
    assert measured["peak_memory_mb"] > 50
    steps = 30 * (1437 // 64)
    assert measured["projected_hours"] == pytest.approx(steps * 64 / measured["step_images_per_second"] / 3600)
    assert measured["left_out"] == []
    assert measured["timed_images"] == 64
    assert json.loads(json.dumps(measured)) == measured
    assert "images/s" in speed.describe(measured)


@pytest.mark.parametrize(("accumulate", "expected"), [(1, [64]), (2, [32, 64])])
def test_compiling_is_told_and_counts_for_nothing_else(
    accumulate: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that takes a second for every new batch size, where there is time for nothing."""
    sizes: list[int] = []

    def compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
        eager, known = network.forward, set[int]()

        def forward(images: Tensor) -> Tensor:
            if network.training and len(images) not in known:
                known.add(len(images))
                sizes.append(len(images))
                time.sleep(1)
            found: Tensor = eager(images)
            return found

        return forward

    monkeypatch.setattr(machine, "_compiled", compiled)
    settings = {"train__compile": "true", "train__accumulate": str(accumulate)}
    measured = speed.measure(config("simclr", **settings), "cpu", seconds=0)
    assert sizes == expected  # none but those of a run, and of the passes on a whole batch
    assert measured["timed_images"] == measured["batch_size"] == 64
    assert measured["compiled"] and measured["compile_seconds"] >= 1
    assert 64 / measured["step_images_per_second"] < 0.5 and measured["forward_ms"] < 500
    assert re.search(r"^compiling +[1-9]\d* s", speed.describe(measured), re.MULTILINE)
    assert "compiling" not in speed.describe({**measured, "compiled": False})


@pytest.mark.parametrize("method", ["byol", "supervised"])
def test_the_roofline_has_every_product_of_the_two_passes_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is computed, not by a clock: these two methods multiply in no other place than their layers."""

    def operations(function: Callable[[], object], *_: object) -> float:
        with FlopCounterMode(display=False) as counter:
            function()
        total: float = counter.get_total_flops()
        return total

    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    job = Trainer(config(method), 0, speed.noise(images), torch.device("cpu"), RunDir(Path("nowhere")))
    views, labels = job.augment(images, torch.Generator().manual_seed(0)), job.labels
    monkeypatch.setattr(roofline, "median_seconds", operations)
    passes = operations(lambda: job.forward(*views, labels)["loss"].backward())
    assert roofline.roofline_seconds(job, views, 1.0) == passes > 0


def test_an_untrained_backbone_has_no_step_to_measure() -> None:
    with pytest.raises(UserError, match="no training step"):
        speed.measure(config("random"), "cpu")


def test_the_pil_pipeline_has_the_operations_of_the_preset_and_no_others() -> None:
    first, second = pictures.pil_transforms(config(preset="cifar10", augment__view2__solarize="0.2"))
    names = [type(step).__name__ for step in first.transforms]
    assert names[:4] == ["RandomResizedCrop", "RandomHorizontalFlip", "RandomApply", "RandomGrayscale"]
    assert [type(step) for step in second.transforms[4:5]] == [v2.RandomSolarize]
    digits, _ = pictures.pil_transforms(config())
    assert "RandomHorizontalFlip" not in [type(step).__name__ for step in digits.transforms]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_loader_is_as_fast_as_its_workers_and_no_faster(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that need 1 s a batch each, and start at once, deliver one batch each every second."""
    clock = SimpleNamespace(now=0.0)

    def bursts(dataset: pictures.Pictures, batch: int, **_: object) -> Iterator[tuple[int, int]]:
        for number in range(len(dataset) // batch):
            clock.now = 1.0 + number // workers
            yield 0, 0

    monkeypatch.setattr(pictures, "DataLoader", bursts)
    monkeypatch.setattr(pictures, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    assert pictures.loader_seconds(images, 4, workers, (to_tensor, to_tensor)) == pytest.approx(1 / workers)


def test_a_loader_gives_the_views_of_every_picture_to_what_uses_them() -> None:
    images, used = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), []
    seconds = pictures.loader_seconds(images, 4, 1, (to_tensor, to_tensor), lambda *views: used.append(views))
    assert seconds > 0
    assert len(used) == pictures.PREFETCH + pictures.MIN_TIMED
    assert {view.shape for views in used for view in views} == {(4, 3, 8, 8)}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(11, "Resource temporarily unavailable"), "DataLoader: [Errno 11] Resource temporarily unavailable"),
        (
            RuntimeError("Caught in worker 0.\n\nNo space left on device (28)\n"),
            "DataLoader: No space left on device (28)",
        ),
    ],
)
def test_a_loader_that_cannot_be_had_is_left_out_and_the_reason_said(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where no process can be started, or /dev/shm is full."""

    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pictures, "DataLoader", broken)
    with pytest.raises(pictures.LeftOut) as caught:
        pictures.loader_seconds(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), 4, 1, (to_tensor, to_tensor))
    assert str(caught.value) == reason


def test_what_does_not_fit_the_time_is_measured_once_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    said: list[str] = []
    learn = Trainer.learn

    def counted(job: Trainer, *views: torch.Tensor) -> object:
        steps.append(1)
        return learn(job, *views)

    monkeypatch.setattr(Trainer, "learn", counted)
    measured = speed.measure(config("simclr"), "cpu", seconds=0, say=said.append)
    assert len(steps) == 2  # of 16 images each, the first of which tells that 64 are too many
    assert measured["timed_images"] == 16
    assert measured["batch_size"] == 64
    assert "timed on 16 images of a batch" in speed.describe(measured)
    assert measured["pil_step_images_per_second"] is None
    assert [line.split(":")[0] for line in measured["left_out"][:2]] == ["PIL pipeline", "PIL pipeline with the step"]
    assert "and 0 s are left (--seconds gives more)" in measured["left_out"][0]
    assert f"left out: {measured['left_out'][0]}\n" in speed.describe(measured)
    assert said[:3] == ["evaluation", "a step on 16 images", "a step on 16 images"]
    assert len(said) == speed.PARTS - (find_spec("lightly") is None)


def test_slow_rates_are_no_zeros() -> None:
    assert [speed._rate(value) for value in (0.184, 9.94, 10.2, 12345.6)] == ["0.18", "9.9", "10", "12,346"]


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
    monkeypatch.setattr(speed, "loader_seconds", lambda *_, **__: 1.0)
    measured = speed.measure(config(), "cpu", seconds=0)
    assert views == [(8, 0.0), (8, 0.0)]
    assert measured["lightly_images_per_second"] == 64
    assert "lightly" in speed.describe(measured)
