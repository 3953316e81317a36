"""Recipes of papers and of their authors' code."""

from bench.config.published.recipe import SGD, STRONG, Published, Settings

# SimSiam's paper (arXiv 2011.10566), appendix D; zero_init as its code
_SIMSIAM: Settings = {
    "data": {"name": "cifar10", "size": 32},
    "backbone": {"name": "resnet18", "stem": "small", "zero_init": True},
    "augment": {"crop_min": 0.2},
    "optim": {"lr": 0.03, "weight_decay": 5e-4, **SGD},
    "train": {"epochs": 800, "batch_size": 512, "checkpoint_epochs": 5},
    "eval": {"every_epochs": 20},
}

# RAFT (arXiv 2011.10944) by its authors' code of 25 November to 1 December 2020: a command for 4 GPUs with Adam at a
# constant 3e-4 for batches of 1024, and a ResNet-18 of 3x3 first convolution without max-pool
_RAFT: Settings = {
    "data": {"name": "cifar10", "size": 32, "normalize": "imagenet"},
    "backbone": {"name": "resnet18", "stem": "small", "zero_init": False},
    "augment": {"crop_min": 0.08, **STRONG},
    "optim": {"name": "adam", "lr": 3e-4 * 256 / 1024, "schedule": "constant"},
    "train": {"epochs": 300, "batch_size": 1024, "checkpoint_epochs": 5},
    "eval": {"every_epochs": 10},
}
RAFT_HEADS: Settings = {
    "method": {
        "projector_hidden": 512,
        "projector_out": 256,
        "predictor_hidden": 512,
        "tau": 0.996,
        "tau_schedule": "constant",
        "teacher_init": "random",
    }
}


PUBLISHED: dict[str, Published] = {
    "simsiam/cifar10": Published(
        _SIMSIAM,
        {"simsiam": {"method": {"projector_hidden": 2048, "projector_out": 2048, "predictor_hidden": 512}}},
        "SimSiam's paper, appendix D",
        "offline linear, SGD on crops, as the paper",
        {"simsiam": 91.8},
        "normalised by the training set's own statistics; linear here is logistic regression on the centre view "
        "(eval.probe=augmented is nearer to the paper's)",
    ),
    "raft-paper/2020-11": Published(
        _RAFT,
        dict.fromkeys(("raft", "byol", "byol_prime"), RAFT_HEADS),
        "the authors' code of RAFT, 25 November to 1 December 2020",
        "",
        {},
        "one device's batch of 1024, where 4 processes of 1024 each may have made a step there; losses are not "
        "averaged over dimensions, which Adam does not see",
    ),
}
