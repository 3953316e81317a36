"""Numbers with their sources: (preset, method) -> the settings of a run, before the user's overrides.

A preset is what all its methods share, then what differs by method. Sources: the methods' papers (arXiv numbers in
methods/), solo-learn's CIFAR-10 configurations (for the preset `cifar10`), or our own choice, which is said. These
presets are *paired*: one augmentation and budget for all methods, to compare them. Those for photographs are in a file
of their own, and so are the *published* ones, which replicate a source method by method.
"""

from collections.abc import Mapping
from typing import Any

from bench.config import photographs, published
from bench.config.published import PUBLISHED
from bench.config.published.papers import RAFT_HEADS
from bench.errors import UserError, unknown
from methods import METHODS

# Our choice, so that a laptop without data or network has results in minutes. The rates are of .1, .5 and 1 what gave
# the best mean validation accuracy over 2 seeds: 1 for raft and byol, which all take but those with a rate of their own
# below; nothing else was tuned, for no method. Digits are neither mirrored nor coloured, so flips and colours are off.
_QUICK: dict[str, Any] = {
    "data": {"name": "digits", "size": 16},
    "backbone": {"name": "resnet10_small"},
    "augment": {"crop_min": 0.2, "flip": 0.0, "jitter": 0.0, "gray": 0.0},
    "optim": {"name": "sgd", "lr": 1.0, "weight_decay": 1e-4, "warmup_epochs": 2},
    "train": {"epochs": 30, "batch_size": 128, "threads": 1},  # its steps are too small to gain from more
    "eval": {"every_epochs": 5},
}

# Our choice: CIFAR-10 at the size of two CPU cores. Augmentation as SimSiam on CIFAR-10 (arXiv 2011.10566, appendix D).
_CIFAR10_MINI: dict[str, Any] = {
    "data": {"name": "cifar10", "size": 32},
    "backbone": {"name": "resnet10_small"},
    "augment": {},
    "optim": {"name": "sgd", "lr": 0.1, "weight_decay": 1e-4, "warmup_epochs": 1},
    "train": {"epochs": 5, "batch_size": 256},  # 10 minutes on one core of 2026
    "eval": {"every_epochs": 2},
}

# One GPU. Rates and decays after solo-learn, which has 10 warm-up epochs and LARS with eta .02 and clipping. Not
# comparable with its tables or others': stem padding, crops, colours, heads and epochs differ.
_CIFAR10: dict[str, Any] = {
    "data": {"name": "cifar10", "size": 32},
    "backbone": {"name": "resnet18", "zero_init": False},  # as torchvision's, which solo-learn and lightly train
    "augment": {},
    "optim": {"name": "lars", "lr": 0.3, "warmup_epochs": 10},  # the rate: for methods without a line of their own
    "train": {"epochs": 200, "batch_size": 256, "precision": "bfloat16", "checkpoint_epochs": 5},
    "eval": {"every_epochs": 5},
}

_BYOL_CIFAR10: dict[str, Any] = {  # solo-learn's BYOL; nothing is published for raft and byol_prime
    "optim": {"lr": 1.0, "weight_decay": 1e-5},
    "method": {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096},
}

# The paper's own setting (arXiv 2011.10944 and its authors' code): Adam at a constant 3e-4, no weight decay, crop
# from .08, jitter .8/.8/.8/.2, ImageNet stem. Rates are per 256 images here: 3e-4 * 256 / 1024 = 7.5e-5. (Their
# command gives batch 1024 to each of 4 processes, so 4096 images may have made a step there.)
_RAFT_PAPER: dict[str, Any] = {
    "data": {"name": "cifar10", "size": 32},
    "backbone": {"name": "resnet18", "stem": "imagenet", "zero_init": False},
    "augment": {"crop_min": 0.08, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2},
    "optim": {"name": "adam", "lr": 7.5e-5, "schedule": "constant"},
    "train": {"epochs": 300, "batch_size": 1024, "precision": "bfloat16", "checkpoint_epochs": 5},
    "eval": {"every_epochs": 10},
}

_QUICK_RATES: dict[str, dict[str, Any]] = {  # at .1, .5, 1 (results/reference/rates); –: the loss became infinite
    "moco_v3": {"optim": {"lr": 0.5}},  # 92.7, 96.9, 96.5
    "barlow_twins": {"optim": {"lr": 0.5}},  # 90.2, 93.0, 91.3
    "vicreg": {"optim": {"lr": 0.1}},  # 96.2, – (one seed of two), –
    "dino": {"optim": {"lr": 1.0}},  # 87.4, 89.9, 92.3
    "moco_v2": {"optim": {"lr": 0.5}},  # 94.1, 95.1, 93.0; these and the others of 1, in results/reference/rates-newer
    "swav": {"optim": {"lr": 0.5}},  # 83.9, 90.9, 89.9
    "lejepa": {"optim": {"lr": 0.5}},  # 88.1, 96.2, 94.8
}

