"""What timm's sources say of a model is what the model that timm builds takes."""

import inspect

import pytest
import timm
import torch

from bench.config import backbones, timm_sources


def taken(name: str) -> set[str]:
    """Parameters of the class of the model that timm builds, and of those that it passes arguments on to."""
    with torch.device("meta"):
        kind = type(timm.create_model(name))
    found: set[str] = set()
    for made in kind.__mro__:
        if made.__module__.startswith("timm.") and "__init__" in vars(made):
            parameters = inspect.signature(made).parameters.values()
            found |= {each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD}
            if not any(each.kind is each.VAR_KEYWORD for each in parameters):
                break
    return found


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "convnext_atto",
        "densenet121",
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",  # its class passes on to another's, of another file
        "cait_xxs24_224",
        "swin_tiny_patch4_window7_224",
        "mobilenetv3_small_100",
    ],
)
def test_arguments_are_those_of_the_class(name: str) -> None:
    told = timm_sources.arguments(name)
    assert told is not None
    assert taken(name) <= told.keys()
    assert len(told.keys() - taken(name)) < 12  # of a class that the same function makes in other cases


def test_a_class_that_takes_any_name_is_not_judged() -> None:
    assert timm_sources.arguments("regnetx_002") is None
    assert timm_sources.arguments("no_such_model") is None


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "vit_base_patch32_224", "vit_small_patch14_dinov2", "deit3_small_patch16_224", "test_vit"],
)
def test_the_patch_of_a_transformer_is_known(name: str) -> None:
    with torch.device("meta"):
        (side, _) = timm.create_model(name).patch_embed.patch_size  # type: ignore[union-attr,misc]
    assert timm_sources.default(name, "patch_size") == side


def test_every_transformer_says_its_patch() -> None:
    silent = [n for n in backbones.names() if backbones.is_transformer(n) and not timm_sources.default(n, "patch_size")]
    assert silent == []
