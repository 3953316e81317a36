"""Evaluations made afterwards: the bits of those made at the end of training; each once, whatever happens."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_folders import config, make_folder
from torch import Tensor, nn

from bench.data import datasets
from bench.errors import UserError
from bench.evaluation import ask, protocol, subject
from bench.files import dump_json
from bench.planning import evaluate, plan
from bench.planning.entries import Entry
from bench.planning.evaluate import EvaluationRequest
from bench.runs import evaluations
from bench.runs.claim import Claim
from bench.runs.evaluations import Asked, Evaluated
from bench.runs.store import RunDir
from bench.runs.work import Judging, retry
from bench.training import worker
from bench.training.orders import Orders

TINY = {"data.size": "8", "train.epochs": "1", "train.batch_size": "256", "eval.every_epochs": "1"}
LINEAR, KNN = ask("linear", {}, {}), ask("knn", {}, {})
FEW = ask("few", {"labels": "5,100%", "draws": 2}, {})
TOO_MANY = ask("few", {"labels": "5000"}, {})


def orders(runs: Sequence[RunDir], asked: Sequence[Asked] = (), **changes: Any) -> Orders:
    values = {"data_dir": str(runs[0].path.parent), "device": "cpu", "command": "test", "commit": "", "dirty": False}
    keys = [each.key for each in asked]
    return Orders(runs=[str(run.path) for run in runs], evaluations=keys, **{**values, **changes})


def judge(runs: Sequence[RunDir], *asked: Asked, stop: Callable[[], bool] = lambda: False) -> None:
    for each in asked:
        each.write(runs[0].path.parent.parent)
    worker.work(orders(runs, asked), stop)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with two seeds that are done."""
    results = tmp_path_factory.mktemp("results")
    torch.set_num_threads(1)
    runs = plan.write(plan.plan([Entry("simclr")], [0, 1], "quick", TINY, {}, "x"), results)
    worker.work(orders(runs), lambda: False)
    return results / "x"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> list[RunDir]:
    """A copy of them."""
    shutil.copytree(trained, tmp_path / "x")
    return [RunDir(path) for path in sorted((tmp_path / "x" / "runs").iterdir())]


def made(run: RunDir, asked: Asked) -> Evaluated:
    return evaluations.read(run.evaluations / f"{asked.key}.json")


