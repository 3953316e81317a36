"""Runs are paired, reproducible to the bit, resumable to the bit; and the paper's theorem holds."""

import json
import math
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.config.schema import RunConfig
from bench.data import datasets
from bench.data.whole import Images
from bench.errors import Interrupted, UserError
from bench.evaluation import logistic
from bench.evaluation.base import L2_GRID
from bench.files import dump_json
from bench.planning import plan
from bench.runs.claim import Claim
from bench.runs.result import Outcome
from bench.runs.store import RunDir
from bench.training import checkpoint, trainer
from bench.training.evaluating import at_end
from bench.training.machine import set_determinism
from bench.training.trainer import Trainer
from methods import METHODS

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TINY = {
    "data.size": "8",
    "train.epochs": "3",
    "train.batch_size": "64",
    "eval.every_epochs": "2",
    "optim.lr": "0.05",
    "method.projector_hidden": "32",
    "method.projector_out": "16",
    "method.whitening_size": "32",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    """The first 350 training images of digits: 5 steps an epoch."""
    (planned,) = plan.plan(["raft"], [0], "quick", {"data.size": "8"}, {}, "x")
    whole = datasets.load(RunConfig(**planned["config"]).data, tmp_path_factory.mktemp("data"))
    train, validation = (index[index < 350] for index in (whole.train, whole.validation))
    return replace(whole, images=whole.images[:350], labels=whole.labels[:350], train=train, validation=validation)


def settings(method: str, **overrides: str) -> dict[str, str]:
    known = METHODS[method].Config.model_fields
    chosen = {**TINY, **{key.replace("__", "."): value for key, value in overrides.items()}}
    return {k: v for k, v in chosen.items() if not k.startswith("method.") or k.split(".")[1] in known}


@pytest.fixture
def start(
    tmp_path: Path, digits: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Trainer]]:
    """A planned run, ready to train: start("raft", seed=3, optim__lr="0.1"). Its linear probe has two strengths."""
    threads = torch.get_num_threads()
    set_determinism(1)
    monkeypatch.setattr(logistic, "L2_GRID", L2_GRID[:2])

    def make(method: str, seed: int = 0, where: str = "x", device: str = "cpu", **overrides: str) -> Trainer:
        if device == "cuda" and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        planned = plan.plan([method], [seed], "quick", settings(method, **overrides), {}, where)
        (run,) = plan.write(planned, tmp_path)
        return Trainer(RunConfig(**planned[0]["config"]), seed, digits, torch.device(device), run)

    yield make
    torch.set_num_threads(threads)


def to_the_end(job: Trainer, should_stop: Callable[[], bool] = lambda: False) -> Outcome:
    claim = Claim.acquire(job.dir.path)
    assert claim is not None
    with claim:
        job.train(claim, should_stop)
        return at_end(job, claim, should_stop)


def stop_at(step: int) -> Callable[[], bool]:
    calls = 0

    def should_stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > step

    return should_stop


def without_clocks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def weights(job: Trainer) -> dict[str, Tensor]:
    return {key: value.cpu().clone() for key, value in job.method.backbone.state_dict().items()}


def assert_equal_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


