"""Published presets against tables of their sources' values, typed from the sources."""

from typing import Any

import pytest

from bench.config import presets
from bench.config.published import PUBLISHED
from bench.config.schema import RunConfig, resolve
from bench.errors import UserError

SOLO = ("solo-learn/cifar10", "solo-learn/cifar100")

# scripts/pretrain/cifar/<method>.yaml: optimizer, lr, weight decay, and the heads and losses
SOLO_LEARN: dict[str, tuple[str, float, float, dict[str, Any]]] = {
    "barlow_twins": ("lars", 0.3, 1e-4, {"projector_hidden": 2048, "projector_out": 2048, "scale": 0.1}),
    "byol": ("lars", 1.0, 1e-5, {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096}),
    "moco_v2": ("sgd", 0.3, 1e-4, {"projector_hidden": 2048, "projector_out": 256, "queue": 32768, "temperature": 0.2}),
    "moco_v3": ("lars", 0.3, 1e-6, {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096}),
    "nnclr": ("lars", 0.4, 1e-5, {"projector_hidden": 2048, "projector_out": 256, "predictor_hidden": 4096}),
    "simclr": ("lars", 0.4, 1e-4, {"projector_hidden": 2048, "projector_out": 256, "temperature": 0.2}),
    "simsiam": ("sgd", 0.5, 1e-5, {"projector_hidden": 2048, "projector_out": 2048, "predictor_hidden": 512}),
    "vicreg": ("lars", 0.3, 1e-4, {"projector_hidden": 2048, "projector_out": 2048, "invariance": 25, "covariance": 1}),
}
# solo/methods/<method>.py and solo/losses: what the files leave at its default, or write in code
IN_CODE: dict[str, dict[str, Any]] = {
    "barlow_twins": {"off_diagonal": 0.0051, "projector_layers": 3},
    "byol": {"tau": 0.99, "tau_end": 1, "tau_schedule": "cosine", "teacher_init": "copy"},
    "moco_v2": {"tau": 0.99, "tau_end": 0.999, "tau_schedule": "cosine"},
    "moco_v3": {"tau": 0.99, "tau_end": 1, "temperature": 0.2},
    "nnclr": {"temperature": 0.2, "support": 65536, "projector_layers": 3},
    "simclr": {"projector_norm": False, "projector_layers": 2},
    "simsiam": {"projector_layers": 3, "predictor_constant_lr": True, "predictor": "mlp"},
    "vicreg": {"projector_layers": 3, "variance": 2 * 25},  # summed over the views there, averaged here
}
# augmentations/*.yaml: crop_min, brightness, contrast, saturation, hue, blur, solarize; of the first and second view
ASYMMETRIC: list[tuple[float, ...]] = [(0.08, 0.4, 0.4, 0.2, 0.1, 0, 0), (0.08, 0.4, 0.4, 0.2, 0.1, 0, 0.2)]
SYMMETRIC: list[tuple[float, ...]] = [(0.08, 0.8, 0.8, 0.8, 0.2, 0.5, 0)] * 2
WEAK: list[tuple[float, ...]] = [(0.08, 0.4, 0.4, 0.4, 0.1, 0.5, 0)] * 2
VIEWS: dict[str, list[tuple[float, ...]]] = {
    "barlow_twins": ASYMMETRIC,
    "byol": ASYMMETRIC,
    "moco_v2": WEAK,
    "moco_v3": ASYMMETRIC,
    "nnclr": ASYMMETRIC,
    "simclr": SYMMETRIC,
    "simsiam": WEAK,
    "vicreg": [(0.2, 0.4, 0.4, 0.2, 0.1, 0, 0.1)] * 2,  # in vicreg.yaml itself
}
# README.md: Acc@1 of CIFAR-10 and CIFAR-100, 1000 epochs
ACC1 = {
    "barlow_twins": (92.10, 70.90),
    "byol": (92.58, 70.46),
    "moco_v2": (92.94, 69.89),
    "moco_v3": (93.10, 68.83),
    "nnclr": (91.88, 69.62),
    "simclr": (90.74, 65.78),
    "simsiam": (90.51, 66.04),
    "vicreg": (92.07, 68.54),
}


def config(preset: str, method: str) -> RunConfig:
    return resolve(presets.values(preset, method), {})


@pytest.mark.parametrize("preset", SOLO)
@pytest.mark.parametrize("method", SOLO_LEARN)
def test_solo_learns_numbers(preset: str, method: str) -> None:
    c, (name, lr, decay, own) = config(preset, method), SOLO_LEARN[method]
    assert (c.optim.name, c.optim.lr, c.optim.weight_decay, c.optim.momentum) == (name, lr, decay, 0.9)
    assert {**own, **IN_CODE[method]}.items() <= c.method.model_dump().items()
    assert (c.train.epochs, c.train.batch_size, c.data.name, c.data.size) == (1000, 256, preset.partition("/")[2], 32)
    assert (c.backbone.name, c.backbone.stem, c.backbone.zero_init) == ("resnet18", "small_pad2", False)
    if name == "lars":  # exclude_bias_n_norm
        assert (c.optim.lars_eta, c.optim.lars_clip, c.optim.decay_bias_norm) == (0.02, True, False)
    else:  # SGD decays all parameters there
        assert c.optim.decay_bias_norm
    assert (c.optim.warmup_epochs, c.optim.warmup_peak, c.optim.schedule) == (10, "last", "cosine")
    assert c.optim.loss_scale == (2 if method == "byol" else 1)  # both directions are added up there


@pytest.mark.parametrize("preset", SOLO)
@pytest.mark.parametrize("method", VIEWS)
def test_solo_learns_views(preset: str, method: str) -> None:
    own = config(preset, method).augment
    assert (own.interpolation, own.blur_kernel) == ("bicubic", "full")
    for view, expected in zip(own.views(), VIEWS[method], strict=True):
        colours = view.brightness, view.contrast, view.saturation, view.hue
        assert (view.crop_min, *colours, view.blur, view.solarize) == expected
        assert (view.crop_max, view.ratio_min, view.ratio_max) == (1, 3 / 4, 4 / 3)
        assert (view.flip, view.jitter, view.gray) == (0.5, 0.8, 0.2)
        assert (view.blur_sigma_min, view.blur_sigma_max) == (0.1, 2)


def test_the_accuracies_to_meet_are_solo_learns() -> None:
    for column, preset in enumerate(SOLO):
        own = PUBLISHED[preset]
        assert own.accuracies == {method: both[column] for method, both in ACC1.items()}
        assert own.by_method.keys() == own.accuracies.keys()


@pytest.mark.parametrize("preset", PUBLISHED)
def test_what_a_source_does_not_have_is_refused_with_what_it_has(preset: str) -> None:
    with pytest.raises(UserError, match=f"preset {preset} replicates .*, which has no supervised; it has .*paired"):
        presets.values(preset, "supervised")


def test_presets_say_which_kind_they_are() -> None:
    for name, text in presets.DESCRIPTIONS.items():
        assert ("/" in name) == (name in PUBLISHED) == ("published, " in text), name
