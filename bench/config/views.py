"""How the views of an image are drawn: the section `augment`."""

from pydantic import Field, field_validator, model_validator

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
