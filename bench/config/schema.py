"""RunConfig: one validated, immutable description of one run, and how overrides change it."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from bench.errors import UserError, unknown
from methods import METHODS, MethodConfig

SECTIONS = ("method", "data", "backbone", "augment", "optim", "train", "eval")
PROTOCOL: Literal[1] = 1  # version of the evaluation protocol; part of every run's identity


class Group(BaseModel):
    """A group of settings: immutable, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DataConfig(Group):
    name: str
    """One of `bench list datasets`, or folder:PATH (an image folder with train/ and test/)."""
    size: int = Field(ge=4)
    """Side of the square images, in pixels; other sizes are resized once and cached."""
    skip_bad: bool = False
    """Leave out unreadable images of a folder (they are named and counted) instead of stopping."""
    fingerprint: str = ""
    """Hash of an image folder's file names and content, filled in by the program: a path is no identity."""


class BackboneConfig(Group):
    name: str
    """Any timm model name, or resnet10_small (one block a stage, 16 to 128 channels)."""
    stem: Literal["small", "imagenet"] = "small"
    """small: first convolution 3x3 with stride 1 and no max-pool (for images up to about 64 pixels)."""
    zero_init: bool = True
    """ResNets: every residual branch starts at zero, as timm's do; false: as torchvision's. Others: no effect."""
    weights: str = ""
    """Train on from these, the same for every seed: timm:NAME.TAG or file:PATH (in the data's normalisation)."""
    weights_hash: str = ""
    """Hash of these weights, filled in by the program: a path is no identity."""


