"""What `bench preview` shows is what training sees."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.config.schema import RunConfig
from bench.data import datasets
from bench.errors import UserError
from bench.export import views
from bench.planning import plan
from bench.runs.store import RunDir
from bench.training.trainer import Trainer

COLOURED = {"augment.flip": "0.5", "augment.jitter": "0.8", "augment.gray": "0.2", "augment.view2.blur": "0.5"}
SMALL = {"data.size": "8", "train.batch_size": "256", "train.epochs": "3", **COLOURED}


def config(method: str, **changes: str) -> RunConfig:
    (run,) = plan.plan([method], [0], "quick", {**SMALL, **changes}, {}, "x")
    return RunConfig(**run["config"])


def pixels(views: Tensor, dataset: datasets.Dataset) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (dataset.mean, dataset.std))
    return (views * std + mean) * 255


def test_the_views_are_those_of_the_trainers_first_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config("byol")
    dataset = datasets.load(settings.data, tmp_path)
    trainer = Trainer(settings, 0, dataset, torch.device("cpu"), RunDir(tmp_path))
    given: list[tuple[Tensor, Tensor]] = []

    class Enough(Exception):
        pass

    def learn(x1: Tensor, x2: Tensor, labels: Tensor) -> None:
        given.append((x1, x2))
        raise Enough

    monkeypatch.setattr(trainer, "learn", learn)
    with pytest.raises(Enough):
        trainer.train(None, lambda: False)  # type: ignore[arg-type]
    seen = views.look(settings, dataset, 6)
    for shown, trained in zip(seen.views[0], given[0], strict=True):
        assert (shown.float() - pixels(trained[:6], dataset)).abs().max() <= 0.51  # rounded to whole levels
    assert not torch.equal(seen.views[0][0], seen.views[1][0])


def test_methods_with_equal_views_share_a_panel(tmp_path: Path) -> None:
    configs = {"BYOL": config("byol"), "RAFT": config("raft"), "mine": config("raft", **{"augment.crop_min": "0.9"})}
    figure = views.preview(configs, tmp_path, 3)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["BYOL, RAFT", "mine"]
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["image", *["view 1", "view 2"] * views.DRAWS]


def test_more_images_than_a_batch_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--images 257: a batch has 256"):
        views.preview({"BYOL": config("byol")}, tmp_path, 257)
