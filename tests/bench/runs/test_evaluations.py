"""Evaluations on disk: equal questions have equal names, for good; files that cannot be used say why in one line."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from bench.evaluation import ask
from bench.files import dump_json
from bench.runs import evaluations
from bench.runs.evaluations import Asked, Evaluated, EvaluationFiles, Score

CIFAR100 = {"name": "cifar100"}
KEYS = {  # as they were first given: never to be changed, or what was computed is not found again
    ("linear", ""): "linear-758a8497",
    ("linear", "cifar100"): "linear-31eed579",
    ("knn", ""): "knn-e9243495",
    ("knn", "cifar100"): "knn-a26622e2",
    ("few", ""): "few-e8676fbe",
    ("few", "cifar100"): "few-5be285f6",
    ("finetune", ""): "finetune-83f5db05",
    ("finetune", "cifar100"): "finetune-123a36c0",
}


@pytest.mark.parametrize(("name", "data"), KEYS)
def test_keys_stay(name: str, data: str) -> None:
    assert ask(name, {}, {"name": data} if data else {}).key == KEYS[name, data]


def test_a_key_is_a_hash_of_the_question() -> None:
    text = '{"data": {"name": "cifar100"}, "evaluation": "few", "settings": {"draws": 5, "labels": "1%"}}'
    expected = f"few-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    assert ask("few", {"labels": "1%", "draws": "5"}, CIFAR100).key == expected


def test_a_folder_counts_by_its_content() -> None:
    def key(path: str, fingerprint: str = "ab" * 32, **more: Any) -> str:
        return ask("knn", {}, {"name": f"folder:{path}", "fingerprint": fingerprint, **more}).key

    assert key("/here") == key("/moved/there") == key("/here", skip_bad=True)
    assert key("/here") != key("/here", "cd" * 32)


def test_different_questions_have_different_keys() -> None:
    asked = [ask(name, {}, data) for name in ("linear", "knn", "few", "finetune") for data in ({}, CIFAR100)]
    asked += [ask("few", {"draws": "2"}, {}), ask("knn", {"k": "2"}, {}), ask("linear", {"probe": "logistic"}, {})]
    assert len({each.key for each in asked}) == len(asked)


def test_what_is_asked_for_is_noted_once(tmp_path: Path) -> None:
    wanted = [ask("few", {"draws": "2"}, {}), ask("knn", {}, CIFAR100)]
    for each in wanted * 2:
        each.write(tmp_path)
    assert sorted(path.name for path in (tmp_path / "evaluations").iterdir()) == [f"{e.key}.json" for e in wanted]
    assert evaluations.asked(tmp_path) == wanted
    assert [each.key for each in evaluations.asked(tmp_path)] == [each.key for each in wanted]


def test_notes_that_are_none_are_left_out(tmp_path: Path) -> None:
    wanted = ask("knn", {}, {})
    wanted.write(tmp_path)
    folder = tmp_path / "evaluations"
    (folder / "few-00000000.json").write_text('{"schema": 1')
    (folder / "few-00000001.json").write_text(dump_json({"schema": 2, "evaluation": "few"}))
    (folder / "few-00000002.json").write_text("[]")
    assert evaluations.asked(tmp_path) == [wanted]
    assert evaluations.asked(tmp_path / "nowhere") == []


def outcome() -> Evaluated:
    score = Score(variant="knn", n_labels=10, n_test=4, test_top1=75, test_balanced=70, test_f1=71, val_top1=50)
    return Evaluated(schema=1, subject="x", evaluation="knn", dataset="digits", scores=[score], seconds=1.5)


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "knn-e9243495.json"
    path.write_text(dump_json(outcome().model_dump(by_alias=True)))
    assert evaluations.read(path) == outcome()
    assert outcome().asked.key == KEYS["knn", ""]
    assert outcome().metrics() == {"val_knn_top1": 50, "test_knn_top1": 75}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 2}, "schema"),
        ({"schema": None}, "schema"),
        ({"scores": None}, "scores"),
        ({"scores": [{"variant": "knn"}]}, r"scores.0.n_labels"),
        ({"seconds": "long"}, "seconds"),
    ],
)
def test_outcomes_that_cannot_be_used_say_why(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = tmp_path / "knn-e9243495.json"
    path.write_text(dump_json({**outcome().model_dump(by_alias=True), **changes}))
    with pytest.raises(ValueError, match=reason) as raised:
        evaluations.read(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"schema": 1, "seconds": NaN}', '{"schema": 1} x'])
def test_torn_outcomes_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "knn-e9243495.json"
    path.write_text(content)
    with pytest.raises(ValueError):
        evaluations.read(path)


def test_scores_are_percent(tmp_path: Path) -> None:
    path = tmp_path / "knn-e9243495.json"
    values = outcome().model_dump(by_alias=True)
    values["scores"][0]["test_top1"] = 175
    path.write_text(dump_json(values))
    with pytest.raises(ValueError, match="test_top1 is 175, not a percentage"):
        evaluations.read(path)


def test_states_by_names_of_files(tmp_path: Path) -> None:
    files = EvaluationFiles(tmp_path, "knn-e9243495")
    assert files.state() == "missing"
    files.error.write_text("why")
    assert files.state() == "failed"
    files.result.write_text("{}")
    assert files.state() == "done"


def test_forgetting_leaves_what_is_no_evaluation(tmp_path: Path) -> None:
    for name in ("knn-e9243495.json", "knn-e9243495.npz", "few-e8676fbe.error.txt", "claim-1.json", "log.txt"):
        (tmp_path / name).touch()
    evaluations.forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claim-1.json", "log.txt"]
    evaluations.forget(tmp_path / "nowhere")


def test_a_newer_versions_defaults_are_not_part_of_a_question() -> None:
    """Settings at their defaults are not stored, so that one that is added later finds the old outcomes."""
    assert Asked(evaluation="few").key == ask("few", {"draws": "3", "labels": "1%,10%,5"}, {}).key
