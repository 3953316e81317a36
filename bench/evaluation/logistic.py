"""Logistic regression on features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.evaluation.base import L2_GRID
from bench.evaluation.scale import scales
from bench.evaluation.scores import ranked, top1
from bench.evaluation.subject import Subject, Test

TOLERANCE = 1e-5  # of the largest entry of the preconditioned gradient
MIN_CURVATURE = 1e-5  # of the preconditioner: directions without variance would bring float32's noise to the front


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier: logits = weight (x / scale - mean) / std + bias."""

    l2: float
    scale: Tensor  # [D], bench.evaluation.scale: 1 for ordinary features
    mean: Tensor  # [D], of the scaled fitting set
    std: Tensor  # [D]; 1 where the fitting set does not vary
    weight: Tensor  # [C, D]
    bias: Tensor  # [C]

    def rank(self, features: Tensor) -> Tensor:
        """Classes [n, min(5, C)] of features [n, D], most likely first."""
        return ranked(F.linear((features / self.scale - self.mean) / self.std, self.weight, self.bias))

    def classify(self, test: Test) -> Tensor:
        """Classes [M, min(5, C)] of test images."""
        return self.rank(test.features)


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
    scale = scales(features)
    features = features / scale
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
        fits.append(Logistic(l2, scale, mean, std, weight, bias))
    return fits


def choose_logistic(subject: Subject, train: Tensor, validation: Tensor) -> tuple[Logistic, Tensor]:
    """Fit on `train`, choose the L2 strength on the validation split, refit on `train` and `validation`.

    Both are positions among the subject's labelled images; of equal strengths the strongest is taken. Returns the fit,
    and the classes [n_val, min(5, C)] that the first one of this strength gave the whole validation split.
    """
    x, y, n = subject.features, subject.labels, subject.n_train
    fits = fit_logistic(_rows(x, train), y[train], subject.n_classes, L2_GRID)
    told = [fit.rank(x[n:]) for fit in fits]
    scores = [top1(classes[:, 0], y[n:]) for classes in told]
    chosen = scores.index(max(scores))
    fit = fits[chosen]
    if len(validation):
        both = torch.cat([train, validation])
        (fit,) = fit_logistic(_rows(x, both), y[both], subject.n_classes, [fit.l2], start=fit)
    return fit, told[chosen]


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x [n, D]; no copy of many that follow each other."""
    first, last = int(index[0]), int(index[-1])
    return x[first : last + 1] if last - first + 1 == len(index) else x[index.to(x.device)]


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
