"""Settings that cannot do what they say are told when they are planned; presets have none."""

from pathlib import Path
from typing import Any

import pytest

from bench.config import presets
from bench.config.schema import RunConfig, keys, resolve
from bench.planning import doubts as module
from bench.planning.doubts import doubts


def told(method: str = "byol", n_images: int = 1437, cpu: bool = False, **settings: object) -> list[str]:
    overrides = {key.replace("__", "."): str(value) for key, value in settings.items()}
    return doubts(resolve(presets.values("quick", method), overrides), n_images, n_images, cpu, overrides)


@pytest.mark.parametrize(
    ("preset", "method"),
    [(p, m) for p in presets.PRESETS for m in presets.methods(p)],
)
def test_presets_do_what_they_say(preset: str, method: str) -> None:
    config: RunConfig = resolve(presets.values(preset, method), {})
    n = 1437 if preset == "quick" else 50_000
    assert doubts(config, n, n, chosen=keys(method)) == []


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        (
            {"train__epochs": 5, "optim__warmup_epochs": 50},
            "optim.warmup_epochs=50: the rate rises to the end of training, after 5 epochs at 10%",
        ),
        ({"eval__every_epochs": 31}, "eval.every_epochs=31: training ends after 30"),
        ({"train__checkpoint_epochs": 31}, "train.checkpoint_epochs=31: training ends after 30"),
        ({"train__batch_size": 719}, "train.batch_size=719: an epoch leaves out 718 of 1437 images"),
        ({"eval__knn_k": 1438}, "eval.knn_k=1438: there are 1437 labelled images"),
        ({"optim__lars_eta": 0.1}, "optim.lars_eta=0.1: no effect with optim.name=sgd"),
        ({"optim__name": "adam", "optim__momentum": 0.5}, "optim.momentum=0.5: no effect with optim.name=adam"),
        ({"augment__blur_sigma_max": 3}, "augment.blur_sigma_max=3: no effect with augment.blur=0"),
        ({"augment__hue": 0.2}, "augment.hue=0.2: no effect with augment.jitter=0"),
        ({"augment__crop_min": 0.5, "augment__crop_max": 0.5}, "augment.crop_min=augment.crop_max=0.5: every crop"),
        ({"augment__view2.flip": 0}, "augment.view2.flip=0: no effect, the first view has the same"),
        ({"augment__view2.hue": 0.3}, "augment.view2.hue=0.3: no effect, jitter of the second view is 0"),
        ({"method__predictor": "none", "method__predictor_hidden": 9}, "method.predictor_hidden=9: no effect with"),
        (
            {"augment__crop_min": 1, "augment__flip": 0, "augment__jitter": 0, "augment__gray": 0},
            "augment.crop_min=1: no other augmentation is on, so both views of an image are the same",
        ),
        ({"data__skip_bad": "true"}, "data.skip_bad=true: no effect on digits"),
        (
            {"backbone__name": "test_efficientnet", "backbone__stem": "imagenet", "backbone__zero_init": "false"},
            "backbone.zero_init=false: no effect on test_efficientnet",
        ),
        (
            {"backbone__weights": "file:w.pth", "backbone__zero_init": "false"},
            "backbone.zero_init=false: no effect with backbone.weights",
        ),
    ],
)
def test_settings_without_their_effect_are_told(settings: dict[str, Any], start: str) -> None:
    (line,) = told(**settings)
    assert line.startswith(start)


def test_of_a_presets_own_numbers_only_what_matters_is_told() -> None:
    """`--set train.epochs=2` leaves eval.every_epochs=5 without effect, and nobody cares."""
    (line,) = told(train__epochs=2)
    assert line.startswith("optim.warmup_epochs=2: the rate rises to the end of training, after 2 epochs at 100%")
    assert told(train__epochs=3) == []
    config = resolve(presets.values("raft-paper", "raft"), {"augment.jitter": "0"})
    assert doubts(config, 50_000, 50_000, chosen=["augment.jitter"]) == []


def test_settings_with_their_effect_are_not() -> None:
    assert told(augment__blur=0.5, augment__blur_sigma_max=3) == []
    assert told(optim__name="lars", optim__lars_eta=0.1) == []
    assert told("random", train__epochs=1) == []


@pytest.mark.parametrize(("has", "cpu", "n"), [(False, True, 1), (True, True, 0), (False, False, 0)])
def test_bfloat16_without_instructions_is_slow(monkeypatch: pytest.MonkeyPatch, has: bool, cpu: bool, n: int) -> None:
    monkeypatch.setattr(module, "_has_bfloat16", lambda: has)
    assert len(told(cpu=cpu, train__precision="bfloat16")) == n
    assert not told(cpu=cpu, train__precision="float32") and not told("random", cpu=cpu, train__precision="bfloat16")


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("flags\t: fpu sse4_2 fma avx2 f16c", False),
        ("flags\t: fpu avx2 avx512f avx512_vnni", False),
        ("flags\t: avx2 avx512f avx512_bf16 clzero", True),
        ("flags\t: avx512f amx_bf16 amx_tile", True),
        ("Features\t: fp asimd asimdhp", False),
        ("Features\t: fp asimd i8mm bf16 dgh", True),
    ],
)
def test_the_processor_says_whether_it_has_them(tmp_path: Path, flags: str, has: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n\nprocessor\t: 1\n{flags}\n")
    assert module._has_bfloat16(tmp_path / "cpuinfo") == has


def test_a_system_that_does_not_tell_is_given_the_benefit_of_the_doubt(tmp_path: Path) -> None:
    assert module._has_bfloat16(tmp_path / "cpuinfo")
