"""Presets for photographs: STL-10, image folders, ImageNet-100 and ImageNet. None of them has been trained here.

Times and disks in their descriptions are estimates: images x epochs by what a ResNet-18, a ResNet-50 and a ViT-S are
commonly reported to train on an A100, about 5,500, 2,500 and 2,000 images a second of 224 x 224 pixels, divided by 2.7
for two views and a teacher; three bytes a pixel in the cache.
"""

from typing import Any

# BYOL's (arXiv 2006.07733, appendix B), which MoCo v3, Barlow Twins and, but for details, VICReg have: for every method
# here. SimCLR's authors have stronger colours, SimSiam's and SimCLR's no solarisation.
_BYOLS_VIEWS: dict[str, Any] = {
    "crop_min": 0.08,
    "saturation": 0.2,
    "blur": 1.0,
    "view2": {"blur": 0.1, "solarize": 0.2},
}

# solo-learn's for ImageNet-100 (scripts/pretrain/imagenet-100): LARS with eta .02 and clipping, 10 warm-up epochs,
# batch 256 (2 x 128), 400 epochs of a ResNet-18. Nothing is published for raft and byol_prime.
_BYOL: dict[str, Any] = {
    "optim": {"lr": 0.5, "weight_decay": 1e-6},
    "method": {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 8192},
}
_SOLO_LEARNS: dict[str, dict[str, Any]] = {
    "raft": _BYOL,
    "byol": _BYOL,
    "byol_prime": _BYOL,
    "simclr": {
        "optim": {"lr": 0.3, "weight_decay": 1e-4},
        "method": {"projector_hidden": 4096, "projector_out": 512, "temperature": 0.2},
    },
    "simsiam": {
        "optim": {"name": "sgd", "lr": 0.5, "weight_decay": 1e-5},
        "method": {"projector_hidden": 2048, "projector_out": 2048, "projector_layers": 3, "predictor_hidden": 512},
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
    "supervised": {"optim": {"name": "sgd", "lr": 0.1, "weight_decay": 1e-4}},  # He et al. (arXiv 1512.03385)
}

_IMAGENET100: dict[str, Any] = {
    "data": {"name": "folder:PATH", "classes": "imagenet100", "size": 224, "eval_crop": 0.875},
    "backbone": {"name": "resnet18", "stem": "imagenet", "zero_init": False},
    "augment": _BYOLS_VIEWS,
    "optim": {"name": "lars", "lr": 0.3, "warmup_epochs": 10},
    "train": {"epochs": 400, "batch_size": 256, "precision": "bfloat16", "checkpoint_epochs": 5},
    "eval": {"every_epochs": 20},
}

# Our choice, ImageNet-100's rates and heads: solo-learn has no STL-10. Its own resolution.
_STL10: dict[str, Any] = {
    **_IMAGENET100,
    "data": {"name": "stl10", "size": 96},
    "train": {**_IMAGENET100["train"], "epochs": 200},
    "eval": {"every_epochs": 10},
}

# Our choice for some 10,000 pictures, as Imagenette (github.com/fastai/imagenette) has: ImageNet-100's rates and heads.
_FOLDER: dict[str, Any] = {
    **_IMAGENET100,
    "data": {"name": "folder:PATH", "size": 128, "eval_crop": 0.875},
    "train": {**_IMAGENET100["train"], "epochs": 800, "checkpoint_epochs": 20},
    "eval": {"every_epochs": 40},
}


def _lars(lr: float, weight_decay: float) -> dict[str, Any]:
    """As in the code of MoCo v3 and Barlow Twins: eta .001, never clipped. lr: per 256 images."""
    return {"lr": lr, "weight_decay": weight_decay, "lars_eta": 0.001, "lars_clip": False}


def _sgd(lr: float, weight_decay: float) -> dict[str, Any]:
    return {"name": "sgd", "lr": lr, "weight_decay": weight_decay}


# 100 epochs of a ResNet-50. Batches of 1024 are our choice, for the 8 GPUs of one machine, where the papers have 2048
# to 4096 (SimSiam 512); the rates, per 256 images, are theirs.
_BYOL_100_EPOCHS: dict[str, Any] = {  # solo-learn's scripts/pretrain/imagenet/byol.yaml, after arXiv 2006.07733
    "optim": _lars(0.45, 1e-6),
    "method": {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096},
}
_IMAGENET: dict[str, Any] = {
    "data": {"name": "folder:PATH", "size": 224, "eval_crop": 0.875},
    "backbone": {"name": "resnet50", "stem": "imagenet"},
    "augment": _BYOLS_VIEWS,
    "optim": {"name": "lars", "lr": 0.3, "warmup_epochs": 10},
    "train": {"epochs": 100, "batch_size": 1024, "precision": "bfloat16"},
    "eval": {"every_epochs": 10},
}
_IMAGENET_METHODS: dict[str, dict[str, Any]] = {
    "raft": _BYOL_100_EPOCHS,  # nothing is published for it, nor for byol_prime
    "byol": _BYOL_100_EPOCHS,
    "byol_prime": _BYOL_100_EPOCHS,
    "simclr": {  # arXiv 2002.05709, section 2.2
        "optim": _lars(0.3, 1e-6),
        "method": {"projector_hidden": 2048, "projector_out": 128, "temperature": 0.1},
    },
    "simsiam": {  # arXiv 2011.10566, section 3: no warm-up
        "optim": {**_sgd(0.05, 1e-4), "warmup_epochs": 0},
        "method": {"projector_hidden": 2048, "projector_out": 2048, "projector_layers": 3, "predictor_hidden": 512},
    },
    "moco_v3": {  # its code's CONFIG.md, ResNet-50 at 100 epochs; the rate and T = 1 are defaults there
        "optim": _lars(0.6, 1e-6),
        "method": {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096, "temperature": 1.0},
    },
    "barlow_twins": {  # its code's main.py; the projector has 3 layers there. .2 x .024: its rate for biases
        "optim": _lars(0.2, 1e-6),
        "method": {"projector_hidden": 8192, "projector_out": 8192, "off_diagonal": 0.0051, "scale": 0.024},
    },
    "vicreg": {  # its code's README, at 100 epochs; the projector has 3 layers there
        "optim": _lars(0.3, 1e-6),
        "method": {"projector_hidden": 8192, "projector_out": 8192},
    },
    "dino": {  # its code's README for ResNet-50, with crops of several sizes; the rate is our choice
        "optim": _sgd(0.03, 1e-4),
        "method": {"projector_hidden": 2048, "projector_out": 256, "prototypes": 65_536, "tau": 0.996},
    },
    "random": {"optim": {"lr": 0.1}},
    "supervised": {"optim": _sgd(0.1, 1e-4)},  # arXiv 1512.03385
}

# ViT-S/16 as in MoCo v3's code (CONFIG.md, ViT-Small on one node): AdamW, batches of 1024, 40 warm-up epochs. Its
# numbers for the methods without a line of their own; its ViT-S has 12 heads, timm's 6.
_IMAGENET_VIT: dict[str, Any] = {
    **_IMAGENET,
    "backbone": {"name": "vit_small_patch16_224", "stem": "imagenet"},
    "optim": {"name": "adamw", "lr": 1.5e-4, "weight_decay": 0.1, "warmup_epochs": 40},
    "train": {"epochs": 300, "batch_size": 1024, "precision": "bfloat16"},
}
_WIDE_HEADS: dict[str, Any] = {"projector_hidden": 4096, "projector_out": 256}
_IMAGENET_VIT_METHODS: dict[str, dict[str, Any]] = {
    **{name: {"method": {**_WIDE_HEADS, "predictor_hidden": 4096}} for name in ("raft", "byol", "byol_prime")},
    "moco_v3": {"method": {**_WIDE_HEADS, "predictor_hidden": 4096, "temperature": 0.2}},
    "simclr": {"method": {**_WIDE_HEADS, "temperature": 0.2}},
    "dino": {  # the defaults of its code's main_dino.py, where the decay rises to .4
        "optim": {"lr": 5e-4, "weight_decay": 0.04, "warmup_epochs": 10},
        "method": {"projector_hidden": 2048, "projector_out": 256, "prototypes": 65_536, "tau": 0.996},
    },
    "supervised": {  # DeiT (arXiv 2012.12877, table 9: 5e-4 per 512 images), but for its augmentations
        "optim": {"lr": 2.5e-4, "weight_decay": 0.05, "warmup_epochs": 5},
    },
}

PRESETS = {
    "stl10": (_STL10, _SOLO_LEARNS),
    "folder": (_FOLDER, _SOLO_LEARNS),
    "imagenet100": (_IMAGENET100, _SOLO_LEARNS),
    "imagenet": (_IMAGENET, _IMAGENET_METHODS),
    "imagenet-vit": (_IMAGENET_VIT, _IMAGENET_VIT_METHODS),
}

DESCRIPTIONS = {
    "stl10": "STL-10 at 96 pixels, ResNet-18, 200 epochs: estimated 1 GPU for an hour or two, 3 GB of cache",
    "folder": "folder:PATH of some 10,000 pictures, 128 pixels, ResNet-18, 800 epochs: estimated 1 GPU for hours",
    "imagenet100": "ImageNet-100 from ImageNet's folder, ResNet-18, 400 epochs: estimated 7 hours of an A100, 20 GB",
    "imagenet": "ImageNet from folder:PATH, ResNet-50, 100 epochs: estimated 40 hours of an A100, 200 GB of cache",
    "imagenet-vit": "ImageNet from folder:PATH, ViT-S/16, 300 epochs: estimated 140 hours of an A100, 200 GB of cache",
}
