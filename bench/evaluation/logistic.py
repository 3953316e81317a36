"""Probes: k nearest neighbours and logistic regression on features, and a linear layer trained on crops."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from bench.backbone import frozen
from bench.data.augment import Augmentation
from bench.data.datasets import Dataset
from bench.seeds import stream

KNN_TEMPERATURE = 0.1  # a neighbour at cosine s votes with exp(s / 0.1), as in lightly
SIMILARITIES = 2**24  # cosines in memory at once: 64 MB

L2_GRID = tuple(10.0**-i for i in range(-1, 7))  # strongest first: 10, 1, ... 1e-6; 7 decades
TOLERANCE = 1e-5  # of the largest entry of the preconditioned gradient
MIN_CURVATURE = 1e-5  # of the preconditioner: directions without variance would bring float32's noise to the front

LR_GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # of the linear layers trained on crops
CROP_EPOCHS = 100
CROP_BATCH = 256


def top1(predicted: Tensor, labels: Tensor) -> float:
    """Accuracy in percent of predicted class indices [n]."""
    assert len(labels) > 0
    return 100 * (predicted == labels.to(predicted.device)).double().mean().item()


@torch.no_grad()
def knn_top1(bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, k: int, n_classes: int) -> float:
    """Weighted kNN accuracy in percent: bank [m, D], queries [n, D], labels [m], [n]; k is cut to m.

    A query's class is the one with the largest sum of exp(cosine / 0.1) over its k nearest neighbours.
    Queries are taken in slices, so that the n x m cosines are never in memory.
    """
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    bank_labels = bank_labels.to(bank.device)
    k = min(k, len(bank))
    slice_size = max(1, min(256, SIMILARITIES // len(bank)))
    cosines = bank.new_empty(slice_size, len(bank))  # one buffer: fresh memory for each slice costs more than topk
    predicted = []
    for part in torch.split(queries, slice_size):
        cos = torch.mm(part, bank.T, out=cosines[: len(part)])  # [b, m]
        nearest, index = cos.topk(k, dim=1)  # [b, k]
        votes = torch.zeros(len(part), n_classes, dtype=torch.float64, device=bank.device)
        votes.scatter_add_(1, bank_labels[index], (nearest.double() / KNN_TEMPERATURE).exp())
        predicted.append(votes.argmax(dim=1))
    return top1(torch.cat(predicted), query_labels)


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier: logits = weight (x - mean) / std + bias."""

    l2: float
    mean: Tensor  # [D], of the fitting set
    std: Tensor  # [D]; 1 where the fitting set does not vary
    weight: Tensor  # [C, D]
    bias: Tensor  # [C]

    def predict(self, features: Tensor) -> Tensor:
        """Class indices [n] of features [n, D]."""
        return F.linear((features - self.mean) / self.std, self.weight, self.bias).argmax(dim=1)


@torch.no_grad()
def fit_logistic(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    strengths: Sequence[float],
    start: Logistic | None = None,
) -> list[Logistic]:
    """Multinomial logistic regressions, one an L2 strength, each from the one before (the first from `start`).

    With features [n, D] standardised to x by their own mean and standard deviation, the objective is

        mean_i(-log softmax(W x_i + b)[y_i]) + l2 / 2 |W|^2:

    scikit-learn's LogisticRegression with C = 1 / (l2 n). L-BFGS works on coordinates in which the Hessian is
    near the identity, so that few iterations do: the eigenbasis of x's covariance, its axes scaled by
    (h + l2)^-1/2, with h = an axis' variance times mean_i(sum_c p_c (1 - p_c)) / (C - 1) at the start. The
    objective is the same. It stops when no entry of the gradient there exceeds 1e-5 (the objective is then
    within about C D 1e-10 / 2 of its minimum), when a step changes the objective by less than 1e-10, as float32
    allows no more, or after 500 iterations. Strengths should be in steps of about 10, strongest first: far from
    its start a fit has a worse basis, and ends less exactly. Products over samples are in float32; the sums of
    the objective, the weights and L-BFGS itself in float64. Samples are the last dimension throughout: for few
    classes, products and softmax are faster so.
    """
    n, dim = features.shape
    labels = labels.to(features.device)
    std, mean = torch.std_mean(features, dim=0, correction=0)
    std = torch.where(std > 1e-6 * mean.abs() + 1e-12, std, 1.0)  # constant but for rounding: not blown up
    x = ((features - mean) / std).T.contiguous()  # [D, n]
    variances, basis = torch.linalg.eigh((x @ x.T).double() / n)  # [D], [D, D]
    if start is None:
        weight, bias = x.new_zeros(n_classes, dim), x.new_zeros(n_classes)
    else:
        weight, bias = start.weight, start.bias
    fits = []
    for l2 in strengths:
        p = torch.addmm(bias[:, None], weight, x).softmax(dim=0)  # [C, n]
        curvature = (1 - p.square().sum(dim=0)).double().mean() / max(n_classes - 1, 1)
        axes = basis * (curvature * variances + l2).clamp(min=MIN_CURVATURE).rsqrt()  # [D, D]: W = U axes^T
        bias_scale = curvature.clamp(min=MIN_CURVATURE).rsqrt()
        weight, bias = _minimise(x, labels, l2, weight, bias, axes, bias_scale)
        fits.append(Logistic(l2, mean, std, weight, bias))
    return fits


