"""A source of weights (bench.config.encoders) -> the weights of a network, from a file or from timm."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
import timm
from huggingface_hub import constants
from timm.models import get_pretrained_cfg, list_pretrained
from torch import Tensor, nn

from bench.config.encoders import FILE, Source
from bench.config.sections import BackboneConfig
from bench.errors import UserError, few
from bench.weights import files
from bench.weights.fit import Weights, fit

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm names them in the hub
PATIENCE = 5.0  # seconds for the hub to answer


def find(source: Source, network: nn.Module, config: BackboneConfig, size: int, what: str) -> Weights:
    """The weights of `network`, which is `config`'s for images of `size` pixels, from `source`.

    what: the source as the user knows it, for messages. Raises UserError, one line, if there are none that fit.
    """
    if source.kind == FILE:
        return fit(files.read(Path(source.place)), network, what, source.prefix)
    own = source.place.partition(".")[0]
    if own != config.name:
        raise UserError(f"{what}: weights of {own}, but the backbone is {config.name}: set backbone.name={own}")
    return fit(_of_timm(source.place, size, config.args, what), network, what, "")


def told_by_timm(name: str, what: str) -> Any:
    """timm's description of pretrained weights: mean, std, input_size, ... Raises UserError if it has none."""
    model = name.partition(".")[0]
    try:
        told = get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        told = None
    if told is None or not told.has_weights:
        tags = [tagged.partition(".")[2] for tagged in list_pretrained(f"{model}.*")]
        raise UserError(f"{what}: timm has no such weights; of {model}: {few(tags, 8) if tags else 'none'}")
    return told


def _of_timm(name: str, size: int, args: Mapping[str, Any], what: str) -> dict[str, Tensor]:
    """All tensors of timm's pretrained model, its classifier too, as without it timm does not report missing keys."""
    told = told_by_timm(name, what)
    options: dict[str, Any] = {**({"img_size": size} if told.fixed_input_size else {}), **args}
    if told.hf_hub_id and not told.custom_load:
        wanted = (told.hf_hub_filename,) if told.hf_hub_filename else HUB_FILES
        cached = [
            path
            for file in wanted
            if isinstance(path := huggingface_hub.try_to_load_from_cache(told.hf_hub_id, file), str)
        ]
        if cached:  # taken as it lies: timm would ask the hub first, half a minute where there is no network
            options["pretrained_cfg_overlay"] = {"file": cached[0]}
        elif not _hub_answers():
            raise UserError(
                f"{what}: {told.hf_hub_id} is not in the cache ({constants.HF_HUB_CACHE}, by HF_HOME), and the hub "
                "does not answer: fetch it where there is a network (timm.create_model with pretrained=True), and copy "
                "the cache, or give file:PATH"
            )
    try:
        model = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # timm, torch.hub and the hub's client fail in ways of their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{what}: timm cannot load it ({reason}); it looks in {constants.HF_HUB_CACHE} (HF_HOME) and in "
            f"{os.environ.get('TORCH_HOME') or '~/.cache/torch'} (TORCH_HOME)"
        ) from error
    return dict(model.state_dict())


def _hub_answers() -> bool:
    """Whether a connection to the hub can be made; taken for granted behind a proxy, which alone could tell."""
    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    address = urlsplit(constants.ENDPOINT)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        with socket.create_connection((address.hostname or "", port), timeout=PATIENCE):
            return True
    except OSError:
        return False
