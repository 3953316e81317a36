"""Encoders from elsewhere: the one model of results/<experiment>/encoders/<name>/encoder.json."""

from pathlib import Path
from typing import Any

from pydantic import Field

from bench.config.sections import BackboneConfig
from bench.errors import UserError
from bench.files import dump_json, parse_json, write_atomic
from bench.runs.identity import SCHEMA
from bench.runs.result import Stored

FILE = "encoder.json"
Channels = tuple[float, float, float]


class Encoder(Stored, strict=False):  # JSON has no tuples
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
    judged_as: dict[str, Any] = Field(default_factory=dict)
    """Of the experiment's settings those by which it is judged like a run: data, augment, eval, train."""
    told: tuple[str, ...] = ()
    """What was found and done, for people: the prefix of keys, heads left out, where the normalisation is from."""

    @classmethod
    def read(cls, folder: Path) -> "Encoder":
        """The encoder of a directory encoders/<name>. Raises ValueError, one line."""
        try:
            return cls.of(parse_json((folder / FILE).read_text(encoding="utf-8")))
        except OSError as error:
            raise ValueError(error.strerror) from None

    def write(self, folder: Path) -> None:
        """Write it down there. Raises UserError if an encoder of other content has the name; OSError."""
        if (folder / FILE).exists():
            before = Encoder.read(folder)
            if before.content_hash != self.content_hash:
                raise UserError(
                    f"--encoder {self.name}={self.source}: {folder} holds the evaluations of other weights "
                    f"({before.source}, {before.content_hash}; these are {self.content_hash}); choose another name"
                )
            if (before.size, before.mean, before.std) != (self.size, self.mean, self.std):
                raise UserError(
                    f"--encoder {self.name}={self.source}: {folder} holds its evaluations with another size or "
                    f"normalisation (size={before.size}, mean={before.mean}, std={before.std}); choose another name"
                )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / FILE, dump_json(self.stored()).encode())

    def stored(self) -> dict[str, Any]:
        """What to write as encoder.json."""
        return self.model_dump(mode="json", by_alias=True)
