"""One device costs what it did before there could be several: nothing of torch.distributed, and no work."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import parity
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench import backbone
from bench import team as module
from bench.config.views import AugmentConfig
from bench.data.augment import Augmentation
from bench.team import ALONE
from bench.training import conformance

RUN = """
import sys
from pathlib import Path

import timm, torch, torchvision

before = set(sys.modules)  # torch itself imports torch.distributed

from bench.planning import plan
from bench.training import worker
from bench.training.orders import Orders

settings = {"data.size": "8", "train.epochs": "1", "eval.at_end": "knn", "method.projector_hidden": "32"}
(run,) = plan.write(plan.plan(["byol"], [0], "quick", settings, {}, "x"), Path(sys.argv[1]))
worker.work(Orders([str(run.path)], sys.argv[1], "cpu", "bench", "", False), lambda: False)
assert run.result.exists(), run.log.read_text()
assert not torch.distributed.is_initialized()
own = {"bench.training." + name for name in ("distributed", "global_draws", "global_norm", "launcher")}
print([name for name in set(sys.modules) - before if name in own or name.startswith("torch.distributed")])
"""


@pytest.mark.slow
def test_a_whole_run_on_one_device_imports_nothing_of_several(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_alone_a_process_is_given_back_what_it_gives() -> None:
    x = torch.zeros(3, requires_grad=True)
    parameters = iter([x])
    assert ALONE.part(7) == slice(0, 7)
    assert ALONE.gather(x)[0] is x
    assert ALONE.seed(3) == 3
    assert ALONE.any(True) and not ALONE.any(False)
    assert ALONE.first(lambda: x) is x
    ALONE.add_up(parameters)
    assert next(parameters) is x, "no parameter was looked at"


def test_views_of_a_part_that_is_the_whole_take_no_operation_more() -> None:
    operations: list[Counter[str]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            operations[-1][function.name()] += 1
            return function(*args, **kwargs or {})

    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8)
    augment = Augmentation(AugmentConfig(), 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    for part in ((), (), (ALONE.part(7), 7)):  # the first call prepares what others use too
        operations.append(Counter())
        with Watch():  # type: ignore[no-untyped-call]
            augment(images, torch.Generator().manual_seed(0), *part)
    assert operations[1] == operations[2] != Counter()


def test_a_step_on_one_device_asks_as_often_as_it_has_to_and_gets_no_work_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backbone, "create", lambda *_, **__: conformance.Network())
    job = parity.job("byol", ALONE)
    index = torch.arange(parity.BATCH)
    job._train_step(index, 0, 0)
    asked: Counter[str] = Counter()
    within: list[str] = []

    def note(frame: FrameType, event: str, callee: Any) -> None:
        if event == "call" and frame.f_code.co_filename == module.__file__:
            asked[frame.f_code.co_name] += 1
        elif event == "c_call" and frame.f_code.co_filename == module.__file__:
            within.append(callee.__name__)

    sys.setprofile(note)
    try:
        job._train_step(index, 0, 1)
    finally:
        sys.setprofile(None)
    # of the method's and of the probe's gradients, embeddings and logits; the rest once
    assert asked == {"part": 1, "seed": 1, "whole_batch": 1, "gather": 2, "add_up": 2}
    assert within == []
