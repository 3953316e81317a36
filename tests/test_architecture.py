"""Imports go one way, downwards through the rooms; what reads results imports no torch; no file holds two ideas."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("bench", "methods", "slurm") for path in (ROOT / folder).rglob("*.py"))
FLOORS = [  # a room imports from the floors below it, and from itself
    ("bench.__main__",),
    ("bench.cli",),
    ("slurm",),
    ("bench.training",),
    ("bench.export",),
    ("bench.planning",),
    ("bench.report",),
    ("bench.evaluation",),
    ("bench.data",),
    ("bench.tables",),
    ("bench.backbone",),
    ("bench.weights",),
    ("bench.runs",),
    ("bench.config",),
    ("bench.errors", "bench.files", "bench.seeds", "bench.team", "methods"),
]
MAX_LINES = 300


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(module: str) -> int | None:
    """The number of the floor that a module is on; None for what is not ours, and for the empty packages."""
    for number, rooms in enumerate(FLOORS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms):
            return number
    return None


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    return next(room for rooms in FLOORS for room in rooms if module == room or module.startswith(f"{room}."))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = floor_of(module_of(path))
    if own is None:
        assert module_of(path) == "bench"
        return
    for name in imports(path):
        floor = floor_of(name)
        if floor is not None:
            same_room = room_of(name) == room_of(module_of(path))
            assert same_room or floor > own, f"{module_of(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_each_other_by_their_own_names(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("bench", "methods", "slurm"):
            assert not any(alias.asname for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("room", ["runs", "tables", "report"])
def test_what_reads_results_imports_no_torch(room: str) -> None:
    modules = [module_of(path) for path in SOURCES if module_of(path).startswith(f"bench.{room}")]
    code = f"import sys; import {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, bench.cli; sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'matplotlib', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_load_takes_weights_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)


PURE = {"all", "any", "isinstance", "len", "max", "min", "set", "sorted"}  # may be called in an assert


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_asserts_do_nothing(path: Path) -> None:
    """PYTHONOPTIMIZE leaves them out, with all that they call: the header of a cache was once written in one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assert):
            calls = [ast.unparse(n.func) for n in ast.walk(node.test) if isinstance(n, ast.Call)]
            assert set(calls) <= PURE, f"{path.name}:{node.lineno}"
            assert not any(isinstance(n, ast.NamedExpr | ast.Await | ast.Yield) for n in ast.walk(node.test))
