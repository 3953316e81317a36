"""What follows from a backbone is filled in when a run is planned, and told; what the user chose is not touched."""

from typing import Any

import pytest

from bench.config import presets
from bench.config.schema import RunConfig, resolve
from bench.errors import UserError
from bench.planning import plan
from bench.planning.settled import settled, told

VIT = "vit_tiny_patch16_224"


def of(preset: str = "quick", method: str = "byol", **chosen: str) -> tuple[RunConfig, dict[str, str]]:
    given = {key.replace("__", "."): value for key, value in chosen.items()}
    return settled(resolve(presets.values(preset, method), given), given), given


def said(preset: str = "quick", **chosen: str) -> list[str]:
    config, given = of(preset, **chosen)
    return [*told(config, given, presets.values(preset, "byol"))]


@pytest.mark.parametrize(("size", "patch"), [("16", 2), ("32", 4)])
def test_a_transformer_has_small_patches_on_small_images(size: str, patch: int) -> None:
    config, _ = of(backbone__name=VIT, data__size=size)
    assert config.backbone.args == {"patch_size": patch}
    assert config.backbone.stem == "imagenet"
    assert (f"backbone.args.patch_size={patch}: chosen for {size} x {size} images, 8 x 8 patches") in said(
        backbone__name=VIT, data__size=size
    )


def test_a_patch_that_the_user_chose_stays() -> None:
    chosen = {"backbone__name": VIT, "data__size": "32", "backbone__args__patch_size": "8"}
    assert of(**chosen)[0].backbone.args == {"patch_size": 8}
    assert not any("backbone" in line for line in said(**chosen))


def test_a_transformer_of_which_timms_own_stem_is_asked_is_as_before() -> None:
    config, _ = of(backbone__name=VIT, backbone__stem="imagenet")
    assert config.backbone.args == {}


def test_weights_from_elsewhere_keep_their_patches() -> None:
    config, _ = of(backbone__name=VIT, backbone__weights=f"timm:{VIT}.augreg_in21k", data__size="32")
    assert config.backbone.args == {}


@pytest.mark.parametrize("name", ["resnet18d", "resnetv2_18", "regnetx_002", "efficientnet_b0", "resnet10_small"])
def test_a_small_stem_stays_where_the_family_has_one(name: str) -> None:
    assert of(backbone__name=name)[0].backbone.stem == "small"
    assert said(backbone__name=name) == []


def test_a_presets_small_stem_is_left_out_where_there_is_none_and_that_is_told() -> None:
    assert of(backbone__name="mobilevit_xxs")[0].backbone.stem == "imagenet"
    (line,) = said(backbone__name="mobilevit_xxs")
    assert line.startswith("backbone.stem=imagenet: mobilevit_xxs has no small stem")


@pytest.mark.parametrize("chosen", [{"backbone__name": "mobilevit_xxs"}, {"backbone__name": VIT, "data__size": "224"}])
def test_one_that_the_user_asked_for_is_an_error(chosen: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"use backbone.stem=imagenet$"):
        of(backbone__stem="small", **chosen)


def test_a_plan_says_all_that_its_network_is_built_from() -> None:
    (run,) = plan.plan(["byol"], [0], "quick", {"backbone.name": VIT}, {}, "x")
    backbone: dict[str, Any] = run["config"]["backbone"]
    assert (backbone["stem"], backbone["args"]) == ("imagenet", {"patch_size": 2})
    assert run["overrides"] == {"backbone.name": VIT}


def test_arguments_are_part_of_what_a_run_is_whatever_way_they_are_written() -> None:
    def run_id(**args: str) -> str:
        chosen = {"backbone.name": VIT, "backbone.stem": "imagenet"}
        overrides = {**chosen, **{f"backbone.args.{key}": value for key, value in args.items()}}
        return str(plan.plan(["byol"], [0], "quick", overrides, {}, "x")[0]["run_id"])

    assert run_id(depth="2") == run_id(depth="2.0")
    assert len({run_id(), run_id(depth="2"), run_id(depth="3"), run_id(depth="2", drop_path_rate="0.1")}) == 4


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_an_argument_is_a_finite_number(value: str) -> None:
    with pytest.raises(UserError, match=r"^backbone\.args"):
        of(backbone__name=VIT, backbone__args__drop_path_rate=value)


def test_the_embeddings_of_a_transformer_have_no_weight_decay_unless_it_is_asked_for() -> None:
    assert not of(backbone__name=VIT)[0].optim.decay_embeddings
    assert of(backbone__name=VIT, optim__decay_embeddings="true")[0].optim.decay_embeddings
    assert of(backbone__name="resnet18")[0].optim.decay_embeddings


@pytest.mark.parametrize("chosen", [{"optim__weight_decay": "0"}, {"optim__decay_bias_norm": "true"}])
def test_where_there_is_nothing_to_exempt_the_setting_and_so_the_hash_stay(chosen: dict[str, str]) -> None:
    assert of(backbone__name=VIT, **chosen)[0].optim.decay_embeddings


def test_moco_v3_freezes_the_projection_of_patches_of_transformers_alone() -> None:
    def frozen(**chosen: str) -> bool:
        return bool(of(method="moco_v3", **chosen)[0].method.model_dump()["freeze_patch_embed"])

    assert frozen(backbone__name=VIT)
    assert not frozen(backbone__name=VIT, method__freeze_patch_embed="false")
    assert not frozen(backbone__name="resnet18")
    with pytest.raises(UserError, match=r"^method.freeze_patch_embed=true: resnet18 is no vision transformer"):
        frozen(backbone__name="resnet18", method__freeze_patch_embed="true")


def test_all_that_was_filled_in_is_told() -> None:
    config, given = of(method="moco_v3", backbone__name=VIT)
    lines = [line.partition(":")[0] for line in told(config, given, presets.values("quick", "moco_v3"))]
    assert lines == ["backbone.args.patch_size=2", "optim.decay_embeddings=false", "method.freeze_patch_embed=true"]


def test_more_views_than_a_method_takes_are_refused() -> None:
    with pytest.raises(UserError, match=r"byol takes 2 views and augment makes 4 .*dino or swav"):
        of("quick", augment__view3__copies="2")


def test_the_first_two_views_have_the_datas_size() -> None:
    with pytest.raises(UserError, match=r"augment: the first two views have data.size=16, not 16 and 8; view3 may"):
        of("quick", augment__view2__size="8")


def test_colours_of_images_that_have_none_are_refused_with_what_to_set() -> None:
    with pytest.raises(UserError) as refused:
        of("cifar10-mini", data__channels="1")
    assert str(refused.value) == (
        "data.channels=1: augment.saturation=0.4, augment.hue=0.1, augment.gray=0.2 mean nothing without red, green "
        "and blue; turn them off with --set augment.saturation=0 --set augment.hue=0 --set augment.gray=0"
    )
    off = {f"augment__{key}": "0" for key in ("saturation", "hue", "gray")}
    assert of("cifar10-mini", data__channels="5", **off)[0].data.channels == 5
    with pytest.raises(UserError, match=r": augment\.view2\.gray=0\.5 mean nothing"):
        of("cifar10-mini", data__channels="5", augment__view2__gray="0.5", **off)


def test_colour_jitter_that_is_off_is_no_trouble() -> None:
    chosen = {"augment__jitter": "0", "augment__gray": "0"}
    assert of("cifar10-mini", data__channels="1", **chosen)[0].augment.hue == 0.1
