"""Where numbers come from: code, versions, hardware."""

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[2]  # where the packages bench, methods and slurm lie


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    packages = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "ssl-bench")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def device_name(device: "torch.device") -> str:
    """The model of the GPU or of the processor, e.g. "NVIDIA H100" or "cpu (AMD EPYC)"."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    model = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{device.type} ({model or platform.machine()})"


def git_state() -> tuple[str, bool]:
    """Commit of the repository this code lies in and whether it has uncommitted changes; ("", False) outside one."""
    root = ROOT.resolve()
    if not (root / ".git").exists():
        return "", False

    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=30
        )
        return run.stdout.strip()

    try:
        # what reports leave behind makes no number; experiment files and scripts in results/ do
        reports = [f":(exclude,glob)results/**/*.{kind}" for kind in ("csv", "md", "png")]
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", *reports))
    except (OSError, subprocess.SubprocessError):
        return "", False


def fingerprints() -> dict[str, str]:
    """Hash of every source file of this program: what "the same code" means, with and without git."""
    root = ROOT
    files = sorted(path for package in ("bench", "methods", "slurm") for path in (root / package).rglob("*.py"))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in files}


def code_changes(submitted: Mapping[str, str]) -> list[str]:
    """Source files that are not what they were at submission, sorted."""
    now = fingerprints()
    return sorted(name for name in {*now, *submitted} if now.get(name) != submitted.get(name))
