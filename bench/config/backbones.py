"""Which backbones there are: timm's models and ours, read off timm's sources, as importing timm takes seconds."""

import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from bench.errors import UserError

OWN = ("resnet10_small",)  # defined in bench.backbone

_REGISTERED = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@cache
def names() -> list[str]:
    """Every backbone's name, in timm's order: numbers by value, `resnet18` before `resnet101`."""
    return sorted({*(_in_sources() or _in_registry()), *OWN}, key=_by_value)


def check(name: str) -> None:
    """Raises UserError, with the nearest name, if there is no such backbone."""
    if name not in names():
        close = get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"unknown backbone {name!r}: {hint}see `bench list backbones`")


def _in_sources() -> set[str]:
    """Functions below `@register_model` in the installed timm's files; none if it is laid out otherwise."""
    spec = find_spec("timm")
    folders = [Path(place) / "models" for place in (spec and spec.submodule_search_locations) or ()]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    return {name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))}


def _in_registry() -> list[str]:
    import timm

    found: list[str] = timm.list_models()
    return found


def _by_value(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
