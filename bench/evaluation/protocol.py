"""Frozen features, and what the protocol fixes about them."""

import torch
from torch import Tensor, nn

from bench.backbone import frozen
from bench.config.sections import EvalConfig
from bench.data.augment import normalize
from bench.data.split import Channels
from bench.data.whole import Images
from bench.team import ALONE, Team

FORWARD_BATCH = 256  # images of a forward pass


def features(
    backbone: nn.Module,
    images: Images,
    index: Tensor | None,
    mean: Channels,
    std: Channels,
    device: torch.device,
    team: Team = ALONE,
) -> Tensor:
    """Frozen features of the centre view: uint8 images [N, 3, S, S] (those at `index` [n]) -> float32 [n, D].

    On `device`, where the probes use them. Of a `team` each process computes a part, and all get the whole. Raises
    RuntimeError on features that are not finite.
    """
    index = torch.arange(len(images)) if index is None else index.cpu()
    team.meet()
    own = index[team.part(len(index), unit=FORWARD_BATCH)]  # whole batches: their bits do not depend on the team
    found = outputs(backbone, images, own, mean, std, device) if len(own) else _none(backbone, device)
    team.meet()  # one may be much slower than another
    (found,) = team.gather(found)
    bad = len(found) - int(found.isfinite().all(dim=1).sum())
    if bad:
        raise RuntimeError(f"non-finite features: the backbone gives NaN or infinity for {bad} of {len(found)} images")
    return found


def outputs(
    network: nn.Module,
    images: Images,
    index: Tensor | None,
    mean: Channels,
    std: Channels,
    device: torch.device,
) -> Tensor:
    """What a network gives for the centre view of images, as `features` takes them: float32 [n, ...], finite or not.

    In eval mode, without gradient or autocast: no parameter, buffer or training flag is changed.
    """
    index = torch.arange(len(images)) if index is None else index.cpu()
    parts = []
    with frozen(network), torch.autocast(device.type, enabled=False):
        for part in torch.split(index, FORWARD_BATCH):
            batch = images[part.to(images.device)].to(device, non_blocking=True)
            parts.append(network(normalize(batch, mean, std)).float())
    return torch.cat(parts)


def _none(backbone: nn.Module, device: torch.device) -> Tensor:
    """float32 [0, D]: of a process without a part."""
    dim: int = backbone.num_features  # type: ignore[assignment]
    return torch.empty(0, dim, device=device)


def default_k(config: EvalConfig, n_labelled: int) -> int:
    """Neighbours of the kNN probe; `n_labelled` training images have labels, validation included."""
    return config.knn_k or (20 if n_labelled < 10_000 else 200)
