"""A step's batch in slices, one after another: the loss and gradient of the whole batch in the memory of one slice.

Losses here are of a whole batch, so a mean over slices would be another loss. Two passes, as GradCache (arXiv
2101.06983): the first computes, without gradient, what every slice gives to `Method.gather`; in the second each slice
goes through the method again, with its gradient, and finds there the whole batch, as a device of several does. The
price is one forward pass more. Statistics of a batch cannot be had this way: networks with batch norm are refused.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from bench.team import Team
from methods.base import Method


class _Reached(Exception):
    """A slice has come to `Method.gather`."""


def backward(
    method: Method,
    forward: Callable[..., dict[str, Tensor]],
    inputs: Sequence[Tensor],
    slices: int,
    team: Team,
    draw: Callable[[int], object],
    loss_scale: float = 1.0,
) -> dict[str, Tensor]:
    """Add the gradient of the whole batch's loss, scaled, to the parameters'; returns what the method logs.

    forward: of the method; inputs: views and labels, [n, ...] each, of this process; draw: sets the random numbers of a
    slice, by its number. What the method keeps from step to step (queues, centres) changes once.
    """
    parts = list(zip(*(each.tensor_split(slices) for each in inputs), strict=True))
    gather = method.gather
    try:
        with torch.no_grad():
            whole = gather(*(torch.cat(each) for each in zip(*_given(method, forward, parts, draw), strict=True)))
        kept = [(buffer, buffer.clone()) for buffer in method.buffers()]
        begin = team.begin
        logged: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            if number:
                with torch.no_grad():
                    for buffer, before in kept:
                        buffer.copy_(before)
            draw(number)
            method.gather = _Within(whole, begin)
            logged = forward(*part)
            (logged["loss"] * loss_scale).backward()
            begin += len(part[0])
    finally:
        method.gather = gather
    return logged


def _given(
    method: Method,
    forward: Callable[..., dict[str, Tensor]],
    parts: list[tuple[Tensor, ...]],
    draw: Callable[[int], object],
) -> list[tuple[Tensor, ...]]:
    """What every slice gives to `Method.gather`."""
    found: list[tuple[Tensor, ...]] = []

    def keep(*given: Tensor) -> tuple[Tensor, ...]:
        found.append(given)
        raise _Reached

    method.gather = keep
    for number, part in enumerate(parts):
        draw(number)
        with suppress(_Reached):
            forward(*part)
    assert len(found) == len(parts), f"{type(method).__name__}.forward does not call gather"
    return found


class _Within:
    """`Method.gather` of a slice that begins at row `begin` of the whole batch."""

    def __init__(self, whole: Sequence[Tensor], begin: int) -> None:
        self.whole, self.begin = whole, begin

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(self.whole, given, strict=True)
        return tuple(torch.cat([all_[: self.begin], own, all_[self.begin + len(own) :]]) for all_, own in pairs)
