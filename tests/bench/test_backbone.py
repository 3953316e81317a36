"""Backbones: names, stems, sizes, and encoders that timm loads."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from bench import backbone
from bench.config.sections import BackboneConfig
from bench.errors import UserError


def make(name: str = "resnet10_small", stem: str = "small", size: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return backbone.create(BackboneConfig.model_validate({"name": name, "stem": stem}), size)


@pytest.mark.parametrize(
    ("name", "stem", "size", "dim"),
    [
        ("resnet10_small", "small", 16, 128),
        ("resnet10_small", "imagenet", 32, 128),
        ("resnet18", "small", 32, 512),
        ("resnet18", "small_pad2", 32, 512),
        ("vit_tiny_patch16_224", "imagenet", 32, 192),  # trained at 224: takes our size instead
        ("mobilenetv3_small_100", "imagenet", 32, 1024),  # timm's num_features says 576
    ],
)
def test_pooled_features(name: str, stem: str, size: int, dim: int) -> None:
    network = make(name, stem, size)
    assert network.num_features == dim
    assert network(torch.randn(2, 3, size, size)).shape == (2, dim)
    assert all(module.training for module in network.modules())


def test_small_resnet_has_one_block_a_stage() -> None:
    network = timm.create_model("resnet10_small", num_classes=7)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    stages: list[Any] = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [len(stage) for stage in stages] == [1, 1, 1, 1]
    assert [stage[0].conv2.out_channels for stage in stages] == [16, 32, 64, 128]


def test_the_stem_of_solo_learns_cifar_resnets_pads_by_two() -> None:
    network, usual = make("resnet18", "small_pad2", 32), make("resnet18", "small", 32)
    assert network.get_submodule("conv1").padding == (2, 2)
    assert [p.shape for p in network.parameters()] == [p.shape for p in usual.parameters()]
    sizes: list[int] = []
    network.get_submodule("layer1").register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    network(torch.randn(1, 3, 32, 32))
    assert sizes == [34]


def test_small_stem_keeps_the_resolution() -> None:
    network = make("resnet18", "small", 32)
    sizes = []
    network.get_submodule("layer1").register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    network(torch.randn(2, 3, 32, 32))
    assert sizes == [32]
    assert not any(isinstance(module, nn.MaxPool2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("resnet18d", 4),
        ("res2net50_14w_8s", 4),
        ("resnetv2_18", 4),
        ("resnetv2_50x1_bit", 4),  # weights standardised; its pool is padded by a module of its own
        ("regnetx_002", 2),
        ("convnext_atto", 4),
        ("densenet121", 4),
        ("efficientnet_b0", 2),
        ("tf_efficientnet_b0", 2),  # pads by the size of its input
        ("mobilenetv3_small_100", 2),
    ],
)
def test_small_stems_of_other_families_do_not_shrink(name: str, factor: int) -> None:
    """factor: by how much timm's own stem shrinks the images, in the models' papers."""

    def side(stem: str) -> int:
        network: Any = make(name, stem, 64).eval()
        return int(network.forward_features(torch.zeros(1, 3, 64, 64)).shape[-1])

    assert side("small") == factor * side("imagenet")


@pytest.mark.parametrize(
    ("name", "args", "size", "shape"),
    [
        ("vit_tiny_patch16_224", {"patch_size": 4}, 32, (1, 65, 192)),
        ("vit_tiny_patch16_224", {"patch_size": 2, "embed_dim": 96, "depth": 2}, 16, (1, 65, 96)),
        ("vit_tiny_patch16_224", {"patch_size": 4, "class_token": False, "global_pool": "avg"}, 16, (1, 16, 192)),
    ],
)
def test_arguments_reach_timms_model(name: str, args: dict[str, Any], size: int, shape: tuple[int, ...]) -> None:
    network = backbone.create(BackboneConfig(name=name, stem="imagenet", args=args), size)
    assert network.get_parameter("pos_embed").shape == shape
    assert network(torch.randn(2, 3, size, size)).shape == (2, shape[-1])


def test_arguments_that_timm_refuses_are_named() -> None:
    config = BackboneConfig(name="regnetx_002", stem="imagenet", args={"widht": 3})
    with pytest.raises(UserError, match=r"^backbone.name=regnetx_002 with backbone.args.widht=3: .*unexpected keyword"):
        backbone.create(config, 32)


def test_an_encoder_comes_back_with_its_arguments(tmp_path: Path) -> None:
    config = BackboneConfig(name="test_vit", stem="imagenet", args={"patch_size": 4, "dynamic_img_size": True})
    network = backbone.create(config, 16).eval()
    backbone.save(network, tmp_path / "encoder.safetensors", config)
    loaded, images = backbone.load(tmp_path / "encoder.safetensors"), torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(images), network(images))
    assert loaded.architecture == network.architecture


def test_the_global_generator_decides_the_weights() -> None:
    first, same = make().state_dict(), make().state_dict()
    torch.manual_seed(1)
    other = backbone.create(BackboneConfig(name="resnet10_small"), 16).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_new_backbones_have_seen_no_batch() -> None:
    state = make().state_dict()
    assert all(value == 0 for key, value in state.items() if key.endswith("num_batches_tracked"))
    assert all((value == 0).all() for key, value in state.items() if key.endswith("running_mean"))


@pytest.mark.parametrize(
    ("name", "stem", "size", "message"),
    [
        ("resnet81", "small", 32, "unknown backbone 'resnet81': did you mean 'resnet18'? see `bench list backbones`"),
        ("resnet18.a1_in1k", "small", 32, "did you mean 'resnet18'"),  # the tag of weights that we do not load
        ("vit_tiny_patch16_224", "small", 32, "use backbone.stem=imagenet"),
        ("mobilevit_xxs", "small", 32, "use backbone.stem=imagenet"),
        ("vit_tiny_patch16_224", "imagenet", 8, "backbone.name=vit_tiny_patch16_224: cannot take 8 x 8 images"),
    ],
)
def test_errors_say_what_would_be_right(name: str, stem: str, size: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make(name, stem, size)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "stem", "size"),
    [
        ("resnet10_small", "small", 16),
        ("resnet10_small", "imagenet", 32),
        ("vit_tiny_patch16_224", "imagenet", 32),
        ("coat_lite_tiny", "imagenet", 32),  # layers that share weights
    ],
)
def test_encoder_comes_back(name: str, stem: str, size: int, tmp_path: Path) -> None:
    network = make(name, stem, size).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, size, size)
    network(images)  # batch statistics are a part of it
    path = tmp_path / "encoder.safetensors"
    backbone.save(network, path, BackboneConfig.model_validate({"name": name, "stem": stem}))
    loaded = backbone.load(path)
    assert not loaded.training
    saved, found = network.state_dict(), loaded.state_dict()
    assert saved.keys() == found.keys()
    assert all(torch.equal(saved[key], found[key]) for key in saved)
    torch.testing.assert_close(loaded(images), network.eval()(images))
    assert [entry.name for entry in tmp_path.iterdir()] == ["encoder.safetensors"]


def test_timm_loads_an_encoder(tmp_path: Path) -> None:
    network, images = make(stem="imagenet", size=32).eval(), torch.randn(2, 3, 32, 32)
    backbone.save(network, tmp_path / "encoder.safetensors", BackboneConfig(name="resnet10_small", stem="imagenet"))
    model = timm.create_model("resnet10_small", num_classes=0).eval()
    assert not torch.equal(model(images), network(images))
    timm.models.load_checkpoint(model, str(tmp_path / "encoder.safetensors"))
    assert torch.equal(model(images), network(images))


def test_timm_loads_an_encoder_with_a_small_stem(tmp_path: Path) -> None:
    network, images = make("resnet18", "small", 32).eval(), torch.randn(2, 3, 32, 32)
    backbone.save(network, tmp_path / "encoder.safetensors", BackboneConfig(name="resnet18"))
    model = timm.create_model("resnet18", num_classes=0).eval()
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    timm.models.load_checkpoint(model, str(tmp_path / "encoder.safetensors"))
    assert torch.equal(model(images), network(images))


def test_equal_encoders_are_equal_files(tmp_path: Path) -> None:
    config = BackboneConfig(name="resnet10_small")
    network = backbone.create(config, 16)
    contents = set()
    for i in range(20):  # the library's order of the metadata is a matter of luck
        backbone.save(network, tmp_path / f"{i}.safetensors", config)
        contents.add((tmp_path / f"{i}.safetensors").read_bytes())
    assert len(contents) == 1


def test_what_is_no_encoder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        backbone.load(tmp_path / "missing.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(UserError, match="cannot be read"):
        backbone.load(tmp_path / "torn.safetensors")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"stem": "big"}, "stem"), ({"size": "?"}, "'?'"), ({"stem": "imagenet"}, "size mismatch for conv1.weight")],
)
def test_an_encoder_of_another_version_is_said(change: dict[str, str], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    metadata = {"name": "resnet10_small", "stem": "small", "size": "16", **change}
    safetensors.torch.save_file(make().state_dict(), path, metadata)
    with pytest.raises(UserError, match=r"was written by another version of the program or of timm") as caught:
        backbone.load(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_frozen_restores_every_mode_even_after_an_error() -> None:
    network = make()
    network.get_submodule("bn1").eval()
    modes = [module.training for module in network.modules()]
    with pytest.raises(ZeroDivisionError), backbone.frozen(network):
        assert not any(module.training for module in network.modules())
        assert not torch.is_grad_enabled()
        raise ZeroDivisionError
    assert [module.training for module in network.modules()] == modes
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "efficientnet_b0", "resnetv2_50", "vit_tiny_patch16_224"]
)
def test_a_network_made_again_has_other_weights_of_the_same_distribution(name: str) -> None:
    """As a mean teacher with weights of its own needs it, for models whose initialisation has rules of its own."""
    made = backbone.create(BackboneConfig(name=name, stem="imagenet"), 32)
    again = made.recreate()  # type: ignore[operator]
    for (key, a), b in zip(made.named_parameters(), again.parameters(), strict=True):
        if a.ndim > 1 and a.numel() > 1000:
            assert not torch.equal(a, b) or not a.any(), key
            spread, expected = (weights.abs().median().item() for weights in (b, a))
            assert spread == pytest.approx(expected, rel=0.2), key


def test_residual_branches_start_at_zero_as_timms_or_not_as_torchvisions() -> None:
    def last_norms(zero_init: bool) -> list[float]:
        made = backbone.create(BackboneConfig(name="resnet18", zero_init=zero_init), 32)
        return [
            block.get_parameter("bn2.weight").abs().max().item() for block in made.modules() if hasattr(block, "conv2")
        ]

    assert last_norms(True) == [0.0] * 8
    assert last_norms(False) == [1.0] * 8


def test_embeddings_are_those_of_positions_and_of_the_class() -> None:
    assert backbone.embeddings(make("vit_tiny_patch16_224", "imagenet", 32)).keys() == {"pos_embed", "cls_token"}
    assert backbone.embeddings(make()) == {}


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", ["resnet10_small", "resnet18", "convnext_atto"])
def test_a_network_takes_other_channels_and_is_read_back_with_them(tmp_path: Path, name: str, channels: int) -> None:
    config = BackboneConfig(name=name)
    network: Any = backbone.create(config, 16, channels=channels).eval()
    images = torch.randn(2, channels, 16, 16)
    backbone.save(network, tmp_path / "encoder.safetensors", config)
    again = backbone.load(tmp_path / "encoder.safetensors")
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
        assert network.recreate().eval()(images).shape == network(images).shape
