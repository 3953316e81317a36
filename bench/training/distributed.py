"""One run on several devices: processes, one a device, whose numbers are those of one that has the whole batch.

Every process has all parameters and a part of each batch. It computes the loss of the *whole* batch, from gathered
embeddings, so the loss is not a mean of means: no method changes with the number of devices, and parts may be of
different length. The gradient of that loss with respect to a process's own embeddings needs no message; with respect
to the parameters it is the sum of what the processes have, one all-reduce of all gradients in one vector. What follows
from it (optimizer, teacher, centre, online probe) every process computes for itself, with the same bits.

Not DistributedDataParallel: it averages where a sum is wanted, and hooks itself around one forward pass of one module.
Its gain would be messages during the backward pass.

Backends: NCCL between GPUs, gloo between CPUs and for all that is agreed on. The store (torch's TCPStore) is held by
the launcher (bench.training.launcher), which also ends the processes if one of them dies.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from bench.files import dump_json, parse_json
from bench.team import Team
from bench.training.global_norm import GlobalStatistics

T = TypeVar("T")

START_SECONDS = 600  # for all processes to import what they need, from a slow disk
TIMEOUT = 25  # seconds without a message, or a sign of life, after which another process is taken for dead
BEAT_SECONDS = 2
SETTLE_SECONDS = 10  # for all to come out of a run, after one has


class Lost(RuntimeError):
    """Another process died, hangs, or left the run alone: this one cannot go on."""


class ElsewhereError(RuntimeError):
    """The first process raised this, and told."""


class Ranks(Team):
    """The processes that torch's variables name: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT."""

    def __init__(self, device: torch.device) -> None:
        """Returns when all are there. `device` is this process's."""
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self._store = TCPStore(*place, is_master=False, timeout=timedelta(seconds=START_SECONDS))
        self._beats = TCPStore(*place, is_master=False, timeout=timedelta(seconds=TIMEOUT))  # a thread's own
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("torch", self._store),
            rank=self.rank,
            world_size=self.world,
            timeout=timedelta(seconds=TIMEOUT),
        )
        self._lengths = [0] * self.world
        self._told = self._settled = 0
        self.seconds = 0.0
        """Spent in messages, waiting for the others included; where they go between GPUs, queueing them alone."""

    def part(self, n: int) -> slice:
        """Parts of as equal length as can be, the longer ones first. Raises ValueError if one would be empty."""
        if n < self.world:
            raise ValueError(f"a batch of {n} images cannot be shared among {self.world} devices")
        self._lengths = [n // self.world + (rank < n % self.world) for rank in range(self.world)]
        start = sum(self._lengths[: self.rank])
        return slice(start, start + self._lengths[self.rank])

    def gather(self, *parts: Tensor) -> tuple[Tensor, ...]:
        return tuple(_Gather.apply(part, self) for part in parts)

    def statistics(self) -> AbstractContextManager[object]:
        return GlobalStatistics(self)

    @torch.no_grad()
    def add_up(self, parameters: Iterable[Tensor]) -> None:
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        self.sum(flat)
        pieces = flat.split([grad.numel() for grad in grads])
        torch._foreach_copy_(grads, [piece.view_as(grad) for piece, grad in zip(pieces, grads, strict=True)])

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([flag], dtype=torch.int32)
        self.sum(flags)
        return bool(flags)

    def sum(self, values: Tensor) -> None:
        """Add up over all processes, in place; the same bits everywhere."""
        with self._message():
            dist.all_reduce(values)

    def all(self, values: Tensor) -> list[Tensor]:
        """Tensors of one shape, one a process."""
        found = [torch.empty_like(values) for _ in range(self.world)]
        with self._message():
            dist.all_gather(found, values)
        return found

    def together(self, part: Tensor) -> Tensor:
        """[n, ...] -> [N, ...], without gradient; n as `part` said last."""
        longest = max(self._lengths)
        padding = part.new_zeros(longest - len(part), *part.shape[1:])
        parts = self.all(torch.cat([part, padding]).contiguous())
        return torch.cat([each[:n] for each, n in zip(parts, self._lengths, strict=True)])

    def first(self, work: Callable[[], T]) -> T:
        self._told += 1
        key = f"first/{self._told}"
        if self.rank == 0:
            with self._alive():
                try:
                    found = work()
                except BaseException as error:
                    self._store.set(key, dump_json([False, f"{type(error).__name__}: {error}"], indent=None))
                    raise
            self._store.set(key, dump_json([True, found], indent=None))
            return found
        well, found = parse_json(self._hear(key).decode())
        if not well:
            raise ElsewhereError(found)
        heard: T = found
        return heard

    def settle(self, error: Exception | None) -> None:
        """Within SETTLE_SECONDS of each other all must have come out of a run: one that is still in it waits for us in
        vain. After a message that did not arrive none can go on either: what comes next is no answer to the question.
        """
        self._settled += 1
        self._store.set(f"settled/{self._settled}/{self.rank}", "lost" if isinstance(error, Lost) else "well")
        names = [f"settled/{self._settled}/{rank}" for rank in range(self.world)]
        try:
            self._store.wait(names, timedelta(seconds=SETTLE_SECONDS))
            if b"lost" not in self._store.multi_get(names):
                return
        except (dist.DistError, RuntimeError):
            pass
        reason = f"{type(error).__name__}: {error}" if error else "the others are still at it"
        raise error if isinstance(error, Lost) else Lost(" ".join(reason.split())) from error

    @contextmanager
    def _message(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        except (dist.DistError, RuntimeError) as error:
            raise Lost(f"another process died or hangs ({str(error).strip().splitlines()[0]})") from error
        finally:
            self.seconds += time.perf_counter() - begun

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Tell the others again and again that this process lives, while it does what they wait for."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                try:
                    self._beats.add("beat", 1)
                except (dist.DistError, RuntimeError):  # the launcher is gone: there is nobody to tell
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _hear(self, key: str) -> bytes:
        """What the first process says under `key`. Raises Lost after TIMEOUT seconds without a sign of life."""
        beat, seen = -1, time.monotonic()
        while time.monotonic() - seen < TIMEOUT:
            try:
                self._store.wait([key], timedelta(seconds=BEAT_SECONDS))
                found: bytes = self._store.get(key)
                return found
            except dist.DistNetworkError as error:
                raise Lost(f"the launcher is gone ({error})") from error
            except (dist.DistError, RuntimeError):  # not yet
                if (now := self._beats.add("beat", 0)) != beat:
                    beat, seen = now, time.monotonic()
        raise Lost(f"rank 0 gave no sign of life for {TIMEOUT} s")


class _Gather(torch.autograd.Function):
    """Forward: all parts. Backward: the part's own gradient, as every process computes the whole loss."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks) -> Tensor:
        ctx.start = sum(ranks._lengths[: ranks.rank])
        ctx.n = len(part)
        return ranks.together(part)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad[ctx.start : ctx.start + ctx.n], None
