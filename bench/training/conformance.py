"""What every method has to keep, whoever wrote it: `bench check-method`, and the tests of the registry.

On a small network and images of noise, in seconds.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.config.sections import OptimConfig
from bench.errors import UserError, unknown
from bench.team import ALONE
from bench.training import accumulate, optim
from methods import METHODS
from methods.base import Method, batch_norms

N, CLASSES, STEPS = 24, 4, 3
READS = ("item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__")  # which wait for a device
EXACT = 1e-9
"""Relative difference in float64."""


class Fault(Exception):
    """What a method does that it must not; the message says it to its author."""


class Network(nn.Sequential):
    """[N, 3, 8, 8] -> [N, 12]."""

    num_features = 12

    def __init__(self, *last: nn.Module) -> None:
        convolution = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *last)

    def recreate(self) -> "Network":
        return Network()


def build(name: str, **settings: Any) -> Method:
    """The method on the small network, with initial weights of its own for the heads."""
    kind = METHODS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network()
        torch.manual_seed(1)
        return kind(network, kind.Config(**settings), **({"n_classes": CLASSES} if kind.uses_labels else {}))


def inputs(method: Method, crops: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Two views of noise, so many small ones, and labels if it takes them."""
    draws = torch.Generator().manual_seed(seed)
    n = max(N, method.config.smallest_batch)
    views = tuple(torch.randn(n, 3, side, side, generator=draws) for side in (8, 8, *[4] * crops))
    return (*views, torch.arange(n) % CLASSES) if method.uses_labels else views


def train(
    method: Method, crops: int, steps: range, optimizer: torch.optim.Optimizer | None = None
) -> torch.optim.Optimizer | None:
    """Optimizer steps of these numbers, each on views of its own, as a run makes them."""
    groups = method.param_groups()
    optimizer = optimizer or optim.build(groups, OptimConfig(lr=0.1, momentum=0.9), ())
    with torch.random.fork_rng(devices=[]):
        for step in steps if optimizer is not None else ():
            assert optimizer is not None
            torch.manual_seed(step)  # a run sets what a step draws by its number
            optimizer.zero_grad(set_to_none=True)
            method(*inputs(method, crops, step))["loss"].backward()
            optimizer.step()
            method.after_step(step / (2 * STEPS))
    return optimizer


def loss(name: str, crops: int) -> None:
    """a scalar loss in float32, under bfloat16 too, and scalars beside it"""
    method = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        logged = method(*inputs(method, crops))
    if "loss" not in logged:
        raise Fault(f'forward returns {sorted(logged)}: "loss" is missing')
    for key, value in logged.items():
        if not isinstance(value, Tensor) or value.ndim:
            raise Fault(f"{key} is no scalar tensor")
    if logged["loss"].dtype != torch.float32:
        raise Fault(f"under bfloat16 the loss is {logged['loss'].dtype}: compute it from float32 (methods.losses)")


def views(name: str, crops: int) -> None:
    """one forward pass a view, and views are left as they are"""
    method, seen = build(name), list[int]()
    given = inputs(method, crops)
    before = [each.clone() for each in given]
    method.backbone.register_forward_hook(lambda module, images, output: seen.append(len(images[0])))
    method(*given)
    count, n = 2 + crops, len(given[0])
    if seen != [n] * count:
        raise Fault(f"the backbone saw batches of {seen} for {count} views of {n}: concatenated views share statistics")
    if not all(map(torch.equal, before, given)):
        raise Fault("forward changes the views that it is given")


def pairing(name: str, crops: int) -> None:
    """the backbone that seed k gives every method"""
    expected, found = build("random").backbone.state_dict(), build(name).backbone.state_dict()
    if changed := [key for key, value in expected.items() if not torch.equal(found[key], value)]:
        raise Fault(f"__init__ changes the backbone's initial weights: {', '.join(changed[:3])}")


def gradients(name: str, crops: int) -> None:
    """gradients for all that is optimized, backbone included, and for nothing else"""
    method = build(name)
    trained = [p for group in method.param_groups() for p in group["params"]]
    if not trained:
        return
    method(*inputs(method, crops))["loss"].backward()
    names = {id(p): key for key, p in method.named_parameters()}
    own = {id(p) for p in trained}
    if len(own) < len(trained):
        raise Fault("param_groups has a parameter twice")
    for p in method.backbone.parameters():
        if p.requires_grad and id(p) not in own:
            raise Fault(f"param_groups lacks {names[id(p)]}")
    for p in trained:
        if p.grad is None or not p.grad.isfinite().all():
            raise Fault(f"{names[id(p)]} is optimized and has {'no' if p.grad is None else 'a non-finite'} gradient")
    if not any(p.grad is not None and p.grad.any() for p in method.backbone.parameters()):
        raise Fault("the backbone's gradients are all zero")
    for p in method.parameters():
        if p.grad is not None and id(p) not in own:
            raise Fault(f"{names[id(p)]} has a gradient and is not optimized: a stop-gradient is missing")


