"""The presets' numbers, as their sources give them."""

from typing import Any

import pytest

from bench.config import presets
from bench.config.published import PUBLISHED
from bench.config.schema import RunConfig, resolve
from methods import METHODS


def config(preset: str, method: str) -> RunConfig:
    return resolve(presets.values(preset, method), {})


@pytest.mark.parametrize(
    ("method", "optimizer", "lr", "weight_decay", "heads"),
    [  # solo-learn's CIFAR-10 configurations; raft and byol_prime as byol
        ("simclr", "lars", 0.4, 1e-4, {"projector_hidden": 2048, "projector_out": 256, "temperature": 0.2}),
        ("byol", "lars", 1.0, 1e-5, {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096}),
        ("raft", "lars", 1.0, 1e-5, {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096}),
        ("byol_prime", "lars", 1.0, 1e-5, {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096}),
        ("moco_v3", "lars", 0.3, 1e-6, {"projector_hidden": 4096, "projector_out": 256, "temperature": 0.2}),
        ("barlow_twins", "lars", 0.3, 1e-4, {"projector_hidden": 2048, "projector_out": 2048, "scale": 0.1}),
        ("vicreg", "lars", 0.3, 1e-4, {"projector_hidden": 2048, "projector_out": 2048, "invariance": 25}),
        ("dino", "lars", 0.3, 1e-6, {"projector_hidden": 2048, "projector_out": 256, "prototypes": 4096}),
        ("simsiam", "sgd", 0.5, 1e-5, {"projector_layers": 3, "projector_out": 2048, "predictor_hidden": 512}),
    ],
)
def test_cifar10_has_solo_learns_numbers(
    method: str, optimizer: str, lr: float, weight_decay: float, heads: dict[str, Any]
) -> None:
    c = config("cifar10", method)
    assert (c.optim.name, c.optim.lr, c.optim.weight_decay, c.optim.warmup_epochs) == (optimizer, lr, weight_decay, 10)
    assert (c.optim.lars_eta, c.optim.lars_clip, c.optim.momentum, c.optim.decay_bias_norm) == (0.02, True, 0.9, False)
    assert heads.items() <= c.method.model_dump().items()
    assert (c.train.epochs, c.train.batch_size) == (200, 256)
    assert (c.backbone.name, c.backbone.stem) == ("resnet18", "small")
    a = c.augment
    assert (a.crop_min, a.crop_max, a.flip, a.jitter, a.gray, a.blur) == (0.2, 1, 0.5, 0.8, 0.2, 0)
    assert (a.brightness, a.contrast, a.saturation, a.hue) == (0.4, 0.4, 0.4, 0.1)


def test_simsiams_predictor_keeps_its_rate_on_cifar10() -> None:
    assert config("cifar10", "simsiam").method.model_dump()["predictor_constant_lr"]


@pytest.mark.parametrize("method", ["raft", "byol", "byol_prime"])
def test_raft_paper_has_the_authors_numbers(method: str) -> None:
    c = config("raft-paper", method)
    assert c.optim.name == "adam"
    assert c.optim.lr * c.train.batch_size / 256 == pytest.approx(3e-4)  # the rate that Adam is given
    assert (c.optim.schedule, c.optim.weight_decay) == ("constant", 0)
    assert (c.train.epochs, c.train.batch_size, c.backbone.stem) == (300, 1024, "imagenet")
    m = c.method.model_dump()
    assert (m["tau"], m["tau_schedule"], m["teacher_init"]) == (0.996, "constant", "random")
    assert (m["projector_hidden"], m["projector_out"], m["predictor_hidden"]) == (512, 256, 512)
    a = c.augment
    assert (a.crop_min, a.brightness, a.contrast, a.saturation, a.hue, a.gray) == (0.08, 0.8, 0.8, 0.8, 0.2, 0.2)


@pytest.mark.parametrize("preset", ["quick", "cifar10-mini", "cifar10-small"])
@pytest.mark.parametrize("method", ["raft", "byol", "byol_prime"])
def test_the_small_presets_have_one_teacher(preset: str, method: str) -> None:
    m = config(preset, method).method.model_dump()
    assert (m["tau"], m["tau_schedule"], m["teacher_init"]) == (0.99, "cosine", "copy")
    assert (m["projector_hidden"], m["projector_out"]) == (256, 128)


@pytest.mark.parametrize("preset", ["quick", "cifar10-small"])
def test_vicreg_whose_loss_is_larger_has_a_tenth_of_the_others_rate_where_nothing_adapts_it(preset: str) -> None:
    assert config(preset, "vicreg").optim.lr == pytest.approx(config(preset, "byol").optim.lr / 10)


def test_quick_neither_mirrors_nor_colours_digits() -> None:
    a = config("quick", "raft").augment
    assert (a.crop_min, a.flip, a.jitter, a.gray, a.blur, a.solarize) == (0.2, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("preset", [name for name in presets.PRESETS if name not in PUBLISHED])
def test_a_method_that_no_preset_lists_has_what_its_methods_share(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.places, "theirs", METHODS.places["simsiam"])
    shared, _ = presets.PRESETS[preset]
    theirs = config(preset, "theirs").model_dump()
    assert theirs["method_name"] == "theirs"
    assert all(theirs[section][key] == value for section, own in shared.items() for key, value in own.items())