# Our choice: CIFAR-10 where minutes of one core leave random weights behind. 6,200 steps of 64 images of 16 pixels take
# about as long as the preset above takes for 975 of 256 images of 32. What was tried: results/README.md.
_CIFAR10_SMALL: dict[str, Any] = {
    "data": {"name": "cifar10", "size": 16},
    "backbone": {"name": "resnet10_small"},
    "augment": {},
    "optim": {"name": "sgd", "lr": 2.0, "weight_decay": 1e-4, "warmup_epochs": 1},
    "train": {"epochs": 8, "batch_size": 64, "threads": 1},  # its steps are too small to gain from more
    "eval": {"every_epochs": 2},
}

_Preset = tuple[dict[str, Any], dict[str, dict[str, Any]]]
PRESETS: dict[str, _Preset] = {
    "quick": (_QUICK, _QUICK_RATES),
    "cifar10-mini": (_CIFAR10_MINI, {}),
    "cifar10-small": (
        _CIFAR10_SMALL,
        {
            "vicreg": {"optim": {"lr": 0.2}},  # a tenth, as in quick
            "wmse": {"method": {"projector_out": 32, "whitening_size": 64}},  # as many as a batch has
        },
    ),
    "cifar10": (
        _CIFAR10,
        {
            "simclr": {
                "optim": {"lr": 0.4, "weight_decay": 1e-4},
                "method": {"projector_hidden": 2048, "projector_out": 256, "temperature": 0.2},
            },
            "byol": _BYOL_CIFAR10,
            "raft": _BYOL_CIFAR10,
            "byol_prime": _BYOL_CIFAR10,
            "simsiam": {
                "optim": {"name": "sgd", "lr": 0.5, "weight_decay": 1e-5},
                "method": {
                    "projector_hidden": 2048,
                    "projector_out": 2048,
                    "projector_layers": 3,
                    "predictor_hidden": 512,
                },
            },
            "moco_v3": {
                "optim": {"lr": 0.3, "weight_decay": 1e-6},
                "method": {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096},
            },
            "barlow_twins": {
                "optim": {"lr": 0.3, "weight_decay": 1e-4},
                "method": {"projector_hidden": 2048, "projector_out": 2048},
            },
            "vicreg": {
                "optim": {"lr": 0.3, "weight_decay": 1e-4},
                "method": {"projector_hidden": 2048, "projector_out": 2048},
            },
            "dino": {
                "optim": {"lr": 0.3, "weight_decay": 1e-6},
                "method": {"projector_hidden": 2048, "projector_out": 256, "prototypes": 4096, "tau": 0.9995},
            },
            "random": {"optim": {"lr": 0.1}},  # nothing is trained
            "supervised": {"optim": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4}},  # the usual ResNet-18 recipe
        },
    ),
    "raft-paper": (
        _RAFT_PAPER,
        {
            "raft": RAFT_HEADS,
            "byol": RAFT_HEADS,
            "byol_prime": RAFT_HEADS,
            "simsiam": {"method": {"projector_hidden": 512, "projector_out": 256, "predictor_hidden": 64}},
            "moco_v3": {"method": {"projector_hidden": 512, "projector_out": 256, "predictor_hidden": 512}},
            **{
                name: {"method": {"projector_hidden": 512, "projector_out": 256}}
                for name in ("simclr", "barlow_twins", "vicreg", "dino")
            },
        },
    ),
    **photographs.PRESETS,
    **{name: (own.shared, own.by_method) for name, own in PUBLISHED.items()},
}

DESCRIPTIONS = {
    "quick": "digits, small ResNet, 30 epochs: any laptop, offline, under a minute a run",
    "cifar10-mini": "CIFAR-10, small ResNet, 5 epochs: about ten minutes a run on one CPU core",
    "cifar10-small": "CIFAR-10 at 16 pixels, small ResNet, 8 epochs: about ten minutes a run on one CPU core",
    "cifar10": "CIFAR-10, ResNet-18, 200 epochs: one GPU; not comparable with published tables",
    "raft-paper": "CIFAR-10, ResNet-18, 300 epochs: raft-paper/2020-11 with the stem of later code; kept for its runs",
    **photographs.DESCRIPTIONS,
    **published.DESCRIPTIONS,
}


def methods(preset: str) -> list[str]:
    """Those that a preset has numbers for: all, but of a published one those of its source."""
    return [*(PUBLISHED[preset].by_method if preset in PUBLISHED else METHODS)]


def values(preset: str, method: str) -> dict[str, Any]:
    """Nested settings of a preset for a method, for `config.resolve` to complete. Raises UserError on unknown names."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    shared, by_method = PRESETS[preset]
    if method not in (known := methods(preset)):
        raise UserError(
            f"preset {preset} replicates {PUBLISHED[preset].source}: {', '.join(known)}; not {method}. To compare "
            "methods, take a paired preset, e.g. cifar10"
        )
    own = by_method.get(method, {})
    merged: dict[str, Any] = {"method_name": method, "method": {}, "eval": {}}
    for source in (shared, own):
        for section, values in source.items():
            merged[section] = {**merged.get(section, {}), **values} if isinstance(values, Mapping) else values
    return merged
