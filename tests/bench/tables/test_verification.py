"""What is said of a published table whose runs were made again."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.errors import UserError
from bench.tables import published, verification
from bench.tables.published import Published


def row(run_id: str, **changes: Any) -> dict[str, Any]:
    """A run of one configuration: linear 90 %, loss 1."""
    method, config_hash, seed = run_id.rsplit("-", 2)
    values: dict[str, Any] = {"run_id": run_id, "method": method, "config_hash": config_hash, "seed": seed[1:]}
    values |= {"preset": "quick", "dataset": "digits", "protocol": 1, "state": "done", "test_linear_top1": 90.0}
    return {**values, "loss": 1.0, "versions": "torch 1", "device": "cpu (A)", "threads": 1, **changes}


def table(folder: Path, *rows: dict[str, Any]) -> Published:
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)
    return published.read(folder)


def verdicts(folder: Path, *again: dict[str, Any]) -> list[verification.Verdict]:
    """Of a table of 90 % and three other seeds, whose sd is 1."""
    accuracies = enumerate((90.0, 89.0, 90.0, 91.0))
    rows = [row(f"a-cccccccc-s{seed}", test_linear_top1=accuracy) for seed, accuracy in accuracies]
    return verification.compared(table(folder, *rows), pd.DataFrame(again), [each["run_id"] for each in again])


def test_equal_numbers_are_the_same(tmp_path: Path) -> None:
    (found,) = verdicts(tmp_path, row("a-cccccccc-s0", versions="torch 2"))
    assert (found.kind, found.text) == ("same", "the same 2 numbers")


@pytest.mark.parametrize(("accuracy", "kind"), [(91.0, "close"), (83.92, "close"), (96.09, "different")])
def test_others_are_close_as_two_seeds_may_be(tmp_path: Path, accuracy: float, kind: str) -> None:
    """4.30 (t of 2 degrees of freedom) times the root of 2 times the sd, 1."""
    (found,) = verdicts(tmp_path, row("a-cccccccc-s0", test_linear_top1=accuracy, device="cpu (B)"))
    assert found.kind == kind
    assert f"{accuracy - 90:+.2f} points, where two seeds may be 6.08 apart (95 %, by the 3 others)" in found.text
    assert f"test_linear_top1 90 -> {accuracy:.6g}" in found.text and "loss" not in found.text
    assert found.text.endswith("device: cpu (A) -> cpu (B)")


def test_a_loss_that_differs_is_not_the_same(tmp_path: Path) -> None:
    (found,) = verdicts(tmp_path, row("a-cccccccc-s0", loss=1.0000001))
    assert found.kind == "close" and found.text.endswith("nothing that is recorded differs")


def test_one_seed_has_no_spread_to_be_within(tmp_path: Path) -> None:
    read = table(tmp_path, row("b-dddddddd-s0"))
    again = pd.DataFrame([row("b-dddddddd-s0", test_linear_top1=90.1)])
    assert verification.compared(read, again, ["b-dddddddd-s0"])[0].kind == "different"


def test_another_seed_is_close_in_95_of_100_tables() -> None:
    """Simulated: a normal seed drawn again, beside 4 others."""
    draws = np.random.default_rng(0)
    others, before, again = draws.standard_normal((100_000, 4)), *draws.standard_normal((2, 100_000))
    apart = stats.t.ppf(0.975, 3) * np.sqrt(2) * others.std(axis=1, ddof=1)
    assert abs(np.mean(np.abs(again - before) <= apart) - 0.95) < 0.003


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_run_that_did_not_end_is_missing(tmp_path: Path, state: str) -> None:
    assert verdicts(tmp_path, row("a-cccccccc-s0", state=state))[0].kind == "missing"


def test_the_draw_is_the_same_every_time_and_of_what_is_planned(tmp_path: Path) -> None:
    read = table(tmp_path / "t", *(row(f"a-cccccccc-s{i}") for i in range(20)), row("a-cccccccc-s99", state="failed"))
    planned = [f"a-cccccccc-s{i}" for i in range(10)] + ["a-cccccccc-s99"]
    chosen = verification.drawn(read, planned, 3)
    assert chosen == verification.drawn(read, planned[::-1], 3) and len(set(chosen)) == 3
    assert set(chosen) <= {f"a-cccccccc-s{i}" for i in range(10)}
    assert verification.drawn(read, planned, 100) == sorted(f"a-cccccccc-s{i}" for i in range(10))
    with pytest.raises(UserError, match="plans none of the runs"):
        verification.drawn(read, ["b-dddddddd-s0"], 3)
