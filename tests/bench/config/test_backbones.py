"""Names of backbones: exactly those that can be built, known without importing what builds them."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import timm

import bench.backbone  # noqa: F401  registers ours
from bench.config import backbones, timm_sources
from bench.errors import UserError


def test_names_are_those_of_timms_registry_in_its_order() -> None:
    assert backbones.names() == timm.list_models()
    assert set(backbones.OWN) <= set(backbones.names())


def test_an_unknown_name_is_refused_without_importing_timm_or_torch() -> None:
    code = (
        "import sys; from bench.config import backbones; from bench.errors import UserError\n"
        "try: backbones.check('resnet81')\n"
        "except UserError as error: print(error, 'timm' in sys.modules, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    assert said == "unknown backbone 'resnet81': did you mean 'resnet18'? see `bench list backbones` False False"


def test_a_name_that_nothing_resembles_is_refused_without_a_guess() -> None:
    with pytest.raises(UserError, match=r"^unknown backbone '%%%': see `bench list backbones`$"):
        backbones.check("%%%")


def test_a_timm_laid_out_otherwise_is_asked_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = backbones.names()
    elsewhere = ModuleSpec("timm", None, is_package=True)
    elsewhere.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(timm_sources, "find_spec", lambda name: elsewhere)
    monkeypatch.setattr(timm_sources, "files", timm_sources.files.__wrapped__)
    assert backbones.names.__wrapped__() == expected


def test_an_argument_that_a_backbone_does_not_take_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        backbones.check_arguments("vit_tiny_patch16_224", {"patchsize": 4})
    said = str(caught.value)
    assert said.startswith(
        "unknown argument of vit_tiny_patch16_224 'backbone.args.patchsize': did you mean 'backbone.args.patch_size'?"
    )
    assert "backbone.args.depth" in said
    assert "in_chans" not in said  # ours to set
    assert "norm_layer" not in said  # nothing that one can write


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patch_size": "four"}, "backbone.args.patch_size=four: should be a whole number"),
        ({"depth": True}, "backbone.args.depth=true: should be a whole number"),
        ({"drop_path_rate": "some"}, "backbone.args.drop_path_rate=some: should be a number"),
        ({"qkv_bias": 1}, "backbone.args.qkv_bias=1: should be true or false"),
        ({"num_classes": 3}, "backbone.args.num_classes=3: is not for you to set, the program does"),
        ({"global_pool": "mean"}, "should be '' or 'avg' or 'avgmax' or 'max' or 'token' or 'map'"),
    ],
)
def test_an_argument_of_another_type_is_refused(given: dict[str, backbones.Scalar], message: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        backbones.check_arguments("vit_tiny_patch16_224", given)
    assert message in str(caught.value)


def test_what_timm_takes_is_taken() -> None:
    given: dict[str, backbones.Scalar] = {
        "patch_size": 4,
        "drop_path_rate": 0,
        "global_pool": "avg",
        "act_layer": "gelu",
    }
    backbones.check_arguments("vit_tiny_patch16_224", given)
    backbones.check_arguments("regnetx_002", {"of_a_class_that_takes_any": 1})  # told when it is built


@pytest.mark.parametrize(
    ("size", "patch"),
    [(8, 1), (16, 2), (20, 2), (24, 3), (28, 4), (32, 4), (48, 6), (63, 7), (64, None), (96, None), (224, None)],
)
def test_transformers_have_about_eight_patches_a_side_on_small_images(size: int, patch: int | None) -> None:
    assert backbones.patch("vit_tiny_patch16_224", size) == patch


def test_a_patch_that_is_small_already_stays() -> None:
    assert backbones.patch("vit_small_patch8_224", 32) is None
    assert backbones.patch("resnet18", 16) is None


@pytest.mark.parametrize(
    ("args", "label"),
    [
        ({}, "vit_tiny_patch16_224"),
        ({"patch_size": 4}, "vit_tiny_patch16_224 (patch_size=4)"),
        ({"patch_size": 4, "dynamic_img_size": True}, "vit_tiny_patch16_224 (dynamic_img_size=true, patch_size=4)"),
        ("damaged", "vit_tiny_patch16_224"),
    ],
)
def test_tables_call_a_backbone_by_its_arguments_too(args: object, label: str) -> None:
    assert backbones.label("vit_tiny_patch16_224", args) == label
