"""What follows from the backbone where the user has not said otherwise: its stem, its patches, how it is trained.

It is filled in when a run is planned, so that a run's config.json says all that its network is built from.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from bench.config import backbones
from bench.config.schema import RunConfig
from bench.config.sections import BackboneConfig
from bench.errors import UserError

COLOURS = ("saturation", "hue", "gray")  # of `augment`: they need red, green and blue
EMBEDDINGS, FROZEN = "optim.decay_embeddings", "method.freeze_patch_embed"


def settled(config: RunConfig, chosen: Collection[str]) -> RunConfig:
    """The config of a run, complete. chosen: dotted keys that the user set.

    Raises UserError for a backbone or arguments that do not exist, and a stem that was asked for and is not there.
    """
    _check_channels(config)
    _check_views(config)
    own = config.backbone
    backbones.check(own.name)
    backbones.check_arguments(own.name, own.args)
    update: dict[str, Any] = {"backbone": _with_stem(own, config.data.size, "backbone.stem" in chosen)}
    if backbones.is_transformer(own.name) and config.method_name != "random":  # which trains nothing
        optim, method = config.optim, config.method
        decays = (optim.weight_decay > 0 or optim.name == "lars") and not optim.decay_bias_norm
        if decays and EMBEDDINGS not in chosen:
            update["optim"] = optim.model_copy(update={"decay_embeddings": False})
        if hasattr(method, "freeze_patch_embed") and FROZEN not in chosen:
            update["method"] = method.model_copy(update={"freeze_patch_embed": True})
    elif getattr(config.method, "freeze_patch_embed", False):
        raise UserError(f"{FROZEN}=true: {own.name} is no vision transformer, which has a projection of patches")
    return config.model_copy(update=update)


def _check_channels(config: RunConfig) -> None:
    """Raises UserError for colour operations without red, green and blue."""
    n, own = config.data.channels, config.augment
    if n == 3:
        return
    meant: dict[str, float] = {}
    for name, view in own.kinds().items():
        for key in COLOURS:
            works = getattr(view, key) and (key == "gray" or view.jitter)
            if works:
                of = f"{name}." if name and key in getattr(own, name) else ""
                meant[f"augment.{of}{key}"] = getattr(view, key)
    if meant:
        shown = ", ".join(f"{key}={value:g}" for key, value in meant.items())
        raise UserError(
            f"data.channels={n}: {shown} mean nothing without red, green and blue; turn them off with "
            + " ".join(f"--set {key}=0" for key in meant)
        )


def _check_views(config: RunConfig) -> None:
    """Raises UserError for more views than the method takes, and for first ones of several sizes."""
    views, most = config.augment.views(), config.method.most_views
    if most and len(views) > most:
        raise UserError(
            f"{config.method_name} takes {most} views and augment makes {len(views)} (view3, view4, copies): leave "
            "them out, or take a method for any number, e.g. dino or swav"
        )
    if any(view.size not in (0, config.data.size) for view in views[:2]):
        sizes = " and ".join(str(view.size or config.data.size) for view in views[:2])
        raise UserError(f"augment: the first two views have data.size={config.data.size}, not {sizes}; view3 may")


def _with_stem(own: BackboneConfig, size: int, chosen: bool) -> BackboneConfig:
    """stem=small as this network can have it; left out where it cannot, which is an error if it was chosen."""
    if own.stem == "imagenet" or backbones.has_small_stem(own.name):
        return own
    named = own.weights or "patch_size" in own.args
    patch = None if named else backbones.patch(own.name, size)
    if chosen and patch is None:
        raise backbones.without_small_stem(own.name)
    args = own.args if patch is None else {**own.args, "patch_size": patch}
    return own.model_copy(update={"stem": "imagenet", "args": args})


def told(config: RunConfig, chosen: Collection[str], preset: Mapping[str, Any]) -> Iterator[str]:
    """What was filled in of a planned run by its backbone, for people. preset: its settings (`presets.values`)."""
    own, presets, size = config.backbone, preset.get("backbone", {}), config.data.size
    patch = own.args.get("patch_size")
    if patch is not None and "backbone.args.patch_size" not in chosen and "patch_size" not in presets.get("args", {}):
        side = size // int(patch)
        yield f"backbone.args.patch_size={patch}: chosen for {size} x {size} images, {side} x {side} patches"
    presets_small = presets.get("stem", "small") != "imagenet" and "backbone.stem" not in chosen
    if own.stem == "imagenet" and presets_small and not backbones.is_transformer(own.name):
        yield f"backbone.stem=imagenet: {own.name} has no small stem as the preset's ResNets have"
    if EMBEDDINGS not in chosen and not config.optim.decay_embeddings:
        yield f"{EMBEDDINGS}=false: the embeddings of positions and class have no weight decay, as usual for {own.name}"
    if FROZEN not in chosen and getattr(config.method, "freeze_patch_embed", False):
        yield f"{FROZEN}=true: the projection of patches stays random, as {config.method_name}'s paper has it"
