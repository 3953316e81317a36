"""One run alone may use the machine; many side by side take a core each; and a number that somebody named stands."""

import pytest

from bench.planning import plan
from bench.planning.threads import PIXELS_PER_THREAD, threads, with_threads


def numbers(preset: str, seeds: int, cores: int, jobs: int | None = None, **overrides: str) -> set[int]:
    chosen = {key.replace("__", "."): value for key, value in overrides.items()}
    planned = plan.plan(["raft"], range(seeds), preset, chosen, {}, "x")
    found = with_threads(planned, jobs, cores)
    assert [run["run_id"] for run in found] == [run["run_id"] for run in planned]
    return {run["config"]["train"]["threads"] for run in found}


@pytest.mark.parametrize(
    ("seeds", "cores", "jobs", "expected"),
    [
        (1, 2, None, 2),
        (1, 1, None, 1),
        (1, 8, None, 8),
        (2, 8, None, 4),
        (3, 8, None, 2),  # 8 // 3
        (5, 2, None, 1),
        (5, 2, 1, 2),  # one at a time, as asked for
        (5, 8, 2, 4),
        (1, 8, 4, 8),  # there is but one
        (9, 2, 9, 1),
    ],
)
def test_cores_are_shared_out_among_the_runs_at_a_time(seeds: int, cores: int, jobs: int | None, expected: int) -> None:
    assert numbers("cifar10", seeds, cores, jobs) == {expected}


def test_quick_and_whoever_names_a_number_is_obeyed() -> None:
    assert numbers("quick", 1, 16) == {1}
    assert numbers("quick", 1, 16, train__batch_size="1024") == {1}
    assert numbers("cifar10", 1, 16, train__threads="3") == {3}


@pytest.mark.parametrize(("batch", "size", "expected"), [(32, 32, 1), (64, 32, 2), (95, 32, 2), (2, 16, 1)])
def test_small_steps_gain_nothing_from_threads(batch: int, size: int, expected: int) -> None:
    assert PIXELS_PER_THREAD == 32 * 32 * 32
    assert threads({"train": {"batch_size": batch}, "data": {"size": size}}, 1, 64) == expected


def test_runs_of_one_command_may_differ() -> None:
    planned = plan.plan(["raft"], [0], "cifar10", {}, {"train.batch_size": ["16", "256"]}, "x")
    assert [run["config"]["train"]["threads"] for run in with_threads(planned, None, 8)] == [1, 4]
