"""Image folders by their files' names: which images there are, of which classes, and the identity of it all."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.runs.identity import image_folder

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"})
HASHED_BYTES = 10**9  # of an image folder's content, for its identity


@dataclass(frozen=True)
class Folder:
    """What lies in an image folder, by names only."""

    name: str  # folder:PATH
    root: Path
    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]  # path below root, label
    test: tuple[tuple[str, int], ...]


def read(name: str) -> Folder:
    """The images of `folder:PATH`, listed and checked. Raises UserError, one line, if it is no image folder."""
    root = image_folder(name)
    assert root is not None, name
    if not root.is_dir():
        raise UserError(f"{name}: there is no such folder")
    tests = [part for part in ("test", "val") if (root / part).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise UserError(f"{name}: expected PATH/train/<class>/* and PATH/test/<class>/* (or PATH/val/<class>/*)")
    try:
        train, test = listing(root / "train"), listing(root / tests[0])
    except OSError as error:
        raise _cannot_list(name, error) from None
    check(name, train, test, tests[0])
    labels = {class_name: label for label, class_name in enumerate(train)}
    pairs = [tuple((f, labels[c]) for c, names in part.items() for f in names) for part in (train, test)]
    return Folder(name, root, tuple(train), pairs[0], pairs[1])


def listing(split: Path) -> dict[str, list[str]]:
    """Class -> image files below `split`, both sorted; a class is a folder, names with a leading dot do not count."""
    classes = sorted(entry.name for entry in split.iterdir() if entry.is_dir() and entry.name[0] != ".")
    return {name: sorted(_images_below(split / name)) for name in classes}


def check(name: str, train: dict[str, list[str]], test: dict[str, list[str]], test_folder: str) -> None:
    """Raise UserError, one line, if the two listings cannot be trained and tested on."""
    if len(train) < 2:
        raise UserError(f"{name}: train/ has {len(train)} classes, at least 2 are needed: one folder a class")
    for class_name, found in train.items():
        if len(found) < 2:
            raise UserError(f"{name}: train/{class_name} has {len(found)} images, at least 2 are needed")
    if extra := sorted(set(test) - set(train)):
        raise UserError(f"{name}: classes of {test_folder}/ that train/ lacks: {', '.join(extra[:5])}")
    if not any(test.values()):
        raise UserError(f"{name}: {test_folder}/ has no images")


def fingerprint(folder: Folder) -> str:
    """Hash of all names and sizes, and of the content: all of it, or of evenly spaced files of 1 GB if it is more."""
    files = sorted(file for file, _ in (*folder.train, *folder.test))
    try:
        sizes = [(folder.root / file).stat().st_size for file in files]
    except OSError as error:
        raise _cannot_list(folder.name, error) from None
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        digest.update(os.fsencode(file) + b"\0%d\n" % size)
    for file in files[:: 1 + sum(sizes) // HASHED_BYTES]:
        with contextlib.suppress(OSError):  # unreadable: told when it is decoded
            digest.update(hashlib.sha256((folder.root / file).read_bytes()).digest())
    return digest.hexdigest()[:16]


def _images_below(folder: Path) -> Iterator[str]:
    """Image files below `folder`, as paths relative to the folder two levels up: train/<class>/..."""
    top = folder.parent.parent
    for directory, subdirectories, names in os.walk(folder, onerror=_raise, followlinks=True):
        subdirectories[:] = [name for name in subdirectories if name[0] != "."]
        for name in names:
            if name[0] != "." and Path(name).suffix.lower() in EXTENSIONS:
                yield (Path(directory) / name).relative_to(top).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _cannot_list(name: str, error: OSError) -> UserError:
    return UserError(f"{name}: cannot list {error.filename}: {error.strerror}")
