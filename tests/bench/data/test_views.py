"""Any number of views, of any size; how published recipes resize and blur, against Pillow and torchvision."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image, ImageFilter
from torch import Tensor

from bench.config.views import AugmentConfig
from bench.data import resample
from bench.data.augment import Augmentation, apply, draw
from bench.data.whole import Whole

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CPU = torch.device("cpu")
SMALL = {"size": 16, "copies": 3, "crop_max": 0.4, "crop_min": 0.05}
COLOURED = {"blur": 0.5, "solarize": 0.2}


def photographs(n: int, height: int, width: int) -> Tensor:
    """Smooth images, as bicubic's and Pillow's roundings are seen best there."""
    noise = torch.rand(n, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic", antialias=True)
    return smooth.clamp(0, 1).mul(255).round().to(torch.uint8)


def as_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def of_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [12, 32, 48])
def test_crops_are_resized_as_pillow_does(interpolation: str, size: int) -> None:
    """Made smaller with its filters, larger too; within the roundings and clippings of its two passes over bytes."""
    images = photographs(24, 32, 32)
    view = AugmentConfig(crop_min=0.1, jitter=0, gray=0).views()[0]
    p = draw(view, 24, 32, 32, torch.Generator().manual_seed(0))
    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    for m, ours in enumerate(apply(images, p, size, interpolation)):
        top, left, height, width = (int(side[m]) for side in (p.top, p.left, p.height, p.width))
        crop = as_pillow(images[m]).crop((left, top, left + width, top + height)).resize((size, size), method)
        theirs = of_pillow(crop)
        theirs = theirs.flip(2) if p.flip[m] else theirs
        assert (ours - theirs).abs().max() <= 2.5 / 255
        assert (ours - theirs).abs().mean() <= 0.5 / 255


def test_whole_pictures_are_cut_bicubic_as_torchvision_does() -> None:
    images = photographs(6, 90, 70)
    p = draw(AugmentConfig(jitter=0, gray=0, flip=0).views()[0], 6, 90, 70, torch.Generator().manual_seed(0))
    for m, ours in enumerate(apply(Whole(list(images), CPU), p, 32, "bicubic")):
        box = (int(side[m]) for side in (p.top, p.left, p.height, p.width))
        theirs = tv.resized_crop(images[m], *box, [32, 32], interpolation=tv.InterpolationMode.BICUBIC, antialias=True)
        assert (ours * 255 - theirs).abs().max() <= 1


def test_the_full_blur_is_torchvisions_with_a_kernel_of_three_standard_deviations() -> None:
    images, sigma = photographs(8, 32, 32).float() / 255, torch.linspace(0.2, 2, 8)
    radius = resample.full_radius(32, 2)
    for image, ours, s in zip(images, resample.blurred(images, sigma, radius), sigma, strict=True):
        torch.testing.assert_close(ours, tv.gaussian_blur(image, [13, 13], [float(s)] * 2), atol=1e-5, rtol=0)


def test_the_full_blur_smooths_as_pillows_and_the_default_hardly_does() -> None:
    """Of white noise, sigma 2: the standard deviation that is left. Pillow's is three box blurs with rounding."""
    noise = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pillows = torch.stack([of_pillow(as_pillow(image).filter(ImageFilter.GaussianBlur(2))) for image in noise])
    left = [
        float(resample.blurred(noise.float() / 255, torch.full((16,), 2.0), radius)[:, :, 8:-8, 8:-8].std())
        for radius in (resample.full_radius(32, 2), resample.tenth(32))
    ]
    assert left[0] == pytest.approx(float(pillows[:, :, 8:-8, 8:-8].std()), rel=0.1)
    assert left[1] > 2 * left[0]


def test_more_views_leave_the_first_two_as_they_are() -> None:
    images = photographs(5, 32, 32)
    two, many = (
        Augmentation(AugmentConfig(**COLOURED, **more), 32, MEAN, STD)(images, torch.Generator().manual_seed(1))
        for more in ({}, {"view3": SMALL, "view4": {"gray": 1.0}})
    )
    assert [view.shape[-1] for view in many] == [32, 32, 16, 16, 16, 32]
    assert all(torch.equal(a, b) for a, b in zip(two, many, strict=False))
    assert not torch.equal(many[2], many[3]), "each copy is drawn for itself"
    gray = many[5] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert torch.allclose(gray[:, :1].expand_as(gray), gray, atol=1e-5)


def test_views_of_a_part_are_those_of_the_whole_batch() -> None:
    augment = Augmentation(AugmentConfig(**COLOURED, view3=SMALL), 32, MEAN, STD)
    images, part = photographs(7, 32, 32), slice(2, 5)
    whole = augment(images, torch.Generator().manual_seed(0))
    for view, own in zip(whole, augment(images[part], torch.Generator().manual_seed(0), part, 7), strict=True):
        assert torch.equal(view[part], own)


def test_views_of_several_sizes_that_are_cut_ahead_have_the_bits_of_those_that_are_not() -> None:
    augment = Augmentation(AugmentConfig(**COLOURED, view3=SMALL, interpolation="bicubic"), 32, MEAN, STD)
    whole = Whole(list(photographs(4, 50, 70)), CPU)
    crops = augment.cut(whole, torch.Generator().manual_seed(3))
    assert [pixels.shape[0] for pixels in crops.pixels] == [8, 12]
    ahead = augment(crops, torch.Generator().manual_seed(3))
    for a, b in zip(augment(whole, torch.Generator().manual_seed(3)), ahead, strict=True):
        assert torch.equal(a, b)
