"""Image folders by names: what counts as an image, once, and what is refused or told."""

import os
import shutil
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from image_folders import CLASSES, config, make_folder, message, picture
from PIL import Image

from bench.data import datasets, folders
from bench.errors import UserError


def test_val_stands_in_for_test_and_test_is_preferred(tmp_path: Path, data_dir: Path) -> None:
    folder = make_folder(tmp_path / "x", test="val", n_test=2)
    assert len(datasets.load(config(folder), data_dir).load_test()[1]) == 6
    for name in CLASSES:
        (folder / "test" / name).mkdir(parents=True)
    picture(0).save(folder / "test" / "cat" / "0.png")
    assert len(datasets.load(config(folder), data_dir).load_test()[1]) == 1


def test_hidden_and_foreign_files_do_not_count_and_subfolders_do(folder: Path, data_dir: Path) -> None:
    cat = folder / "train" / "cat"
    (cat / ".DS_Store").write_bytes(b"x")
    (cat / "._000.png").write_bytes(b"x")
    (cat / "notes.txt").write_text("x")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (cat / "more").mkdir()
    picture(9).save(cat / "more" / "A.JPG")
    birds = datasets.load(config(folder), data_dir)
    assert birds.classes == CLASSES
    assert Counter(birds.labels.tolist())[0] == 21


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        ([], "no such folder"),
        (["."], "expected PATH/train/<class>"),
        (["train/cat", "train/dog"], "expected PATH/train/<class>"),
        (["train", "test"], "0 classes"),
        (["train/cat", "test/cat"], "1 classes"),
        (["train/cat", "train/dog", "test/cat"], "train/cat has 0 images, at least 2 are needed"),
    ],
)
def test_a_folder_that_is_no_image_folder_is_one_clear_line(
    tmp_path: Path, data_dir: Path, make: list[str], expected: str
) -> None:
    root = tmp_path / "x"
    for name in make:
        (root / name).mkdir(parents=True, exist_ok=True)
    line = message(config(root), data_dir)
    assert expected in line
    assert str(root) in line
    with pytest.raises(UserError, match=expected.replace("(", r"\(")):
        datasets.fingerprint(f"folder:{root}")


def test_a_class_that_only_the_test_split_has_is_an_error(folder: Path, data_dir: Path) -> None:
    (folder / "test" / "yak").mkdir()
    assert "yak" in message(config(folder), data_dir)


def test_a_test_split_without_images_is_an_error(folder: Path, data_dir: Path) -> None:
    for image in (folder / "test").rglob("*.png"):
        image.unlink()
    assert "test/ has no images" in message(config(folder), data_dir)


# identity


def test_the_fingerprint_follows_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    before = datasets.fingerprint(f"folder:{folder}")
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    assert datasets.fingerprint(f"folder:{moved}") == before
    picture(77).save(moved / "test" / "cat" / "new.png")
    assert datasets.fingerprint(f"folder:{moved}") != before


def test_an_edit_that_keeps_names_and_sizes_is_another_dataset(folder: Path) -> None:
    before = datasets.fingerprint(f"folder:{folder}")
    file = next((folder / "train" / "cat").iterdir())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert datasets.fingerprint(f"folder:{folder}") != before


# links, and what is no regular file


def names(folder: Path) -> tuple[list[str], list[str]]:
    listed = folders.read(f"folder:{folder}")
    return [name for name, _ in listed.train], [name for name, _ in listed.test]


def remarks(folder: Path) -> str:
    return "\n".join(folders.read(f"folder:{folder}").remarks)


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "/"])
def test_a_link_that_leads_back_adds_no_image(folder: Path, target: str) -> None:
    before = names(folder), datasets.fingerprint(f"folder:{folder}")
    (folder / "train" / "cat" / "up").symlink_to(target)
    assert (names(folder), datasets.fingerprint(f"folder:{folder}")) == before
    assert remarks(folder) == "left out links to what is listed already (1): train/cat/up"


def test_links_to_each_other_end(folder: Path) -> None:
    before = names(folder)
    for here, there in (("x", "y"), ("y", "x")):
        (folder / "train" / "cat" / here).mkdir()
        (folder / "train" / "cat" / here / there).symlink_to(f"../{there}")
    assert names(folder) == before
    assert remarks(folder) == "left out links to what is listed already (2): train/cat/x/y, train/cat/y/x"


def test_second_names_of_a_file_are_told_and_do_not_count(folder: Path) -> None:
    before = names(folder)
    cat = folder / "train" / "cat"
    (cat / "000-soft.png").symlink_to("000.png")
    (cat / "aaa.png").hardlink_to(cat / "000.png")
    assert len(names(folder)[0]) == len(before[0])
    assert remarks(folder).startswith("left out links to what is listed already (2): train/cat/00")


