"""Repetitions: as many as there is time for, by a clock that the calls themselves move."""

from collections.abc import Callable

import pytest
import torch

from bench.training import stopwatch
from bench.training.stopwatch import REPEATS, Stopwatch, median_seconds

CPU = torch.device("cpu")


class Clock:
    """Stands in for the module `time`; a call takes as long as it says."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def call(self, *seconds: float) -> Callable[[], None]:
        """A function whose calls take these seconds in turn, the last for ever."""
        left = list(seconds)

        def function() -> None:
            self.calls += 1
            self.now += left.pop(0) if len(left) > 1 else left[0]

        self.calls = 0
        return function


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stopwatch, "time", made)
    return made


def test_the_median_of_all_repetitions_without_the_call_that_warms_up(clock: Clock) -> None:
    assert median_seconds(clock.call(9, 1, 5, 2, 4, 3), CPU) == 3
    assert clock.calls == 1 + REPEATS


def test_short_calls_are_repeated_until_they_take_20_ms(clock: Clock) -> None:
    assert median_seconds(clock.call(0.001), CPU) == pytest.approx(0.001)
    assert clock.calls == 1 + 1 + 20 * REPEATS


@pytest.mark.parametrize(("budget", "calls"), [(0, 1), (1, 1), (19, 1), (20, 2), (29, 2), (30, 3), (1000, 1 + REPEATS)])
def test_as_many_calls_as_the_budget_holds_and_at_least_one(clock: Clock, budget: float, calls: int) -> None:
    assert median_seconds(clock.call(10), CPU, budget) == 10
    assert clock.calls == calls


def test_what_a_part_leaves_the_next_have(clock: Clock) -> None:
    said: list[str] = []
    watch = Stopwatch(CPU, 100, 4, said.append)
    assert watch.begin("a") == 25
    clock.now += 10
    assert watch.begin("b") == 30  # 90 for three
    clock.now += 95
    assert watch.left() == watch.begin("c") == 0
    assert watch.time("d", clock.call(7)) == 7
    assert said == ["a", "b", "c", "d"]
