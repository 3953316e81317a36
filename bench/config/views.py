"""How the views of an image are drawn: the section `augment`."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from bench.config.problems import first_problem
from bench.config.sections import Group
from bench.errors import unknown


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
    """Probability of a Gaussian blur; see `blur_kernel`."""
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


class FurtherView(ViewConfig):
    """A view beside the first."""

    size: int = Field(0, ge=0)
    """Side in pixels; 0: that of all views, data.size."""
    copies: int = Field(1, ge=1)
    """How many there are, each drawn for itself."""

    @model_validator(mode="after")
    def _large_enough(self) -> "FurtherView":
        if 0 < self.size < 4:
            raise ValueError(f"size={self.size} is below 4 pixels")
        return self


OTHERS = ("view2", "view3", "view4")
View = dict[str, float]


class AugmentConfig(ViewConfig):
    """The first view, what the others have otherwise, and what all have in common."""

    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How crops are resized. bicubic: Pillow's, which published CIFAR recipes have."""
    blur_kernel: Literal["tenth", "full"] = "tenth"
    """tenth: the blur's kernel is about a tenth of the image wide, 3 pixels of 32, where a sigma of 2 acts as one of
    0.8; full: as wide as its sigma asks for (as in published CIFAR recipes, whose blur is Pillow's)."""
    view2: View = Field(default_factory=dict)
    """Settings of the second view where they differ from the first, e.g. augment.view2.blur=0.1 (as in BYOL)."""
    view3: View = Field(default_factory=dict)
    """A third view, if it has settings; `copies` of it: copies=6 with size=96, crop_min=0.05 and crop_max=0.14 are the
    small crops of SwAV. For methods that take more than two views."""
    view4: View = Field(default_factory=dict)
    """A fourth one, likewise."""

    @field_validator(*OTHERS, mode="before")
    @classmethod
    def _known(cls, view: Any, info: ValidationInfo) -> Any:
        for key in view if isinstance(view, Mapping) else ():
            if key not in FurtherView.model_fields:
                own = f"augment.{info.field_name}"
                raise unknown("key", f"{own}.{key}", (f"{own}.{k}" for k in FurtherView.model_fields))
        return view

    @model_validator(mode="after")
    def _all_views_are_valid(self) -> "AugmentConfig":
        self.views()
        return self

    def kinds(self) -> dict[str, FurtherView]:
        """The settings of the kinds of views: "" is the first's name, the others' are view2, ..."""
        first = self.model_dump(include=set(ViewConfig.model_fields))
        others = {name: own for name in OTHERS if (own := getattr(self, name)) or name == "view2"}
        return {name: _kind(name, {**first, **own}) for name, own in {"": {}, **others}.items()}

    def views(self) -> list[FurtherView]:
        """The settings of every view, in the order in which they are drawn and given to the method."""
        return [kind for kind in self.kinds().values() for _ in range(kind.copies)]


def _kind(name: str, settings: dict[str, float]) -> FurtherView:
    """Raises UserError, which names the view."""
    try:
        return FurtherView(**settings)
    except ValidationError as error:
        raise first_problem(error, FurtherView, f"augment.{name}." if name else "augment.") from None
