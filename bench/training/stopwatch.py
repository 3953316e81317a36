"""Seconds that a call takes, by as many repetitions as there is time for."""

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 5  # of every measurement, if there is time; medians are reported
SHORT = 0.02  # seconds: shorter calls are repeated until they take this long


class Stopwatch:
    """Shares `seconds` out among `parts` measurements; what one leaves, the next have. Each call is made at least once.

    `say` is told what is measured next.
    """

    def __init__(self, device: torch.device, seconds: float, parts: int, say: Callable[[str], object]) -> None:
        self.device, self.parts, self.say = device, parts, say
        self.end = time.perf_counter() + seconds

    def left(self) -> float:
        """Seconds that all the parts to come may take."""
        return max(0.0, self.end - time.perf_counter())

    def begin(self, what: str) -> float:
        """Announce the next part; seconds that it may take."""
        self.say(what)
        share = self.left() / self.parts
        self.parts -= 1
        return share

    def time(self, what: str, function: Callable[[], object]) -> float:
        """Announce and measure a part: seconds of one call."""
        return median_seconds(function, self.device, self.begin(what))


def median_seconds(function: Callable[[], object], device: torch.device, budget: float = float("inf")) -> float:
    """Median seconds of a call after one that warms up; of that one, where `budget` (seconds) allows no second."""
    begun = time.perf_counter()
    first = _seconds(function, device, 1)
    if 2 * first > budget:
        return first
    single = _seconds(function, device, 1)
    number = max(1, round(SHORT / max(single, 1e-6)))
    times = [_seconds(function, device, number)] if number > 1 else [single]
    while len(times) < REPEATS and time.perf_counter() - begun + number * single <= budget:
        times.append(_seconds(function, device, number))
    return statistics.median(times)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(function: Callable[[], object], device: torch.device, number: int) -> float:
    wait(device)
    begun = time.perf_counter()
    for _ in range(number):
        function()
    wait(device)
    return (time.perf_counter() - begun) / number
