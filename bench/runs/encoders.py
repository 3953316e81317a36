"""Encoders from elsewhere: the one model of results/<experiment>/encoders/<name>/encoder.json."""

from typing import Any

from pydantic import Field, ValidationError

from bench.config.schema import BackboneConfig
from bench.runs.identity import SCHEMA, other_version
from bench.runs.result import Part, first_problem

Channels = tuple[float, float, float]


class Encoder(Part, strict=False):  # JSON has no tuples
    """An encoder that was not trained here, with all that judging it takes."""

    schema_version: int = Field(SCHEMA, alias="schema")
    name: str
    source: str
    """As `bench.config.encoders.parse` takes it, a path absolute."""
    content_hash: str
    """16 hex of its weights: equal for equal ones, whatever file they came in."""
    backbone: BackboneConfig
    """With the source as `weights`, and the content's hash."""
    size: int
    """Side of the images that it is given, in pixels."""
    mean: Channels
    """Of pixels in [0, 1]: what is subtracted from its images."""
    std: Channels
    """By which they are then divided."""
    told: tuple[str, ...] = ()
    """What was found and done, for people: the prefix of keys, heads left out, where the normalisation is from."""

    @classmethod
    def of(cls, values: Any) -> "Encoder":
        """The encoder that strict JSON describes. Raises ValueError, one line, naming what is wrong with it."""
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
        if values.get("schema") != SCHEMA:
            raise ValueError(other_version(values))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from None

    def stored(self) -> dict[str, Any]:
        """What to write as encoder.json."""
        return self.model_dump(mode="json", by_alias=True)
