"""What a command on this machine says in the end."""

from bench.training.launch import _reasons


def test_a_reason_that_many_runs_share_is_told_once() -> None:
    assert _reasons({"a": "lost", "b": "non-finite loss", "c": "lost", "d": "lost"}) == [
        "a and 2 more: lost",
        "b: non-finite loss",
    ]
