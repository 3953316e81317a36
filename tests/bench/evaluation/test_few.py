"""Few labels: which images they are, and that the probe on them is scikit-learn's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from judged import dataset, make_backbone, subject
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from bench.errors import UserError
from bench.evaluation import ask, logistic
from bench.evaluation.base import L2_GRID
from bench.evaluation.few import Few
from bench.evaluation.judge import judge
from bench.evaluation.linear import Linear
from bench.evaluation.subject import Subject


@pytest.fixture(scope="module")
def digits() -> Subject:
    return subject(make_backbone(), dataset())


def drawn(judged: Subject, few: Few, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """(variant, draw) -> the labelled images, as positions: those of training, those of validation."""
    seen: list[tuple[Tensor, Tensor]] = []
    choose = logistic.choose_logistic

    def watched(judged: Subject, train: Tensor, validation: Tensor) -> tuple[logistic.Logistic, Tensor]:
        seen.append((train, validation))
        return choose(judged, train, validation)

    with monkeypatch.context() as patch:
        patch.setattr(logistic, "L2_GRID", (1.0,))
        patch.setattr(logistic, "choose_logistic", watched)
        fitted = list(few.classifiers(judged))
    for classifier, (train, validation) in zip(fitted, seen, strict=True):
        assert classifier.n_labels == len(train) + len(validation)
    return {(c.variant, c.draw): parts for c, parts in zip(fitted, seen, strict=True)}


def test_few_labels_as_scikit_learn(digits: Subject) -> None:
    """The strength that validation chose, on the same images, standardised by themselves."""
    few = Few(labels="10%,5", draws=2)
    judged = judge(few, digits)
    x, y = digits.features.double().numpy(), digits.labels.numpy()
    test, truth = digits.test.features.double().numpy(), digits.test.labels.numpy()
    with pytest.MonkeyPatch.context() as patch:
        images = drawn(digits, few, patch)
    for score in judged.scores:
        chosen = torch.cat(images[score.variant, score.draw]).numpy()
        scaler = StandardScaler().fit(x[chosen])
        peer = LogisticRegression(C=1 / (score.chosen["l2"] * len(chosen)), tol=1e-9, max_iter=2000, solver="newton-cg")
        expected = 100 * peer.fit(scaler.transform(x[chosen]), y[chosen]).score(scaler.transform(test), truth)
        assert score.test_top1 == pytest.approx(expected, abs=0.34)  # one image of 300
        assert 20 < expected < 95


def test_strengths_are_chosen_on_the_whole_validation_split(digits: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Few(labels="5", draws=1)
    (score,) = judge(few, digits).scores
    ((train, none),) = drawn(digits, few, monkeypatch).values()
    assert len(none) == 0
    x, y = digits.features.double().numpy(), digits.labels.numpy()
    scaler = StandardScaler().fit(x[train])
    tried = {}
    for l2 in L2_GRID:
        peer = LogisticRegression(C=1 / (l2 * len(train)), tol=1e-9, max_iter=2000, solver="newton-cg")
        peer.fit(scaler.transform(x[train]), y[train])
        tried[l2] = 100 * peer.score(scaler.transform(x[400:]), y[400:])
    assert score.val_top1 == pytest.approx(max(tried.values()), abs=1)  # one image of 100
    assert tried[score.chosen["l2"]] >= max(tried.values()) - 1


def test_all_labels_are_the_linear_probe_bit_for_bit(digits: Subject) -> None:
    few, linear = judge(Few(labels="100%", draws=3), digits), judge(Linear(), digits)
    (score,) = few.scores
    assert score.model_copy(update={"variant": "linear"}) == linear.scores[0]
    np.testing.assert_array_equal(few.predicted, linear.predicted)


def test_images_are_the_same_for_all_seeds_and_encoders(digits: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Few(labels="1%,10%,3", draws=2)
    torch.manual_seed(1)
    other = subject(make_backbone(), dataset(), seed=7, name="other")
    other.backbone.get_parameter("conv1.weight").data.mul_(-1)
    first, second = drawn(digits, few, monkeypatch), drawn(other, few, monkeypatch)
    assert first.keys() == second.keys()
    for key, parts in first.items():
        assert all(torch.equal(*pair) for pair in zip(parts, second[key], strict=True))


def test_images_are_drawn_by_class_and_more_contain_fewer(digits: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = drawn(digits, Few(labels="1%,10%,50%,1,5", draws=3), monkeypatch)
    labels = digits.labels
    members = labels[:400].bincount(), labels[400:].bincount()
    for (variant, _), parts in draws.items():
        counts = [labels[part].bincount(minlength=10).tolist() for part in parts]
        if variant.endswith("shot"):
            shots = int(variant.removeprefix("few_").removesuffix("shot"))
            assert counts == [[shots] * 10, [0] * 10]
        else:
            share = int(variant.removeprefix("few_").removesuffix("pct")) / 100
            assert counts == [[max(1, round(share * int(n))) for n in of] for of in members]
        assert bool((parts[0] < 400).all()) and bool((parts[1] >= 400).all())
        assert all(len(part.unique()) == len(part) for part in parts)
    for draw in range(3):
        for fewer, more in (("few_1pct", "few_10pct"), ("few_10pct", "few_50pct"), ("few_1shot", "few_5shot")):
            for part, larger in zip(draws[fewer, draw], draws[more, draw], strict=True):
                assert set(part.tolist()) <= set(larger.tolist())
    assert len({tuple(draws["few_10pct", draw][0].tolist()) for draw in range(3)}) == 3


def test_shots_of_a_class_that_has_too_few_images_are_refused_by_name(digits: Subject) -> None:
    labels = digits.dataset.labels.clone()
    labels[:400][(labels[:400] == 3).nonzero()[7:, 0]] = 4  # seven images of class "3" are left
    rare = replace(digits, dataset=replace(digits.dataset, labels=labels))
    with pytest.raises(UserError, match=r"few.labels=8: class '3' of digits has 7 training images"):
        list(Few(labels="8").classifiers(rare))
    assert len(list(Few(labels="7", draws=1).classifiers(rare))) == 1


@pytest.mark.parametrize("labels", ["0%", "101%", "abc", "", " , ", "1.5", "0", "-1", "1%,5x", "%", "1 %"])
def test_other_amounts_are_refused(labels: str) -> None:
    with pytest.raises(UserError, match=r"few\.labels: ") as raised:
        ask("few", {"labels": labels}, {})
    assert "\n" not in str(raised.value)


def test_equal_amounts_are_equal_questions() -> None:
    assert ask("few", {"labels": " 1%, 10%,5,5"}, {}) == ask("few", {}, {})
    assert ask("few", {"labels": "10%,1%"}, {}).key != ask("few", {"labels": "1%,5"}, {}).key
    assert ask("few", {"draws": "3"}, {}) == ask("few", {}, {})


@pytest.mark.parametrize("draws", ["0", "101", "many"])
def test_other_numbers_of_draws_are_refused(draws: str) -> None:
    with pytest.raises(UserError, match=f"few.draws='{draws}'"):
        ask("few", {"draws": draws}, {})
