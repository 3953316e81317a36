"""Which backbones there are, and what they take: timm's models and ours. Imports no timm, which takes seconds."""

import ast
import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache

from bench.config import timm_sources
from bench.errors import UserError, unknown

OWN = ("resnet10_small",)  # defined in bench.backbone

SMALL_STEMS = frozenset(  # timm's files of networks whose stem is one convolution, or a few, and perhaps a pool
    {"resnet", "res2net", "resnest", "sknet", "resnetv2", "regnet", "convnext", "densenet"}
    | {"efficientnet", "mobilenetv3", "ghostnet", "hardcorenas"}
)
TRANSFORMERS = frozenset(  # timm's files of networks on equal patches, all of whose blocks see as many
    {"vision_transformer", "vision_transformer_relpos", "deit", "beit", "eva", "cait"}
)
SET_BY_US = frozenset({"in_chans", "num_classes", "device", "dtype"})  # arguments that no user sets
SMALL_IMAGE = 64  # pixels a side up to which patches are chosen
FEWEST, WANTED = 4, 8  # patches a side: with fewer than FEWEST, WANTED are taken. ViT's own at 224 pixels are 14

Scalar = bool | int | float | str


@cache
def names() -> list[str]:
    """Every backbone's name, in timm's order: numbers by value, `resnet18` before `resnet101`."""
    return sorted({*(timm_sources.files() or _in_registry()), *OWN}, key=_by_value)


def check(name: str) -> None:
    """Raises UserError, with the nearest name, if there is no such backbone."""
    if name not in names():
        close = get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"unknown backbone {name!r}: {hint}see `bench list backbones`")


def check_arguments(name: str, given: Mapping[str, Scalar], prefix: str = "backbone.args.") -> None:
    """Raises UserError for arguments that the backbone does not take, as far as timm's sources say what it takes."""
    known = timm_sources.arguments("resnet18" if name in OWN else name)
    for key, value in given.items():
        if key in SET_BY_US:
            raise UserError(f"{prefix}{key}={shown(value)}: is not for you to set, the program does")
        if known is None:
            continue
        if key not in known:
            valid = [each for each, kind in known.items() if each not in SET_BY_US and (not kind or _takes(kind))]
            raise unknown(f"argument of {name}", f"{prefix}{key}", (prefix + each for each in valid))
        if (takes := _takes(known[key])) and not any(_is(value, each) for each in takes):
            raise UserError(f"{prefix}{key}={shown(value)}: should be {' or '.join(takes.values())}")


def has_small_stem(name: str) -> bool:
    """Whether `backbone.stem=small` means something for it."""
    return name in OWN or timm_sources.family(name) in SMALL_STEMS


def without_small_stem(name: str) -> UserError:
    """What is said where one is asked for."""
    return UserError(
        f"backbone.stem=small: {name} has no first convolution and max-pool to replace (ResNets have); "
        "use backbone.stem=imagenet"
    )


def is_transformer(name: str) -> bool:
    """Whether it is a plain vision transformer: equal patches, a projection of them, embeddings of their places."""
    return timm_sources.family(name) in TRANSFORMERS


def patch(name: str, size: int) -> int | None:
    """The patch that a vision transformer is to have for small images, where its own would leave too few; else None.

    That divisor of the image's side which gives nearest to WANTED patches a side: 4 pixels at 32, 2 at 16.
    """
    own = timm_sources.default(name, "patch_size") if is_transformer(name) else None
    if own is None or size > SMALL_IMAGE or size // own >= FEWEST:
        return None
    return min((p for p in range(1, size + 1) if size % p == 0), key=lambda p: abs(math.log(size / p / WANTED)))


def label(name: str, args: object) -> str:
    """What tables call a backbone: "resnet18", "vit_tiny_patch16_224 (patch_size=4)"."""
    told = [f"{key}={shown(value)}" for key, value in sorted(args.items())] if isinstance(args, Mapping) else []
    return f"{name} ({', '.join(told)})" if told else name


def shown(value: object) -> str:
    """A value as users write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}


def _takes(annotation: str) -> dict[str, str]:
    """What users can write for a type of timm's, e.g. {"int": "a whole number"}; {} if nothing or anything."""
    if literal := re.fullmatch(r"(?:Optional\[)?Literal(\[.*?\])\]?", annotation):
        return {each: repr(each) for each in ast.literal_eval(literal[1]) if isinstance(each, str)}
    parts = set(re.findall(r"\w+", annotation))
    known = parts & KINDS.keys()
    others = parts - KINDS.keys() - {"Optional", "Union", "Tuple", "List", "Sequence", "None", "tuple", "list"}
    return {} if others else {kind: KINDS[kind] for kind in KINDS if kind in known}


def _is(value: Scalar, kind: str) -> bool:
    """Whether a value is of one of KINDS, or the literal that stands for it."""
    if kind not in KINDS:
        return value == kind
    return type(value).__name__ == kind or (kind == "float" and type(value) is int)


def _in_registry() -> list[str]:
    import timm

    found: list[str] = timm.list_models()
    return found


def _by_value(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
