"""The augmentation against torchvision's functions, on patches of two real photographs."""

import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from bench.config.views import AugmentConfig, ViewConfig
from bench.data.augment import Augmentation, Parameters, apply, draw, normalize

TOLERANCE = 2 / 255
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
OFF = {"crop_min": 1.0, "ratio_min": 1.0, "ratio_max": 1.0, "flip": 0.0, "jitter": 0.0, "gray": 0.0}
EVERYTHING = {"jitter": 0.8, "hue": 0.3, "gray": 0.3, "blur": 0.5, "solarize": 0.3}


def photographs(n: int, height: int, width: int) -> Tensor:
    """`n` different patches of real photographs, uint8 [n, 3, height, width]."""
    sheets = [torch.tensor(image).permute(2, 0, 1) for image in load_sample_images().images]
    corner = torch.Generator().manual_seed(0)
    patches = []
    for i in range(n):
        sheet = sheets[i % len(sheets)]
        top = int(torch.randint(sheet.shape[1] - 2 * height, (1,), generator=corner))
        left = int(torch.randint(sheet.shape[2] - 2 * width, (1,), generator=corner))
        patches.append(sheet[:, top : top + 2 * height : 2, left : left + 2 * width : 2])
    return torch.stack(patches)


def untouched(n: int, height: int, width: int, /, **changes: Tensor) -> Parameters:
    """Parameters that leave `n` images as they are, but for `changes`."""
    parameters = draw(ViewConfig(**OFF), n, height, width, torch.Generator().manual_seed(0))
    whole = {"top": 0, "left": 0, "height": height, "width": width}
    parameters = parameters._replace(**{name: torch.full((n,), value) for name, value in whole.items()})
    return parameters._replace(**changes)


def jitter_only(n: int, size: int, op: int, factors: Tensor) -> Parameters:
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(n, 1)
    neutral[:, op] = factors
    return untouched(n, size, size, jitter=torch.ones(n, dtype=torch.bool), factors=neutral)


