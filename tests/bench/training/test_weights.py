"""Training from weights: every seed and method begins with them; what they are is part of the run's identity."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import backbone
from bench.config.schema import RunConfig, keys
from bench.config.sections import BackboneConfig
from bench.errors import UserError
from bench.planning import plan
from bench.planning.prepare import prepare
from bench.runs import store
from bench.training import trainer, worker
from bench.training.orders import Orders

TINY = {"data.size": "8", "train.epochs": "1", "train.batch_size": "256"}


def new(seed: int = 7) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(backbone.create(BackboneConfig(name="resnet10_small"), 8).state_dict())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in new().items()}}, path)
    return path


def planned(
    methods: list[str], weights: Path | str, seeds: tuple[int, ...] = (0,), **more: str
) -> list[dict[str, Any]]:
    chosen = {**TINY, "backbone.weights": f"file:{weights}", **{k.replace("__", "."): v for k, v in more.items()}}
    return plan.plan(methods, seeds, "quick", chosen, {}, "x")


def built(run: dict[str, Any]) -> Any:
    return trainer.build_method(RunConfig(**run["config"]), run["seed"], 10)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in b)


@pytest.mark.parametrize("method", ["byol", "simclr", "random", "supervised"])
def test_every_seed_and_method_begins_with_them(method: str, weights: Path) -> None:
    first, other = (built(run) for run in planned([method], weights, (0, 1)))
    for network in (first.backbone, other.backbone):
        assert equal(network.state_dict(), new())
        assert network.training
    if method != "random":
        assert not equal(first.state_dict(), other.state_dict())  # heads are the seeds'


def test_a_teacher_begins_as_usual(weights: Path) -> None:
    (copy,) = planned(["raft"], weights)
    assert equal(built(copy).teacher.backbone.state_dict(), new())
    (drawn,) = planned(["raft"], weights, method__teacher_init="random")
    method = built(drawn)
    assert equal(method.backbone.state_dict(), new())
    assert not torch.equal(method.teacher.backbone.conv1.weight, new()["conv1.weight"])


def test_the_content_and_not_the_place_is_the_identity(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(["byol"], weights)
    (without,) = plan.plan(["byol"], [0], "quick", TINY, {}, "x")
    section = run["config"]["backbone"]
    assert section["weights"] == f"file:{weights}" and len(section["weights_hash"]) == 16
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    torch.save({f"model.encoder.{key}": value for key, value in new().items()}, elsewhere / "w.ckpt")
    monkeypatch.chdir(elsewhere)
    (moved,) = planned(["byol"], "w.ckpt")
    assert moved["config"]["backbone"]["weights"] == f"file:{elsewhere}/w.ckpt"
    assert moved["run_id"] == run["run_id"] != without["run_id"]
    torch.save(new(8), elsewhere / "w.ckpt")
    assert planned(["byol"], "w.ckpt")[0]["run_id"] != run["run_id"]


def test_wrong_weights_are_refused_when_the_run_is_planned(weights: Path, tmp_path: Path) -> None:
    state = new()
    del state["bn1.bias"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(
        UserError, match=r"^backbone.weights=file:.*short.pth: not the weights .* missing \(1\): bn1.bias$"
    ):
        planned(["byol"], tmp_path / "short.pth")
    with pytest.raises(UserError, match=r"backbone.stem=small's$"):
        planned(["byol"], weights, backbone__stem="imagenet")
    with pytest.raises(UserError, match=r"weights of resnet18, but the backbone is resnet10_small: set backbone.name="):
        plan.plan(["byol"], [0], "quick", {"backbone.weights": "timm:resnet18.a1_in1k"}, {}, "x")


def test_what_was_found_is_told_before_any_run(weights: Path, tmp_path: Path) -> None:
    runs = planned(["byol", "random"], weights, (0, 1))
    told = [line for line in prepare(runs, tmp_path / "data") if "theirs" in line]
    assert told == [f"file:{weights}: keys under state_dict.module"]


def work(run: dict[str, Any], where: Path) -> store.RunRecord:
    (directory,) = plan.write([run], where)
    orders = Orders(runs=[str(directory.path)], data_dir=str(where), device="cpu", command="", commit="", dirty=False)
    worker.work(orders, lambda: False)
    return store.read_run(directory)


def test_untrained_they_are_the_reference(weights: Path, tmp_path: Path) -> None:
    (run,) = planned(["random"], weights)
    record = work(run, tmp_path)
    assert record.state == "done"
    assert equal(backbone.load(record.dir.encoder).state_dict(), new())


def test_weights_that_changed_since_are_refused(weights: Path, tmp_path: Path) -> None:
    (run,) = planned(["random"], weights)
    torch.save(new(8), weights)
    record = work(run, tmp_path)
    assert record.state == "failed"
    assert "theirs.pth: not the weights that were planned: their hash was" in record.error
    weights.unlink()
    assert "there is no such file" in work({**run, "run_id": run["run_id"]}, tmp_path / "again").error


def test_the_hash_is_not_for_users_to_set() -> None:
    assert "backbone.weights" in keys("byol", "backbone")
    assert "backbone.weights_hash" not in keys("byol", "backbone")
