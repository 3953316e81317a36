"""Some classes of an image folder: lists of ours and of the user's, and a data set that is what is left."""

import re
from pathlib import Path

import pytest
from image_folders import config, make_folder, message, picture

from bench.data import classes, datasets
from bench.errors import UserError
from bench.planning import plan
from bench.runs.identity import config_hash


@pytest.fixture
def two(tmp_path: Path) -> str:
    """A list of two of the three classes."""
    (tmp_path / "two.txt").write_text("# mine\nemu\n\ncat\n")
    return str(tmp_path / "two.txt")


def test_imagenet100_is_a_hundred_wordnet_ids_with_their_source() -> None:
    names = classes.listed("imagenet100")
    assert names is not None and len(names) == 100
    assert all(re.fullmatch(r"n\d{8}", name) for name in names)
    assert {"n02869837", "n02090622"} <= names  # the first and the last of its authors' file
    assert "HobbitLong/CMC" in classes.LISTS["imagenet100"].read_text()


def test_only_these_classes_are_there(folder: Path, data_dir: Path, two: str) -> None:
    birds = datasets.load(config(folder, classes=two), data_dir)
    assert birds.classes == ("cat", "emu")
    assert birds.labels.bincount().tolist() == [20, 20]
    assert birds.load_test()[1].bincount().tolist() == [4, 4]
    assert datasets.pretraining_images(config(folder, classes=two)) == 40


def test_they_are_another_data_set_and_the_same_as_a_folder_of_them_alone(folder: Path, two: str) -> None:
    def hash_of(**data: str) -> str:
        chosen = {"data.name": f"folder:{folder}", "data.size": "8"} | {
            f"data.{key}": text for key, text in data.items()
        }
        (run,) = plan.plan(["random"], [0], "quick", chosen, {}, "x")
        return config_hash(run["config"])

    whole, part = hash_of(), hash_of(classes=two)
    assert whole != part
    for split in ("train", "test"):
        for file in (folder / split / "dog").iterdir():
            file.unlink()
        (folder / split / "dog").rmdir()
    assert hash_of() == part


def test_what_is_not_listed_is_not_looked_at(folder: Path, data_dir: Path, two: str) -> None:
    (folder / "train" / "dog" / "leads nowhere.png").symlink_to("nowhere")
    picture(1).save(folder / "test" / "loose.png")
    assert datasets.load(config(folder, classes=two), data_dir).classes == ("cat", "emu")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat\ncat\nemu\n", "names cat more than once"),
        ("cat\n", "names 1 classes, at least 2 are needed: one a line"),
        ("cat\nemu\nyak\ngnu\n", "train/ lacks 2 of the classes of data.classes="),
    ],
)
def test_a_list_that_cannot_be_is_one_line(folder: Path, data_dir: Path, two: str, text: str, said: str) -> None:
    Path(two).write_text(text)
    assert said in message(config(folder, classes=two), data_dir)


def test_a_list_that_is_none_is_told_with_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"unknown list of classes 'imagenet10': did you mean 'imagenet100'\?.* or a file"
    ):
        classes.place("imagenet10")


def test_named_data_sets_have_all_of_theirs() -> None:
    with pytest.raises(UserError, match=r"^data.classes=imagenet100: of image folders only, and digits is none$"):
        plan.plan(["random"], [0], "quick", {"data.classes": "imagenet100"}, {}, "x")


@pytest.mark.parametrize("preset", ["folder", "imagenet100", "imagenet", "imagenet-vit"])
def test_presets_for_folders_ask_for_one(preset: str) -> None:
    with pytest.raises(UserError, match=r"^data.name=folder:PATH: .*--set data.name=folder:"):
        plan.plan(["random"], [0], preset, {}, {}, "x")


def test_a_preset_for_folders_takes_one(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "mine")
    (run,) = plan.plan(["byol"], [0], "folder", {"data.name": f"folder:{folder}"}, {}, "x")
    assert run["config"]["data"]["name"] == f"folder:{folder}"
