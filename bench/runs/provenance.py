"""Where numbers come from: code, versions, hardware."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from methods import plugins

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[2]  # where the packages bench, methods and slurm lie
DECIDING = (
    "methods/",
    "bench/backbone.py",
    "bench/config/",
    "bench/data/",
    "bench/evaluation/",
    "bench/seeds.py",
    "bench/training/",
    "plug-in ",
)
"""The sources that decide a run's numbers; all others plan, store, show or submit."""
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
"""Variables that point git to another repository; its hooks and `git rebase --exec` set them for what they start."""


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    packages = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "ssl-bench")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # ours, executed where its sources lie
        return "not installed"


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

    own = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, env=own)
        return run.stdout.strip()

    try:
        # what reports leave behind makes no number; sweep files and scripts in results/ do
        reports = [f":(exclude,glob)results/**/*.{kind}" for kind in ("csv", "md", "png")]
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", *reports))
    except (OSError, subprocess.SubprocessError):
        return "", False


def fingerprints() -> dict[str, str]:
    """Hash of every source file of this program, and of plug-ins: what "the same code" means, with and without git."""
    root = ROOT
    files = sorted(path for package in ("bench", "methods", "slurm") for path in (root / package).rglob("*.py"))
    own = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in files}
    return own | plugins.sources()


def code_changes(submitted: Mapping[str, str]) -> list[str]:
    """Source files that are not what they were at submission, sorted."""
    return _changed(submitted, fingerprints())


def attempt(
    sources: Mapping[str, str], commit: str, dirty: bool, device: "torch.device", devices: int = 1
) -> dict[str, Any]:
    """What executes a run from now on, as its checkpoints keep it; `sources` as `fingerprints` gives them."""
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": versions(),
        "device": device_name(device),
        "devices": devices,
        "host": platform.node(),
        "sources": {name: digest for name, digest in sources.items() if name.startswith(DECIDING)},
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What may change the numbers of a run that `before` began and `now` goes on with; nothing is told of the unknown.

    ["methods/losses.py changed", "torch 2.8.0 -> 2.9.0", "cpu (...) -> NVIDIA H100"].
    """
    if "sources" not in before or "sources" not in now:  # a checkpoint of the program's first version
        return []
    old, new = before["versions"], now["versions"]
    were, are = before.get("devices", 1), now.get("devices", 1)
    return [
        *(f"{name} changed" for name in _changed(before["sources"], now["sources"])),
        *(f"{name} {old.get(name)} -> {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)),
        *([f"{before['device']} -> {now['device']}"] if before["device"] != now["device"] else []),
        *([f"{were} device{'s' * (were > 1)} -> {are}"] if were != are else []),
    ]


def followed(before: Sequence[Mapping[str, Any]], own: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The attempts of a checkpoint with the one that takes it up, each with its `from_step`; and what differs now.

    An attempt that made no step is left out.
    """
    former = [attempt for attempt in before if attempt["from_step"] < own["from_step"]]
    return [*former, own], differences(former[-1], own) if former else []


def told(attempts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Attempts as a result tells them: the sources as one digest, and how each differs from the one before."""
    rows = []
    for i, own in enumerate(attempts):
        row = {key: value for key, value in own.items() if key != "sources"}
        if "sources" in own:
            row["code"] = hashlib.sha256(repr(sorted(own["sources"].items())).encode()).hexdigest()[:12]
        rows.append({**row, "changed": differences(attempts[i - 1], own) if i else []})
    return rows


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