class ViewConfig(Group):
    """Augmentation of one view. Probabilities and factors as in torchvision's transforms of the same names."""

    crop_min: float = Field(0.2, gt=0, le=1)
    """Smallest area of the random resized crop, as a share of the image."""
    crop_max: float = Field(1.0, gt=0, le=1)
    """Largest area of the random resized crop, as a share of the image."""
    ratio_min: float = Field(3 / 4, gt=0)
    """Smallest aspect ratio (width / height) of the crop."""
    ratio_max: float = Field(4 / 3, gt=0)
    """Largest aspect ratio (width / height) of the crop."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    jitter: float = Field(0.8, ge=0, le=1)
    """Probability of the colour jitter."""
    brightness: float = Field(0.4, ge=0)
    """Brightness factor drawn from [max(0, 1 - b), 1 + b]."""
    contrast: float = Field(0.4, ge=0)
    """Contrast factor drawn from [max(0, 1 - c), 1 + c]."""
    saturation: float = Field(0.4, ge=0)
    """Saturation factor drawn from [max(0, 1 - s), 1 + s]."""
    hue: float = Field(0.1, ge=0, le=0.5)
    """Hue shift drawn from [-h, h], in turns of the colour circle."""
    gray: float = Field(0.2, ge=0, le=1)
    """Probability of grayscale."""
    blur: float = Field(0.0, ge=0, le=1)
    """Probability of a Gaussian blur, its kernel about a tenth of the image."""
    blur_sigma_min: float = Field(0.1, gt=0)
    """Smallest standard deviation of the blur, in pixels."""
    blur_sigma_max: float = Field(2.0, gt=0)
    """Largest standard deviation of the blur, in pixels."""
    solarize: float = Field(0.0, ge=0, le=1)
    """Probability of inverting the pixels above one half."""

    @model_validator(mode="after")
    def _ordered(self) -> "ViewConfig":
        for low, high in (
            ("crop_min", "crop_max"),
            ("ratio_min", "ratio_max"),
            ("blur_sigma_min", "blur_sigma_max"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}={getattr(self, low)} is above {high}={getattr(self, high)}")
        return self


class AugmentConfig(ViewConfig):
    view2: dict[str, float] = Field(default_factory=dict)
    """Settings of the second view where they differ from the first, e.g. augment.view2.blur=0.1 (as in BYOL)."""

    @field_validator("view2")
    @classmethod
    def _known(cls, view2: dict[str, float]) -> dict[str, float]:
        for key in view2:
            if key not in ViewConfig.model_fields:
                raise unknown("key", f"augment.view2.{key}", (f"augment.view2.{k}" for k in ViewConfig.model_fields))
        return view2

    @model_validator(mode="after")
    def _second_view_is_valid(self) -> "AugmentConfig":
        self.views()
        return self

    def views(self) -> tuple[ViewConfig, ViewConfig]:
        """The settings of the first and of the second view."""
        first = self.model_dump(exclude={"view2"})
        return ViewConfig(**first), ViewConfig(**{**first, **self.view2})


class OptimConfig(Group):
    name: Literal["sgd", "lars", "adam", "adamw"] = "sgd"
    """Optimizer; sgd and lars use `momentum`."""
    lr: float = Field(gt=0)
    """Peak learning rate per 256 images of a batch: the rate used is lr * train.batch_size / 256."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd and lars."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 term added to the gradient (adamw: decoupled)."""
    decay_bias_norm: bool = False
    """Apply weight decay (and LARS's adaptation) to biases and normalisation parameters too."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Epochs of linear warm-up, by step; `schedule` follows."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: the rate falls to 0, by step; constant: as RAFT's authors."""
    clip_norm: float = Field(0.0, ge=0)
    """Largest norm of a step's gradient, of all parameters as one vector; a longer one is scaled to it. 0: any."""
    lars_eta: float = Field(0.02, gt=0)
    """LARS trust coefficient."""
    lars_clip: bool = True
    """LARS: never raise the learning rate above the schedule's (as solo-learn's clip_lr)."""


class TrainConfig(Group):
    epochs: int = Field(ge=0)
    """Passes over the pre-training images."""
    batch_size: int = Field(ge=2)
    """Images a step (each gives two views); the last incomplete batch of an epoch is dropped."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast; losses and normalisation stay in float32."""
    compile: bool = False
    """torch.compile the backbones; where that is not possible the log says so, and the result: `compiled`."""
    threads: int = Field(1, ge=1, le=1024)
    """CPU threads of one run (of each of its processes); by default, on this machine's CPU, cores / runs at a time,
    where steps are large enough. Recorded, not hashed: results are bit-equal for equal threads."""
    checkpoint_epochs: int = Field(1, ge=1)
    """Epochs between checkpoints. Not hashed: it changes no result."""


class EvalConfig(Group):
    at_end: str = "linear,knn"
    """Evaluations at the end of training, of `bench list evaluations`; others can be made afterwards. Not hashed."""
    probe: Literal["logistic", "augmented"] = "logistic"
    """logistic: L2 logistic regression on frozen features; augmented: 100 epochs of SGD on crops and flips."""
    knn_k: int = Field(0, ge=0)
    """Neighbours of the kNN probe; 0: 200, or 20 on training sets of less than 10,000 images."""
    every_epochs: int = Field(1, ge=1)
    """Epochs between diagnostics on the validation split."""


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
        if name not in METHODS:
            raise unknown("method", str(name), METHODS)
        section = values.get("method", {})
        if isinstance(section, Mapping):
            try:
                section = METHODS.config(name)(**section)
            except ValidationError as error:
                raise first_problem(error, METHODS.config(name), f"{name}'s method.") from None
        return {**values, "method": section}


def parse_overrides(settings: list[str]) -> dict[str, str]:
    """["optim.lr=0.1", ...] -> {"optim.lr": "0.1"}; raises UserError on a setting that is not KEY=VALUE."""
    overrides: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UserError(f"--set {setting!r}: expected KEY=VALUE, e.g. optim.lr=0.1")
        overrides[key.strip()] = value.strip()
    return overrides


def resolve(values: Mapping[str, Any], overrides: Mapping[str, str]) -> RunConfig:
    """Nested `values` (a preset's) with dotted `overrides` on top, validated.

    Raises UserError naming the key, the bad value and what would be valid.
    """
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    for key, value in overrides.items():
        section, *rest = key.split(".")
        of_view2 = key.startswith("augment.view2.") and len(rest) == 2
        if key not in keys(merged["method_name"]) and not of_view2:
            method = merged["method_name"]
            raise unknown(f"key of {method}" if section == "method" else "key", key, keys(method, section))
        target = merged.setdefault(section, {})
        if len(rest) == 2:
            target = target.setdefault(rest[0], {})
        target[rest[-1]] = value
    try:
        return RunConfig(**merged)
    except ValidationError as error:
        raise first_problem(error, RunConfig, "") from None


def keys(method: str, section: str | None = None) -> dict[str, str]:
    """Every dotted key that `--set` takes for this method (of one section, if it exists) -> its docstring."""
    sections = {name: field.annotation for name, field in RunConfig.model_fields.items()}
    sections["method"] = METHODS.config(method)
    found = {}
    for name, model in sections.items():
        if isinstance(model, type) and issubclass(model, BaseModel) and (section not in SECTIONS or name == section):
            for key, field in model.model_fields.items():
                if key not in ("fingerprint", "view2", "weights_hash"):
                    found[f"{name}.{key}"] = " ".join((field.description or "").split())
    return found


def first_problem(error: ValidationError, model: type[BaseModel], prefix: str) -> UserError:
    """The first thing that is wrong with settings of `model`, whose names `prefix` is put before."""
    problem = error.errors()[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return cause
    key = prefix + ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return unknown("key", key, (prefix + name for name in model.model_fields))
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    value = problem["input"]
    if isinstance(value, (str, int, float, bool)):
        shown = repr(value) if not (isinstance(value, float) and not math.isfinite(value)) else str(value)
        return UserError(f"{key}={shown}: should be {message}")
    return UserError(f"{key}: {message}" if key else message)
