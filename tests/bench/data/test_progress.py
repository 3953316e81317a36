"""What is told while a folder is read for long, and that nothing is while it is not."""

from pathlib import Path

import pytest

from bench.data import folders
from bench.data.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the clock shows, the last one from then on."""
    times = [100.0]
    monkeypatch.setattr("bench.data.progress.time.monotonic", lambda: times.pop(0) if len(times) > 1 else times[0])
    return times


def test_a_line_every_ten_seconds_with_the_rate_and_what_is_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    made = Progress("decoded", "pictures", 9000)
    clock[:] = [105.0, 120.0, 125.0, 131.0]
    for _ in range(4):
        made.add(1000)
    assert capsys.readouterr().err.splitlines() == [
        "decoded 2,000 of 9,000 pictures, 100 a second, 1 minutes left",
        "decoded 4,000 of 9,000 pictures, 129 a second, 1 minutes left",
    ]


def test_the_listing_of_many_names_is_told(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                (tmp_path / split / name / f"{i}.png").touch()
    folders.read(f"folder:{tmp_path}")
    assert capsys.readouterr().err == ""
    clock[:] = [100.0 + 6 * i for i in range(20)]
    folders.read(f"folder:{tmp_path}")
    assert "listed 2 names, 0 a second\n" in capsys.readouterr().err
