"""Diagnostics: alignment, uniformity, effective rank, feature std; and what counts as collapsed."""

import math

import torch
from torch import Tensor

from bench.backbone import frozen
from bench.data.augment import Augmentation
from bench.data.datasets import Dataset
from bench.data.whole import chosen
from bench.evaluation.protocol import FORWARD_BATCH, features
from bench.evaluation.scale import scales, unit
from bench.seeds import Probe, stream
from bench.team import ALONE, Team
from methods.base import Method

MAX_IMAGES = 5_000  # all of CIFAR-10's validation split
ROWS = 1_000  # of the matrix of pairwise similarities, at once


def alignment(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean |z1 - z2|^2 of unit rows [N, D], two views of the same images. arXiv 2005.10242, alpha = 2."""
    return (z1 - z2).double().square().sum(dim=1).mean()


def uniformity(z: Tensor) -> Tensor:
    """log mean exp(-2 |z_i - z_j|^2) over the pairs i < j of unit rows [N, D]. arXiv 2005.10242, t = 2."""
    n = len(z)
    total = torch.zeros((), dtype=torch.float64, device=z.device)
    for start in range(0, n, ROWS):
        cos = z[start : start + ROWS] @ z.T  # [R, N]
        potential = torch.exp(4 * cos - 4)  # |z_i - z_j|^2 = 2 - 2 cos
        potential.diagonal(offset=start).zero_()  # not a pair
        total += potential.sum(dtype=torch.float64)
    return (total / (n * (n - 1))).log()


def effective_rank(features: Tensor) -> Tensor:
    """RankMe: exp of the entropy of the singular values of features [N, D], 1 to min(N, D). arXiv 2210.02885

    p_k = sigma_k / sum sigma + 1e-7, as in the paper; features of nothing but zeros have rank 1. The singular
    values are square roots of the eigenvalues of the smaller Gram matrix, in float64: exact to 1e-8 of the
    largest, which is below what p_k tells apart. Raises ValueError if a feature is NaN or infinite.
    """
    if not features.isfinite().all():
        raise ValueError("effective rank: some features are NaN or infinite")
    x = (features / scales(features).min()).double()
    gram = x.T @ x if len(x) > x.shape[1] else x @ x.T
    sigma = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    p = sigma / sigma.sum().clamp(min=1e-30) + 1e-7
    return torch.exp(-(p * p.log()).sum())


def feature_std(features: Tensor) -> Tensor:
    """Mean over dimensions of the sample std of features [N, D], rows normalised: 1 / sqrt(D) if isotropic."""
    return unit(features).std(dim=0).mean()


def diagnose(
    method: Method, dataset: Dataset, augment: Augmentation, seed: int, device: torch.device, team: Team = ALONE
) -> dict[str, float]:
    """alignment, uniformity of normalised z = g(f(x)); effective_rank, feature_std of f(x); on `diagnosed`.

    Of more than 5,000 such images, 5,000 evenly spaced ones. f(x) is of the centre view, z of the first two
    views (uniformity: their mean), with the same draws at every call, so that a run's curves are comparable.
    In eval mode, without gradient or autocast: no parameter, buffer or training flag is changed. Raises
    RuntimeError on features that are not finite.
    """
    index = dataset.diagnosed
    if len(index) > MAX_IMAGES:
        index = index[torch.linspace(0, len(index) - 1, MAX_IMAGES).long()]
    centre = features(method.backbone, dataset.images, index, dataset.mean, dataset.std, device, team)  # [n, D]
    draws = stream(seed, "probe", Probe.DIAGNOSTICS)
    pairs = []
    with frozen(method), torch.autocast(device.type, enabled=False):
        for part in torch.split(index, FORWARD_BATCH):
            images = chosen(dataset.images, part, device)
            pairs.append([unit(method.embed(view).float()) for view in augment(images, draws)[:2]])
    z1, z2 = (torch.cat(views) for views in zip(*pairs, strict=True))  # [n, D]
    measured = {
        "alignment": alignment(z1, z2),
        "uniformity": (uniformity(z1) + uniformity(z2)) / 2,
        "effective_rank": effective_rank(centre),
        "feature_std": feature_std(centre),
    }
    values = {name: value.item() for name, value in measured.items()}
    if not all(map(math.isfinite, values.values())):
        raise RuntimeError("non-finite features: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return values


def rank_bound(method: Method, dataset: Dataset) -> int:
    """min(n, D): the largest effective rank that `diagnose` can find."""
    return min(len(dataset.diagnosed), MAX_IMAGES, method.feature_dim)


def is_collapsed(effective_rank: float, most: int, knn_top1: float | None, n_classes: int) -> bool:
    """Whether all images have about the same features. `most`: `rank_bound`.

    The effective rank is below 1.5: one direction has about 95 % of the sum of the singular values (untrained ResNets
    have ranks of 6 and more on digits). Or it is below 3 and the kNN accuracy (percent) is at chance, 100 / n_classes,
    plus half of that, at most 5 points, for luck: 15 % for 10 classes, 1.5 % for 100. Chance alone is no sign: labels
    that images do not tell give it with features of any rank. A rank of few images is no sign alone either: two
    images of a good network have one of about 1.5, so below most = 10 both signs are asked for, and the rank has to be
    near 1 within its range of 1 to `most`. Where no kNN accuracy is known (None), it is taken as above chance.
    """
    chance = 100 / n_classes
    at_chance = knn_top1 is not None and knn_top1 <= chance + min(chance / 2, 5)
    if most < 10:
        return at_chance and effective_rank < 1 + min(0.5, (most - 1) / 10)
    return effective_rank < (3 if at_chance else 1.5)
