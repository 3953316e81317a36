"""Weights from elsewhere: how their source is written, and what can be said of an encoder that is not ours."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError

from bench.config import backbones
from bench.config.problems import first_problem
from bench.config.sections import Group, Scalars
from bench.errors import UserError
from methods import METHODS

TIMM, FILE = "timm:", "file:"
FORMS = (
    f"{TIMM}NAME.TAG (timm's own weights, e.g. {TIMM}resnet50.a1_in1k) or {FILE}PATH (.safetensors, .pth, .pt, .ckpt, "
    f".bin; {FILE}PATH#PREFIX where several networks are in it)"
)


class Source(NamedTuple):
    """Where weights lie. As text: what `parse` takes."""

    kind: str
    """TIMM or FILE."""
    place: str
    """timm's name of the model, with or without a tag; or an absolute path."""
    prefix: str | None = None
    """Of a file's keys, as far as it was given; "" is the outermost level; None: whichever fits."""

    def __str__(self) -> str:
        return f"{self.kind}{self.place}" + ("" if self.prefix is None else f"#{self.prefix or '.'}")


def parse(text: str, what: str) -> Source:
    """`timm:NAME[.TAG]` or `file:PATH[#PREFIX]`, a leading ~ expanded, the path made absolute.

    what: the setting, for the message. Raises UserError on anything else, and on models that timm does not have.
    """
    if text.startswith(TIMM) and len(text) > len(TIMM):
        place = text.removeprefix(TIMM)
        backbones.check(place.partition(".")[0])
        return Source(TIMM, place)
    if text.startswith(FILE) and len(text) > len(FILE) and text.isprintable():
        written = os.path.expanduser(text.removeprefix(FILE))  # noqa: PTH111 (see identity.data_path)
        path, mark, prefix = written.rpartition("#")
        if not mark or os.path.lexists(written):  # the name of a file may have the mark
            return Source(FILE, str(Path(written).absolute()))
        return Source(FILE, str(Path(path).absolute()), prefix.strip("."))
    raise UserError(f"{what}={text!r}: give {FORMS}")


def _numbers(value: Any) -> Any:
    return value.replace(" ", "").split(",") if isinstance(value, str) else value


Channels = Annotated[
    tuple[float, float, float],
    BeforeValidator(_numbers),
]


class EncoderConfig(Group):
    """An encoder from elsewhere, as the user describes it; what its checkpoint tells need not be said."""

    source: str
    """timm:NAME.TAG or file:PATH."""
    mean: Channels | None = None
    """Of the pixels in [0, 1] that the encoder was trained on, a channel: subtracted. E.g. 0.485,0.456,0.406."""
    std: Channels | None = None
    """Their standard deviation, a channel: divided by. E.g. 0.229,0.224,0.225."""
    size: int | None = Field(None, ge=4)
    """Side of the images that it is given, in pixels."""
    backbone: str = ""
    """Its timm model; by default the checkpoint's, where it tells, or else the experiment's."""
    stem: Literal["", "small", "small_pad2", "imagenet"] = ""
    """Its stem, as backbone.stem; by default the checkpoint's, where it tells, or else the experiment's."""
    args: Scalars = Field(default_factory=dict)
    """Arguments of its timm model, e.g. args.patch_size=4; by default the checkpoint's, or those of the experiment's
    backbone where it has its name."""


def described(name: str, source: str, given: Mapping[str, Any]) -> EncoderConfig:
    """The encoder NAME=SOURCE with the settings encoder.NAME.KEY that were `given` (KEY -> value). Raises UserError."""
    if not name.isprintable() or name.startswith((".", "-")) or set(name) & set("/\\=:") or not name.strip():
        raise UserError(f"--encoder {name}={source}: a name is a word, of no / \\ = : and not with . or - first")
    if name in METHODS:
        raise UserError(f"--encoder {name}={source}: {name} is a method here; give the encoder another name")
    parse(source, f"--encoder {name}")
    try:
        config = EncoderConfig(source=source, **given)
    except ValidationError as error:
        raise first_problem(error, EncoderConfig, f"encoder.{name}.") from None
    if config.std and min(config.std) <= 0:
        raise UserError(f"encoder.{name}.std={','.join(map(str, config.std))}: should be greater than 0")
    if config.backbone:
        backbones.check(config.backbone)
    return config