def _minimise(
    x: Tensor, labels: Tensor, l2: float, weight: Tensor, bias: Tensor, axes: Tensor, bias_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Weight [C, D] and bias [C] at the minimum of `fit_logistic`'s objective for x [D, n], from those given.

    L-BFGS sees U with W = U axes^T (axes [D, D]: orthogonal columns) and b / bias_scale.
    """
    n = x.shape[1]
    samples = torch.arange(n, device=x.device)
    inverse = axes.T / axes.square().sum(dim=0)[:, None]  # [D, D]
    u = torch.cat([weight.double() @ inverse.T, (bias.double() / bias_scale)[:, None]], dim=1)  # [C, D + 1]

    def parameters() -> tuple[Tensor, Tensor]:
        return u[:, :-1] @ axes.T, u[:, -1] * bias_scale

    def objective() -> Tensor:
        w, b = parameters()
        residual = torch.addmm(b.float()[:, None], w.float(), x).log_softmax(dim=0)  # [C, n]: log p
        loss = -residual[labels, samples].mean(dtype=torch.float64)
        residual.exp_()[labels, samples] -= 1  # p - y
        w_grad = (residual @ x.T).double() / n + l2 * w
        b_grad = residual.mean(dim=1, dtype=torch.float64)
        u.grad = torch.cat([w_grad @ axes, (b_grad * bias_scale)[:, None]], dim=1)
        return loss + l2 / 2 * w.square().sum()

    lbfgs = torch.optim.LBFGS(
        [u],
        max_iter=500,
        history_size=20,
        tolerance_grad=TOLERANCE,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )
    lbfgs.step(objective)
    w, b = parameters()
    return w.float(), b.float()


def crop_heads(
    network: nn.Module,
    dataset: Dataset,
    index: Tensor,
    rates: Sequence[float],
    crops: Augmentation,
    draws: tuple[int, int],
    device: torch.device,
) -> list[nn.Linear]:
    """Linear layers, one a learning rate, trained side by side on frozen features of crops and flips.

    SGD with momentum .9 and without weight decay, 100 epochs of batches of 256 (the last one of an epoch may be
    smaller), cosine to 0 by step; all layers see the same features, one forward pass a batch. `draws` = (seed, a
    number of the fit): order and crops come from the seed's "probe" stream.
    """
    seed, fit = draws
    dim = cast(int, network.num_features)
    heads = [skip_init(nn.Linear, dim, len(dataset.classes), device=device) for _ in rates]
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    groups = [{"params": [*head.parameters()], "lr": lr} for head, lr in zip(heads, rates, strict=True)]
    optimizer = torch.optim.SGD(groups, momentum=0.9, foreach=True)
    steps = CROP_EPOCHS * -(-len(index) // CROP_BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(CROP_EPOCHS):
        order = index[torch.randperm(len(index), generator=stream(seed, "probe", fit, epoch))]
        for batch, part in enumerate(torch.split(order, CROP_BATCH)):
            images, labels = dataset.images[part].to(device), dataset.labels[part].to(device)
            with frozen(network), torch.autocast(device.type, enabled=False):
                view, _ = crops(images, stream(seed, "probe", fit, epoch, batch))
                features = network(view)  # [N, D]
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward([F.cross_entropy(head(features), labels) for head in heads])
            optimizer.step()
            schedule.step()
    return heads
