"""What the end of training leaves behind: a file an evaluation, and what `eval.at_end` says."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from image_folders import picture
from PIL import Image

from bench.config.sections import DataConfig
from bench.data import datasets
from bench.errors import UserError
from bench.evaluation import ask
from bench.export.folder import export
from bench.planning import plan
from bench.runs import evaluations, store
from bench.runs.claim import Claim, LostClaim
from bench.runs.result import Result
from bench.runs.store import RunDir
from bench.tables.leaderboard import collect
from bench.training import worker
from bench.training.orders import Orders
from bench.training.records import plan_of

TINY = {"data.size": "8", "train.epochs": "1", "train.batch_size": "256"}


def planned(where: Path, at_end: str) -> RunDir:
    (run,) = plan.write(plan.plan(["random"], [0], "quick", {**TINY, "eval.at_end": at_end}, {}, "x"), where)
    return run


def work(runs: Sequence[RunDir]) -> None:
    paths = [str(run.path) for run in runs]
    data_dir = str(runs[0].path.parent)
    orders = Orders(runs=paths, data_dir=data_dir, device="cpu", command="test", commit="abc", dirty=True)
    worker.work(orders, lambda: False)


def names(run: RunDir) -> list[str]:
    return sorted(path.name for path in run.evaluations.iterdir() if path.suffix in (".json", ".npz", ".txt"))


def test_every_evaluation_leaves_its_numbers_and_the_predictions_of_all_test_images(tmp_path: Path) -> None:
    run = planned(tmp_path, "linear,knn")
    work([run])
    linear, knn = (ask(name, {}, {}).key for name in ("linear", "knn"))
    assert names(run) == sorted(f"{key}{end}" for key in (linear, knn) for end in (".json", ".npz"))
    config, _ = plan_of(json.loads(run.config.read_text()), run.run_id)
    _, labels = datasets.load(config.data, tmp_path).load_test()
    result = store.read_run(run).result
    assert result is not None
    for name, key in (("linear", linear), ("knn", knn)):
        made = evaluations.read(run.evaluations / f"{key}.json")
        (score,) = made.scores
        with np.load(run.evaluations / f"{key}.npz", allow_pickle=False) as stored:
            assert sorted(stored.files) == ["classes", "labels", "predicted"]
            assert stored["classes"].tolist() == list("0123456789")
            np.testing.assert_array_equal(stored["labels"], labels)
            assert score.test_top1 == pytest.approx(100 * (stored["predicted"][0] == stored["labels"]).mean())
        assert getattr(result.metrics, f"test_{name}_top1") == score.test_top1
        assert getattr(result.metrics, f"val_{name}_top1") == score.val_top1
        assert (made.subject, made.dataset, made.asked.key) == (run.run_id, "digits", key)
        assert (made.provenance.git_commit, made.provenance.git_dirty, made.provenance.threads) == ("abc", True, 1)
    assert result.metrics.linear_l2 == evaluations.read(run.evaluations / f"{linear}.json").scores[0].chosen["l2"]


def test_what_is_not_asked_for_at_the_end_is_not_made(tmp_path: Path) -> None:
    runs = [planned(tmp_path / "knn", "knn"), planned(tmp_path / "few", "few")]
    work(runs)
    alone, few = (store.read_run(run).result for run in runs)
    assert alone is not None and few is not None
    assert alone.metrics.test_knn_top1 is not None and alone.metrics.test_linear_top1 is None
    assert few.metrics.test_knn_top1 is None and few.metrics.test_linear_top1 is None
    assert [name for name in names(runs[0]) if name.endswith(".json")] == ["knn-e9243495.json"]
    assert [name for name in names(runs[1]) if name.endswith(".json")] == ["few-e8676fbe.json"]
    variants = {score.variant for score in evaluations.read(runs[1].evaluations / "few-e8676fbe.json").scores}
    assert variants == {"few_1pct", "few_10pct", "few_5shot"}


def test_what_ends_a_training_is_no_part_of_a_runs_identity(tmp_path: Path) -> None:
    assert planned(tmp_path / "a", "linear,knn").run_id == planned(tmp_path / "b", "few,finetune").run_id


@pytest.mark.parametrize("at_end", ["knn,fw", " ", ","])
def test_an_unknown_evaluation_is_refused_when_runs_are_planned(tmp_path: Path, at_end: str) -> None:
    with pytest.raises(UserError, match=r"unknown evaluation 'fw': did you mean 'few'|name one or more of"):
        planned(tmp_path, at_end)


def test_a_run_that_is_trained_again_forgets_the_evaluations_of_its_old_encoder(tmp_path: Path) -> None:
    run = planned(tmp_path, "knn")
    run.evaluations.mkdir()
    old = ["few-e8676fbe.json", "few-e8676fbe.npz", "linear-758a8497.error.txt"]
    for name in old:
        (run.evaluations / name).touch()
    work([run])
    assert names(run) == ["knn-e9243495.json", "knn-e9243495.npz"]


def test_an_owner_that_lost_its_run_writes_no_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planned(tmp_path, "knn")
    monkeypatch.setattr(Claim, "check", lambda self: (_ for _ in ()).throw(LostClaim("lost")))
    work([run])
    assert not run.result.exists() and not (run.evaluations.exists() and names(run))


def test_what_was_trained_without_labels_is_judged_on_another_data_set(tmp_path: Path) -> None:
    """The same pixels as digits with labels: normalised alike, judged alike, and the tables name both sets."""
    digits = datasets.load(DataConfig(name="digits", size=8), tmp_path)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(digits.images[:]):
        Image.fromarray(image[0].numpy()).save(tmp_path / "pictures" / f"{i:04}.png")
    found: list[Result] = []
    for data in ({}, {"data.name": f"folder:{tmp_path / 'pictures'}", "eval.data": "digits"}):
        (run,) = plan.write(plan.plan(["random", "simclr"], [0], "quick", {**TINY, **data}, {}, "x")[:1], tmp_path)
        work([run])
        result = store.read_run(run).result
        assert result is not None
        found.append(result)
    named, unlabelled = (each.metrics for each in found)
    assert unlabelled.test_linear_top1 == named.test_linear_top1
    assert unlabelled.val_knn_top1 == named.val_knn_top1
    label = found[1].dataset
    assert label.startswith("folder:pictures@") and label.endswith(", probed on digits")
    assert set(collect(tmp_path, ["x"]).leaderboard["dataset"]) == {"digits", label}


def test_training_without_labels_and_resuming_it_have_no_layer_beside(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for i in range(40):
        picture(i).save(tmp_path / "pictures" / f"{i:04}.png")
    name = f"folder:{tmp_path / 'pictures'}"
    chosen = {**TINY, "train.batch_size": "20", "train.epochs": "2", "data.name": name, "eval.data": "digits"}
    (run,) = plan.write(plan.plan(["simclr"], [0], "quick", chosen, {}, "x"), tmp_path)
    stops = iter([False, False, False, True])  # in the second epoch
    paths = [str(run.path)]
    orders = Orders(runs=paths, data_dir=str(tmp_path), device="cpu", command="", commit="", dirty=False)
    worker.work(orders, lambda: next(stops, False))
    assert run.checkpoint.exists() and not run.result.exists()
    worker.work(orders, lambda: False)
    result = store.read_run(run).result
    assert result is not None and result.metrics.online_linear_top1 is None
    assert result.metrics.val_knn_top1 is not None and result.metrics.effective_rank is not None
    last = run.history()[-1]
    assert "online_linear_top1" not in last and last["val_knn_top1"] == result.metrics.val_knn_top1


def test_images_of_five_bands_are_trained_on_judged_and_exported(tmp_path: Path) -> None:
    """A class is a brighter band, in TIFF files of 16 bits: nearly all test images are told apart."""
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0)
    for part, n in (("train", 30), ("test", 10)):
        for label in range(3):
            (tmp_path / "bands" / part / f"c{label}").mkdir(parents=True)
            for i in range(n):
                image = values.integers(5_000, 20_000, (5, 9, 10), dtype=np.uint16)
                image[label] += 40_000
                file = tmp_path / "bands" / part / f"c{label}" / f"{i}.tif"
                tifffile.imwrite(file, image, photometric="minisblack")
    chosen = {"data.name": f"folder:{tmp_path / 'bands'}", "data.channels": "5", "train.batch_size": "45"}
    (run,) = plan.write(plan.plan(["simclr"], [0], "quick", {**TINY, **chosen}, {}, "x"), tmp_path)
    work([run])
    result = store.read_run(run).result
    assert result is not None and (result.metrics.test_linear_top1 or 0) > 90
    export(store.read_run(run), tmp_path / "exported", tmp_path)
    told = json.loads((tmp_path / "exported" / "config.json").read_text())["pretrained_cfg"]
    assert told["input_size"] == [5, 8, 8] and len(told["mean"]) == 5
