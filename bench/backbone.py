"""Backbones: timm models that give pooled features, with a stem for small images; saved and loaded.

The weights are new, or those that `backbone.weights` names.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models import build_model_with_cfg, get_pretrained_cfg, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from bench.config import backbones, encoders
from bench.config.sections import BackboneConfig
from bench.errors import UserError
from bench.files import write_atomic
from bench.weights.find import find

__all__ = ["create", "frozen", "load", "save"]

POOLS = ("maxpool", "stem.pad", "stem.pool", "features.pool0")  # of a stem, whatever its family calls it

default_cfgs = {  # what timm's registry says of a model of ours: no weights to download
    "resnet10_small": {"url": "", "num_classes": 1000, "first_conv": "conv1", "classifier": "fc"},
}


def _small_resnet(**kwargs: Any) -> ResNet:
    """A ResNet of one BasicBlock a stage, 16 to 128 channels; a stem of 16, where timm's have 64."""
    model: Any = ResNet(cast(Any, BasicBlock), layers=(1, 1, 1, 1), channels=(16, 32, 64, 128), **kwargs)
    model.conv1 = nn.Conv2d(kwargs.get("in_chans", 3), 16, kernel_size=7, stride=2, padding=3, bias=False)
    model.bn1 = nn.BatchNorm2d(16)
    model.layer1 = nn.Sequential(BasicBlock(16, 16))
    model.init_weights()
    return cast(ResNet, model)


@register_model
def resnet10_small(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """The presets' backbone for CPUs, 0.3 million parameters, under its name in timm's registry."""
    return build_model_with_cfg(_small_resnet, "resnet10_small", pretrained, **kwargs)


def create(config: BackboneConfig, size: int, what: str = "", channels: int = 3) -> nn.Module:
    """A backbone: images [N, channels, size, size] -> pooled features [N, backbone.num_features].

    Its weights are those of config.weights, and then it has the attributes weights_hash (their content's) and
    weights_told (how they were found); or else the global random generator decides them. recreate() is the same
    network untrained. what: the source of the weights, for messages. Raises UserError for an unknown name, a stem that
    the model does not have, an image size that it cannot take, and weights that are not its own or not those of
    config.weights_hash.
    """
    model: Any = _untrained(config, size, channels)
    if config.weights:
        what = what or f"backbone.weights={config.weights}"
        weights = find(encoders.parse(config.weights, "backbone.weights"), model, config, size, what)
        if config.weights_hash not in ("", weights.content_hash):
            was, now = config.weights_hash, weights.content_hash
            raise UserError(f"{what}: not the weights that were planned: their hash was {was} and is {now}")
        model.load_state_dict(weights.state)
        model.weights_hash, model.weights_told = weights.content_hash, weights.told
    return cast(nn.Module, model)


def _untrained(config: BackboneConfig, size: int, channels: int) -> nn.Module:
    """The network with weights that the global random generator decides."""
    backbones.check(config.name)
    if config.stem != "imagenet" and not backbones.has_small_stem(config.name):
        raise backbones.without_small_stem(config.name)
    try:
        arguments = timm_arguments(config, size, channels)
        model: Any = timm.create_model(config.name, pretrained=False, num_classes=0, **arguments)
        if config.stem != "imagenet":
            _make_stem_small(model, padding=2 if config.stem == "small_pad2" else 1)
        if not config.zero_init:
            _start_residual_branches(model)
        model.num_features = _feature_dim(model, size, channels)
    except Exception as error:  # timm's models say in many ways that they cannot take a size, or an argument
        reason = " ".join(str(error).split()) or type(error).__name__
        args = "".join(f" backbone.args.{key}={backbones.shown(value)}" for key, value in config.args.items())
        what = f"backbone.name={config.name}{' with' * bool(args)}{args}"
        raise UserError(f"{what}: cannot take {size} x {size} images ({reason})") from error
    model.image_size, model.image_channels = size, channels
    model.recreate = partial(_untrained, config, size, channels)  # with weights of its own, e.g. for a teacher
    model.architecture = (config.name, config.stem, size, config.args, channels)  # by which an encoder is known again
    return cast(nn.Module, model)


def timm_arguments(config: BackboneConfig, size: int, channels: int = 3) -> dict[str, Any]:
    """What timm's model is made with, beside its name, for images of `size` pixels and so many channels."""
    known = get_pretrained_cfg(config.name)
    fixed = known is not None and known.fixed_input_size  # e.g. by a ViT's position embedding
    bands = {"in_chans": channels} if channels != 3 else {}
    return {**({"img_size": size} if fixed else {}), **bands, **config.args}


def _make_stem_small(model: Any, padding: int) -> None:
    """First convolution 3x3 with stride 1 and no max-pool, as SimCLR on CIFAR-10 (arXiv 2002.05709, B.9).

    The convolution is changed where it stands, as it may be of a kind of its own: weights standardised, or padded by
    the size of its input. Sets model.small_stem: where it is, and what was taken away.
    """
    first = str(model.default_cfg["first_conv"])
    if f"{first}.conv" in dict(model.named_modules()):
        first = f"{first}.conv"  # timm names the block around it
    conv = model.get_submodule(first)
    fresh = nn.Conv2d(conv.in_channels, conv.out_channels, 3, stride=1, padding=padding, bias=conv.bias is not None)
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")  # as timm's ResNet
    conv.weight = fresh.weight
    conv.kernel_size, conv.stride = fresh.kernel_size, fresh.stride
    if not (isinstance(conv, Conv2dSame) or getattr(conv, "same_pad", False)):  # these pad their input themselves
        conv.padding = fresh.padding
    present = [place for place in POOLS if place in dict(model.named_modules())]
    for place in present:
        parent, _, name = place.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())
    model.small_stem = (first, present)