# The theorem of arXiv 2011.10944


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("predictor", ["mlp", "linear"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lars"])
def test_raft_from_h_and_byol_prime_from_minus_h_have_equal_backbones(
    start: Callable[..., Trainer], optimizer: str, predictor: str, device: str
) -> None:
    """After 20 steps, bit for bit, weight decay on; and their losses differ by 4 beta."""
    overrides = {
        "optim__name": optimizer,
        "optim__lr": "0.001" if optimizer == "adam" else "0.2",
        "optim__weight_decay": "0.001",
        "train__epochs": "4",  # of 5 steps
        "method__predictor": predictor,
        "method__beta": "1.5",
        "eval__every_epochs": "4",
    }
    raft = start("raft", device=device, **overrides)
    prime = start("byol_prime", device=device, **overrides)
    last = [m for m in prime.method.get_submodule("predictor").modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        for p in last.parameters():
            p.neg_()
    before = weights(raft)
    for job in (raft, prime):
        to_the_end(job)
        assert job.step == 20
    assert_equal_bits(weights(raft), weights(prime))
    assert not torch.equal(before["conv1.weight"], weights(raft)["conv1.weight"])  # it did learn
    for ours, theirs in zip(raft.dir.history(), prime.dir.history(), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"] - 4 * 1.5, abs=1e-5)


# Pairing


def test_a_seed_gives_every_method_the_same_backbone_batches_and_views(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Tensor]] = {}
    for name in METHODS:
        if name == "random":
            continue
        job = start(name, seed=3)
        initial = torch.cat([p.detach().flatten() for p in job.method.backbone.parameters()])
        draws: list[Tensor] = [initial]
        original = job.augment

        def record(images: Tensor, *rest: Any, original: Any = original, draws: Any = draws) -> Any:
            views = original(images, *rest)
            draws.extend([images.clone(), *(view.clone() for view in views)])
            return views

        monkeypatch.setattr(job, "augment", record)
        with pytest.raises(Interrupted):
            to_the_end(job, stop_at(3))
        seen[name] = draws
    reference = seen.pop("raft")
    assert len(reference) == 1 + 3 * 3
    for draws in seen.values():
        assert len(draws) == len(reference)
        assert all(torch.equal(a, b) for a, b in zip(draws, reference, strict=True))


def test_another_seed_gives_other_weights_orders_and_views(start: Callable[..., Trainer]) -> None:
    a, b = start("byol", seed=0), start("byol", seed=1)
    assert not torch.equal(weights(a)["conv1.weight"], weights(b)["conv1.weight"])


def test_every_epoch_has_its_own_order(start: Callable[..., Trainer]) -> None:
    from bench.seeds import stream

    orders = [torch.randperm(100, generator=stream(0, "order", epoch)) for epoch in range(3)]
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


# Reproduction and resume


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_was_stopped_anywhere_ends_with_the_bits_of_one_that_was_not(
    start: Callable[..., Trainer], name: str, device: str
) -> None:
    whole = start(name, where="whole", device=device)
    expected = to_the_end(whole)
    if name == "random":
        again = start(name, where="again", device=device)
        assert to_the_end(again).metrics == expected.metrics
        return
    for steps in (0, 2, 5, 4):  # within an epoch, at its end, and again within one, resumed each time
        with pytest.raises(Interrupted):
            to_the_end(start(name, where="stopped", device=device), stop_at(steps))
    resumed = start(name, where="stopped", device=device)
    result = to_the_end(resumed)
    assert result.metrics == expected.metrics
    assert_equal_bits(weights(resumed), weights(whole))
    assert without_clocks(resumed.dir.history()) == without_clocks(whole.dir.history())


SMALL_CROPS = {"augment__view3.size": "6", "augment__view3.copies": "2", "augment__view3.crop_max": "0.4"}
KEPT = {  # what small runs of these methods keep from step to step
    "dino": {"method__temperature_warmup": "0.5", "method__freeze_prototypes": "0.3"},
    "swav": {"method__queue": "100", "method__queue_from": "0.4", "method__freeze_prototypes": "0.3"},
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", KEPT)
def test_small_crops_warm_ups_and_queues_survive_a_stop(start: Callable[..., Trainer], name: str, device: str) -> None:
    own = {**SMALL_CROPS, **KEPT[name]}
    whole = start(name, where="whole", device=device, **own)
    expected = to_the_end(whole)
    for steps in (3, 4):
        with pytest.raises(Interrupted):
            to_the_end(start(name, where="stopped", device=device, **own), stop_at(steps))
    resumed = start(name, where="stopped", device=device, **own)
    assert to_the_end(resumed).metrics == expected.metrics
    assert_equal_bits(weights(resumed), weights(whole))


def test_the_online_layer_learns_from_views_of_the_full_size_alone(start: Callable[..., Trainer]) -> None:
    seen = []
    for more in ({}, SMALL_CROPS):
        job = start("swav", where=str(len(more)), **more)
        assert job.online is not None
        before = job.online.layer.weight.detach().clone()
        job._train_step(torch.arange(64), 0, 0)
        assert not torch.equal(job.online.layer.weight, before)
        seen.append(job.online.layer.weight.detach().clone())
    assert torch.equal(*seen), "the first step's features of both large views are the same"


def test_the_loss_that_is_differentiated_is_scaled_and_the_one_that_is_logged_is_not(
    start: Callable[..., Trainer],
) -> None:
    moved, losses = [], []
    for scale in ("1", "2"):
        job = start("byol", where=scale, optim__loss_scale=scale, optim__weight_decay="0", optim__warmup_epochs="0")
        before = {name: p.detach().clone() for name, p in job.method.named_parameters()}
        losses.append(job._train_step(torch.arange(64), 0, 0)["loss"].item())
        moved.append({name: p.detach() - before[name] for name, p in job.method.named_parameters() if p.requires_grad})
    assert losses[0] == losses[1]
    for name, once in moved[0].items():
        torch.testing.assert_close(moved[1][name], 2 * once, rtol=1e-3, atol=1e-6)


def test_rows_logged_after_the_checkpoint_are_forgotten_on_resume(start: Callable[..., Trainer]) -> None:
    whole = start("byol", where="whole", train__checkpoint_epochs="2")
    to_the_end(whole)
    killed = start("byol", where="killed", train__checkpoint_epochs="2")
    append = RunDir.append_history

    class Killed(BaseException):
        pass

    def append_then_die(run: RunDir, row: dict[str, Any]) -> None:
        append(run, row)
        if row["epoch"] == 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunDir, "append_history", append_then_die)
        to_the_end(killed)
    assert [row["epoch"] for row in killed.dir.history()] == [1, 2, 3]
    resumed = start("byol", where="killed", train__checkpoint_epochs="2")
    to_the_end(resumed)
    assert without_clocks(resumed.dir.history()) == without_clocks(whole.dir.history())


def test_a_damaged_checkpoint_is_reported_and_the_bits_stay_the_same(
    start: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    whole = start("simsiam", where="whole")
    expected = to_the_end(whole)
    for steps in (6, 5):
        with pytest.raises(Interrupted):
            to_the_end(start("simsiam", where="damaged"), stop_at(steps))
    job = start("simsiam", where="damaged")
    content = job.dir.checkpoint.read_bytes()
    job.dir.checkpoint.write_bytes(content[: len(content) // 2])
    assert to_the_end(job).metrics == expected.metrics
    assert "checkpoint.pt is damaged" in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("losses"), "it lacks 'losses'"),
        (lambda state: state["method"].pop("backbone.bn1.weight"), "backbone.bn1.weight"),
        (lambda state: state["method"].update({"backbone.conv1.weight": torch.zeros(5, 3, 3, 3)}), "size mismatch"),
        (lambda state: state["optimizer"]["param_groups"].pop(), "parameter group"),
    ],
)
def test_a_checkpoint_of_another_version_is_refused_in_one_line_and_stays(
    start: Callable[..., Trainer], change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    job = start("simclr")
    state = job._state()
    change(state)
    checkpoint.save(job.dir, state)
    with pytest.raises(UserError, match=r"^the checkpoint was written by another version of the program") as caught:
        to_the_end(job)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert job.dir.checkpoint.exists()


# Memory format, torch.compile


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_weights_and_views_of_a_step_lie_in_one_memory_format(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format
) -> None:
    monkeypatch.setattr(trainer, "memory_format", lambda *_: layout)
    job = start("byol")
    stem = job.method.backbone.get_submodule("conv1")
    seen: list[Tensor] = []
    stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    job._train_step(torch.arange(256), 0, 0)
    assert len(seen) == 2
    assert all(x.is_contiguous(memory_format=layout) for x in (*seen, stem.get_parameter("weight")))


def test_compile_takes_the_online_and_the_teachers_backbone(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not compiled, as that takes a minute: the compiler here is the identity."""
    compiled: list[object] = []

    def identity(function: Any, **_: object) -> Any:
        compiled.append(getattr(function, "__self__", None))
        return function

    monkeypatch.setattr(torch, "compile", identity)
    job = start("byol", train__compile="true")
    assert job.compiled
    assert compiled == [job.method.backbone, job.method.get_submodule("teacher.backbone")]
    assert to_the_end(job).metrics == to_the_end(start("byol", where="eager")).metrics


def test_without_a_compiler_a_run_goes_on_and_says_so(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler found\nlong story")

    monkeypatch.setattr(torch, "compile", no_compiler)
    job = start("byol", train__compile="true")
    assert not job.compiled
    assert "train.compile: not possible here, running without it (no C++ compiler found)" in caplog.text


def test_a_backbone_that_the_compiler_rejects_trains_without_it_to_the_same_bits(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def rejected(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise RuntimeError(f"cannot lower {len(graph.graph.nodes)} nodes")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=rejected))
    job = start("byol", train__compile="true")
    assert not job.compiled
    assert "train.compile: not possible here, running without it (" in caplog.text
    assert to_the_end(job).metrics == to_the_end(start("byol", where="eager")).metrics


@pytest.mark.slow
def test_every_run_of_a_worker_is_compiled_and_evaluation_is_not(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More shapes than the 8 that torch compiles by default before it gives up."""
    graphs: list[tuple[int, bool]] = []  # batch size; whether a gradient is asked for

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        (images,) = (x for x in inputs if isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == 3 and x.shape[2] == 8)
        graphs.append((len(images), torch.is_grad_enabled()))
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    sizes = range(300, 305)
    for size in sizes:
        job = start("byol", where=str(size), train__compile="true", train__batch_size=str(size), train__epochs="1")
        assert job.compiled
        to_the_end(job)
    assert sorted(graphs) == [(size, grad) for size in sizes for grad in (False, True)]


# What costs time


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("method", "optimizer"), [*((m, "sgd") for m in METHODS if m != "random"), ("raft", "lars"), ("raft", "adamw")]
)
def test_a_step_waits_for_nothing_from_the_device(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, method: str, optimizer: str, device: str
) -> None:
    """No .item(), .cpu() or the like within a step; on a GPU, nothing that makes CUDA wait."""
    everything = {"augment__jitter": "0.8", "augment__blur": "0.5", "augment__solarize": "0.2", "augment__gray": "0.2"}
    job = start(method, device=device, optim__name=optimizer, **everything)
    index = torch.arange(256)
    job._train_step(index, 0, 0)  # makes the optimizer's state
    asked: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(Tensor, name)

        def call(self: Tensor, *arguments: Any, **more: Any) -> Any:
            if not (optimizer == "adamw" and self.ndim == 0 and name == "item"):  # its step number, kept on the CPU
                asked.append(name)
            return original(self, *arguments, **more)

        return call

    for name in ("item", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(Tensor, name, counted(name))
    if device == "cuda" and method != "directpred":  # its eigenvalues are waited for, as torch has no other way
        torch.cuda.set_sync_debug_mode("error")
    try:
        job._train_step(index, 0, 1)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert asked == []


@pytest.mark.parametrize("method", [m for m in METHODS if m != "random"])
def test_learning_from_two_views_reads_no_value_of_a_tensor(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Each of these operations has to wait for a GPU; only the drawing of parameters, on the CPU, may use them."""
    waiting = {"aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select", "aten::unique"}
    asked: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked.extend({function.name().partition(".")[0]} & waiting)
            return function(*args, **kwargs or {})

    def to_list(tensor: Tensor) -> None:
        asked.append("tolist")

    job = start(method)
    x1, x2 = torch.randn(2, 64, 3, 8, 8)
    labels = torch.arange(64) % 10
    job.learn(x1, x2, labels)
    monkeypatch.setattr(Tensor, "tolist", to_list)
    with Watch():  # type: ignore[no-untyped-call]
        job.learn(x1, x2, labels)
        assert asked == []
        assert torch.equal(labels, labels)
    assert asked == ["aten::equal"]  # the watch sees


# What must not go unnoticed


def test_a_loss_that_is_not_finite_fails_the_run_with_its_step_and_the_last_finite_loss(
    start: Callable[..., Trainer],
) -> None:
    job = start("byol")
    forward, losses = job.method.forward, []

    def poisoned(x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        logged: dict[str, Tensor] = forward(x1, x2)
        losses.append(logged["loss"].item())
        return {**logged, "loss": logged["loss"] * (math.nan if len(losses) == 7 else 1)}

    job.method.forward = poisoned
    with pytest.raises(trainer.NonFinite) as error:
        to_the_end(job)
    assert str(error.value) == f"non-finite loss at step 7 (epoch 2); last finite loss {losses[5]:.6g}"
    assert job.dir.checkpoint.exists()  # of epoch 1: what was computed before is kept


def test_the_test_split_is_not_touched_before_training_has_ended(
    start: Callable[..., Trainer], digits: datasets.Dataset
) -> None:
    job = start("simclr")
    read_at: list[tuple[int, bool]] = []

    def load_test() -> tuple[Images, Tensor]:
        read_at.append((job.step, job.dir.checkpoint.exists()))
        return digits.load_test()

    job.dataset = job.judged_on = replace(digits, load_test=load_test)
    to_the_end(job)
    assert read_at == [(15, True)]  # once, after the last of 3 x 5 steps


@pytest.mark.parametrize("name", METHODS)
def test_evaluation_changes_no_parameter_no_buffer_and_no_mode(start: Callable[..., Trainer], name: str) -> None:
    job = start(name, train__epochs="1")
    claim = Claim.acquire(job.dir.path)
    assert claim is not None
    with claim:
        job.train(claim, lambda: False)
        before = {k: v.clone() for k, v in job.method.state_dict().items()}
        modes = [module.training for module in job.method.modules()]
        at_end(job, claim, lambda: False)
    after = job.method.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [module.training for module in job.method.modules()] == modes


def test_validation_labels_are_hidden_from_training(start: Callable[..., Trainer], digits: datasets.Dataset) -> None:
    job = start("supervised")
    assert (job.labels[digits.validation] == -1).all()
    assert torch.equal(job.labels[digits.train], digits.labels[digits.train])


def test_the_untrained_backbone_of_random_is_the_initial_one(start: Callable[..., Trainer]) -> None:
    job, other = start("random"), start("simclr")
    before = weights(job)
    result = to_the_end(job)
    assert_equal_bits(weights(job), before)
    assert_equal_bits(weights(job), weights(other))
    assert result.metrics.loss is None
    assert result.metrics.online_linear_top1 is None


@pytest.mark.parametrize("most", [0.01, 1e6])
def test_a_gradient_longer_than_clip_norm_is_scaled_to_it(start: Callable[..., Trainer], most: float) -> None:
    def gradient(**settings: str) -> Tensor:
        job = start("byol", **settings)
        job._train_step(torch.arange(64), 0, 0)
        return torch.cat([p.grad.flatten() for p in job.method.parameters() if p.grad is not None])

    free, clipped = gradient(), gradient(optim__clip_norm=str(most))
    torch.testing.assert_close(clipped, free * min(1, most / float(free.norm())), rtol=1e-4, atol=1e-9)


def test_the_result_is_strict_json_with_the_contracts_metrics(start: Callable[..., Trainer]) -> None:
    result = to_the_end(start("raft"))
    assert Outcome(**json.loads(dump_json(result.model_dump()))) == result
    names = "test_linear_top1 val_linear_top1 online_linear_top1 test_knn_top1 val_knn_top1 alignment uniformity"
    assert {*names.split(), "effective_rank", "feature_std", "loss"} <= result.metrics.model_fields_set
    assert result.timing.images_per_second


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc's allocator")
def test_a_worker_does_not_fetch_its_activations_from_the_kernel_anew_in_every_step() -> None:
    program = """
import resource, sys, torch
from bench.training.machine import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
x = torch.ones(2**24)  # 64 MB: more than glibc would ever keep by itself
for _ in range(20):  # until the heap has grown to what a step needs: seven times, as its fragments happen to lie
    x.relu()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    x.relu()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    keep, default = (
        int(subprocess.run([sys.executable, "-c", program, mode], capture_output=True, text=True, check=True).stdout)
        for mode in ("keep", "default")
    )
    assert keep < 1000 < default
