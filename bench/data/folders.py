"""Image folders by their files' names: which images there are, of which classes, and the identity of it all.

A class is a folder in train/ and in test/ (or val/); its images are the files below it, at any depth, whose names end
as an image's (EXTENSIONS; where there are none, ARRAYS).

Images without a label, for pre-training alone, are those in unlabeled/, beside train/ or in it (unless the test images
have a class of that name). Where there are no classes at all, they are those in train/, or in the folder itself if that
has images and none of these folders; test images are not looked for then.

Names with a leading dot do not count. Links are followed, and each file counts once: by device and inode, so that
neither a link that leads back nor a second name makes two images of one. A file that would belong to two classes, or
to both splits, is refused, and so is a link that leads nowhere. Whatever else is left out (second names, pipes and
devices, files that are no images) is named in `Folder.remarks`. Names of classes are compared in Unicode's composed
form (NFC), which is not what all file systems store.
"""

import contextlib
import hashlib
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.data.classes import listed
from bench.data.progress import Progress
from bench.errors import UserError, few
from bench.runs.identity import data_path

EXTENSIONS = frozenset(  # that Pillow reads
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg"}
    | {".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
ARRAYS = frozenset({".npy"})  # which are images where a folder has no others
UNLABELED = "unlabeled"  # a folder of images that have no class
NO_LABEL = -1
HASHED_BYTES = 10**9  # of an image folder's content, for its identity


@dataclass(frozen=True)
class Folder:
    """What lies in an image folder, by names only."""

    name: str  # folder:PATH
    root: Path
    classes: tuple[str, ...]  # none: there are no labels
    train: tuple[tuple[str, int], ...]  # path below root, label
    test: tuple[tuple[str, int], ...]
    sizes: Mapping[str, int]  # bytes, of every file in train and test
    remarks: tuple[str, ...]  # what was left out, or looks wrong


class File(NamedTuple):
    """What makes two names one file: hard links and links share it. No inode alone: some file systems invent them."""

    device: int
    inode: int
    size: int  # bytes
    modified: int  # ns


@dataclass
class Listing:
    """One split: what lies below its folder. All names are paths below the folder of both splits: train/cat/1.png."""

    endings: frozenset[str] = EXTENSIONS  # of names that are images'
    classes: dict[str, list[str]] = field(default_factory=dict)  # a class's folder -> its images, sorted
    unlabeled: list[str] = field(default_factory=list)  # images of no class, sorted
    files: dict[File, str] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)  # links, hard or not, to what is listed already
    special: list[str] = field(default_factory=list)  # pipes, sockets, devices
    foreign: list[str] = field(default_factory=list)  # not named as images
    loose: list[str] = field(default_factory=list)  # outside of the classes' folders
    progress: Progress = field(default_factory=lambda: Progress("listed", "names"))

    def remarks(self, below: str = "") -> list[str]:
        """What was left out of this split, or of a folder of it, a line a kind."""
        kinds = {
            "files whose names do not end as an image's": self.foreign,
            "names that are no regular files": self.special,
            "links to what is listed already": self.repeated,
            "files in no class's folder": self.loose,
        }
        lines = []
        for kind, all_names in kinds.items():
            if names := sorted(name for name in all_names if name.startswith(below)):
                endings = Counter(Path(name).suffix.lower() or "no ending" for name in names).most_common(5)
                counts = ", ".join(f"{n} {ending}" for ending, n in endings) if all_names is self.foreign else ""
                lines.append(f"left out {kind} ({counts or len(names)}): {few(names)}")
        return lines


def read(name: str, classes: str = "") -> Folder:
    """The images of `folder:PATH`, listed and checked; those of some `classes` (`data.classes`) alone.

    Raises UserError, one line, if it is no image folder, or lacks one of these classes.
    """
    root = data_path(name)
    assert root is not None, name
    if not root.is_dir():
        raise UserError(f"{name}: there is no such folder")
    tests = [part for part in ("test", "val") if (root / part).is_dir()]
    try:
        wanted = listed(classes)
        for endings in (EXTENSIONS, ARRAYS):
            test = listing(root / tests[0], wanted, endings) if tests else Listing()
            train = training(root, test.classes, wanted, endings)
            if train.files:
                break
        if lacking := sorted((wanted or frozenset()) - set(map(_composed, train.classes))):
            raise UserError(f"train/ lacks {len(lacking)} of the classes of data.classes={classes}: {few(lacking)}")
        if train.classes or not train.unlabeled:
            if not (root / "train").is_dir() or not tests:
                raise UserError(
                    "expected PATH/train/<class>/* and PATH/test/<class>/* (or PATH/val/<class>/*), or images without "
                    f"labels in PATH/{UNLABELED}/ or in PATH itself"
                )
            check(train, test, tests[0])
        elif len(train.unlabeled) < 2:
            raise UserError("has 1 image, at least 2 are needed")
    except OSError as error:
        raise UserError(f"{name}: cannot list {error.filename}: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    labels = {_composed(class_name): label for label, class_name in enumerate(train.classes)}
    parts = (train, test) if labels else (train,)
    pairs = [
        tuple((file, labels[_composed(class_name)]) for class_name, files in part.classes.items() for file in files)
        for part in parts
    ]
    sizes = {path: file.size for part in parts for file, path in part.files.items()}
    remarks = [line for part in parts for line in part.remarks()]
    if labels:
        remarks += _oddities(train, test, tests[0])
    elif tests:
        remarks.append(f"{tests[0]}/ is not looked at, as no training image has a class")
    unlabeled = tuple((file, NO_LABEL) for file in train.unlabeled)
    return Folder(name, root, tuple(labels), (*pairs[0], *unlabeled), pairs[1] if labels else (), sizes, tuple(remarks))


def training(
    root: Path, tested: Collection[str], wanted: frozenset[str] | None, endings: frozenset[str] = EXTENSIONS
) -> Listing:
    """What there is to train on in an image folder, tested on the classes `tested`. Wants and raises as `listing`."""
    train, beside = root / "train", root / UNLABELED
    found = listing(train, wanted, endings) if train.is_dir() else Listing(endings)
    if UNLABELED in found.classes and UNLABELED not in tested:
        found.unlabeled += found.classes.pop(UNLABELED)
    bare = not found.classes and not found.unlabeled
    if beside.is_dir():
        found.unlabeled += _list_class(beside, _above(root), found, root)
    elif bare and train.is_dir():
        found.loose.clear()
        found.unlabeled += _list_class(train, _above(root), found, root)
    elif bare and not tested and any(_is_image(entry, endings) for entry in _visible(root)):
        found.unlabeled += _list_class(root, _above(root.parent), found, root)
    return found


def listing(split: Path, wanted: frozenset[str] | None = None, endings: frozenset[str] = EXTENSIONS) -> Listing:
    """Every image file below `split`/<class>/ once, of the classes that are wanted (None: all).

    Raises OSError, and UserError on a file of two classes.
    """
    found = Listing(endings)
    for entry in sorted(_visible(split), key=lambda entry: entry.name):
        if wanted is not None and _composed(entry.name) not in wanted:
            continue
        if entry.is_dir():
            found.classes[entry.name] = _list_class(Path(entry.path), _above(split), found, split.parent)
        else:
            _status(entry, split.parent)  # a link that leads nowhere might have been a class
            found.loose.append(_below(entry, split.parent))
    return found


def check(train: Listing, test: Listing, test_folder: str) -> None:
    """Raise UserError, one line, if the two listings cannot be trained and tested on."""
    for part, folder in ((train, "train"), (test, test_folder)):
        for spelling, n in Counter(map(_composed, part.classes)).items():
            if n > 1:
                raise UserError(f"{folder}/ has {n} classes called {few([spelling])}, in different bytes: keep one")
    if len(train.classes) < 2:
        raise UserError(f"train/ has {len(train.classes)} classes, at least 2 are needed: one folder a class")
    for class_name, found in train.classes.items():
        if len(found) < 2:
            reasons = "".join(f"; {line}" for line in train.remarks(f"train/{class_name}/"))
            raise UserError(f"train/{few([class_name])} has {len(found)} images, at least 2 are needed{reasons}")
    known = set(map(_composed, train.classes))
    if extra := sorted(set(map(_composed, test.classes)) - known):
        folded = {name.casefold(): name for name in known}
        close = [folded[name.casefold()] for name in extra if name.casefold() in folded]
        hint = f" (train/ has {few(close)})" if close else ""
        raise UserError(f"classes of {test_folder}/ that train/ lacks: {few(extra, 5)}{hint}")
    if not any(test.classes.values()):
        raise UserError(f"{test_folder}/ has no images" + "".join(f"; {line}" for line in test.remarks()))
    if shared := sorted((train.files[file], test.files[file]) for file in train.files.keys() & test.files.keys()):
        names = few([f"{in_train} is {in_test}" for in_train, in_test in shared])
        raise UserError(f"files in train/ and in {test_folder}/ at once ({len(shared)}): {names}: keep one of each")


def fingerprint(folder: Folder) -> str:
    """Hash of all names and sizes, and of the content: all of it, or of evenly spaced files of 1 GB if it is more."""
    files = sorted(file for file, _ in (*folder.train, *folder.test))
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file) + b"\0%d\n" % folder.sizes[file])
    for file in sorted(file for file, label in folder.train if label == NO_LABEL):
        digest.update(os.fsencode(file) + b"\0unlabeled\n")
    for file in files[:: 1 + sum(folder.sizes[file] for file in files) // HASHED_BYTES]:
        with contextlib.suppress(OSError):  # unreadable: told when it is decoded
            digest.update(hashlib.sha256((folder.root / file).read_bytes()).digest())
    return digest.hexdigest()[:16]


def _list_class(folder: Path, entered: set[tuple[int, int]], found: Listing, top: Path) -> list[str]:
    """Images below a class's folder, sorted, as paths below `top`. `entered`: folders not to be entered (again)."""
    own: dict[File, str] = {}
    folders, links = [folder], list[os.DirEntry[str]]()  # what is real is listed before what is linked to
    while folders or links:
        at = folders.pop() if folders else Path(links.pop(0).path)
        if (identity := _identity(at)) in entered:
            found.repeated.append(at.relative_to(top).as_posix())
            continue
        entered.add(identity)
        for entry in sorted(_visible(at), key=lambda entry: (entry.is_symlink(), entry.name)):
            found.progress.add(1)
            status, name = _status(entry, top), _below(entry, top)
            if stat.S_ISDIR(status.st_mode):
                if entry.is_symlink():
                    links.append(entry)
                else:
                    folders.append(Path(entry.path))
            elif not _is_image(entry, found.endings):
                found.foreign.append(name)
            elif not stat.S_ISREG(status.st_mode):
                found.special.append(name)
            else:
                file = File(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                if other := found.files.get(file):
                    raise UserError(f"one file is in two classes: {few([other])} is {few([name])}: keep one")
                if file in own:
                    found.repeated.append(name)
                else:
                    own[file] = name
    found.files.update(own)
    return sorted(own.values())


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.name[0] != "."]


def _status(entry: os.DirEntry[str], top: Path) -> os.stat_result:
    """Of what a name stands for, links followed."""
    try:
        return entry.stat()
    except OSError as error:
        if entry.is_symlink():
            raise UserError(f"the link {few([_below(entry, top)])} leads nowhere ({error.strerror})") from None
        raise


def _is_image(entry: os.DirEntry[str], endings: frozenset[str]) -> bool:
    """By its name."""
    return os.path.splitext(entry.name)[1].lower() in endings  # noqa: PTH122 (pathlib takes several times as long)


def _above(folder: Path) -> set[tuple[int, int]]:
    """The folder and those that it lies in: links to these lead back."""
    return {_identity(each) for each in (folder, *folder.resolve().parents)}


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _below(entry: os.DirEntry[str], top: Path) -> str:
    return entry.path.removeprefix(str(top)).lstrip("/")  # Path.relative_to takes ten times as long


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _oddities(train: Listing, test: Listing, test_folder: str) -> list[str]:
    """Remarks on classes that are allowed, and seldom meant."""
    lines = []
    folded = Counter(name.casefold() for name in train.classes)
    if alike := [name for name in train.classes if folded[name.casefold()] > 1]:
        lines.append(f"classes whose names differ in upper and lower case only: {few(alike, 6)}")
    tested = {_composed(name) for name, files in test.classes.items() if files}
    if untested := [name for name in map(_composed, train.classes) if name not in tested]:
        lines.append(f"{test_folder}/ has no images of some classes ({len(untested)}): {few(untested)}")
    return lines
