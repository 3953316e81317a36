"""The number of devices is no hyperparameter: several processes compute what one does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import parity
import pytest
import torch
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from bench.config.views import AugmentConfig
from bench.data.augment import Augmentation
from bench.team import ALONE
from methods import METHODS

pytestmark = pytest.mark.slow

EXACT = 1e-9
"""Relative difference in float64 after a step; measured: at most 6e-15."""
ROUNDING = {"method": 2e-4, "online": 2e-4, "loss": 2e-4, "grad": 2e-2}
"""In float32 after 20 steps; measured: 1e-7, 2e-7, 4e-7 and 3e-6, but for SimCLR 3e-5, 1e-5, 1e-5 and 4e-3."""


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    """What a single process makes of it."""
    threads = torch.get_num_threads()
    found = parity.everything(ALONE)
    torch.set_num_threads(threads)
    return found


def start(ranks: int, folder: Path, device: str) -> list[dict[str, Any]]:
    """What each of so many processes makes of it."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    command = [sys.executable, parity.__file__, str(folder), device]
    processes = [
        subprocess.Popen(command, env={**os.environ, **place, "RANK": str(rank), "OMP_NUM_THREADS": "1"})
        for rank in range(ranks)
    ]
    assert [process.wait() for process in processes] == [0] * ranks
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(ranks)]


@pytest.fixture(
    scope="module",
    params=[(2, "cpu"), (3, "cpu"), pytest.param((2, "cuda"), marks=pytest.mark.gpu)],
    ids=["2 processes", "3 processes", "2 GPUs"],
)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What 2 and 3 processes make of it: 32 images are no multiple of 3, 7 are one of neither."""
    number, device = request.param
    if device == "cuda" and torch.cuda.device_count() < number:
        pytest.skip(f"fewer than {number} CUDA devices")
    folder = tmp_path_factory.mktemp("ranks")
    found = start(number, folder, device)
    for rank in range(number - 1):
        found[rank]["lost"] = (folder / f"lost{rank}").read_text()
    return found


def distance(found: dict[str, Tensor], expected: dict[str, Tensor], kind: str) -> float:
    """Relative distance of all tensors of a kind, taken as one vector."""
    names = [name for name in expected if name.startswith(f"{kind}.")]
    a, b = (torch.cat([each[name].double().flatten() for name in names]) for each in (found, expected))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("method", METHODS)
def test_a_step_has_the_weights_gradients_and_losses_of_one_process(
    ranks: list[dict[str, Any]], one: dict[str, Any], method: str
) -> None:
    found, expected = ranks[0]["methods"][method]["float64"], one["methods"][method]["float64"]
    assert found.keys() == expected.keys()
    for kind in ("method", "online") if method == "random" else ROUNDING:
        assert distance(found, expected, kind) <= EXACT, kind


@pytest.mark.parametrize("method", METHODS)
def test_twenty_steps_differ_by_what_rounding_has_grown_to(
    ranks: list[dict[str, Any]], one: dict[str, Any], method: str
) -> None:
    found, expected = ranks[0]["methods"][method]["float32"], one["methods"][method]["float32"]
    for kind in ("method", "online") if method == "random" else ROUNDING:
        assert distance(found, expected, kind) <= ROUNDING[kind], kind


@pytest.mark.parametrize("method", METHODS)
def test_slices_of_a_batch_have_the_gradients_and_losses_of_the_whole(
    ranks: list[dict[str, Any]], one: dict[str, Any], method: str
) -> None:
    """train.accumulate=3 in one process and in several, without batch norm, against the batch at once in one."""
    whole = one["methods"][method]["whole"]
    for found in (one["methods"][method]["slices"], ranks[0]["methods"][method]["slices"]):
        for kind in ("method", "online") if method == "random" else ROUNDING:
            assert distance(found, whole, kind) <= EXACT, kind


@pytest.mark.parametrize("method", METHODS)
def test_all_processes_have_the_same_bits(ranks: list[dict[str, Any]], method: str) -> None:
    """Weights, buffers, teachers, centres, running statistics, the online probe; losses too."""
    for precision, first in ranks[0]["methods"][method].items():
        for other in ranks[1:]:
            assert all(torch.equal(other["methods"][method][precision][name], value) for name, value in first.items())


def test_raft_from_h_and_byol_prime_from_minus_h_have_equal_backbones(ranks: list[dict[str, Any]]) -> None:
    raft, byol_prime = ranks[0]["mirrored"]
    assert all(torch.equal(raft[name], byol_prime[name]) for name in raft)


def test_batch_norm_is_that_of_the_whole_batch(ranks: list[dict[str, Any]], one: dict[str, Any]) -> None:
    for name, expected in one["normalised"].items():
        for rank in ranks:
            torch.testing.assert_close(rank["normalised"][name], expected, rtol=EXACT, atol=1e-12)


def test_dropout_and_drop_path_draw_what_one_process_draws_for_the_whole_batch(
    ranks: list[dict[str, Any]], one: dict[str, Any]
) -> None:
    for name, expected in one["dropped"].items():
        assert 0.2 < (expected == 0).float().mean() < 0.95, "some are dropped"
        if ranks[0]["device"] == "cpu":
            assert all(torch.equal(rank["dropped"][name], expected) for rank in ranks), name
        assert all(torch.equal(rank["dropped"][name], ranks[0]["dropped"][name]) for rank in ranks), name


def test_a_step_with_dropout_has_the_weights_and_gradients_of_one_process(
    ranks: list[dict[str, Any]], one: dict[str, Any]
) -> None:
    if ranks[0]["device"] == "cpu":
        for kind in ROUNDING:
            assert distance(ranks[0]["with dropout"], one["with dropout"], kind) <= EXACT, kind


def test_what_else_is_drawn_each_process_draws_for_itself(ranks: list[dict[str, Any]]) -> None:
    assert len({tuple(rank["own"].tolist()) for rank in ranks}) == len(ranks)


def test_a_flag_of_one_is_known_to_all(ranks: list[dict[str, Any]]) -> None:
    assert [rank["any"] for rank in ranks] == [(True, False)] * len(ranks)


def test_what_the_first_finds_or_raises_all_know(ranks: list[dict[str, Any]]) -> None:
    assert {rank["told"] for rank in ranks} == {"from 0"}
    assert [rank["raised"] for rank in ranks] == ["ZeroDivisionError", *["ElsewhereError"] * (len(ranks) - 1)]


def test_the_death_of_one_is_noticed_by_the_others(ranks: list[dict[str, Any]]) -> None:
    assert {rank["settled"] for rank in ranks} == {""}
    assert {rank["lost"] for rank in ranks[:-1]} == {"Lost"}


def test_a_part_of_a_batch_has_the_views_that_it_has_in_the_whole() -> None:
    images = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    augment = Augmentation(AugmentConfig(blur=0.5, solarize=0.5), 16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    whole = augment(images, torch.Generator().manual_seed(0))
    for part in (slice(0, 3), slice(3, 7)):
        views = augment(images[part], torch.Generator().manual_seed(0), part, 7)
        assert all(torch.equal(own, every[part]) for own, every in zip(views, whole, strict=True))