def resume(name: str, crops: int) -> None:
    """the same bits where training is interrupted and goes on"""
    whole = build(name)
    train(whole, crops, range(2 * STEPS))
    first, second = build(name), build(name)
    optimizer = train(first, crops, range(STEPS))
    state, momentum = copy.deepcopy(first.state_dict()), optimizer and copy.deepcopy(optimizer.state_dict())
    second.load_state_dict(state)
    resumed = train(second, crops, range(0))
    if resumed is not None and momentum:
        resumed.load_state_dict(momentum)
    train(second, crops, range(STEPS, 2 * STEPS), resumed)
    for key, value in whole.state_dict().items():
        if not torch.equal(value, second.state_dict()[key]):
            raise Fault(f"{key} differs after a resume: keep all state in parameters and buffers")


def devices(name: str, crops: int) -> None:
    """the loss and gradients of the whole batch where it is split, as on several devices"""
    with in_float64():
        whole, parts = without_batch_norm(build(name)), without_batch_norm(build(name))
        if not whole.param_groups():
            return
        given = inputs(whole, crops)
        expected = whole(*given)
        expected["loss"].backward()
        found = accumulate.backward(parts, parts, given, 3, ALONE, lambda part: None)
        gradients = [p.grad for p in whole.parameters() if p.grad is not None]
        scale = torch.cat([each.flatten() for each in gradients]).norm()  # some are zero but for rounding
        for (key, p), q in zip(whole.named_parameters(), parts.parameters(), strict=True):
            if p.grad is not None and (q.grad is None or (q.grad - p.grad).norm() > EXACT * scale):
                raise Fault(f"{key} has another gradient where the batch is split: compute all after Method.gather")
        for key, value in expected.items():
            if not _near(found[key].detach(), value.detach()):
                raise Fault(f"{key} is another where the batch is split: compute it of what Method.gather gives")
        for (key, value), other in zip(whole.named_buffers(), parts.buffers(), strict=True):
            if value.is_floating_point() and not _near(other, value):
                raise Fault(f"{key} is another where the batch is split: fill it from what Method.gather gives")


def waiting(name: str, crops: int) -> None:
    """no value read from the device in a step"""
    method = build(name)
    optimizer = train(method, crops, range(1))
    asked: list[str] = []
    originals = {each: getattr(Tensor, each) for each in READS}

    def counted(each: str) -> Callable[..., Any]:
        def call(self: Tensor, *arguments: Any, **more: Any) -> Any:
            asked.append(each)
            return originals[each](self, *arguments, **more)

        return call

    given = inputs(method, crops)
    try:
        for each in READS:
            setattr(Tensor, each, counted(each))
        if optimizer is not None:
            method(*given)["loss"].backward()
            method.after_step(0.5)
    finally:
        for each, original in originals.items():
            setattr(Tensor, each, original)
    if asked:
        raise Fault(f"a step reads values of tensors ({', '.join(sorted(set(asked)))}): a GPU would be waited for")


def evaluation(name: str, crops: int) -> None:
    """embed gives [N, D], and evaluation changes nothing"""
    method = build(name)
    train(method, crops, range(1))
    before = copy.deepcopy(method.state_dict())
    x = inputs(method, crops)[0]
    method.eval()
    with torch.no_grad():
        first, second = method.embed(x), method.embed(x)
    if first.ndim != 2 or len(first) != len(x):
        raise Fault(f"embed gives {tuple(first.shape)} for {len(x)} images, not [N, D]")
    if not torch.equal(first, second):
        raise Fault("embed gives something else the second time")
    if changed := [key for key, value in method.state_dict().items() if not torch.equal(value, before[key])]:
        raise Fault(f"embed changes {', '.join(changed[:3])} in eval mode")


CHECKS = (loss, views, pairing, gradients, resume, devices, waiting, evaluation)
"""Functions of a method's name and of how many small views it gets beside two that raise Fault; the docstring says what
is kept."""


def crops(name: str) -> tuple[int, ...]:
    """With how many small views beside two to hold a method to the checks."""
    most = METHODS.config(name).most_views
    return (0,) if most == 2 else (0, 2 if most is None else most - 2)


def faults(name: str) -> Iterator[tuple[str, str]]:
    """What each check holds a method to, and what is wrong; "" if nothing is. Raises UserError on an unknown name."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    try:
        build(name)
    except Exception as error:
        raise UserError(f"{name} cannot be built: {type(error).__name__}: {error}") from error
    for check, small in itertools.product(CHECKS, crops(name)):
        kept = (check.__doc__ or "") + f", with {small} small views beside two" * (small > 0)
        try:
            check(name, small)
        except Fault as fault:
            yield kept, str(fault)
        except Exception as error:  # of the method's own code
            yield kept, f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            yield kept, ""


@contextmanager
def in_float64() -> Iterator[None]:
    """Everything in float64, also what methods take care to have in float32."""
    as_float32, default = Tensor.float, torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.float = as_float32  # type: ignore[method-assign]
        torch.set_default_dtype(default)


def without_batch_norm(method: Method) -> Method:
    """The method itself, whose layers that normalise over a batch now change nothing."""
    for name in batch_norms(method):
        parent, _, own = name.rpartition(".")
        setattr(method.get_submodule(parent), own, nn.Identity())
    return method


def _near(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= EXACT * (expected.norm() + EXACT))
