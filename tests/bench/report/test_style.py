"""Figures are the same whatever the user's matplotlib is set to."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from fake_results import fake_run

from bench.report.write import write

RESULTS = "from pathlib import Path; import sys; from bench.report.write import write; results = Path(sys.argv[1])\n"
WRITE = RESULTS + "write(results, ['e'], ['png'], out=Path(sys.argv[2]))\n"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over two keys: seaborn draws the heat map, we the rest."""
    folder = tmp_path_factory.mktemp("results")
    for lr in (0.1, 0.3):
        for tau in (0.9, 0.99):
            fake_run(folder / "e", "byol", 0, overrides={"optim.lr": lr, "method.tau": tau}, epochs=5)
    return folder


@pytest.fixture(scope="module")
def expected(results: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("expected")
    write(results, ["e"], ["png"], out=folder)
    return contents(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"text.usetex": True},
        {
            "font.family": "serif",
            "font.size": 20,
            "savefig.dpi": 30,
            "savefig.bbox": "tight",
            "savefig.transparent": True,
        },
        {"axes.facecolor": "red", "axes.formatter.use_locale": True, "lines.linestyle": ":", "image.cmap": "jet"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_was_set_in_this_process_changes_nothing_and_stays(
    results: Path, expected: dict[str, bytes], tmp_path: Path, settings: dict[Any, Any]
) -> None:
    with mpl.rc_context(settings):
        before = dict(mpl.rcParams)
        write(results, ["e"], ["png"], out=tmp_path)
        assert dict(mpl.rcParams) == before
    assert contents(tmp_path) == expected


@pytest.mark.parametrize("fault", ["backend", "matplotlibrc", pytest.param("no folder", marks=pytest.mark.slow)])
def test_what_the_environment_says_changes_nothing(
    results: Path, expected: dict[str, bytes], tmp_path: Path, fault: str
) -> None:
    broken = tmp_path / "matplotlibrc"
    if fault == "matplotlibrc":  # in the working directory, which comes first, and where a variable says
        broken.write_bytes(b"text.usetex: True\nfont.size: banana\nnonsense\n\xff\xfe\n")
    environment = {
        "backend": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},  # as in Jupyter, but not installed
        "matplotlibrc": {"MATPLOTLIBRC": str(broken), "MPLCONFIGDIR": str(tmp_path)},
        "no folder": {"MPLCONFIGDIR": os.devnull, "HOME": "/nonexistent"},
    }[fault]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(results), str(tmp_path / "out")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == expected


def test_importing_leaves_the_working_directory_and_the_environment_alone(tmp_path: Path) -> None:
    code = (
        "import os; from bench.report import style; before = os.getcwd(), dict(os.environ)\n"
        "with style.importing(): import matplotlib\n"
        "assert (os.getcwd(), dict(os.environ)) == before\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "MPLBACKEND": "nonsense"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
