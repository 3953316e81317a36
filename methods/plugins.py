"""Methods of other people, found beside those of this package.

A plug-in is a module that defines METHODS, a dictionary of names and classes. It is either a file, named in the
environment variable SSL_BENCH_PLUGINS (`--plugin` puts it there, and so the processes that are started have it too), or
in an installed package, which names it as an entry point of the group `ssl_bench.methods`: the module, or one
module:class under the method's name. It is its user's own code, and is executed; nothing that lies in results is.
"""

import hashlib
import os
import re
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from methods.config import MethodConfig

GROUP = "ssl_bench.methods"
VARIABLE = "SSL_BENCH_PLUGINS"
NAME = re.compile(r"[a-z][a-z0-9_]*")  # of a method: it is part of folders' names


class PluginError(Exception):
    """A plug-in cannot be used: one line that names it and says why."""


class Found(NamedTuple):
    """A method of a plug-in."""

    place: str
    """module:class."""
    origin: str
    """plug-in FILE.py, or package NAME."""


def use(files: Collection[str | Path], below: Path = Path()) -> None:
    """Load these files too, here and in the processes that this one starts; paths from `below`. Raises PluginError."""
    paths = [(below / Path(file).expanduser()).resolve() for file in files]
    for path in paths:
        if not path.is_file() or path.suffix != ".py":
            raise PluginError(f"--plugin {path}: there is no such Python file")
        if os.pathsep in str(path):
            raise PluginError(f"--plugin {path}: rename it: {os.pathsep!r} separates files in {VARIABLE}")
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*_files(), *map(str, paths)]))


def found(own: Collection[str]) -> Mapping[str, Found]:
    """Name -> method, of all plug-ins; `own` names are taken. Raises PluginError."""
    return _found(tuple(_files()), tuple(own))


def sources() -> dict[str, str]:
    """Hash of every plug-in's module file, by "plug-in NAME". What such a module imports is not looked at."""
    paths: dict[str, Path] = {}
    for path in map(Path, _files()):
        before = sum(other.name == path.name for other in paths.values())
        paths[f"plug-in {path.name}" + f" ({before + 1})" * (before > 0)] = path
    for point in entry_points(group=GROUP):
        spec = find_spec(point.module.partition(".")[0])
        base = Path(spec.origin).parent if spec and spec.origin else None
        if base:
            stem = base.joinpath(*point.module.split(".")[1:])
            paths[f"plug-in {point.module}"] = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    return {name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for name, path in paths.items() if path.is_file()}


def _files() -> list[str]:
    return [file for file in os.environ.get(VARIABLE, "").split(os.pathsep) if file]


@cache
def _found(files: tuple[str, ...], own: tuple[str, ...]) -> Mapping[str, Found]:
    methods: dict[str, Found] = {}
    for name, method in _all(files):
        if not NAME.fullmatch(name):
            raise PluginError(f"{method.origin}: {name!r} is no name of a method: a to z, 0 to 9 and _")
        if name in own:
            raise PluginError(f"{method.origin}: {name} is a method of ssl-bench: give yours another name")
        if name in methods and methods[name] != method:
            raise PluginError(f"{method.origin}: {name} is also in {methods[name].origin}: rename one")
        methods[name] = method
    return methods


def _all(files: tuple[str, ...]) -> Iterator[tuple[str, Found]]:
    for file in files:
        yield from _of_module(_imported(f"plug-in {Path(file).name}", _FromFile(file)), f"plug-in {Path(file).name}")
    for point in entry_points(group=GROUP):
        origin = f"package {point.dist.name}" if point.dist else f"entry point {point.name}"
        if point.attr:
            yield point.name, Found(f"{point.module}:{point.attr}", origin)
        else:
            yield from _of_module(_imported(origin, point), origin)


class _FromFile(NamedTuple):
    """Loads a file as a module, as an entry point does."""

    file: str

    def load(self) -> ModuleType:
        name = f"ssl_bench_plugin_{hashlib.sha256(self.file.encode()).hexdigest()[:8]}"
        spec = spec_from_file_location(name, self.file)
        assert spec is not None and spec.loader is not None, self.file
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def _imported(origin: str, source: "_FromFile | EntryPoint") -> ModuleType:
    try:
        module: ModuleType = source.load()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
        text = " ".join(str(error).split())
        raise PluginError(f"{origin} cannot be imported: {type(error).__name__}: {text}{line}") from error
    return module


def _of_module(module: ModuleType, origin: str) -> Iterator[tuple[str, Found]]:
    from methods.base import Method

    defined = getattr(module, "METHODS", None)
    if not isinstance(defined, Mapping) or not defined:
        raise PluginError(f"{origin} defines no METHODS = {{name: class}}")
    for name, kind in defined.items():
        if not (isinstance(kind, type) and issubclass(kind, Method) and issubclass(kind.Config, MethodConfig)):
            raise PluginError(f"{origin}: {name} is no subclass of methods.base.Method with a Config of MethodConfig")
        yield str(name), Found(f"{kind.__module__}:{kind.__qualname__}", origin)
