"""What holds of every evaluation of the registry, and of one that is added to it."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from judged import dataset, digit_images, make_backbone, subject
from torch import Tensor

from bench.errors import Interrupted, UserError
from bench.evaluation import EVALUATIONS, Evaluation, ask, judge, parse
from bench.evaluation.subject import Subject

QUICK: dict[str, dict[str, Any]] = {"finetune": {"epochs": 1}, "few": {"labels": "10%,2", "draws": 2}}

every_evaluation = pytest.mark.parametrize("name", EVALUATIONS)


def quick(name: str) -> Evaluation:
    """With settings that take no time; a new evaluation as it is."""
    return EVALUATIONS[name](**QUICK.get(name, {}))


@every_evaluation
def test_it_changes_nothing_in_the_encoder(name: str) -> None:
    network = make_backbone()
    network.get_submodule("bn1").eval()  # a mixture of modes
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    draws = torch.get_rng_state()
    judge.judge(quick(name), subject(network, dataset()))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), draws)


@every_evaluation
def test_the_test_split_is_read_once_when_all_is_chosen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    evaluation = quick(name)
    fit = type(evaluation).classifiers

    def watched(self: Evaluation, judged: Subject) -> Any:
        for classifier in fit(self, judged):
            events.append("fit")
            told = classifier.predict

            def predict(test: Any, told: Callable[[Any], Tensor] = told) -> Tensor:
                events.append("predict")
                return told(test)

            yield replace(classifier, predict=predict)

    images, labels = digit_images()

    def load_test() -> tuple[Tensor, Tensor]:
        events.append("read")
        return images[600:], labels[600:]

    monkeypatch.setattr(type(evaluation), "classifiers", watched)
    n = len(judge.judge(evaluation, subject(make_backbone(), dataset(load_test))).scores)
    assert events == [*["fit"] * n, "read", *["predict"] * n]


@every_evaluation
def test_it_gives_the_same_twice_and_its_predictions_give_its_scores(name: str) -> None:
    first, second = (judge.judge(quick(name), subject(make_backbone(), dataset())) for _ in range(2))
    assert first.scores == second.scores
    np.testing.assert_array_equal(first.predicted, second.predicted)
    _, labels = digit_images()
    assert first.labels.tolist() == labels[600:].tolist()
    assert first.predicted.shape == (len(first.scores), 300) and first.predicted.dtype == np.uint8
    for score, predicted in zip(first.scores, first.predicted, strict=True):
        assert score.test_top1 == pytest.approx(100 * (predicted == first.labels).mean())
        assert score.test_top5 is not None and score.test_top5 >= score.test_top1
        assert score.n_test == 300


@every_evaluation
def test_test_labels_decide_nothing_but_the_test_scores(name: str) -> None:
    images, labels = digit_images()
    honest = judge.judge(quick(name), subject(make_backbone(), dataset()))
    wrong = judge.judge(quick(name), subject(make_backbone(), dataset(lambda: (images[600:], (labels[600:] + 1) % 10))))
    np.testing.assert_array_equal(honest.predicted, wrong.predicted)
    chosen = [[(s.variant, s.draw, s.n_labels, s.val_top1, s.chosen) for s in j.scores] for j in (honest, wrong)]
    assert chosen[0] == chosen[1]


@every_evaluation
def test_scores_can_be_told_apart_and_make_names_of_columns(name: str) -> None:
    scores = judge.judge(quick(name), subject(make_backbone(), dataset())).scores
    keys = [(score.variant, score.draw) for score in scores]
    assert len(set(keys)) == len(keys) > 0
    for score in scores:
        assert score.variant.replace(".", "_").isidentifier() and score.variant.startswith(name)
        assert score.n_labels <= 500 and np.isfinite([score.val_top1, *score.chosen.values()]).all()


@every_evaluation
def test_settings_are_explained_and_unknown_ones_refused(name: str) -> None:
    kind = EVALUATIONS[name]
    assert kind.__doc__
    for key, field in kind.model_fields.items():
        assert field.description, key
    with pytest.raises(UserError, match=rf"unknown key '{name}.speed'"):
        ask(name, {"speed": "1"}, {})


@every_evaluation
def test_text_and_values_ask_the_same_and_defaults_ask_nothing(name: str) -> None:
    default = EVALUATIONS[name]().model_dump()
    assert ask(name, default, {}) == ask(name, {key: str(value) for key, value in default.items()}, {})
    assert ask(name, default, {}).settings == {}
    values = QUICK.get(name, {})
    assert (
        ask(name, values, {}).settings == ask(name, {key: str(v) for key, v in values.items()}, {}).settings == values
    )


@pytest.mark.parametrize("name", ["finetune", "linear"])
def test_what_takes_minutes_can_be_stopped(name: str) -> None:
    judged = replace(subject(make_backbone(), dataset(), probe="augmented"), should_stop=lambda: True)
    with pytest.raises(Interrupted):
        judge.judge(quick(name), judged)


def test_names_are_parsed_once_each() -> None:
    assert parse(" linear,knn , linear,") == ["linear", "knn"]
    with pytest.raises(UserError, match="unknown evaluation 'liner': did you mean 'linear'"):
        parse("knn,liner")
    for nothing in ("", " , "):
        with pytest.raises(UserError, match="name one or more of"):
            parse(nothing)


def test_evaluations_are_known_without_torch() -> None:
    code = "import sys, bench.evaluation; [kind() for kind in bench.evaluation.EVALUATIONS.values()]"
    code += "; print(sorted({'torch', 'timm', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
