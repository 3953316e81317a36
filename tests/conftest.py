"""One CPU thread a test process (small tensors on busy cores lose by more), and no GPU tests without a GPU."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def work() -> Callable[[Callable[[], object]], Counter[str]]:
    """work(function) -> how often it calls built-in functions, by name ("open", "listdir"), and Python ones ("python").

    What it costs, on any machine, whatever else that does.
    """

    def count(function: Callable[[], object]) -> Counter[str]:
        calls: Counter[str] = Counter()

        def note(frame: FrameType, event: str, callee: Any) -> None:
            if event == "call":
                calls["python"] += 1
            elif event == "c_call":
                calls[callee.__name__] += 1

        sys.setprofile(note)
        try:
            function()
        finally:
            sys.setprofile(None)
        return calls

    return count


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
