"""The two-view augmentation: whole batches as tensors, parameters drawn a sample.

The operations, their parameters and their order are torchvision's (RandomResizedCrop, flip, ColorJitter,
grayscale, GaussianBlur, solarize). `draw` takes the parameters from a CPU generator, so they do not depend on
the device; `apply` needs nothing back from the device, so it never waits for it.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from bench.config.views import AugmentConfig, ViewConfig
from bench.data.crop import ATTEMPTS, Box, Sides, cut, place
from bench.data.split import Channels
from bench.data.whole import Crops, Whole, send

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # as torchvision's ColorJitter numbers them
NO_CHANGE = (1.0, 1.0, 1.0, 0.0)  # the factors that leave an image as it is
PIECE = 2**18  # values that a processor has in its cache from one operation to the next
LUMA = (0.2989, 0.587, 0.114)  # gray = LUMA . (r, g, b)


class Parameters(NamedTuple):
    """What was drawn for M samples: CPU tensors, [M] unless said otherwise."""

    top: Tensor  # int64, pixels; the crop
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # bool
    jitter: Tensor  # bool
    order: Tensor  # int64 [M, 4]: the order in which BRIGHTNESS, CONTRAST, SATURATION and HUE are applied
    factors: Tensor  # float32 [M, 4]: brightness, contrast, saturation, and the hue's shift in turns
    gray: Tensor  # bool
    blur: Tensor  # bool
    sigma: Tensor  # float32, pixels; of the blur
    solarize: Tensor  # bool


Batch = Tensor | Whole | Crops


class Augmentation:
    """Two random views of every image."""

    def __init__(self, config: AugmentConfig, size: int, mean: Channels, std: Channels) -> None:
        """`size`: side of the views in pixels; `mean`, `std`: a channel, of pixels in [0, 1]."""
        self.views = config.views()
        self.size, self.mean, self.std = size, mean, std

    def __call__(
        self, images: Batch, generator: torch.Generator, part: slice | None = None, whole: int = 0
    ) -> tuple[Tensor, Tensor]:
        """uint8 [N, C, H, W] on any device -> two normalised float32 views [N, C, size, size] on that device.

        Whole pictures give their crops to the device that they name. The images may be a `part` of a batch of `whole`
        ones: their views are those that they have in all of it. To be called outside autocast: products in bfloat16
        would cost the images their last bits.
        """
        both = self._drawn(images, generator, part, whole)
        views = _normalize_(apply(images, both, self.size), self.mean, self.std)
        n = len(views) // 2
        return views[:n], views[n:]

    def cut(self, images: Whole, generator: torch.Generator, part: slice | None = None, whole: int = 0) -> Crops:
        """The part of `__call__` that works on pictures, which is then called with the result and equal draws."""
        boxes = _boxes(self._drawn(images, generator, part, whole))
        return Crops(cut(images.pictures, boxes, self.size), *images.sides(), images.device)

    def _drawn(self, images: Batch, generator: torch.Generator, part: slice | None, whole: int) -> Parameters:
        """Of both views, one behind the other."""
        n, height, width = _sides(images)
        some = part if whole > n else None
        drawn = [draw(view, whole or n, height, width, generator, some) for view in self.views]
        return Parameters(*(torch.cat([a, b]) for a, b in zip(*drawn, strict=True)))

    def first(self, images: Tensor | Whole, generator: torch.Generator) -> Tensor:
        """The first view alone, [N, C, size, size]; not what `__call__` draws from the same generator."""
        drawn = draw(self.views[0], *_sides(images), generator)
        return _normalize_(apply(images, drawn, self.size), self.mean, self.std)


def normalize(images: Tensor, mean: Channels, std: Channels) -> Tensor:
    """The centre view, for evaluation: uint8 [N, C, S, S] -> (images / 255 - mean) / std, float32."""
    return _normalize_(images.float().div_(255), mean, std)


def _sides(images: Batch) -> tuple[int, Sides, Sides]:
    """How many there are, their heights and widths."""
    if not isinstance(images, Tensor):
        sides = images.sides()
        return len(sides[0]), *sides
    n, _, height, width = images.shape
    return n, height, width


def draw(
    view: ViewConfig, n: int, height: Sides, width: Sides, generator: torch.Generator, part: slice | None = None
) -> Parameters:
    """Parameters of `n` samples, or of a `part` of them, from images of height x width pixels.

    The number of draws depends on `n` alone, so that no setting shifts what is drawn for the others.
    """
    uniform = torch.rand(2 * ATTEMPTS + 16, n, generator=generator)  # [36, n] in [0, 1)
    uniform = uniform if part is None else uniform[:, part]
    area, ratio, order, factors, single = torch.split(uniform, [ATTEMPTS, ATTEMPTS, 4, 4, 8])
    place_y, place_x, flip, jitter, gray, blur, sigma, solarize = single
    top, left, crop_height, crop_width = place(view, height, width, area, ratio, place_y, place_x)
    strengths = (view.brightness, view.contrast, view.saturation)
    low = torch.tensor([*(max(0.0, 1 - s) for s in strengths), -view.hue])
    high = torch.tensor([*(1 + s for s in strengths), view.hue])
    return Parameters(
        top=top,
        left=left,
        height=crop_height,
        width=crop_width,
        flip=flip < view.flip,
        jitter=jitter < view.jitter,
        order=order.T.argsort(dim=1),
        factors=low + (high - low) * factors.T,
        gray=gray < view.gray,
        blur=blur < view.blur,
        sigma=view.blur_sigma_min + (view.blur_sigma_max - view.blur_sigma_min) * sigma,
        solarize=solarize < view.solarize,
    )


def apply(images: Batch, parameters: Parameters, size: int) -> Tensor:
    """uint8 images [N, C, H, W] and parameters of M = k N samples -> float32 [M, C, size, size] in [0, 1].

    H and W of a tensor are at most `size`: crops are only enlarged, for which no filter against aliasing is needed.
    Those of whole pictures are cut on the CPU. Sample m is made from image m mod N. In between, the samples are sorted
    by the place of hue in their jitter: hue is the one of its operations that is not affine, and so works on slices.
    """
    p, m, device = parameters, len(parameters.top), images.device
    changes = (p.factors[p.jitter] != torch.tensor(NO_CHANGE)).any(dim=0).tolist()
    affine_ops = [op for op in (BRIGHTNESS, CONTRAST, SATURATION) if changes[op]]
    rank = p.order.argsort(dim=1)  # [M, 4]: the place of each operation
    before_hue = (rank[:, affine_ops] < rank[:, [HUE]]).sum(dim=1)  # [M]: affine operations before hue
    group = torch.where(p.jitter, before_hue, len(affine_ops) + 1)  # the samples without jitter come last
    by_group = group.argsort(stable=True)  # [M]
    ends = group.bincount(minlength=len(affine_ops) + 2).cumsum(0).tolist()

    # all that the device needs, in two transfers
    box = torch.stack([p.top, p.height, p.left, p.width, p.flip], dim=1).float()
    floats = torch.cat([box, p.factors[:, [HUE]], _affine_coefficients(p.factors, rank, affine_ops)], dim=1)
    picked = [flags.nonzero()[:, 0] for flags in (p.gray, p.blur, p.solarize)]
    indices = send(torch.cat([by_group, by_group.argsort(), *picked]), device)
    source, back, gray, blur, solarize = torch.split(indices, [m, m, *map(len, picked)])
    columns = send(floats[by_group], device).view(m, -1, 1, 1, 1).unbind(dim=1)  # each [M, 1, 1, 1]
    top, height, left, width, flip, turn, *coefficients = columns

    if not isinstance(images, Tensor):
        pixels = images.pixels if isinstance(images, Crops) else cut(images.pictures, _boxes(p), size)
        x = send(pixels, device).index_select(0, source).float().div_(255)  # [M, C, S, S]
    else:
        assert max(images.shape[2:]) <= size
        rows = _positions(top, height, torch.zeros_like(flip), images.shape[2], size)
        cols = _positions(left, width, flip, images.shape[3], size)
        grid = torch.stack(torch.broadcast_tensors(cols[:, None, :], rows[:, :, None]), dim=3)  # [M, S, S, 2]
        x = images.index_select(0, source % len(images)).float().div_(255)
        x = grid_sample(x, grid, align_corners=False)  # [M, C, S, S]

    at_once = max(1, PIECE // x[0].numel()) if device.type == "cpu" else m
    for n_before, (start, end) in enumerate(zip([0, *ends], ends[:-1], strict=False)):
        hue_at = n_before if changes[HUE] else None
        for first in range(start, end, at_once):
            part = slice(first, min(end, first + at_once))
            _jitter_(x[part], [values[part] for values in coefficients], turn[part], hue_at)

    x = x.index_select(0, back)
    if len(gray):
        x.index_copy_(0, gray, _gray(x.index_select(0, gray)).expand(-1, x.shape[1], -1, -1))
    if len(blur):
        x.index_copy_(0, blur, _blur(x.index_select(0, blur), send(p.sigma[p.blur], x.device)))
    if len(solarize):
        chosen = x.index_select(0, solarize)
        x.index_copy_(0, solarize, torch.minimum(chosen, 1 - chosen))  # 1 - x where x >= 1/2
    return x


def _boxes(p: Parameters) -> list[Box]:
    return [*zip(*(side.tolist() for side in (p.top, p.left, p.height, p.width, p.flip)), strict=True)]


def _affine_coefficients(factors: Tensor, rank: Tensor, ops: list[int]) -> Tensor:
    """The operations `ops` in each sample's order, as x <- gain x + of_gray gray(x) + of_mean mean(gray(x)).

    factors, rank [M, 4] -> [M, 3 n_ops]: gain, of_gray, of_mean of the first operation, of the second, ...
    """
    op = torch.tensor(ops, dtype=torch.long)[rank[:, ops].argsort(dim=1)]  # [M, n_ops]
    gain = factors.gather(1, op)
    of_gray, of_mean = (1 - gain) * (op == SATURATION), (1 - gain) * (op == CONTRAST)
    return torch.stack([gain, of_gray, of_mean], dim=2).flatten(1)


def _jitter_(x: Tensor, coefficients: list[Tensor], turn: Tensor, hue_at: int | None) -> None:
    """Colour jitter of x [n, 3, S, S] in place: affine operations, and hue before number `hue_at` of them."""
    n_ops = len(coefficients) // 3
    for i in range(n_ops + 1):
        if i == hue_at:
            _shift_hue_(x, turn)
        if i < n_ops:
            _affine_(x, *coefficients[3 * i : 3 * i + 3])


def _affine_(x: Tensor, gain: Tensor, of_gray: Tensor, of_mean: Tensor) -> None:
    """Brightness, contrast or saturation, a sample: x [n, 3, S, S], coefficients [n, 1, 1, 1]. In place."""
    gray = _gray(x)
    mean = gray.mean(dim=(2, 3), keepdim=True)
    x.mul_(gain).add_(gray.mul_(of_gray).add_(mean.mul_(of_mean))).clamp_(0, 1)


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
    distance = hue + _constant((1 / 2, 1 / 6, -1 / 6), x.device)  # [n, 3, S, S]
    distance.sub_(distance.round()).abs_()
    torch.sub(value, distance.mul_(-6).add_(2).clamp_(0, 1).mul_(chroma), out=x)


def _gray(x: Tensor) -> Tensor:
    """[n, C, S, S] -> its gray values [n, 1, S, S]: luma of 3 channels, of others their mean."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    r, g, b = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return (r * LUMA[0]).add_(g, alpha=LUMA[1]).add_(b, alpha=LUMA[2])


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of x [n, 3, S, S] by `sigma` [n] pixels; the border is reflected."""
    size = x.shape[-1]
    radius = max(1, size // 20)  # a kernel of about a tenth of the image; 23 of 224 pixels, as BYOL
    taps = torch.arange(-radius, radius + 1, device=x.device)  # [K]
    kernel = torch.softmax(-(taps**2) / (2 * sigma[:, None] ** 2), dim=1)  # [n, K]
    band = (kernel @ _reflected_shifts(size, radius, x.device)).view(-1, 1, size, size)
    return band @ x @ band.transpose(2, 3)


def _positions(start: Tensor, length: Tensor, flip: Tensor, inputs: int, outputs: int) -> Tensor:
    """[M, outputs]: where in a line of `inputs` pixels each of `outputs` pixels lies that enlarge a part of it.

    The part is start .. start + length, reversed where `flip` is 1; all [M, 1, 1, 1]. The line reaches from -1 to 1,
    as for `grid_sample`. Beyond the part's outer pixel centres its outer pixels are repeated, as in torchvision.
    """
    start, length, flip = start[:, 0, 0], length[:, 0, 0], flip[:, 0, 0]  # [M, 1]
    out = torch.arange(0.5, outputs, device=start.device)  # pixel centres
    centre = start + (flip * outputs + (1 - 2 * flip) * out) * (length / outputs)  # [M, outputs]
    return centre.clamp_(start + 0.5, start + length - 0.5).mul_(2 / inputs).sub_(1)


def _normalize_(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return x.sub_(_constant(mean, x.device)).div_(_constant(std, x.device))


@lru_cache
def _constant(channels: tuple[float, ...], device: torch.device) -> Tensor:
    """[C, 1, 1]; kept on the device, because a transfer at each use would wait for it."""
    return torch.tensor(channels, device=device)[:, None, None]


@lru_cache
def _reflected_shifts(size: int, radius: int, device: torch.device) -> Tensor:
    """[K, S S]: matrix k takes the value k - radius pixels further, reflected at the borders."""
    pixel = torch.arange(size) + torch.arange(-radius, radius + 1)[:, None]  # [K, S]
    pixel = size - 1 - (size - 1 - pixel.abs()).abs()
    return torch.nn.functional.one_hot(pixel, size).flatten(1).float().to(device)
