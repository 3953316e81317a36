"""What can be named on the command line, each with a line that says what it is."""

import sys
from types import ModuleType

from bench.errors import unknown

KINDS = ("methods", "presets", "datasets", "backbones", "keys")


def rows(kind: str, method: str) -> list[tuple[str, str]]:
    """Names and descriptions of one of KINDS; "keys" are those that `--set` takes for `method`. Raises UserError."""
    if kind == "methods":
        from methods import METHODS

        return [(name, _summary(sys.modules[cls.__module__], cls)) for name, cls in METHODS.items()]
    if kind == "presets":
        from bench.config.presets import DESCRIPTIONS

        return [*DESCRIPTIONS.items()]
    if kind == "datasets":
        from bench.data.datasets import DATASETS

        return [*DATASETS.items()]
    if kind == "backbones":
        from bench.config import backbones

        return [(name, "") for name in backbones.names()]
    if kind == "keys":
        from bench.config.schema import keys
        from bench.planning import plan

        return [*keys(plan.parse_methods(method)[0]).items()]
    raise unknown("list", kind, KINDS)


def _summary(module: ModuleType, cls: type) -> str:
    """The first line of a method's docstring: its own, or else its file's (one method a file)."""
    text = cls.__dict__.get("__doc__") or module.__doc__ or ""
    return str(text).strip().splitlines()[0] if text else ""
