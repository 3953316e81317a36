"""SLURM's commands, pretended: they note what they were asked and answer from files."""

import os
from pathlib import Path

import pytest

FAKE = r"""#!/bin/bash
# Pretends to be SLURM: notes what it was asked, answers from the files beside it.
cd "$(dirname "$0")" || exit
name=$(basename "$0")
echo "$name $*" >>calls
[ -e "$name.error" ] && { cat "$name.error" >&2; exit 1; }
case "$name $1" in
    sbatch*) n=$(($(cat n 2>/dev/null) + 1)); echo $n >n
        [ "$n" = "$(cat refuse 2>/dev/null)" ] && { echo "sbatch: error: Too many jobs" >&2; exit 1; }
        cp "$1" "script.$n"
        if [ -e sbatch.out ]; then cat sbatch.out; else echo "Submitted batch job $((100 + n))"; fi ;;
    "scontrol show") cat config ;;
    "squeue --noheader") cat named.out 2>/dev/null ;;
    sinfo*) cat sinfo.out ;;
    *) cat "$name.out" 2>/dev/null ;;
esac
true
"""


class Fake:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "scontrol", "squeue", "sinfo", "scancel", "sacct", "srun"):
            (folder / name).write_text(FAKE)
            (folder / name).chmod(0o755)
        self.say("config", "ClusterName = lab\nMaxArraySize            = 4\n")
        self.say("sinfo.out", "main\nshort\n")

    def say(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def calls(self, name: str) -> list[str]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.startswith(name)]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    fake = Fake(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    return fake
