"""Tables of images: which columns and splits are taken, what labels mean, and what is refused."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from datasets import ClassLabel, Image, Value

from bench.data.rows import Choice, Part, labels, table
from bench.errors import UserError

PICTURE, INTEGER, TEXT = Image(decode=False), Value("int64"), Value("string")


def part(name: str, features: dict[str, Any], rows: dict[str, list[Any]] | None = None, n: int = 3) -> Part:
    def batches(columns: Sequence[str]) -> Iterator[pa.Table]:
        yield pa.table({column: (rows or {})[column] for column in columns})

    return Part(name, n, features, batches, lambda columns: b"")


def parts(features: dict[str, Any], *names: str) -> dict[str, Part]:
    return {name: part(name, features) for name in names or ("train", "test")}


@pytest.mark.parametrize(
    ("features", "image", "label"),
    [
        ({"id": INTEGER, "image": PICTURE, "label": ClassLabel(names=["a", "b"])}, "image", "label"),
        ({"img": Value("binary"), "fine_label": INTEGER, "coarse_label": INTEGER}, "img", "fine_label"),
        ({"photo": PICTURE, "species": ClassLabel(names=["a", "b"]), "place": TEXT}, "photo", "species"),
        ({"image": {"bytes": Value("binary"), "path": TEXT}, "label": TEXT}, "image", "label"),
        ({"mask": PICTURE, "image": PICTURE, "label": Value("bool")}, "image", "label"),
    ],
)
def test_columns_are_found_by_their_types_and_usual_names(features: dict[str, Any], image: str, label: str) -> None:
    found = table(parts(features), Choice())
    assert (found.image, found.label) == (image, label)


def test_columns_and_splits_may_be_named() -> None:
    features = {"left": PICTURE, "right": PICTURE, "label": INTEGER, "colour": TEXT}
    chosen = Choice("right", "colour", "a", "b")
    found = table(parts(features, "train", "test", "a", "b"), chosen)
    assert (found.image, found.label, found.train.name, found.test.name) == chosen


GOOD = {"image": PICTURE, "label": INTEGER}


@pytest.mark.parametrize(
    ("features", "splits", "choice", "line"),
    [
        (GOOD, ("train", "test"), Choice(image_column="imgae"), "unknown column 'imgae': did you mean 'image'?"),
        (GOOD, ("train", "test"), Choice(image_column="label"), "data.image_column=label: that column has no images"),
        (GOOD, ("train", "test"), Choice(label_column="image"), "data.label_column=image: that column has no labels"),
        (GOOD, ("train", "test"), Choice(test_split="tset"), "unknown split 'tset': did you mean 'test'?"),
        (GOOD, ("train", "test"), Choice(test_split="train"), "are both 'train': name two"),
        (GOOD, ("train",), Choice(), "no split is called test or validation; it has train: name one with --set data."),
        (GOOD, ("a", "b"), Choice(), "no split is called train or training; it has a, b"),
        ({"label": INTEGER}, ("train", "test"), Choice(), "no column has images (bytes of image files); there are"),
        ({"image": PICTURE}, ("train", "test"), Choice(), "no column has labels (integers or strings); there are"),
        ({"image": PICTURE, "label": Value("float32")}, ("train", "test"), Choice(), "label (float32)"),
        ({"a": PICTURE, "b": PICTURE, "label": INTEGER}, ("train", "test"), Choice(), "data.image_column=NAME"),
        ({"image": PICTURE, "x": INTEGER, "y": TEXT}, ("train", "test"), Choice(), "data.label_column=NAME"),
    ],
)
def test_what_cannot_be_told_is_one_line_that_says_what_there_is(
    features: dict[str, Any], splits: tuple[str, ...], choice: Choice, line: str
) -> None:
    with pytest.raises(UserError) as raised:
        table(parts(features, *splits), choice)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_validation_stands_in_for_test_and_test_is_preferred() -> None:
    assert table(parts(GOOD, "train", "validation"), Choice()).test.name == "validation"
    assert table(parts(GOOD, "train", "validation", "test"), Choice()).test.name == "test"


def test_splits_of_other_columns_or_classes_or_of_none_are_refused() -> None:
    train = part("train", GOOD)
    with pytest.raises(UserError, match="'test' has no column 'label' as 'train' has: image"):
        table({"train": train, "test": part("test", {"image": PICTURE})}, Choice())
    with pytest.raises(UserError, match="'test' has no rows"):
        table({"train": train, "test": part("test", GOOD, n=0)}, Choice())
    two = [part(name, {"image": PICTURE, "label": ClassLabel(names=list(name))}) for name in ("ab", "ba")]
    with pytest.raises(UserError, match="classes of 'ab' and 'ba' are not the same: a, b; b, a"):
        table({each.name: each for each in two}, Choice("", "", "ab", "ba"))


def numbered(feature: Any, train: list[Any], test: list[Any]) -> tuple[tuple[str, ...], list[int], list[int]]:
    features = {"image": PICTURE, "label": feature}
    both = {"train": part("train", features, {"label": train}), "test": part("test", features, {"label": test})}
    return labels(table({**both, "validation": part("validation", features)}, Choice()))


def test_labels_are_numbers_of_classes_whatever_their_type() -> None:
    assert numbered(TEXT, ["dog", "cat", None], ["dog"]) == (("cat", "dog"), [1, 0, -1], [1])
    assert numbered(INTEGER, [30, 10, -1, 10], [30]) == (("10", "30"), [1, 0, -1, 0], [1])
    assert numbered(ClassLabel(names=["z", "a"]), [1, 0, -1], [0]) == (("z", "a"), [1, 0, -1], [0])


@pytest.mark.parametrize(
    ("feature", "train", "test", "line"),
    [
        (INTEGER, [0, 1], [-1, 1], "1 of 2 rows of the split 'test' have no label: .* data.test_split .validation."),
        (TEXT, ["a", "b"], ["c"], "labels of the split 'test' that the split 'train' lacks: c"),
        (ClassLabel(names=["a", "b"]), [0, 1], [7], "labels of the split 'test' that are no class's: 7"),
        (TEXT, ["a", "a"], ["a"], "'label' has 1 classes, at least 2 are needed"),
        (INTEGER, [-1, None], [0], "'label' has 0 classes, at least 2 are needed"),
    ],
)
def test_labels_that_cannot_be_learned_or_tested_are_one_line(
    feature: Any, train: list[Any], test: list[Any], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        numbered(feature, train, test)