def bits(run: RunDir) -> dict[str, object]:
    """What does not depend on when and by whom it was made."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in run.evaluations.glob("*.npz")}
    for path in run.evaluations.glob("*-????????.json"):
        found[path.name] = evaluations.read(path).scores
    return found


def names(run: RunDir) -> set[str]:
    return {path.name for path in run.evaluations.iterdir() if "claim" not in path.name and path.name != "log.txt"}


def test_what_is_made_afterwards_has_the_bits_of_the_end_of_training(runs: list[RunDir]) -> None:
    before = [bits(run) for run in runs]
    assert {*before[0]} == {f"{asked.key}.{kind}" for asked in (LINEAR, KNN) for kind in ("json", "npz")}
    for run in runs:
        shutil.rmtree(run.evaluations)
    judge(runs, LINEAR, KNN)
    assert [bits(run) for run in runs] == before
    result = json.loads(runs[0].result.read_text())["metrics"]
    assert made(runs[0], LINEAR).metrics().items() | made(runs[0], KNN).metrics().items() <= result.items()
    assert made(runs[0], LINEAR).provenance.threads == 1


@pytest.mark.slow
def test_so_has_the_probe_on_crops(tmp_path: Path) -> None:
    chosen = {**TINY, "eval.probe": "augmented"}
    (run,) = plan.write(plan.plan([Entry("simclr")], [3], "quick", chosen, {}, "x"), tmp_path)
    worker.work(orders([run]), lambda: False)
    before = bits(run)
    shutil.rmtree(run.evaluations)
    judge([run], LINEAR, KNN)
    assert bits(run) == before
    assert "lr" in made(run, LINEAR).scores[0].chosen


def test_what_is_there_is_not_made_again(runs: list[RunDir]) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs[0].evaluations.iterdir()}
    judge(runs[:1], LINEAR, KNN)
    assert {path: path.stat().st_mtime_ns for path in runs[0].evaluations.iterdir()} == before


def test_evaluations_on_one_data_set_share_its_features(runs: list[RunDir], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def count(backbone: nn.Module, images: Tensor, index: Tensor | None, *rest: Any) -> Tensor:
        calls.append(len(images))
        return protocol.features(backbone, images, index, *rest)

    monkeypatch.setattr(subject, "features", count)
    shutil.rmtree(runs[0].evaluations)
    judge(runs[:1], KNN, FEW, LINEAR)
    assert calls == [1438, 359], "labelled images, then those of the test"
    assert {score.variant for score in made(runs[0], FEW).scores} == {"few_5shot", "few_100pct"}
    whole = next(score for score in made(runs[0], FEW).scores if score.variant == "few_100pct")
    assert whole.test_top1 == made(runs[0], LINEAR).scores[0].test_top1


def test_images_of_another_data_set_are_normalised_as_the_encoders_own(
    runs: list[RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "pictures")
    fingerprint = datasets.fingerprint(f"folder:{root}")
    there = ask("linear", {}, {"name": f"folder:{root}", "fingerprint": fingerprint})
    seen: set[tuple[Any, ...]] = set()

    def note(backbone: nn.Module, images: Tensor, index: Tensor | None, mean: Any, std: Any, *rest: Any) -> Tensor:
        seen.add((mean, std, images.shape[-1]))
        return protocol.features(backbone, images, index, mean, std, *rest)

    monkeypatch.setattr(subject, "features", note)
    judge(runs[:1], there)
    found = made(runs[0], there)
    assert found.dataset == f"folder:pictures@{fingerprint[:8]}" and 0 <= found.scores[0].test_top1 <= 100
    own = datasets.load(config("digits", size=8), tmp_path)
    assert seen == {(own.mean, own.std, 8)}
    with np.load(runs[0].evaluations / f"{there.key}.npz") as file:
        assert file["predicted"].shape == (1, len(file["labels"])) and file["labels"].max() == 2


def test_one_that_fails_does_not_stop_the_others_and_is_tried_again_when_asked(runs: list[RunDir]) -> None:
    run = runs[0]
    shutil.rmtree(run.evaluations)
    judge([run], TOO_MANY, LINEAR)
    assert names(run) == {f"{TOO_MANY.key}.error.txt", f"{LINEAR.key}.json", f"{LINEAR.key}.npz"}
    record = Judging([LINEAR.key, TOO_MANY.key]).read(run)
    assert record.state == "failed"
    assert record.error.startswith(f"{TOO_MANY.key}: few.labels=5000: class ") and "\n" not in record.error
    before = (run.evaluations / f"{TOO_MANY.key}.error.txt").stat().st_mtime_ns
    judge([run], TOO_MANY, LINEAR)
    assert (run.evaluations / f"{TOO_MANY.key}.error.txt").stat().st_mtime_ns == before
    retry(Judging([TOO_MANY.key]), [run])
    assert Judging([TOO_MANY.key]).read(run).state == "planned"


@pytest.mark.parametrize("content", ["", "{", '{"schema": 2}', '{"schema": 1, "subject": "x"}'])
def test_a_damaged_one_is_told_and_made_again_when_asked(runs: list[RunDir], content: str) -> None:
    run = runs[0]
    good = made(run, KNN).scores
    path = run.evaluations / f"{KNN.key}.json"
    path.write_text(content)
    work = Judging([KNN.key, LINEAR.key])
    judge([run], KNN, LINEAR)
    record = work.read(run)
    assert record.state == "damaged" and record.error.startswith(f"{path.name}: ")
    assert path.read_text() == content, "kept"
    retry(work, [run])
    judge([run], KNN, LINEAR)
    assert made(run, KNN).scores == good and work.read(run).state == "done"


def test_a_result_of_another_run_is_damage(runs: list[RunDir]) -> None:
    name = f"{KNN.key}.json"
    shutil.copy(runs[1].evaluations / name, runs[0].evaluations / name)
    record = Judging([KNN.key]).read(runs[0])
    assert record.state == "damaged" and f"of another run, {runs[1].run_id}" in record.error


def test_a_run_that_another_process_judges_is_left_to_it(runs: list[RunDir]) -> None:
    with Claim.acquire(runs[0].evaluations):  # type: ignore[union-attr]
        assert Judging([FEW.key]).read(runs[0]).state == "running"
        judge(runs, FEW)
        assert f"{FEW.key}.json" not in names(runs[0]) and f"{FEW.key}.json" in names(runs[1])
    judge(runs, FEW)
    assert f"{FEW.key}.json" in names(runs[0])


def test_who_is_told_to_stop_stops_between_two_evaluations(runs: list[RunDir]) -> None:
    run = runs[0]
    shutil.rmtree(run.evaluations)
    judge([run], KNN, LINEAR, stop=lambda: (run.evaluations / f"{KNN.key}.json").exists())
    assert names(run) == {f"{KNN.key}.json", f"{KNN.key}.npz"}
    assert Judging([KNN.key, LINEAR.key]).read(run).state == "planned"


def test_an_owner_that_lost_its_claim_writes_nothing(runs: list[RunDir]) -> None:
    run = runs[0]
    shutil.rmtree(run.evaluations)

    def usurp() -> bool:
        if run.evaluations.exists():
            (run.evaluations / "claim-2.json").write_text("{}")
        return False

    judge([run], KNN, TOO_MANY, stop=usurp)
    assert not names(run)


def test_a_full_disk_stops_all_and_is_no_failure(
    runs: list[RunDir], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked in (FEW, KNN):
        asked.write(runs[0].path.parent.parent)

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        worker.work(orders(runs, [FEW, KNN]), lambda: False)
    assert "No space left on device" in capsys.readouterr().err
    assert [Judging([FEW.key]).read(run).state for run in runs] == ["planned", "planned"]
    assert names(runs[0]) == {f"{asked.key}.{kind}" for asked in (LINEAR, KNN) for kind in ("json", "npz")}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda run: run.encoder.unlink(), "cannot be read as an encoder"),
        (lambda run: run.encoder.write_bytes(b"x" * 100), "cannot be read as an encoder"),
        (lambda run: run.result.unlink(), "only the encoders of runs that are done are judged"),
        (lambda run: edit(run.config, "data", "size", 12), "config.json does not belong to"),
    ],
)
def test_what_is_no_encoder_of_the_run_is_refused_in_one_line(
    runs: list[RunDir], spoil: Callable[[RunDir], None], reason: str
) -> None:
    spoil(runs[0])
    judge(runs, FEW)
    assert reason in (runs[0].evaluations / f"{FEW.key}.error.txt").read_text()
    assert (runs[0].evaluations / f"{FEW.key}.error.txt").read_text().count("\n") == 1
    assert f"{FEW.key}.json" in names(runs[1])


def test_an_encoder_of_another_backbone_is_refused(runs: list[RunDir], tmp_path: Path) -> None:
    chosen = {**TINY, "data.size": "12", "train.epochs": "0"}
    (other,) = plan.write(plan.plan([Entry("random")], [0], "quick", chosen, {}, "y"), tmp_path)
    worker.work(orders([other]), lambda: False)
    shutil.copy(other.encoder, runs[0].encoder)
    judge(runs[:1], FEW)
    assert "is of another run: its backbone is" in (runs[0].evaluations / f"{FEW.key}.error.txt").read_text()


def request(experiment: Path, source: Path, *settings: str) -> EvaluationRequest:
    flags = {"evaluations": "knn,linear", "encoder": [f"mine=file:{source}"], "set": [*settings]}
    options = evaluate.options(flags)
    return evaluate.request(experiment, evaluate.wanted(options), experiment.parent, options, "test", False)


def test_an_encoder_from_elsewhere_is_judged_as_a_run_is(runs: list[RunDir], tmp_path: Path) -> None:
    ready = request(tmp_path / "x", runs[0].encoder).make_ready()
    assert [run.run_id for run in ready.runs] == [*(run.run_id for run in runs), "mine"]
    worker.work(orders(ready.runs, [LINEAR, KNN]), lambda: False)
    assert bits(ready.runs[2]) == bits(runs[0])
    assert made(ready.runs[2], KNN).subject == "mine"


def wanted(experiment: Path, flags: dict[str, Any]) -> EvaluationRequest:
    options = evaluate.options(flags)
    return evaluate.request(experiment, evaluate.wanted(options), experiment.parent, options, "test", False)


def test_a_copied_or_renamed_experiment_is_judged_where_it_lies(runs: list[RunDir], tmp_path: Path) -> None:
    (tmp_path / "x").rename(tmp_path / "renamed")
    ready = wanted(tmp_path / "renamed", {"evaluations": "few"}).make_ready()
    assert [run.path.parent for run in ready.runs] == 2 * [tmp_path / "renamed" / "runs"]
    assert (tmp_path / "renamed" / "evaluations").is_dir() and not (tmp_path / "x").exists()


def test_more_labels_than_a_class_has_are_refused_before_anything_is_noted(runs: list[RunDir], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"few.labels=500: class '\d' of digits has \d+ training images"):
        wanted(tmp_path / "x", {"evaluations": "few", "set": ["few.labels=500"]}).make_ready()
    assert not (tmp_path / "x" / "evaluations").exists()


def test_a_name_stands_for_one_encoder(runs: list[RunDir], tmp_path: Path) -> None:
    request(tmp_path / "x", runs[0].encoder).make_ready()
    request(tmp_path / "x", runs[0].encoder).make_ready()
    with pytest.raises(UserError, match="holds the evaluations of other weights"):
        request(tmp_path / "x", runs[1].encoder).make_ready()
    with pytest.raises(UserError, match="another size or normalisation"):
        request(tmp_path / "x", runs[0].encoder, "encoder.mine.mean=0.5,0.5,0.5").make_ready()


def edit(path: Path, section: str, name: str, value: object) -> None:
    content = json.loads(path.read_text())
    content["config"][section][name] = value
    path.write_text(json.dumps(content))


def start(runs: Sequence[RunDir], asked: Sequence[Asked]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.training.worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(dump_json(asdict(orders(runs, asked))).encode())
    process.stdin.close()
    return process


@pytest.mark.slow
def test_of_two_workers_each_makes_some_and_none_is_made_twice(runs: list[RunDir], tmp_path: Path) -> None:
    FEW.write(tmp_path / "x")
    processes = [start(runs, [FEW]), start(runs, [FEW])]
    assert [process.wait(300) for process in processes] == [0, 0]
    for run in runs:
        assert (run.evaluations / "log.txt").read_text().count(f"{FEW.key} in ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_a_random_moment_nothing_is_lost_and_nothing_made_twice(
    runs: list[RunDir], tmp_path: Path, trained: Path, seed: int
) -> None:
    asked = [FEW, ask("few", {"labels": "10%"}, {}), ask("knn", {"k": "5"}, {}), LINEAR]
    for run in runs:
        shutil.rmtree(run.evaluations)
    for each in asked:
        each.write(tmp_path / "x")
    process = start(runs, asked)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("x/runs/*/evaluations/claim-*.json")):  # it is at work
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    time.sleep(2 * random.Random(seed).random())
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = {path: path.stat().st_mtime_ns for path in tmp_path.glob("x/runs/*/evaluations/*-????????.json")}
    judge(runs, *asked)
    assert all(path.stat().st_mtime_ns == modified for path, modified in survived.items())
    whole = tmp_path / "whole"
    shutil.copytree(trained, whole)
    others = [RunDir(whole / "runs" / run.run_id) for run in runs]
    for run in others:
        shutil.rmtree(run.evaluations)
    judge(others, *asked)
    assert [bits(run) for run in runs] == [bits(run) for run in others]
    assert all(names(run) == names(other) for run, other in zip(runs, others, strict=True))
