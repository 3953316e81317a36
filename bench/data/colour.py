"""Colour operations on batches of images: jitter, grayscale, solarisation. A sample's factors may be its own."""

import torch
from torch import Tensor

from bench.data.constant import constant

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # as torchvision's ColorJitter numbers them
LUMA = (0.2989, 0.587, 0.114)  # gray = LUMA . (r, g, b)


def affine_coefficients(factors: Tensor, rank: Tensor, ops: list[int]) -> Tensor:
    """The operations `ops` in each sample's order, as x <- gain x + of_gray gray(x) + of_mean mean(gray(x)).

    factors, rank [M, 4] -> [M, 3 n_ops]: gain, of_gray, of_mean of the first operation, of the second, ...
    """
    op = torch.tensor(ops, dtype=torch.long)[rank[:, ops].argsort(dim=1)]  # [M, n_ops]
    gain = factors.gather(1, op)
    of_gray, of_mean = (1 - gain) * (op == SATURATION), (1 - gain) * (op == CONTRAST)
    return torch.stack([gain, of_gray, of_mean], dim=2).flatten(1)


def jitter_(x: Tensor, coefficients: list[Tensor], turn: Tensor, hue_at: int | None) -> None:
    """Colour jitter of x [n, 3, S, S] in place: affine operations, and hue before number `hue_at` of them."""
    n_ops = len(coefficients) // 3
    for i in range(n_ops + 1):
        if i == hue_at:
            _shift_hue_(x, turn)
        if i < n_ops:
            _affine_(x, *coefficients[3 * i : 3 * i + 3])


def _affine_(x: Tensor, gain: Tensor, of_gray: Tensor, of_mean: Tensor) -> None:
    """Brightness, contrast or saturation, a sample: x [n, 3, S, S], coefficients [n, 1, 1, 1]. In place."""
    luma = gray(x)
    mean = luma.mean(dim=(2, 3), keepdim=True)
    x.mul_(gain).add_(luma.mul_(of_gray).add_(mean.mul_(of_mean))).clamp_(0, 1)


def _shift_hue_(x: Tensor, turn: Tensor) -> None:
    """Hue shifted by `turn` [n, 1, 1, 1] turns of the colour circle: x [n, 3, S, S] in [0, 1]. In place.

    With hue h in turns, V = max(r, g, b) and C = V - min(r, g, b), a channel of the result is
    V - C clamp(2 - 6 |wrap(h + turn + o)|, 0, 1), where o = 1/2, 1/6, -1/6 for r, g, b and wrap takes
    turns to [-1/2, 1/2]. h needs no case by case either: it has the sign of g - b, and
    6 |h| = 1 + (max(g, b) - r + max(0, min(g, b) - r)) / C.
    """
    r, g, b = x[:, 0:1], x[:, 1:2], x[:, 2:3]  # each [n, 1, S, S]
    above, below = torch.maximum(g, b), torch.minimum(g, b)
    value = torch.maximum(above, r)
    chroma = value - torch.minimum(below, r)
    hue = above.sub_(r).add_(below.sub_(r).clamp_(min=0))
    hue.div_(chroma.clamp(min=1e-9)).add_(1).div_(6)  # gray pixels: any hue will do, as C = 0
    hue = torch.copysign(hue, g - b).add_(turn)  # [n, 1, S, S]
    distance = hue + constant((1 / 2, 1 / 6, -1 / 6), x.device)  # [n, 3, S, S]
    distance.sub_(distance.round()).abs_()
    torch.sub(value, distance.mul_(-6).add_(2).clamp_(0, 1).mul_(chroma), out=x)


def gray(x: Tensor) -> Tensor:
    """[n, C, S, S] -> its gray values [n, 1, S, S]: luma of 3 channels, of others their mean."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    r, g, b = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return (r * LUMA[0]).add_(g, alpha=LUMA[1]).add_(b, alpha=LUMA[2])
