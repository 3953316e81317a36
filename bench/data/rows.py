"""Tables whose rows are images: which splits and columns there are, and the identity of it all. Decodes no image.

`parquet:PATH` is a folder of parquet files, read as they are: each belongs to the split that its name begins with
(train-00000-of-00002.parquet), or that a folder above it is called (train/0000.parquet). `hf:NAME` and `hf:NAME#CONFIG`
are what `datasets.load_dataset(NAME, CONFIG)` gives: a data set of the Hugging Face Hub, downloaded by that library
into its own cache.

Images are bytes of image files: columns of the library's type Image, or of bytes, or of {bytes, path}. Labels are
classes by name (ClassLabel), integers or strings; null and -1 mean unlabelled.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.config.sections import DataConfig
from bench.errors import UserError, few, unknown

if TYPE_CHECKING:
    from pyarrow import Table as Arrow

TRAIN = ("train", "training")  # usual names, the most usual first
TEST = ("test", "validation", "val", "valid", "dev", "eval")
IMAGES = ("image", "img", "picture", "jpg", "png")
LABELS = ("label", "labels", "class", "target", "fine_label", "cls")
AT_ONCE = 256  # rows in memory


class Choice(NamedTuple):
    """What was named of a table; "": to be found by its usual names and its type."""

    image_column: str = ""
    label_column: str = ""
    train_split: str = ""
    test_split: str = ""

    @classmethod
    def of(cls, config: DataConfig) -> "Choice":
        return cls(config.image_column, config.label_column, config.train_split, config.test_split)


@dataclass(frozen=True)
class Part:
    """One split of a table."""

    name: str
    n: int
    features: Mapping[str, Any]
    """Column -> its type, as the library `datasets` has it."""
    batches: Callable[[Sequence[str]], "Iterator[Arrow]"]
    """Columns -> their rows, AT_ONCE at a time. Raises UserError on damaged files."""
    digest: Callable[[Sequence[str]], bytes]
    """Columns -> a hash of their content, or of as much of it as is read in a second."""
    root: Path = Path()
    """Where the paths of images that are no bytes begin."""


@dataclass(frozen=True)
class Table:
    """The two splits that are used, of the same columns."""

    train: Part
    test: Part
    image: str
    label: str
    splits: tuple[str, ...]
    """All that there are."""

    def fingerprint(self) -> str:
        """Hash of the content that is used: where it lies, and whether columns were named or found, does not count."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            digest.update(f"{part.name}\0{self.image}\0{self.label}\0{part.n}\n".encode())
            digest.update(part.digest([self.image, self.label]))
        return digest.hexdigest()[:16]


def table(parts: Mapping[str, Part], choice: Choice) -> Table:
    """Of all splits by name, those that are trained and tested on, and their columns. Raises UserError, one line."""
    train = parts[_split(parts, choice.train_split, "train_split", TRAIN)]
    test = parts[_split(parts, choice.test_split, "test_split", TEST)]
    if train is test:
        raise UserError(f"data.train_split and data.test_split are both {train.name!r}: name two")
    image = _column(train, choice.image_column, "image_column", IMAGES, is_image, "images (bytes of image files)")
    label = _column(train, choice.label_column, "label_column", LABELS, is_label, "labels (integers or strings)")
    for column, fits in ((image, is_image), (label, is_label)):
        if column not in test.features or not fits(test.features[column]):
            raise UserError(f"the split {test.name!r} has no column {column!r} as {train.name!r} has: {_types(test)}")
    if (own := names(train, label)) != (others := names(test, label)):
        raise UserError(f"the classes of {train.name!r} and {test.name!r} are not the same: {few(own)}; {few(others)}")
    for part in (train, test):
        if not part.n:
            raise UserError(f"the split {part.name!r} has no rows")
    return Table(train, test, image, label, tuple(parts))


