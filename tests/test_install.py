"""An installed program, away from its sources: what is not Python is in the wheel too."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("bench", "methods", "slurm", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the sources as they stand, built in a copy of them: earlier builds leave files behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in SOURCES), str(source)], check=True)
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    (path,) = out.iterdir()
    return path


def pip(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index", *arguments], check=True)


@pytest.mark.slow
def test_the_wheel_has_every_source_and_what_goes_with_them(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = ("bench", "methods", "slurm")
    files = (path for package in packages for path in (ROOT / package).rglob("*") if path.is_file())
    assert inside == {str(path.relative_to(ROOT)) for path in files if path.suffix not in (".md", ".pyc")}


@pytest.mark.slow
def test_an_installed_program_works_in_another_directory(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--target", str(tmp_path / "site"), str(wheel))
    (tmp_path / "study").mkdir()
    small = ["--set", "train.epochs=1", "--set", "data.size=8", "--set", "train.batch_size=256", "--jobs", "1"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "site")}

    def bench(*arguments: str) -> str:
        script = str(tmp_path / "site" / "bin" / "bench")
        done = subprocess.run(
            [sys.executable, script, *arguments],
            cwd=tmp_path / "study",
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert bench("list", "presets").startswith("quick")
    assert "#SBATCH --gpus" not in bench("sweep", "-m", "raft", "--on", "dry", "--cluster", "cpu")  # a profile of ours
    bench("run", "-m", "random", *small)
    assert "report.html" in bench("report", "--format", "html")
    page = (tmp_path / "study" / "results" / "quick" / "report.html").read_text()
    assert "<script" in page and str(ROOT) not in page