def by_torchvision(image: Tensor, parameters: Parameters, m: int, size: int) -> Tensor:
    """Sample m, one operation of torchvision after the other: uint8 [3, H, W] -> float [3, size, size]."""
    p = parameters
    top, left, height, width = (int(value[m]) for value in (p.top, p.left, p.height, p.width))
    x = tv.resized_crop(image.float() / 255, top, left, height, width, [size, size], antialias=True)
    x = tv.horizontal_flip(x) if p.flip[m] else x
    adjust = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]
    for op in p.order[m].tolist() if p.jitter[m] else []:
        x = adjust[op](x.clamp(0, 1), float(p.factors[m, op]))
    x = tv.rgb_to_grayscale(x, num_output_channels=3) if p.gray[m] else x
    if p.blur[m]:
        kernel = max(3, size // 20 * 2 + 1)
        x = tv.gaussian_blur(x, [kernel, kernel], [float(p.sigma[m])] * 2)
    x = tv.solarize(x.clamp(0, 1), 0.5) if p.solarize[m] else x
    assert isinstance(x, Tensor)
    return x


def assert_as_torchvision(images: Tensor, parameters: Parameters, size: int) -> None:
    ours = apply(images, parameters, size)
    assert ours.shape == (len(parameters.top), 3, size, size)
    for m in range(len(ours)):
        theirs = by_torchvision(images[m % len(images)], parameters, m, size)
        assert (ours[m] - theirs).abs().max() < TOLERANCE, f"sample {m}"


@pytest.mark.parametrize(
    ("height", "width", "crop", "size"),
    [
        (24, 32, (9, 5), 32),  # edges clamped at the crop, not at the image
        (20, 20, (20, 7), 32),  # one side whole
        (32, 32, (1, 1), 32),
        (32, 32, (32, 32), 32),  # nothing to do
        (160, 160, (110, 31), 160),
    ],
)
def test_resized_crop_and_flip_agree_with_torchvision(
    height: int, width: int, crop: tuple[int, int], size: int
) -> None:
    n = 12
    images = photographs(n, height, width)
    place = torch.Generator().manual_seed(1)
    parameters = untouched(
        n,
        height,
        width,
        top=torch.randint(height - crop[0] + 1, (n,), generator=place),
        left=torch.randint(width - crop[1] + 1, (n,), generator=place),
        height=torch.full((n,), crop[0]),
        width=torch.full((n,), crop[1]),
        flip=torch.arange(n) % 2 == 0,
    )
    assert_as_torchvision(images, parameters, size)


@pytest.mark.parametrize(
    ("op", "low", "high"),
    [
        pytest.param(0, 0.0, 2.0, id="brightness"),
        pytest.param(1, 0.0, 2.0, id="contrast"),
        pytest.param(2, 0.0, 2.0, id="saturation"),
        pytest.param(3, -0.5, 0.5, id="hue"),
    ],
)
def test_each_colour_operation_agrees_with_torchvision(op: int, low: float, high: float) -> None:
    n = 15
    assert_as_torchvision(photographs(n, 32, 32), jitter_only(n, 32, op, torch.linspace(low, high, n)), 32)


def test_hue_agrees_with_torchvision_on_pure_and_gray_colours() -> None:
    levels = torch.tensor([0, 1, 128, 254, 255], dtype=torch.uint8)
    colours = torch.cartesian_prod(levels, levels, levels)  # [125, 3]: every tie and every order of r, g, b
    image = torch.cat([colours, colours[:19]]).T.reshape(1, 3, 12, 12)
    shifts = torch.linspace(-0.5, 0.5, 13)
    assert_as_torchvision(image, jitter_only(13, 12, 3, shifts), 12)


@pytest.mark.parametrize("size", [12, 32, 96])
def test_blur_agrees_with_torchvision(size: int) -> None:
    n = 6
    blur = {"blur": torch.ones(n, dtype=torch.bool), "sigma": torch.linspace(0.1, 2.0, n)}
    assert_as_torchvision(photographs(n, size, size), untouched(n, size, size, **blur), size)


@pytest.mark.parametrize("operation", ["gray", "solarize"])
def test_gray_and_solarize_agree_with_torchvision_and_touch_only_their_samples(operation: str) -> None:
    n = 8
    chosen = torch.arange(n) % 3 == 0
    assert_as_torchvision(photographs(n, 32, 32), untouched(n, 32, 32, **{operation: chosen}), 32)


def test_all_operations_together_agree_with_torchvision_in_each_samples_own_order() -> None:
    images = photographs(60, 26, 32)
    parameters = draw(ViewConfig(**EVERYTHING), 120, 26, 32, torch.Generator().manual_seed(2))
    assert len({tuple(order.tolist()) for order in parameters.order[parameters.jitter]}) > 20  # of 24
    assert_as_torchvision(images, parameters, 32)


@pytest.mark.parametrize("off", ["brightness", "contrast", "saturation", "hue"])
def test_a_colour_operation_of_strength_zero_leaves_the_others_as_they_are(off: str) -> None:
    view = ViewConfig(**EVERYTHING | {off: 0.0})
    parameters = draw(view, 40, 32, 32, torch.Generator().manual_seed(3))
    assert_as_torchvision(photographs(40, 32, 32), parameters, 32)


@pytest.mark.parametrize(("height", "width", "crop_min"), [(32, 32, 0.08), (32, 32, 0.2), (96, 60, 0.5)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int, crop_min: float) -> None:
    n = 2000
    torch.manual_seed(0)
    blank = torch.empty(3, height, width)
    theirs = [RandomResizedCrop.get_params(blank, [crop_min, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]
    top, left, h, w = torch.tensor(theirs, dtype=torch.float64).unbind(dim=1)
    ours = draw(ViewConfig(crop_min=crop_min), n, height, width, torch.Generator().manual_seed(0))
    top_, left_, h_, w_ = ours.top.double(), ours.left.double(), ours.height.double(), ours.width.double()
    assert ks_2samp(h * w, h_ * w_).pvalue > 0.01
    assert ks_2samp(w / h, w_ / h_).pvalue > 0.01
    assert ks_2samp(top / (height - h + 1), top_ / (height - h_ + 1)).pvalue > 0.01
    assert ks_2samp(left / (width - w + 1), left_ / (width - w_ + 1)).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60), (60, 20)])
def test_crops_stay_inside_the_image(height: int, width: int) -> None:
    crop = draw(ViewConfig(crop_min=0.01), 5000, height, width, torch.Generator().manual_seed(0))
    assert min(crop.top.min(), crop.left.min()) >= 0
    assert min(crop.height.min(), crop.width.min()) >= 1
    assert (crop.top + crop.height).max() <= height
    assert (crop.left + crop.width).max() <= width


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20)])
def test_where_no_crop_fits_it_is_torchvisions_centre_crop(height: int, width: int) -> None:
    impossible = ViewConfig(crop_min=1.0, ratio_min=0.97, ratio_max=1.04)
    theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), [1.0, 1.0], [0.97, 1.04])
    crop = draw(impossible, 3, height, width, torch.Generator().manual_seed(0))
    ours = torch.stack([crop.top, crop.left, crop.height, crop.width], dim=1)
    assert ours.tolist() == [list(theirs)] * 3


