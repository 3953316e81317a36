"""Linear layers trained on crops and flips of frozen images, as most papers do."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from bench.backbone import frozen
from bench.config.views import OTHERS
from bench.data.augment import Augmentation
from bench.data.whole import chosen
from bench.errors import Interrupted
from bench.evaluation.scale import rescaled
from bench.evaluation.scores import ranked
from bench.evaluation.subject import Subject
from bench.seeds import Probe, stream

LR_GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # of the linear layers trained on crops
CROP_EPOCHS = 100
CROP_BATCH = 256


def crops_of(subject: Subject) -> Augmentation:
    """Crops and flips alone, as the first view of the subject's run has them."""
    alone = {"jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0, **{other: {} for other in OTHERS}}
    return Augmentation(subject.augment.model_copy(update=alone), subject.size, subject.mean, subject.std)


def crop_heads(subject: Subject, index: Tensor, rates: Sequence[float], fit: Probe) -> list[nn.Linear]:
    """Linear layers, one a learning rate, trained side by side on frozen features of crops and flips.

    SGD with momentum .9 and without weight decay, 100 epochs of batches of 256 (the last one of an epoch may be
    smaller), cosine to 0 by step; all layers see the same features, one forward pass a batch. Order and crops come
    from the seed's "probe" stream, for each `fit` anew. Raises Interrupted.
    """
    network, dataset, device, seed = subject.backbone, subject.dataset, subject.device, subject.seed
    crops, dim = crops_of(subject), cast(int, network.num_features)
    heads = [skip_init(nn.Linear, dim, len(dataset.classes), device=device) for _ in rates]
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    groups = [{"params": [*head.parameters()], "lr": lr} for head, lr in zip(heads, rates, strict=True)]
    optimizer = torch.optim.SGD(groups, momentum=0.9, foreach=True)
    steps = CROP_EPOCHS * -(-len(index) // CROP_BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(CROP_EPOCHS):
        if subject.should_stop():
            raise Interrupted
        order = index[torch.randperm(len(index), generator=stream(seed, "probe", fit, epoch))]
        for batch, part in enumerate(torch.split(order, CROP_BATCH)):
            images, labels = chosen(dataset.images, part, device), dataset.labels[part].to(device)
            with frozen(network), torch.autocast(device.type, enabled=False):
                view, *_ = crops(images, stream(seed, "probe", fit, epoch, batch))
                features = rescaled(network(view))  # [N, D]
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward([F.cross_entropy(head(features), labels) for head in heads])
            optimizer.step()
            schedule.step()
    return heads


@torch.no_grad()
def classes(head: nn.Linear, features: Tensor) -> Tensor:
    """Classes [n, min(5, C)] of features [n, D], most likely first."""
    return ranked(head(rescaled(features)))