def _start_residual_branches(model: nn.Module) -> None:
    """Undo timm's zero initialisation of each block's last norm."""
    for block in model.modules():
        if isinstance(block, (BasicBlock, Bottleneck)):
            nn.init.ones_(cast(Any, block.bn3 if isinstance(block, Bottleneck) else block.bn2).weight)


def embeddings(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that timm exempts from weight decay, by name: a transformer's embeddings of positions and class."""
    exempt: Any = getattr(network, "no_weight_decay", set)
    names = exempt()
    return {name: parameter for name, parameter in network.named_parameters() if name in names}


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Eval mode and no gradient for a while; then every module is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _feature_dim(model: nn.Module, size: int, channels: int) -> int:
    """D of the features [N, D] that the model really gives; timm's num_features omits some last layers."""
    with frozen(model):
        features = model(torch.zeros(1, channels, size, size))
    if features.ndim != 2:
        raise ValueError(f"its features are not pooled: shape {tuple(features.shape)}")
    return int(features.shape[1])


def save(backbone: nn.Module, path: Path, config: BackboneConfig) -> None:
    """Write the weights as a plain state dict of the timm model; the metadata says how to rebuild it.

    `timm.models.load_checkpoint(model, path)` loads it into a model of the same name, stem and arguments.
    """
    contiguous = torch.contiguous_format
    state = {  # copies, as safetensors refuses tensors that share memory: layers that share weights are stored each
        key: value.detach().cpu().clone(memory_format=contiguous) for key, value in backbone.state_dict().items()
    }
    metadata = {"format": "pt", "name": config.name, "stem": config.stem, "size": str(backbone.image_size)}
    if backbone.image_channels != 3:
        metadata["channels"] = str(backbone.image_channels)
    if config.args:
        metadata["args"] = json.dumps(config.args, sort_keys=True)
    write_atomic(path, _ordered(safetensors.torch.save(state, metadata)))


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata by name: the library's order differs from one call to the next."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def load(path: Path) -> nn.Module:
    """The backbone that `save` wrote, on the CPU, in eval mode. Raises UserError if it cannot be read."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        state = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as an encoder ({error})") from error
    if not {"name", "stem", "size"} <= metadata.keys():
        raise UserError(f"{path}: does not say which backbone it is; encoders of `bench run` do")
    try:
        args = json.loads(metadata.get("args", "{}"))
        config = BackboneConfig.model_validate({"name": metadata["name"], "stem": metadata["stem"], "args": args})
        backbone = create(config, int(metadata["size"]), channels=int(metadata.get("channels", "3")))
        backbone.load_state_dict(state)
    except UserError:
        raise
    except (RuntimeError, ValueError) as error:
        own = ", ".join(f"{key} {metadata[key]!r}" for key in ("name", "stem", "size"))
        reason = own if isinstance(error, ValueError) else " ".join(str(error).split()[:30])  # not pydantic's text
        raise UserError(f"{path}: was written by another version of the program or of timm ({reason})") from error
    return backbone.eval()