def test_a_folder_of_links_to_images_elsewhere_is_the_same_dataset(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    for part in ("train", "test"):
        (linked / part / "cat").mkdir(parents=True)
        for image in (folder / part / "cat").iterdir():  # one class of links to files, the others are links to folders
            (linked / part / "cat" / image.name).symlink_to(image)
        for name in ("dog", "emu"):
            (linked / part / name).symlink_to(folder / part / name)
    assert datasets.fingerprint(f"folder:{linked}") == datasets.fingerprint(f"folder:{folder}")
    assert remarks(linked) == ""


@pytest.mark.parametrize(
    ("link", "target", "expected"),
    [
        ("train/cat/extra", "../dog", "one file is in two classes: train/cat/extra/000.png is train/dog/000.png"),
        ("train/cow", "dog", "one file is in two classes: train/cow/000.png is train/dog/000.png"),
        ("train/cat/x.png", "../dog/000.png", "one file is in two classes: train/cat/x.png is train/dog/000.png"),
        ("train/cat/x.png", "../../test/cat/000.png", "files in train/ and in test/ at once (1): train/cat/x.png is"),
        (
            "train/cat/t",
            "../../test/cat",
            "files in train/ and in test/ at once (4): train/cat/t/000.png is test",
        ),
        ("train/cat/gone.png", "nowhere.png", "the link train/cat/gone.png leads nowhere (No such file"),
        ("train/cat/gone", "nowhere", "the link train/cat/gone leads nowhere (No such file"),
        ("train/cow", "nowhere", "the link train/cow leads nowhere (No such file"),
        ("train/cat/self.png", "self.png", "the link train/cat/self.png leads nowhere (Too many levels"),
    ],
)
def test_a_link_that_would_put_a_file_in_two_places_or_none_is_refused(
    folder: Path, data_dir: Path, link: str, target: str, expected: str
) -> None:
    (folder / link).symlink_to(target)
    assert expected in message(config(folder), data_dir)


def test_training_on_the_test_folder_is_refused(folder: Path, data_dir: Path) -> None:
    shutil.rmtree(folder / "test")
    (folder / "test").symlink_to("train")
    assert "files in train/ and in test/ at once (60)" in message(config(folder), data_dir)


def test_copies_of_training_images_among_the_test_images_are_told_and_refused_where_they_are_many(
    tmp_path: Path, data_dir: Path
) -> None:
    folder = make_folder(tmp_path / "x", n_test=10)
    shutil.copy(folder / "train" / "cat" / "003.png", folder / "test" / "dog" / "copy.png")
    assert datasets.load(config(folder), data_dir).check() == [
        "1 of 31 test images are copies (the same bytes) of training images: test/dog/copy.png is train/cat/003.png"
    ]
    shutil.rmtree(folder / "test")
    shutil.copytree(folder / "train", folder / "test")
    dataset = datasets.load(config(folder), data_dir)
    with pytest.raises(UserError, match=r"60 of 60 test images are copies .* no accuracy would mean anything"):
        dataset.check()


def test_copies_in_two_classes_are_told(folder: Path, data_dir: Path) -> None:
    shutil.copy(folder / "train" / "cat" / "003.png", folder / "train" / "dog" / "copy.png")
    assert datasets.load(config(folder), data_dir).check() == [
        "1 of 61 training images are copies (the same bytes) of others",
        "2 training images have copies (the same bytes) in other classes: train/cat/003.png, train/dog/copy.png",
    ]


def test_pipes_sockets_and_devices_are_left_out_by_name(
    folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = folder / "train" / "cat"
    os.mkfifo(cat / "pipe.png")
    (cat / "null.png").symlink_to("/dev/null")
    monkeypatch.chdir(cat)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
    assert remarks(folder) == (
        "left out names that are no regular files (3): train/cat/null.png, train/cat/pipe.png, train/cat/socket.png"
    )
    assert len(datasets.load(config(folder), data_dir).images) == 60


# names


def test_what_is_left_out_for_its_name_is_counted_by_its_ending(folder: Path) -> None:
    cat = folder / "train" / "cat"
    for i in range(6):
        (cat / f"{i:03}.png").rename(cat / f"{i:03}.HEIC")
    (folder / "train" / "stray.png").write_bytes(b"")
    assert remarks(folder).splitlines() == [
        "left out files whose names do not end as an image's (6 .heic): "
        "train/cat/000.HEIC, train/cat/001.HEIC, train/cat/002.HEIC, ...",
        "left out files in no class's folder (1): train/stray.png",
    ]


def test_a_class_that_has_no_images_by_name_says_what_it_has(folder: Path, data_dir: Path) -> None:
    for image in (folder / "train" / "cat").iterdir():
        image.rename(image.with_suffix(".heic"))
    line = message(config(folder), data_dir)
    assert "train/cat has 0 images, at least 2 are needed; left out files whose names" in line
    assert "(20 .heic)" in line


def test_every_ending_that_counts_is_one_that_pillow_reads() -> None:
    Image.init()
    readable = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert folders.EXTENSIONS - {".avif"} <= readable  # Pillow reads .avif from 11.3 on
    assert ".jfif" in folders.EXTENSIONS


def test_a_name_may_be_composed_in_training_and_decomposed_in_test(folder: Path, data_dir: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (folder / "train" / "cat").rename(folder / "train" / composed)
    (folder / "test" / "cat").rename(folder / "test" / decomposed)
    cafe = datasets.load(config(folder), data_dir)
    assert cafe.classes == (composed, "dog", "emu")
    assert Counter(cafe.load_test()[1].tolist()) == {0: 4, 1: 4, 2: 4}
    shutil.copytree(folder / "train" / composed, folder / "train" / decomposed)
    assert "train/ has 2 classes called café, in different bytes" in message(config(folder), data_dir)


def test_names_that_differ_in_case_only_are_told(folder: Path, data_dir: Path) -> None:
    (folder / "test" / "cat").rename(folder / "test" / "Cat")
    assert "classes of test/ that train/ lacks: Cat (train/ has cat)" in message(config(folder), data_dir)
    shutil.copytree(folder / "train" / "dog", folder / "train" / "Cat")
    assert "differ in upper and lower case only: Cat, cat\n" in remarks(folder)
    assert "test/ has no images of some classes (1): cat" in remarks(folder)


def test_names_that_are_no_text_are_escaped(folder: Path, data_dir: Path) -> None:
    for name in (b"\xff.png", b"a\nb.png", b"\x1b[31m.png"):
        (folder / "train" / "cat" / os.fsdecode(name)).write_bytes(b"no image")
    line = message(config(folder), data_dir)
    assert line.isprintable()
    assert "train/cat/\\x1b[31m.png (no image that can be read), train/cat/a\\nb.png" in line
    datasets.load(config(folder, skip_bad=True), data_dir).check()
    assert len(datasets.load(config(folder, skip_bad=True), data_dir).images) == 60


# images without labels


@pytest.mark.parametrize("place", ["unlabeled", "train/unlabeled", "train/unlabeled/of/any/depth"])
def test_images_in_unlabeled_are_for_pre_training_alone(folder: Path, data_dir: Path, place: str) -> None:
    before = datasets.fingerprint(f"folder:{folder}")
    (folder / place).mkdir(parents=True)
    for i in range(5):
        picture(500 + i).save(folder / place / f"{i}.png")
    found = datasets.load(config(folder), data_dir)
    assert found.classes == CLASSES
    assert Counter(found.labels.tolist()) == {0: 20, 1: 20, 2: 20, -1: 5}
    assert not set(torch.cat([found.train, found.validation]).tolist()) & set(range(60, 65))
    assert datasets.fingerprint(f"folder:{folder}") != before


def test_a_class_may_be_called_unlabeled_where_the_test_images_have_it(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / part / "cat").rename(folder / part / "unlabeled")
    assert "unlabeled" in folders.read(f"folder:{folder}").classes


@pytest.mark.parametrize("place", [".", "train", "unlabeled", "train/unlabeled", "train/unlabeled/deep"])
def test_a_folder_of_pictures_alone_has_no_labels_and_no_test(tmp_path: Path, data_dir: Path, place: str) -> None:
    root = tmp_path / "x"
    (root / place).mkdir(parents=True)
    for i in range(7):
        picture(i).save(root / place / f"{i}.png")
    found = datasets.load(config(root), data_dir)
    assert found.classes == () and found.labels.tolist() == [-1] * 7
    assert found.diagnosed.tolist() == list(range(7)) and not len(found.train) and not len(found.validation)
    assert found.check() == []
    assert not datasets.labelled(config(root))
    with pytest.raises(UserError, match="no labels"):
        found.load_test()


def test_classes_without_splits_are_not_taken_for_unlabelled_images(tmp_path: Path, data_dir: Path) -> None:
    make_folder(tmp_path)
    assert "or images without labels in PATH/unlabeled/" in message(config(tmp_path / "train"), data_dir)


def test_a_name_whose_moved_label_changes_is_another_data_set(folder: Path) -> None:
    """The same names and bytes, once of a class and once of none."""
    for part in ("train", "test"):
        (folder / part / "cat").rename(folder / part / "unlabeled")
    before = folders.read(f"folder:{folder}")
    labels = tuple((name, -1 if "unlabeled" in name else label) for name, label in before.train)
    assert folders.fingerprint(replace(before, train=labels)) != folders.fingerprint(before)
