"""The processes that execute one run together: here the usual case, one process that has all."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

LOST = 75  # exit status of a process that cannot go on because another cannot

T = TypeVar("T")


class Lost(RuntimeError):
    """Another process of the team died, hangs, or left the run alone: this one cannot go on."""


class ElsewhereError(RuntimeError):
    """The first process raised this, and told."""


class Team:
    """What a process asks of the others, and what it gets where there are none.

    For several, one a device: bench.training.distributed.Ranks. All members execute the same program and call the same
    methods in the same order.
    """

    rank = 0
    """Which member this process is. The first, 0, owns the run: it claims, logs, and writes its files."""
    world = 1
    """How many members there are, and so how many devices the run has."""
    begin = 0
    """Where in the batch this process's images begin, as `part` said last."""

    def part(self, n: int, unit: int = 1) -> slice:
        """Which of `n` images are this process's, in whole units; `gather` then puts together what such parts gave."""
        return slice(0, n)

    def gather(self, *parts: "Tensor") -> tuple["Tensor", ...]:
        """[n, ...] of this process's images each -> [N, ...] of all, in the batch's order, with gradient."""
        return parts

    def seed(self, step: int) -> int:
        """From a step's seed: the seed of what this process draws for itself, not within `whole_batch`."""
        return step

    def whole_batch(self) -> AbstractContextManager[object]:
        """Within it, batch norm in training has the mean and variance, and dropout the draws, of the whole batch."""
        return nullcontext()

    def add_up(self, parameters: Iterable["Tensor"]) -> None:
        """Gradients of a loss of the whole batch, from this process's images -> from all; the same bits everywhere."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process, now; asked by all, it is answered the same everywhere."""
        return flag

    def first(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process (JSON can hold it), for all; the others wait.

        Where it raises an exception, the others do too: ElsewhereError, with its text.
        """
        return work()

    def meet(self) -> None:
        """Wait for the others, as long as they live: after what may take one much longer than another."""

    def settle(self, error: Exception | None) -> None:
        """End a run together, by an exception or without. Raises Lost if that cannot be, RuntimeError if the exception
        is this process's alone.
        """

    def leave(self) -> None:
        """Part when all is done."""


ALONE = Team()
