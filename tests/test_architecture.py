"""Imports go one way: bench.cli -> slurm -> bench -> methods -> torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("bench", "methods", "slurm") for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    packages = {name.split(".")[0] for name in imports(path)}
    room = path.relative_to(ROOT).parts[0]
    if room == "methods":
        assert not packages & {"bench", "slurm"}
    if room == "bench" and path.name != "cli.py":
        assert "slurm" not in packages
    if path.name != "cli.py":
        assert not any(name.startswith("bench.cli") for name in imports(path))


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys, bench.cli; sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'matplotlib', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_load_takes_weights_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
