"""What timm's sources say of its models: names, files, arguments. They are read, as importing timm takes seconds."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
BUILD = "build_model_with_cfg"  # what every model of timm is made by, from a class and its arguments

Arguments = Mapping[str, str]
"""The name of an argument -> its type, as annotated in the source; "" without an annotation."""


@cache
def files() -> dict[str, Path]:
    """Functions below `@register_model` in the installed timm -> their files; none if it is laid out otherwise."""
    found: dict[str, Path] = {}
    for folder in folders():
        for file in folder.rglob("*.py"):
            found |= dict.fromkeys(_REGISTERED.findall(file.read_text(encoding="utf-8")), file)
    return found


def folders() -> list[Path]:
    """Where timm's models lie."""
    spec = find_spec("timm")
    return [Path(place) / "models" for place in (spec and spec.submodule_search_locations) or ()]


def family(name: str) -> str:
    """The file of a model without its suffix, e.g. "vision_transformer"; "" if there is none."""
    file = files().get(name)
    return file.stem if file else ""


@cache
def arguments(name: str) -> Arguments | None:
    """What the class of a model takes; None where the sources do not say it, as of classes that take any name."""
    file = files().get(name)
    classes = _Module(file).made_by(name) if file else None
    if not classes:
        return None
    found: dict[str, str] = {}
    for module, made in classes:
        own = module.parameters(made)
        if own is None:
            return None
        found |= own
    return found


@cache
def default(name: str, argument: str) -> int | None:
    """The whole number that a model's own function gives an argument of its class, or the class itself; else None."""
    file = files().get(name)
    if not file:
        return None
    module = _Module(file)
    for node in ast.walk(module.functions[name]):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == argument and (number := _number(keyword.value)) is not None:
                    return number
    for home, made in module.made_by(name):
        for parameter, value in home.defaults(made):
            if parameter == argument:
                return _number(value)
    return None


class _Module:
    """A file of timm's models."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.body = _parsed(file).body
        self.functions = {node.name: node for node in self.body if isinstance(node, ast.FunctionDef)}
        self.classes = {node.name: node for node in self.body if isinstance(node, ast.ClassDef)}

    def made_by(self, function: str) -> "list[tuple[_Module, ast.ClassDef]]":
        """The classes that a function, or one that it calls, makes models of."""
        seen, wanted, found = set(), [function], []
        while wanted:
            name = wanted.pop()
            if name in seen or name not in self.functions:
                continue
            seen.add(name)
            used = {node.id: None for node in ast.walk(self.functions[name]) if isinstance(node, ast.Name)}
            if BUILD in used:
                found += [made for each in used if (made := self.class_named(each))]
            else:
                wanted += used
        return found

    def class_named(self, name: str) -> "tuple[_Module, ast.ClassDef] | None":
        """A class of this file, or of the file that it is imported from."""
        if name in self.classes:
            return self, self.classes[name]
        for node in self.body:
            if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
                file = self.file.with_name((node.module or "").rpartition(".")[2] + ".py")
                return _Module(file).class_named(name) if file.exists() else None
        return None

    def parameters(self, made: ast.ClassDef) -> dict[str, str] | None:
        """What a class and those it passes arguments on to take; None if that is any name."""
        init = _init(made)
        bases = [base for node in made.bases if isinstance(node, ast.Name) and (base := self.class_named(node.id))]
        found: dict[str, str] = {}
        if init is None or init.args.kwarg:  # its bases take the rest
            if not bases:
                return None
            for module, parent in bases:
                inherited = module.parameters(parent)
                if inherited is None:
                    return None
                found |= inherited
        for each in [*init.args.args[1:], *init.args.kwonlyargs] if init else []:
            found[each.arg] = ast.unparse(each.annotation) if each.annotation else ""
        return found

    def defaults(self, made: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
        """A class's own parameters with a default, and that."""
        if init := _init(made):
            given = init.args.args
            yield from zip((each.arg for each in given[-len(init.args.defaults) :]), init.args.defaults, strict=False)


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _init(made: ast.ClassDef) -> ast.FunctionDef | None:
    return next((n for n in made.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)


def _number(value: ast.expr) -> int | None:
    return value.value if isinstance(value, ast.Constant) and type(value.value) is int else None
