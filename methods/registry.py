"""Where methods are found by name: a class is imported when it is asked for, its hyperparameters are read without that.

Importing torch takes two seconds. Planning, refusing a wrong setting and listing need a method's `Config` alone: for
the methods of this package its class is made from those statements of the method's file that define it, and nothing
else of the file is run (tests/methods/test_registry.py). Methods of plug-ins (methods/plugins.py) are imported.
"""

import ast
import linecache
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from methods import plugins
from methods.config import MethodConfig

if TYPE_CHECKING:
    from methods.base import Method

HEAVY = ("torch", "torchvision", "timm", "methods")  # what imports torch; but not methods.config


class Registry(Mapping[str, "type[Method]"]):
    """Names of methods -> their classes, imported at first use. What looks beyond ours may raise PluginError."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """places: name -> "module:class", as an entry point is written."""
        self.places = dict(places)

    def __getitem__(self, name: str) -> "type[Method]":
        module, _, attribute = self._place(name).partition(":")
        return cast("type[Method]", attrgetter(attribute)(import_module(module)))

    def __iter__(self) -> Iterator[str]:
        return iter([*self.places, *plugins.found(self.places)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.places or name in plugins.found(self.places)

    def _place(self, name: str) -> str:
        return self.places[name] if name in self.places else plugins.found(self.places)[name].place

    def origin(self, name: str) -> str:
        """Which plug-in a method is from; "" for those of this package."""
        return "" if name in self.places else plugins.found(self.places)[name].origin

    def config(self, name: str) -> type[MethodConfig]:
        """The class of the method's hyperparameters; of a method of ours, made without importing torch."""
        module, _, attribute = self._place(name).partition(":")
        if not module.startswith("methods."):
            return self[name].Config
        return _Definitions.of(module).config_of(attribute)

    def summary(self, name: str) -> str:
        """The first line of the method's docstring: its own, or else its file's (one method a file)."""
        module, _, attribute = self._place(name).partition(":")
        if module.startswith("methods."):
            text = _Definitions.of(module).docstring_of(attribute)
        else:
            text = vars(self[name]).get("__doc__") or import_module(module).__doc__ or ""
        return text.strip().partition("\n")[0]


class _Definitions:
    """The configs that a method's file defines, and which of its classes has which."""

    def __init__(self, module: str) -> None:
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None, module
        source = Path(spec.origin).read_text(encoding="utf-8")
        self.tree = ast.parse(source)
        self.classes = {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}
        self.imported: dict[str, str] = {}
        """Name -> the module of a method that it was imported from."""
        self.module = ModuleType(f"{module} (configs)")
        self.module.__file__ = f"{spec.origin} (configs)"
        # where pydantic looks for the docstrings of fields
        sys.modules[self.module.__name__] = self.module
        linecache.cache[self.module.__file__] = len(source), None, source.splitlines(keepends=True), spec.origin
        for node in self.tree.body:
            self._take(node)

    @classmethod
    @cache
    def of(cls, module: str) -> "_Definitions":
        return cls(module)

    def config_of(self, name: str) -> type[MethodConfig]:
        """The `Config` of the method class `name`: its own, or that of the method that it extends."""
        if name in self.imported:
            return self.of(self.imported[name]).config_of(name)
        if name not in self.classes:
            return MethodConfig  # of methods.base.Method
        for node in self.classes[name].body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "Config":
                return cast(type[MethodConfig], vars(self.module)[ast.unparse(node.value)])
        return self.config_of(ast.unparse(self.classes[name].bases[0]))

    def docstring_of(self, name: str) -> str:
        return ast.get_docstring(self.classes[name]) or ast.get_docstring(self.tree) or ""

    def _take(self, node: ast.stmt) -> None:
        """Run the statement, if it is part of what defines configs."""
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.startswith("methods.") and node.module != "methods.config":
                self.imported |= {alias.name: node.module for alias in node.names}
                known = {alias.name for alias in node.names if alias.name.endswith("Config")}
                vars(self.module).update({name: vars(self.of(node.module).module)[name] for name in known})
            elif node.module == "methods.config" or node.module.partition(".")[0] not in HEAVY:
                self._run(node)
        elif isinstance(node, ast.Import):
            if not any(alias.name.partition(".")[0] in HEAVY for alias in node.names):
                self._run(node)
        elif isinstance(node, ast.ClassDef):
            bases = [vars(self.module).get(ast.unparse(base)) for base in node.bases]
            if bases and all(isinstance(base, type) and issubclass(base, MethodConfig) for base in bases):
                self._run(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            with suppress(NameError):  # a constant of what is not run: no config can need it
                self._run(node)

    def _run(self, node: ast.stmt) -> None:
        exec(compile(ast.Module([node], []), str(self.module.__file__), "exec"), vars(self.module))
