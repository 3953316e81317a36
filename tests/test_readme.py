"""What the README shows works as it stands there."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from methods import METHODS, Method

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> type[Method]:
    """The README's method, from its text."""
    (block,) = re.findall(r"```python\n# methods/barlow_twins.py\n(.*?)```", README, re.DOTALL)
    module = types.ModuleType("methods.barlow_twins")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, "README.md", "exec"), module.__dict__)
    cls: type[Method] = module.BarlowTwins
    return cls


def test_the_example_method_trains_by_one_registry_line(
    example: type[Method], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import plan, store, worker

    monkeypatch.setitem(METHODS, "barlow_twins", example)
    settings = {"data.size": "8", "train.epochs": "2", "optim.lr": "0.05", "method.off_diagonal": "0.01"}
    (run,) = plan.write(plan.plan(["barlow_twins"], [0], "quick", settings, {}, "x"), tmp_path)
    worker.work(
        worker.WorkerSettings([str(run.path)], str(tmp_path), "cpu", "test", commit="", dirty=False), lambda: False
    )
    record = store.read_run(run)
    assert (record.state, record.error) == ("done", "")
    first, last = run.history()
    assert last["loss"] < first["loss"]


def test_the_examples_loss_is_the_papers_formula(example: type[Method]) -> None:
    class Flat(torch.nn.Flatten):
        num_features = 12

    method = example(Flat(), example.Config(projector_out=5, off_diagonal=0.1))
    x1, x2 = torch.randn(32, 3, 2, 2), torch.randn(32, 3, 2, 2)
    z1, z2 = method.embed(x1), method.embed(x2)
    z1, z2 = ((z - z.mean(0)) / z.std(0, correction=0) for z in (z1, z2))
    loss = 0.0
    for i in range(5):
        for j in range(5):
            c = (z1[:, i] * z2[:, j]).mean().item()
            loss += (1 - c) ** 2 if i == j else 0.1 * c**2
    assert method(x1, x2)["loss"].item() == pytest.approx(loss, rel=1e-3)
