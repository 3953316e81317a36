"""The views of images: whole batches as tensors, parameters drawn a sample.

The operations, their parameters and their order are torchvision's (RandomResizedCrop, flip, ColorJitter,
grayscale, GaussianBlur, solarize). `draw` takes the parameters from a CPU generator, so they do not depend on
the device; `apply` needs nothing back from the device, so it never waits for it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bench.config.views import AugmentConfig, ViewConfig
from bench.data import colour, resample
from bench.data.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION
from bench.data.constant import constant
from bench.data.crop import ATTEMPTS, Box, Sides, cut, place
from bench.data.resample import full_radius, tenth
from bench.data.split import Channels
from bench.data.whole import Crops, Whole, send

NO_CHANGE = (1.0, 1.0, 1.0, 0.0)  # the factors that leave an image as it is
PIECE = 2**18  # values that a processor has in its cache from one operation to the next


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
    """The random views of every image."""

    def __init__(self, config: AugmentConfig, size: int, mean: Channels, std: Channels) -> None:
        """`size`: side of the views in pixels, but of those that have their own; `mean`, `std`: a channel, of pixels in
        [0, 1]."""
        self.config, self.size, self.mean, self.std = config, size, mean, std
        self.views = config.views()
        self.by_size: dict[int, list[int]] = {}
        """Side -> the numbers of the views that have it."""
        for number, view in enumerate(self.views):
            self.by_size.setdefault(view.size or size, []).append(number)

    def __call__(
        self, images: Batch, generator: torch.Generator, part: slice | None = None, whole: int = 0
    ) -> tuple[Tensor, ...]:
        """uint8 [N, C, H, W] on any device -> normalised float32 views [N, C, size, size] on that device.

        Whole pictures give their crops to the device that they name. The images may be a `part` of a batch of `whole`
        ones: their views are those that they have in all of it. To be called outside autocast: products in bfloat16
        would cost the images their last bits.
        """
        drawn = self._drawn(images, generator, part, whole)
        views: dict[int, Tensor] = {}
        for at, (size, numbers) in enumerate(self.by_size.items()):
            source = images._replace(pixels=images.pixels[at : at + 1]) if isinstance(images, Crops) else images
            made = self._made(source, _joined([drawn[number] for number in numbers]), size)
            views |= zip(numbers, made.chunk(len(numbers)), strict=True)
        return tuple(views[number] for number in range(len(views)))

    def cut(self, images: Whole, generator: torch.Generator, part: slice | None = None, whole: int = 0) -> Crops:
        """The part of `__call__` that works on pictures, which is then called with the result and equal draws."""
        drawn = self._drawn(images, generator, part, whole)
        pixels = [
            cut(
                images.pictures, _boxes(_joined([drawn[number] for number in numbers])), size, self.config.interpolation
            )
            for size, numbers in self.by_size.items()
        ]
        return Crops(tuple(pixels), *images.sides(), images.device)

    def first(self, images: Tensor | Whole, generator: torch.Generator) -> Tensor:
        """The first view alone, [N, C, size, size]; not what `__call__` draws from the same generator."""
        return self._made(images, draw(self.views[0], *_sides(images), generator), self.size)

    def _drawn(self, images: Batch, generator: torch.Generator, part: slice | None, whole: int) -> list[Parameters]:
        """Of each view: what earlier ones draw is the same, however many follow."""
        n, height, width = _sides(images)
        some = part if whole > n else None
        return [draw(view, whole or n, height, width, generator, some) for view in self.views]

    def _made(self, images: Batch, parameters: Parameters, size: int) -> Tensor:
        full = self.config.blur_kernel == "full"
        radius = full_radius(size, max(view.blur_sigma_max for view in self.views)) if full else tenth(size)
        x = apply(images, parameters, size, self.config.interpolation, radius)
        return _normalize_(x, self.mean, self.std)


def _joined(drawn: list[Parameters]) -> Parameters:
    """Of several views, one behind the other."""
    return Parameters(*map(torch.cat, zip(*drawn, strict=True)))


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


def apply(
    images: Batch, parameters: Parameters, size: int, interpolation: str = "bilinear", blur_radius: int = 0
) -> Tensor:
    """uint8 images [N, C, H, W] and parameters of M = k N samples -> float32 [M, C, size, size] in [0, 1].

    blur_radius: in pixels; 0: for a kernel of a tenth of the image. Crops of whole pictures are cut on the CPU.
    Sample m is made from image m mod N. In between, the samples are sorted by the place of hue in their jitter: hue is
    the one of its operations that is not affine, and so works on slices.
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
    floats = torch.cat([box, p.factors[:, [HUE]], colour.affine_coefficients(p.factors, rank, affine_ops)], dim=1)
    picked = [flags.nonzero()[:, 0] for flags in (p.gray, p.blur, p.solarize)]
    indices = send(torch.cat([by_group, by_group.argsort(), *picked]), device)
    source, back, gray, blur, solarize = torch.split(indices, [m, m, *map(len, picked)])
    columns = send(floats[by_group], device).view(m, -1, 1, 1, 1).unbind(dim=1)  # each [M, 1, 1, 1]
    top, height, left, width, flip, turn, *coefficients = columns

    if not isinstance(images, Tensor):
        [pixels] = (
            images.pixels if isinstance(images, Crops) else [cut(images.pictures, _boxes(p), size, interpolation)]
        )
        x = send(pixels, device).index_select(0, source).float().div_(255)  # [M, C, S, S]
    else:
        x = images.index_select(0, source % len(images)).float().div_(255)
        x = resample.crops(x, top, height, left, width, flip, size, interpolation)  # [M, C, S, S]

    at_once = max(1, PIECE // x[0].numel()) if device.type == "cpu" else m
    for n_before, (start, end) in enumerate(zip([0, *ends], ends[:-1], strict=False)):
        hue_at = n_before if changes[HUE] else None
        for first in range(start, end, at_once):
            part = slice(first, min(end, first + at_once))
            colour.jitter_(x[part], [values[part] for values in coefficients], turn[part], hue_at)

    x = x.index_select(0, back)
    if len(gray):
        x.index_copy_(0, gray, colour.gray(x.index_select(0, gray)).expand(-1, x.shape[1], -1, -1))
    if len(blur):
        sigma = send(p.sigma[p.blur], device)
        x.index_copy_(0, blur, resample.blurred(x.index_select(0, blur), sigma, blur_radius or tenth(size)))
    if len(solarize):
        chosen = x.index_select(0, solarize)
        x.index_copy_(0, solarize, torch.minimum(chosen, 1 - chosen))  # 1 - x where x >= 1/2
    return x


def _boxes(p: Parameters) -> list[Box]:
    return [*zip(*(side.tolist() for side in (p.top, p.left, p.height, p.width, p.flip)), strict=True)]


def _normalize_(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return x.sub_(constant(mean, x.device)).div_(constant(std, x.device))
