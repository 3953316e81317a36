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
    "dino": ("lars", 0.3, 1e-6, {"projector_hidden": 2048, "projector_out": 256, "prototypes": 4096}),
    "swav": ("lars", 0.6, 1e-6, {"projector_hidden": 2048, "projector_out": 128, "prototypes": 3000, "queue": 3840}),
    "wmse": ("adam", 2e-3, 1e-6, {"projector_hidden": 1024, "projector_out": 64, "whitening_size": 128}),
    "vicreg": ("lars", 0.3, 1e-4, {"projector_hidden": 2048, "projector_out": 2048, "invariance": 25, "covariance": 1}),
}
# solo/methods/<method>.py and solo/losses: what the files leave at its default, or write in code
IN_CODE: dict[str, dict[str, Any]] = {
    "barlow_twins": {"off_diagonal": 0.0051, "projector_layers": 3},
    "byol": {"tau": 0.99, "tau_end": 1, "tau_schedule": "cosine", "teacher_init": "copy"},
    "dino": {"tau": 0.9995, "teacher_temperature": 0.07, "student_temperature": 0.1, "head": "dino"}
    | {"temperature_warmup": 0, "freeze_prototypes": 1 / 1000, "center_momentum": 0.9},
    "swav": {
        "temperature": 0.1,
        "epsilon": 0.05,
        "iterations": 3,
        "queue_from": 50 / 1000,
        "freeze_prototypes": 2 / 1000,
    },
    "wmse": {"whitening_iterations": 1},
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
    "dino": ASYMMETRIC,
    "swav": SYMMETRIC,
    "wmse": [(0.2, 0.8, 0.8, 0.8, 0.2, 0, 0)] * 2,  # in wmse.yaml itself
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
    "dino": (89.52, 66.76),
    "swav": (89.17, 64.88),
    "wmse": (88.67, 61.33),
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
    else:  # SGD and Adam decay all parameters there
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


# lightly's cifar10_benchmark.py at batch_size = 512 (lr_factor 4), in rates for 256 images; kNN of its table
LIGHTLY: dict[str, tuple[str, float, float, dict[str, Any], float]] = {
    "barlow_twins": ("sgd", 0.06 * 2, 5e-4, {"projector_hidden": 2048, "projector_out": 2048, "scale": 1}, 81.9),
    "byol": ("sgd", 0.06 * 2, 5e-4, {"projector_hidden": 1024, "projector_out": 256, "predictor_hidden": 1024}, 86.8),
    "moco_v2": ("sgd", 0.06 * 2, 5e-4, {"projector_hidden": 512, "queue": 8192, "temperature": 0.1, "tau": 0.99}, 84.7),
    "simclr": ("sgd", 0.06 * 2, 5e-4, {"projector_hidden": 512, "projector_out": 128, "temperature": 0.5}, 84.8),
    "simsiam": ("sgd", 0.06 / 2, 5e-4, {"projector_hidden": 2048, "predictor_hidden": 512}, 76.4),  # not scaled
    "swav": ("adam", 1e-3 * 2, 1e-6, {"projector_hidden": 512, "projector_out": 128, "prototypes": 512}, 84.2),
}
LIGHTLY_VIEWS = {  # crop_min, saturation, the second view's solarize; cj_strength 0.5 halves .8/.8/.8/.2
    "barlow_twins": (0.08, 0.2, 0.2),
    "byol": (0.08, 0.2, 0.2),
    "moco_v2": (0.08, 0.4, 0),
    "simclr": (0.08, 0.4, 0),
    "simsiam": (0.2, 0.4, 0),
    "swav": (0.14, 0.4, 0),
}


@pytest.mark.parametrize("method", LIGHTLY)
def test_lightlys_numbers(method: str) -> None:
    c, (name, lr, decay, own, knn) = config("lightly/cifar10", method), LIGHTLY[method]
    assert (c.optim.name, c.optim.weight_decay, c.optim.decay_bias_norm) == (name, decay, True)
    assert c.optim.lr == pytest.approx(lr)
    assert own.items() <= c.method.model_dump().items()
    assert (c.optim.momentum, c.optim.warmup_epochs, c.optim.schedule) == (0.9, 0, "cosine")
    assert c.optim.loss_scale == (0.5 if method == "byol" else 1)
    assert (c.train.epochs, c.train.batch_size, c.train.precision) == (200, 512, "float32")
    assert (c.backbone.name, c.backbone.stem, c.backbone.zero_init) == ("resnet18", "small", False)
    assert (c.data.normalize, c.augment.interpolation) == ("imagenet", "bilinear")
    first, second = c.augment.views()
    assert (first.crop_min, first.saturation, second.solarize) == LIGHTLY_VIEWS[method]
    assert (first.brightness, first.contrast, first.hue, first.gray, first.blur) == (0.4, 0.4, 0.1, 0.2, 0)
    assert PUBLISHED["lightly/cifar10"].accuracies[method] == knn


def test_simsiams_numbers() -> None:
    c = config("simsiam/cifar10", "simsiam")
    assert (c.optim.name, c.optim.lr, c.optim.weight_decay, c.optim.warmup_epochs) == ("sgd", 0.03, 5e-4, 0)
    assert (c.train.epochs, c.train.batch_size) == (800, 512)
    own = {"projector_layers": 2, "projector_out": 2048, "predictor_hidden": 512, "predictor_constant_lr": True}
    assert own.items() <= c.method.model_dump().items()
    a = c.augment
    assert (a.crop_min, a.brightness, a.contrast, a.saturation, a.hue, a.gray, a.blur) == (
        0.2,
        0.4,
        0.4,
        0.4,
        0.1,
        0.2,
        0,
    )
    assert PUBLISHED["simsiam/cifar10"].accuracies == {"simsiam": 91.8}


@pytest.mark.parametrize("method", ["raft", "byol", "byol_prime"])
def test_rafts_numbers_of_the_papers_time(method: str) -> None:
    """As the preset raft-paper, but for the stem and the normalisation of that time."""
    own, mixed = config("raft-paper/2020-11", method), config("raft-paper", method)
    assert (own.backbone.stem, mixed.backbone.stem) == ("small", "imagenet")
    assert (own.data.normalize, mixed.data.normalize) == ("imagenet", "own")
    assert (own.method, own.augment, own.optim) == (mixed.method, mixed.augment, mixed.optim)
    assert (own.train.epochs, own.train.batch_size) == (300, 1024)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_what_a_source_does_not_have_is_refused_with_what_it_has(preset: str) -> None:
    with pytest.raises(UserError, match=f"preset {preset} replicates .*; not supervised. .* paired"):
        presets.values(preset, "supervised")


def test_presets_say_which_kind_they_are() -> None:
    for name, text in presets.DESCRIPTIONS.items():
        assert ("/" in name) == (name in PUBLISHED) == ("published, " in text), name
