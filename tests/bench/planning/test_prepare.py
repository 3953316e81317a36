"""What stops a run before it begins: labels that are needed and missing."""

from pathlib import Path

import pytest
from image_folders import picture

from bench.errors import UserError
from bench.planning import plan
from bench.planning.prepare import prepare


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 12 pictures without labels."""
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(12):
        picture(i).save(root / f"{i}.png")
    return root


def refused(method: str, data_dir: Path, **overrides: str) -> str:
    chosen = {key.replace("__", "."): value for key, value in overrides.items()}
    with pytest.raises(UserError) as raised:
        prepare(plan.plan([method], [0], "quick", {"train.batch_size": "4", **chosen}, {}, "x"), data_dir)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_without_labels_a_data_set_to_judge_on_has_to_be_named(pictures: Path, tmp_path: Path) -> None:
    line = refused("simclr", tmp_path / "data", data__name=f"folder:{pictures}")
    assert line.startswith(f"data.name=folder:{pictures}: its images have no labels") and "--set eval.data=NAME" in line
    assert not (tmp_path / "data").exists()  # nothing was decoded for it


def test_a_backbone_that_cannot_take_small_crops_is_refused_with_what_helps(tmp_path: Path) -> None:
    own = {"augment.view3.size": "8", "backbone.name": "vit_tiny_patch16_224"}
    with pytest.raises(UserError, match=r"cannot take views of 8 pixels and of 16 .*backbone.args.dynamic_img_size"):
        prepare(plan.plan(["dino"], [0], "quick", own, {}, "e"), tmp_path)
    prepare(plan.plan(["dino"], [0], "quick", {**own, "backbone.args.dynamic_img_size": "true"}, {}, "e"), tmp_path)
    prepare(plan.plan(["swav"], [0], "quick", {"augment.view3.size": "8"}, {}, "e"), tmp_path)


def test_the_data_set_to_judge_on_needs_labels(pictures: Path, tmp_path: Path) -> None:
    line = refused("simclr", tmp_path, data__name="digits", eval__data=f"folder:{pictures}")
    assert line.startswith(f"eval.data=folder:{pictures}: its images have no labels")


def test_what_learns_from_labels_is_refused_without_them(pictures: Path, tmp_path: Path) -> None:
    line = refused("supervised", tmp_path, data__name=f"folder:{pictures}", eval__data="digits")
    assert line.startswith("method supervised: learns from labels")


def test_an_unknown_data_set_to_judge_on_gets_the_nearest_name(tmp_path: Path) -> None:
    assert "did you mean 'digits'" in refused("simclr", tmp_path, eval__data="digit")
