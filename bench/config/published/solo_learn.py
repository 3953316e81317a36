"""solo-learn's CIFAR recipes."""

from collections.abc import Mapping

from bench.config.published.recipe import SGD, STRONG, Published, Settings


def _views(own: Settings, second: Settings | None = None) -> Settings:
    return {"interpolation": "bicubic", "blur_kernel": "full", **own, **({"view2": second} if second else {})}


# solo-learn, scripts/pretrain/cifar/ of commit 9187ea3: "change here for cifar100". Rates are for batches of 256.
_ASYMMETRIC = _views({"crop_min": 0.08, "saturation": 0.2}, {"solarize": 0.2})
_SYMMETRIC = _views({"crop_min": 0.08, **STRONG, "blur": 0.5})
_WEAK = _views({"crop_min": 0.08, "blur": 0.5})
_SOLO_SHARED: Settings = {
    "backbone": {"name": "resnet18", "stem": "small_pad2", "zero_init": False},
    "optim": {"name": "lars", "warmup_epochs": 10, "warmup_peak": "last", "lars_eta": 0.02, "lars_clip": True},
    "train": {"epochs": 1000, "batch_size": 256, "precision": "bfloat16", "checkpoint_epochs": 5},
    "eval": {"every_epochs": 10},
}
_SOLO: dict[str, Settings] = {
    "barlow_twins": {
        "augment": _ASYMMETRIC,
        "optim": {"lr": 0.3, "weight_decay": 1e-4},
        "method": {
            "projector_hidden": 2048,
            "projector_out": 2048,
            "projector_layers": 3,
            "scale": 0.1,
            "off_diagonal": 0.0051,
        },
    },
    "byol": {
        "augment": _ASYMMETRIC,
        "optim": {"lr": 1.0, "weight_decay": 1e-5, "loss_scale": 2.0},  # a sum of both directions there
        "method": {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096, "tau": 0.99},
    },
    "moco_v2": {
        "augment": _WEAK,
        "optim": {**SGD, "lr": 0.3, "weight_decay": 1e-4},
        "method": {
            "projector_hidden": 2048,
            "projector_out": 256,
            "queue": 32768,
            "temperature": 0.2,
            "tau": 0.99,
            "tau_end": 0.999,
            "tau_schedule": "cosine",
        },
    },
    "moco_v3": {
        "augment": _ASYMMETRIC,
        "optim": {"lr": 0.3, "weight_decay": 1e-6},
        "method": {
            "projector_hidden": 4096,
            "projector_out": 256,
            "predictor_hidden": 4096,
            "temperature": 0.2,
            "tau": 0.99,
        },
    },
    "nnclr": {
        "augment": _ASYMMETRIC,
        "optim": {"lr": 0.4, "weight_decay": 1e-5},
        "method": {
            "projector_hidden": 2048,
            "projector_out": 256,
            "projector_layers": 3,
            "predictor_hidden": 4096,
            "temperature": 0.2,
            "support": 65536,
        },
    },
    "simclr": {
        "augment": _SYMMETRIC,
        "optim": {"lr": 0.4, "weight_decay": 1e-4},
        "method": {
            "projector_hidden": 2048,
            "projector_out": 256,
            "projector_norm": False,
            "temperature": 0.2,
        },
    },
    "simsiam": {
        "augment": _WEAK,
        "optim": {**SGD, "lr": 0.5, "weight_decay": 1e-5},
        "method": {"projector_hidden": 2048, "projector_out": 2048, "projector_layers": 3, "predictor_hidden": 512},
    },
    "vicreg": {
        "augment": _views({"saturation": 0.2, "solarize": 0.1}),
        "optim": {"lr": 0.3, "weight_decay": 1e-4},
        "method": {
            "projector_hidden": 2048,
            "projector_out": 2048,
            "projector_layers": 3,
            "invariance": 25.0,
            "variance": 50.0,  # 25 of each view there; the mean of both here
            "covariance": 1.0,
        },
    },
    "wmse": {
        "augment": _views(STRONG),
        "optim": {"name": "adam", "lr": 2e-3, "weight_decay": 1e-6, "decay_bias_norm": True},
        "method": {"projector_hidden": 1024, "projector_out": 64, "whitening_size": 128},
    },
    "swav": {
        "augment": _SYMMETRIC,
        "optim": {"lr": 0.6, "weight_decay": 1e-6},
        "method": {
            "projector_hidden": 2048,
            "projector_out": 128,
            "prototypes": 3000,
            "temperature": 0.1,
            "queue": 3840,
            "queue_from": 0.05,  # epoch 50 of 1000
            "freeze_prototypes": 0.002,  # 2 epochs
        },
    },
    "dino": {
        "augment": _ASYMMETRIC,
        "optim": {"lr": 0.3, "weight_decay": 1e-6},
        "method": {
            "head": "dino",
            "projector_hidden": 2048,
            "projector_out": 256,
            "prototypes": 4096,
            "tau": 0.9995,
            "teacher_temperature": 0.07,
            "freeze_prototypes": 0.001,  # 1 epoch
        },
    },
}
_SOLO_PROBE = "online linear, of the last of 1000 epochs"
_SOLO_DEPARTURES = (
    "bfloat16, not float16; crops are not rounded to bytes; the blur is a Gaussian of 3 standard deviations with "
    "reflected borders, not Pillow's boxes; normalised by the training set's own statistics; the first convolution is "
    "initialised as timm's; the online layer learns by SGD at a constant 0.1, not by the method's optimizer and "
    "schedule; moco_v2 has one queue for both views, not one each; moco_v3's predictor ends with a bias; wmse's "
    "gradient passes both views, not the first alone, and its warm-up begins at 3e-5, not 0"
)


def _solo_learn(data: str, accuracies: Mapping[str, float]) -> Published:
    shared = {"data": {"name": data, "size": 32}, **_SOLO_SHARED}
    source = "solo-learn, scripts/pretrain/cifar and README.md of commit 9187ea3"
    return Published(shared, _SOLO, source, _SOLO_PROBE, accuracies, _SOLO_DEPARTURES)


PUBLISHED: dict[str, Published] = {
    "solo-learn/cifar10": _solo_learn(
        "cifar10",
        {
            "barlow_twins": 92.10,
            "byol": 92.58,
            "dino": 89.52,
            "moco_v2": 92.94,
            "moco_v3": 93.10,
            "nnclr": 91.88,
            "simclr": 90.74,
            "simsiam": 90.51,
            "swav": 89.17,
            "vicreg": 92.07,
            "wmse": 88.67,
        },
    ),
    "solo-learn/cifar100": _solo_learn(
        "cifar100",
        {
            "barlow_twins": 70.90,
            "byol": 70.46,
            "dino": 66.76,
            "moco_v2": 69.89,
            "moco_v3": 68.83,
            "nnclr": 69.62,
            "simclr": 65.78,
            "simsiam": 66.04,
            "swav": 64.88,
            "vicreg": 68.54,
            "wmse": 61.33,
        },
    ),
}
