"""The pixels of crops, and of blurred images, from batches of one size: all samples at once, on any device."""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def crops(
    x: Tensor, top: Tensor, height: Tensor, left: Tensor, width: Tensor, flip: Tensor, size: int, interpolation: str
) -> Tensor:
    """Parts of images [M, C, H, W], flipped where `flip` is 1, resized -> [M, C, size, size].

    Where the parts lie: [M, 1, 1, 1], in pixels. As Pillow resizes them, whose filters take the mean of several pixels
    where a part is made smaller; for bilinear enlargements grid_sample is that, and faster.
    """
    if interpolation == "bilinear" and max(x.shape[2:]) <= size:
        rows = _positions(top, height, torch.zeros_like(flip), x.shape[2], size)
        cols = _positions(left, width, flip, x.shape[3], size)
        grid = torch.stack(torch.broadcast_tensors(cols[:, None, :], rows[:, :, None]), dim=3)  # [M, S, S, 2]
        return grid_sample(x, grid, align_corners=False)
    down = _weights(top, height, torch.zeros_like(flip), x.shape[2], size, interpolation)
    across = _weights(left, width, flip, x.shape[3], size, interpolation)
    return (down @ x @ across.transpose(2, 3)).clamp_(0, 1)  # bicubic overshoots


def _weights(start: Tensor, length: Tensor, flip: Tensor, inputs: int, outputs: int, interpolation: str) -> Tensor:
    """[M, 1, outputs, inputs]: what of each pixel of a line is in each pixel of a part of it that is resized.

    The part is start .. start + length, reversed where `flip` is 1; all [M, 1, 1, 1]. No pixel beyond it counts.
    """
    scale = length / outputs
    out = torch.arange(0.5, outputs, device=start.device)[:, None]  # pixel centres
    centre = start + (flip * outputs + (1 - 2 * flip) * out) * scale  # [M, 1, outputs, 1]
    pixel = torch.arange(0.5, inputs, device=start.device)
    distance = ((pixel - centre) / scale.clamp(min=1)).abs_()  # [M, 1, outputs, inputs]
    weights = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp_(min=0)
    weights *= (pixel > start) & (pixel < start + length)
    return weights / weights.sum(dim=3, keepdim=True)


def _cubic(d: Tensor) -> Tensor:
    """Keys' cubic convolution with a = -1/2, as Pillow's."""
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((2.5 - 0.5 * d) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, 0.0))


def _positions(start: Tensor, length: Tensor, flip: Tensor, inputs: int, outputs: int) -> Tensor:
    """[M, outputs]: where in a line of `inputs` pixels each of `outputs` pixels lies that enlarge a part of it.

    The part is start .. start + length, reversed where `flip` is 1; all [M, 1, 1, 1]. The line reaches from -1 to 1,
    as for `grid_sample`. Beyond the part's outer pixel centres its outer pixels are repeated, as in torchvision.
    """
    start, length, flip = start[:, 0, 0], length[:, 0, 0], flip[:, 0, 0]  # [M, 1]
    out = torch.arange(0.5, outputs, device=start.device)  # pixel centres
    centre = start + (flip * outputs + (1 - 2 * flip) * out) * (length / outputs)  # [M, outputs]
    return centre.clamp_(start + 0.5, start + length - 0.5).mul_(2 / inputs).sub_(1)


def blurred(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur of x [n, C, S, S] by `sigma` [n] pixels, 2 radius + 1 taps wide; the border is reflected."""
    size = x.shape[-1]
    taps = torch.arange(-radius, radius + 1, device=x.device)  # [K]
    kernel = torch.softmax(-(taps**2) / (2 * sigma[:, None] ** 2), dim=1)  # [n, K]
    band = (kernel @ _reflected_shifts(size, radius, x.device)).view(-1, 1, size, size)
    return band @ x @ band.transpose(2, 3)


def tenth(size: int) -> int:
    """The radius of a blur's kernel of about a tenth of the image: 23 of 224 pixels, as BYOL."""
    return max(1, size // 20)


def full_radius(size: int, sigma: float) -> int:
    """That of a kernel of 3 standard deviations to each side, where the image has so many pixels to reflect."""
    return min(max(1, math.ceil(3 * sigma)), size - 1)


@lru_cache
def _reflected_shifts(size: int, radius: int, device: torch.device) -> Tensor:
    """[K, S S]: matrix k takes the value k - radius pixels further, reflected at the borders."""
    pixel = torch.arange(size) + torch.arange(-radius, radius + 1)[:, None]  # [K, S]
    pixel = size - 1 - (size - 1 - pixel.abs()).abs()
    return torch.nn.functional.one_hot(pixel, size).flatten(1).float().to(device)
