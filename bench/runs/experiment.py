"""What holds for a whole experiment and was said before its results: results/<experiment>/experiment.json."""

from collections.abc import Collection
from pathlib import Path

from pydantic import Field

from bench.errors import UserError
from bench.files import dump_json, parse_json, write_atomic
from bench.runs.identity import SCHEMA
from bench.runs.result import Part, Stored

NAME = "experiment.json"


class Until(Part):
    """Seeds that were added to two entries until the 95 % interval of their difference was narrow."""

    entry_a: str
    entry_b: str
    width: float = Field(gt=0)
    """Points of linear accuracy that the interval was to be narrower than."""
    first: int = Field(gt=0)
    """Seeds at the first look."""
    each: int = Field(gt=0)
    """More before every further look."""
    most: int = Field(gt=0)
    """Seeds at which it ended in any case."""

    @property
    def asked(self) -> str:
        """As --until names it."""
        return f"{self.entry_a},{self.entry_b}: {self.width:g}"

    @property
    def pair(self) -> frozenset[str]:
        return frozenset((self.entry_a, self.entry_b))


class Experiment(Stored):
    """The whole of the file."""

    schema_version: int = Field(SCHEMA, alias="schema")
    margin: float | None = Field(None, gt=0)
    """Points of accuracy within which two entries are as good as each other; None: none was named."""
    search_seeds: list[int] = Field(default_factory=list)
    """Seeds of a search alone: their runs choose what is reported on others."""
    untils: list[Until] = Field(default_factory=list)
    """Pairs of entries whose difference decided how many seeds they have; each pair once."""


def read(folder: Path) -> Experiment:
    """An experiment's file; without one, what says nothing. Raises UserError if it cannot be used."""
    path = folder / NAME
    try:
        return Experiment.of(parse_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Experiment()
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(f"{path}: {reason}") from None


def name_margin(folder: Path, margin: float | None) -> None:
    """Note a margin, if one is given. Raises UserError where another one was named before."""
    before = read(folder)
    if margin is None or before.margin == margin:
        return
    if any((folder / "runs").glob("*/result.json")):
        named = "no margin" if before.margin is None else f"margin {before.margin:g}"
        raise UserError(
            f"margin = {margin:g}: {folder.name} has results already, and was planned with {named}; a margin that is "
            "chosen in sight of results proves nothing: keep it, or plan another --experiment"
        )
    _write(folder, before.model_copy(update={"margin": margin}))


def name_search(folder: Path, seeds: Collection[int], reported: Collection[int]) -> None:
    """Note the seeds of a search, if there are any, beside those of earlier ones that are not reported now."""
    before = read(folder)
    known = sorted({*before.search_seeds, *seeds}.difference(reported))
    if seeds and before.search_seeds != known:
        _write(folder, before.model_copy(update={"search_seeds": known}))


def name_until(folder: Path, until: Until) -> None:
    """Note what decides how many seeds two entries have; of a pair that was noted before, all looks at it together."""
    before = read(folder)
    for other in before.untils:
        if other.pair == until.pair:
            looks = {"width": min(other.width, until.width), "first": min(other.first, until.first)}
            until = until.model_copy(update={**looks, "most": max(other.most, until.most)})
    untils = [*(other for other in before.untils if other.pair != until.pair), until]
    if untils != before.untils:
        _write(folder, before.model_copy(update={"untils": untils}))


def _write(folder: Path, content: Experiment) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / NAME, dump_json(content.model_dump(by_alias=True)).encode())