def is_image(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return {"bytes", "path"} <= feature.keys() or ("bytes" in feature and is_image(feature["bytes"]))
    return type(feature).__name__ == "Image" or getattr(feature, "dtype", "") in ("binary", "large_binary")


def is_label(feature: Any) -> bool:
    dtype = str(getattr(feature, "dtype", ""))
    return dtype.startswith(("int", "uint")) or dtype in ("string", "large_string", "bool")


def names(part: Part, label: str) -> tuple[str, ...]:
    """Of a ClassLabel's classes, in the order of their numbers; () for other types."""
    return tuple(getattr(part.features[label], "names", None) or ())


def labels(found: Table) -> tuple[tuple[str, ...], list[int], list[int]]:
    """The classes, and the number of each row's in the training and in the test split; -1: unlabelled (training).

    Integers and strings are classes in their order. Raises UserError if there are fewer than two classes, if test
    rows have no label, or one that no training row has.
    """
    values = {part.name: _values(part, found.label) for part in (found.train, found.test)}
    train, test = values[found.train.name], values[found.test.name]
    if missing := sum(_unlabelled(value) for value in test):
        others = few([split for split in found.splits if split not in (found.train.name, found.test.name)], 9)
        raise UserError(
            f"{missing} of {len(test)} rows of the split {found.test.name!r} have no label: name another with "
            f"data.test_split{f' ({others})' if others else ''}"
        )
    classes = names(found.train, found.label)
    known: Sequence[Any] = range(len(classes)) if classes else sorted({v for v in train if not _unlabelled(v)})
    if len(known) < 2:
        raise UserError(f"the column {found.label!r} has {len(known)} classes, at least 2 are needed")
    number = {value: i for i, value in enumerate(known)}
    for part, own in values.items():
        if strange := sorted({value for value in own if not _unlabelled(value)} - number.keys()):
            where = "are no class's" if classes else f"the split {found.train.name!r} lacks"
            raise UserError(f"labels of the split {part!r} that {where}: {few([*map(str, strange)])}")
    rows = [[-1 if _unlabelled(value) else number[value] for value in own] for own in (train, test)]
    return classes or tuple(map(str, known)), rows[0], rows[1]


def _unlabelled(value: Any) -> bool:
    return value is None or value == -1


def _values(part: Part, column: str) -> list[Any]:
    return [value for batch in part.batches([column]) for value in batch.column(column).to_pylist()]


def _split(parts: Mapping[str, Part], named: str, setting: str, usual: Sequence[str]) -> str:
    if named and named not in parts:
        raise unknown("split", named, parts)
    found = [named] if named else [split for split in usual if split in parts]
    if not found:
        raise UserError(
            f"no split is called {' or '.join(usual[:2])}; it has {few([*parts], 9)}: "
            f"name one with --set data.{setting}=NAME"
        )
    return found[0]


def _column(part: Part, named: str, setting: str, usual: Sequence[str], fits: Callable[[Any], bool], what: str) -> str:
    """The column of images, or of labels."""
    fitting = [column for column, feature in part.features.items() if fits(feature)]
    if named:
        if named not in part.features:
            raise unknown("column", named, fitting or part.features)
        if named not in fitting:
            raise UserError(f"data.{setting}={named}: that column has no {what}: {_types(part)}")
        return named
    likely = [column for column in usual if column in fitting] or [
        column for column in fitting if fits is is_image or names(part, column)
    ]
    if not likely or (len(likely) > 1 and likely[0] not in usual):
        raise UserError(
            f"which column has the {what}? Name it with --set data.{setting}=NAME; there are {_types(part)}"
            if fitting
            else f"no column has {what}; there are {_types(part)}"
        )
    return likely[0]


def _types(part: Part) -> str:
    """ "image (Image), label (int64)" """
    return few([f"{column} ({_type(feature)})" for column, feature in part.features.items()], 8) or "no columns"


def _type(feature: Any) -> str:
    return type(feature).__name__ if not getattr(feature, "dtype", None) else str(feature.dtype).split("<")[0]
