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

import itertools
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from itertools import accumulate
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from bench.files import dump_json, parse_json
from bench.team import ElsewhereError, Lost, Team
from bench.training.global_draws import GlobalDraws
from bench.training.global_norm import WholeBatch

T = TypeVar("T")

START_SECONDS = 600  # for all processes to import what they need, from a slow disk
TIMEOUT = 40  # seconds without a message, or a sign of life, after which another process is taken for dead
BEAT_SECONDS = 2
POLL_SECONDS = 0.01
SETTLE_SECONDS = 10  # for all to come out of a run, after one has

log = logging.getLogger("bench.ranks")


class Ranks(Team):
    """The processes that torch's variables name: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT."""

    def __init__(self, device: torch.device) -> None:
        """Returns when all are there. `device` is this process's."""
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        log.setLevel(logging.WARNING)  # in every process; of the run, the first one says what there is to say
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self._store = TCPStore(*place, is_master=False, timeout=timedelta(seconds=START_SECONDS))
        self._met = self._told = self._settled = 0
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, args=(TCPStore(*place, is_master=False),), daemon=True)
        self._heart.start()
        self.meet()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("torch", self._store),
            rank=self.rank,
            world_size=self.world,
            timeout=timedelta(seconds=TIMEOUT),
        )
        self.lengths = [0] * self.world
        """Of the processes' parts of the batch that `part` was asked for last."""
        self.draws = GlobalDraws(self, device)
        self.seconds = 0.0
        """Spent in messages, waiting for the others included; where they go between GPUs, queueing them alone."""

    def part(self, n: int, unit: int = 1) -> slice:
        """Parts of as equal length as can be, the longer ones first."""
        units = -(-n // unit)
        shares = [units // self.world + (rank < units % self.world) for rank in range(self.world)]
        ends = [min(n, unit * end) for end in accumulate(shares)]
        starts = [0, *ends[:-1]]
        self.lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        self.begin = starts[self.rank]
        return slice(starts[self.rank], ends[self.rank])

    def gather(self, *parts: Tensor) -> tuple[Tensor, ...]:
        return tuple(_Gather.apply(part, self) for part in parts)

    def seed(self, step: int) -> int:
        self.draws.stream.manual_seed(step)
        return step ^ self.rank

    def whole_batch(self) -> AbstractContextManager[object]:
        return WholeBatch(self)

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
        longest = max(self.lengths)
        padding = part.new_zeros(longest - len(part), *part.shape[1:])
        parts = self.all(torch.cat([part, padding]).contiguous())
        return torch.cat([each[:n] for each, n in zip(parts, self.lengths, strict=True)])

    def first(self, work: Callable[[], T]) -> T:
        self._told += 1
        key = f"first/{self._told}"
        if self.rank == 0:
            try:
                found = work()
            except Exception as error:
                self._store.set(key, dump_json([False, f"{type(error).__name__}: {error}"], indent=None))
                raise
            self._store.set(key, dump_json([True, found], indent=None))
            return found
        self._wait({key: 0})
        well, found = parse_json(self._store.get(key).decode())
        if not well:
            raise ElsewhereError(found)
        heard: T = found
        return heard

    def meet(self) -> None:
        self._met += 1
        self._store.set(f"met/{self._met}/{self.rank}", "here")
        self._wait({f"met/{self._met}/{rank}": rank for rank in range(self.world)})

    def settle(self, error: Exception | None) -> None:
        """All must come out of a run within SETTLE_SECONDS: one that is still in it waits for a message in vain.

        What another came out by that is not the first one's, the first logs: its rank, node and words.
        """
        if isinstance(error, Lost):
            raise error
        own = error is not None and not isinstance(error, ElsewhereError)
        told = " ".join(f"{type(error).__name__}: {error}".split()) if own else ""
        self._settled += 1
        self._store.set(f"settled/{self._settled}/{self.rank}", f"{platform.node()}\n{told}")
        everyone = [f"settled/{self._settled}/{rank}" for rank in range(self.world)]
        until = time.monotonic() + SETTLE_SECONDS
        while not self._there(everyone):
            if time.monotonic() > until:
                if own:
                    raise RuntimeError(f"in this process alone: {told}") from error
                raise Lost("the other processes did not come to the end of the run") from error
        for rank in range(1, self.world if self.rank == 0 else 0):
            node, _, words = self._store.get(everyone[rank]).decode().partition("\n")
            if words and words != told:
                log.error("rank %d of %d on %s: %s", rank, self.world, node, words)

    def leave(self) -> None:
        self._over.set()
        self._heart.join()
        dist.destroy_process_group()

    @contextmanager
    def _message(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        except (dist.DistError, RuntimeError) as error:
            raise Lost(f"another process died or hangs ({str(error).strip().splitlines()[0]})") from error
        finally:
            self.seconds += time.perf_counter() - begun

    def _wait(self, keys: dict[str, int]) -> None:
        """For keys that processes will set, by their ranks. Raises Lost if one of these gives no sign of life.

        One that lives may take as long as it likes; from TIMEOUT on that is said now and then.
        """
        begun = told = time.monotonic()
        seen = dict.fromkeys(keys.values(), (b"", begun))
        for key, rank in keys.items():
            while not self._there([key]):
                beat, since = seen[rank]
                now = self._store.get(f"beat/{rank}") if self._there([f"beat/{rank}"]) else b""
                if now != beat:
                    seen[rank] = now, time.monotonic()
                elif time.monotonic() - since > (TIMEOUT if beat else START_SECONDS):
                    raise Lost(f"rank {rank} gave no sign of life for {TIMEOUT} s")
                if time.monotonic() - told > TIMEOUT:
                    told = time.monotonic()
                    log.warning("rank %d waits for rank %d, which lives, since %.0f s", self.rank, rank, told - begun)

    def _there(self, keys: list[str]) -> bool:
        """Whether all keys are set; asked again and again, as the store's own waiting writes warnings."""
        try:
            if self._store.check(keys):
                return True
        except (dist.DistError, RuntimeError) as error:
            raise Lost("the process that started this one is gone") from error
        time.sleep(POLL_SECONDS)
        return False

    def _beat(self, store: Any) -> None:
        """Tell the others again and again that this process lives."""
        for beat in itertools.count():
            with suppress(dist.DistError, RuntimeError):  # who started us is gone: there is nobody to tell
                store.set(f"beat/{self.rank}", str(beat))
            if self._over.wait(BEAT_SECONDS):
                return


class _Gather(torch.autograd.Function):
    """Forward: all parts. Backward: the part's own gradient, as every process computes the whole loss."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks) -> Tensor:
        ctx.start = ranks.begin
        ctx.n = len(part)
        return ranks.together(part)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad[ctx.start : ctx.start + ctx.n], None
