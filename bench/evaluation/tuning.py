"""Training a copy of an encoder with a linear layer on it; the encoder itself stays as it is."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn.utils import skip_init

from bench.backbone import embeddings
from bench.data.whole import chosen
from bench.errors import Interrupted, UserError
from bench.evaluation.crops import crops_of
from bench.evaluation.subject import Subject
from bench.seeds import Probe, stream

if TYPE_CHECKING:
    from bench.evaluation.finetune import Finetune


def tune(subject: Subject, settings: Finetune, index: Tensor, rate: float, fit: Probe) -> nn.Module:
    """Images [N, 3, S, S] -> logits [N, C], trained on the data set's images at `index` with a peak rate of `rate`.

    The linear layer starts at zero. Order, crops and dropout come from the seed's "probe" stream, for each `fit` anew,
    so that rates are compared on the same. Training ends early where its loss is no longer finite. Raises Interrupted.
    """
    dataset, device, seed = subject.dataset, subject.device, subject.seed
    crops, n_batches = crops_of(subject), max(1, len(index) // settings.batch_size)
    network = _with_head(subject)
    groups = _groups(network, settings, rate * settings.batch_size / 256)
    if settings.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * n_batches)
    network.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.autocast(device.type, enabled=False):
        torch.manual_seed(stream(seed, "probe", fit).initial_seed())  # for dropout
        for epoch in range(settings.epochs):
            if subject.should_stop():
                raise Interrupted
            order = index[torch.randperm(len(index), generator=stream(seed, "probe", fit, epoch))]
            for batch, part in enumerate(order.tensor_split(n_batches)):
                images, labels = chosen(dataset.images, part, device), dataset.labels[part].to(device)
                view = crops.first(images, stream(seed, "probe", fit, epoch, batch))
                loss = F.cross_entropy(network(view), labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
            if not loss.isfinite():
                break
    return network


def _with_head(subject: Subject) -> nn.Sequential:
    """A copy of the encoder and a linear layer of zeros, on the subject's device.

    It is built anew: a copy of the object would take along hooks and compiled code that lead back to the encoder.
    """
    network: Any = subject.backbone
    with torch.random.fork_rng(devices=[]):
        backbone = network.recreate()
    backbone.load_state_dict(network.state_dict())
    head = skip_init(nn.Linear, network.num_features, subject.n_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(backbone, head).to(subject.device)


def _groups(network: nn.Sequential, settings: Finetune, rate: float) -> list[dict[str, Any]]:
    """The optimizer's groups: parameters of equal rate and decay."""
    backbone, head = network[0], cast(nn.Linear, network[1])
    factors = layer_factors(backbone, settings.layer_decay)
    plain = embeddings(backbone)
    groups: dict[tuple[float, float], list[Tensor]] = defaultdict(list)
    for name, parameter in backbone.named_parameters():
        decay = settings.weight_decay if parameter.ndim > 1 and name not in plain else 0.0
        groups[factors[name], decay].append(parameter)
    groups[1.0, settings.weight_decay].append(head.weight)
    groups[1.0, 0.0].append(head.bias)
    return [
        {"params": parameters, "lr": rate * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def layer_factors(backbone: nn.Module, decay: float) -> dict[str, float]:
    """Parameter's name -> decay^d, as BEiT and MAE: d = 0 for the linear layer, 1 for the layer below it, ...

    What layers there are is timm's to say (`group_matcher`): the stem, then stages of a ResNet, blocks of a
    transformer; a final norm belongs to the last of them or to the linear layer. UserError where timm does not say it.
    """
    names = [name for name, _ in backbone.named_parameters()]
    if decay == 1:
        return dict.fromkeys(names, 1.0)
    matcher: Any = getattr(backbone, "group_matcher", None)
    if matcher is None:
        raise UserError(
            f"finetune.layer_decay={decay}: {type(backbone).__name__} does not say which layers it has; use 1"
        )
    head = "head.of.ours"  # belongs to no layer of the encoder's
    named: Any = SimpleNamespace(named_parameters=lambda: ((name, None) for name in (*names, head)))
    depth = group_parameters(named, matcher(coarse=True), reverse=True)
    return {name: decay ** (depth[head] - depth[name]) for name in names}
