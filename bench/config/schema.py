"""RunConfig: one validated, immutable description of one run, and how overrides change it."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, SerializeAsAny, ValidationError, model_validator

from bench.config.problems import first_problem
from bench.config.sections import BackboneConfig, DataConfig, EvalConfig, Group, OptimConfig, TrainConfig
from bench.config.views import OTHERS, AugmentConfig
from bench.errors import UserError, unknown
from methods import METHODS, MethodConfig
from methods.plugins import PluginError

SECTIONS = ("method", "data", "backbone", "augment", "optim", "train", "eval")
TABLES = (*(f"augment.{view}." for view in OTHERS), "backbone.args.")  # settings of settings: the key has one part more
FILLED_IN = ("fingerprint", "weights_hash", "data_fingerprint")  # no user sets them
SMALL = 64  # pixels: images up to this size are kept as squares, unless data.store says otherwise
STORED = 256 / 224  # of larger ones, the shorter side that is kept, by their size
PROTOCOL: Literal[1] = 1  # version of the evaluation protocol; part of every run's identity


class RunConfig(Group):
    """Everything that decides a run's result, but its seed."""

    method_name: str
    """A name of `methods.METHODS`."""
    method: SerializeAsAny[MethodConfig]
    """The method's own hyperparameters."""
    data: DataConfig
    backbone: BackboneConfig
    augment: AugmentConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig
    protocol: Literal[1] = PROTOCOL
    """Version of the evaluation protocol."""

    @model_validator(mode="before")
    @classmethod
    def _method_section(cls, values: Any) -> Any:
        """Validate `method` by the Config of the method that `method_name` names."""
        name = values.get("method_name")
        if not isinstance(name, str):
            raise unknown("method", str(name), METHODS)
        if name not in METHODS:
            raise PluginError(
                f"{unknown('method', name, METHODS)}; of a plug-in (name it with --plugin FILE.py), or written by "
                "another version of the program"
            )
        section = values.get("method", {})
        if isinstance(section, Mapping):
            try:
                section = METHODS.config(name)(**section)
            except ValidationError as error:
                raise first_problem(error, METHODS.config(name), f"{name}'s method.") from None
        return {**values, "method": section}

    @model_validator(mode="after")
    def _enough_images(self) -> "RunConfig":
        if self.train.batch_size < (needed := self.method.smallest_batch):
            raise ValueError(
                f"train.batch_size={self.train.batch_size}: {self.method_name} needs at least {needed} images a step; "
                f"use more, or lower what asks for them (bench list keys --method {self.method_name})"
            )
        return self


def parse_overrides(settings: list[str], flag: str = "--set optim.lr=0.1") -> dict[str, str]:
    """["optim.lr=0.1", ...] -> {"optim.lr": "0.1"}; raises UserError on a setting that is not KEY=VALUE.

    flag: an example of the flag that they were given by.
    """
    overrides: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip() or not value.strip():
            name, _, example = flag.partition(" ")
            raise UserError(f"{name} {setting!r}: expected KEY=VALUE, e.g. {example}")
        overrides[key.strip()] = value.strip()
    return overrides


def resolve(values: Mapping[str, Any], overrides: Mapping[str, str]) -> RunConfig:
    """Nested `values` (a preset's) with dotted `overrides` on top, validated.

    Raises UserError naming the key, the bad value and what would be valid.
    """
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    for key, value in overrides.items():
        section, *rest = key.split(".")
        in_table = key.startswith(TABLES) and len(rest) == 2
        if key not in keys(merged["method_name"]) and not in_table:
            method = merged["method_name"]
            raise unknown(f"key of {method}" if section == "method" else "key", key, keys(method, section))
        target = merged.setdefault(section, {})
        if len(rest) == 2:
            target[rest[0]] = target = dict(target.get(rest[0], {}))
        target[rest[-1]] = value
    data = merged["data"]
    kept = ":" in str(data.get("name")) and data.get("cache") != "files"  # not of a named data set
    if "store" not in data and kept and _above(data.get("size"), SMALL):
        data["store"] = round(int(data["size"]) * STORED)
    try:
        return RunConfig(**merged)
    except ValidationError as error:
        raise first_problem(error, RunConfig, "") from None


def _above(size: Any, limit: int) -> bool:
    """Whether it is a number above the limit; what is none is told later."""
    return str(size).isdigit() and int(size) > limit


def keys(method: str, section: str | None = None) -> dict[str, str]:
    """Every dotted key that `--set` takes for this method (of one section, if it exists) -> its docstring."""
    sections = {name: field.annotation for name, field in RunConfig.model_fields.items()}
    sections["method"] = METHODS.config(method)
    found = {}
    for name, model in sections.items():
        if isinstance(model, type) and issubclass(model, BaseModel) and (section not in SECTIONS or name == section):
            for key, field in model.model_fields.items():
                if key not in FILLED_IN:
                    shown = f"{key}.NAME" if f"{name}.{key}." in TABLES else key
                    found[f"{name}.{shown}"] = " ".join((field.description or "").split())
    return found
