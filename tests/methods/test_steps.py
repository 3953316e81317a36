"""Twenty steps of training from equal weights on equal views are those of a module that is written plainly."""

from typing import Any

import parity
import plain
import pytest
import torch

from bench import backbone
from bench.team import ALONE
from bench.training.conformance import in_float64

EXACT = 1e-12
"""Difference in float64 of any step's loss and, after 20 steps, of all weights; measured: 1e-14."""
SETTINGS = {
    "train.epochs": "2",  # of 10 steps
    "optim.name": "sgd",
    "optim.lr": str(plain.PEAK * 256 / parity.BATCH),
    "optim.weight_decay": str(plain.DECAY),
    "optim.warmup_epochs": "0.5",
    "method.projector_hidden": str(plain.HIDDEN),
    "method.projector_out": str(plain.OUT),
}
OF_ONE: dict[str, dict[str, str]] = {
    "byol": {"method.predictor_hidden": "32", "method.tau": "0.9"},
    "moco_v3": {"method.predictor_hidden": "32", "method.tau": "0.99"},
    "simsiam": {"method.predictor_hidden": "8", "optim.decay_bias_norm": "true"},
}


@pytest.mark.parametrize("name", plain.METHODS)
def test_twenty_steps_are_the_papers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "create", lambda *_, **__: plain.Backbone())
    with in_float64():
        run = parity.job(name, ALONE, **SETTINGS, **OF_ONE.get(name, {}))
        seen: list[tuple[Any, float]] = []
        run.method.register_forward_hook(lambda _, views, logged: seen.append((views, logged["loss"].item())))
        paper = plain.METHODS[name]()
        start = {key: value.clone() for key, value in run.method.state_dict().items()}
        paper.begin({key: value for key, value in start.items() if not key.startswith("teacher.")})
        for step in range(plain.STEPS):
            index = torch.arange(step * parity.BATCH, (step + 1) * parity.BATCH) % len(run.images)
            run._train_step(index, *divmod(step, run.steps_per_epoch))
            views, loss = seen[step]
            assert paper.step(step, *views) == pytest.approx(loss, rel=EXACT), step
        assert run.step == run.epochs * run.steps_per_epoch == plain.STEPS
        torch.testing.assert_close(run.method.state_dict(), paper.state_dict(), rtol=EXACT, atol=EXACT)
        for key, value in paper.named_parameters():
            assert not torch.equal(value, start[key]), f"{key} has not moved"