def test_probabilities_strengths_and_orders_are_as_configured() -> None:
    n = 20_000
    view = ViewConfig(flip=0.5, jitter=0.8, gray=0.2, blur=0.1, solarize=0.0, brightness=1.5, hue=0.1)
    drawn = draw(view, n, 32, 32, torch.Generator().manual_seed(0))
    for flags, probability in [(drawn.flip, 0.5), (drawn.jitter, 0.8), (drawn.gray, 0.2), (drawn.blur, 0.1)]:
        assert flags.float().mean() == pytest.approx(probability, abs=0.015)  # 4 standard errors
    assert not drawn.solarize.any()
    assert draw(ViewConfig(flip=1.0), n, 32, 32, torch.Generator().manual_seed(0)).flip.all()
    ranges = [(0.0, 2.5), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1)]
    for factor, (low, high) in zip(drawn.factors.T, ranges, strict=True):
        assert low <= factor.min() < factor.max() <= high
        assert factor.mean() == pytest.approx((low + high) / 2, abs=0.03)
    assert 0.1 <= drawn.sigma.min() < drawn.sigma.max() <= 2.0
    _, counts = torch.unique(drawn.order, dim=0, return_counts=True)
    assert len(counts) == 24
    assert chisquare(counts).pvalue > 0.01


def test_equal_generators_give_equal_views_and_others_do_not() -> None:
    images = photographs(16, 32, 32)
    augment = Augmentation(AugmentConfig(**EVERYTHING), 32, MEAN, STD)
    first, again, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_a_setting_changes_nothing_of_what_is_drawn_for_the_others() -> None:
    plain, changed = (
        draw(view, 50, 32, 32, torch.Generator().manual_seed(0))
        for view in (ViewConfig(), ViewConfig(blur=1.0, gray=0.0, hue=0.0))
    )
    for name in ("top", "left", "height", "width", "flip", "jitter", "order", "solarize"):
        assert torch.equal(getattr(plain, name), getattr(changed, name)), name


def test_each_view_has_its_own_settings_and_sees_the_same_image() -> None:
    images = photographs(10, 32, 32)
    config = AugmentConfig(**OFF, view2={"gray": 1.0, "solarize": 1.0})
    first, second = Augmentation(config, 32, MEAN, STD)(images, torch.Generator().manual_seed(0))
    gray = tv.rgb_to_grayscale(images.float() / 255, num_output_channels=3)
    torch.testing.assert_close(first, normalize(images, MEAN, STD), atol=0.01, rtol=0)
    expected = tv.normalize(torch.minimum(gray, 1 - gray), list(MEAN), list(STD))
    torch.testing.assert_close(second, expected, atol=0.01, rtol=0)


def test_the_first_view_can_be_had_alone() -> None:
    images = photographs(4, 16, 16)
    augment = Augmentation(AugmentConfig(**{**OFF, "flip": 1.0}, view2={"flip": 0.0}), 16, MEAN, STD)
    first = augment.first(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(first, normalize(images.flip(3), MEAN, STD), atol=1e-5, rtol=0)


def test_normalize_is_torchvisions_and_leaves_the_images_alone() -> None:
    images = photographs(4, 16, 16)
    before = images.clone()
    expected = tv.normalize(images.float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(normalize(images, MEAN, STD), expected)
    Augmentation(AugmentConfig(**EVERYTHING), 16, MEAN, STD)(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)


@pytest.mark.parametrize("n_channels", [1, 2, 5])
def test_with_other_channels_contrast_is_about_the_mean_of_all_and_each_channel_is_treated_alike(
    n_channels: int,
) -> None:
    images = torch.cat([photographs(8, 32, 32), photographs(8, 32, 32).flip(3)], dim=1)[:, :n_channels]
    views = apply(images, jitter_only(8, 32, 1, torch.linspace(0.3, 1.8, 8)), 32)
    x, factor = images.float() / 255, torch.linspace(0.3, 1.8, 8)[:, None, None, None]
    expected = (factor * x + (1 - factor) * x.mean(dim=(1, 2, 3), keepdim=True)).clamp(0, 1)
    torch.testing.assert_close(views, expected, atol=1e-5, rtol=0)


def test_blur_solarize_brightness_and_crops_of_a_channel_do_not_depend_on_the_others() -> None:
    images = photographs(20, 26, 32)
    view = ViewConfig(**EVERYTHING | {"hue": 0.0, "saturation": 0.0, "contrast": 0.0, "gray": 0.0})
    parameters = draw(view, 20, 26, 32, torch.Generator().manual_seed(2))
    whole = apply(images, parameters, 32)
    for channel in range(3):
        alone = apply(images[:, channel : channel + 1], parameters, 32)
        torch.testing.assert_close(alone[:, 0], whole[:, channel], atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_views_do_not_depend_on_the_device_and_do_not_wait_for_it() -> None:
    images = photographs(64, 32, 32)
    augment = Augmentation(AugmentConfig(**EVERYTHING), 32, MEAN, STD)
    on_device = images.cuda()
    augment(on_device, torch.Generator().manual_seed(0))  # constants are sent once
    torch.cuda.set_sync_debug_mode("error")
    try:
        theirs = augment(on_device, torch.Generator().manual_seed(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, view in zip(augment(images, torch.Generator().manual_seed(0)), theirs, strict=True):
        assert view.device == on_device.device
        assert (ours - view.cpu()).abs().max() * min(STD) < TOLERANCE
