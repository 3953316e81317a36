"""Losses as functions of embeddings; all in float32, whatever autocast says."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def normalize(z: Tensor) -> Tensor:
    """Rows of [N, D] scaled to unit length, in float32."""
    return F.normalize(z.float(), dim=1)


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean |a - b|^2 over the batch, for unit rows a, b [N, D] -> scalar in [0, 4]."""
    return 2 - 2 * (a * b).sum(dim=1).mean()  # |a - b|^2 = 2 - 2 cos(a, b) of unit vectors


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in float32, whatever autocast makes of products: [N, D], [D, M] -> [N, M]."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float()


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss over 2N views: z1, z2 unit rows [N, D] -> scalar. arXiv 2002.05709, equation 1."""
    n = len(z1)
    z = torch.cat([z1, z2])  # [2N, D]
    logits = product(z, z.T) / temperature  # [2N, 2N]
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), float("-inf"))
    positives = torch.arange(2 * n, device=z.device).roll(n)  # view i's positive is the other view of its image
    return F.cross_entropy(logits, positives)


def from_other_views(targets: Sequence[Tensor], log_predictions: Sequence[Tensor]) -> Tensor:
    """Mean cross-entropy of the first views' target distributions [N, K] and every other view's log-predictions."""
    pairs = [(t, q) for i, t in enumerate(targets) for j, q in enumerate(log_predictions) if i != j]
    first, *others = [-(t * q).sum(dim=1).mean() for t, q in pairs]
    return sum(others, first) / len(pairs)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled images: logits [N, classes], labels [N], -1 where unlabelled; 0 if none is labelled."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction="sum")
    return total / (labels >= 0).sum().clamp(min=1)
