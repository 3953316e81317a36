"""The command line's flags: those made of options, and those that many commands have."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from bench.errors import UserError
from bench.planning.options import MachineOptions


def storable(path: Path) -> Path:
    """The path, if JSON files and terminals can hold it and it can be looked at. Raises UserError."""
    try:
        str(path.absolute()).encode()
        path.exists()  # too long a name, a folder above that we may not enter
    except UnicodeEncodeError:
        name = str(path.absolute()).encode(errors="backslashreplace").decode()
        raise UserError(f"{name}: its name is not text in UTF-8; rename the folder, or link to it") from None
    except FileNotFoundError:
        raise UserError(f"{path}: the working directory was deleted; change to another") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return path


Results = Annotated[Path, typer.Option(help="Where results go.", envvar="BENCH_RESULTS", callback=storable)]
DataDir = Annotated[Path, typer.Option(help="Where data sets lie or are put.", envvar="BENCH_DATA", callback=storable)]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Execute failed runs again.")]
Plugins = Annotated[list[str] | None, typer.Option("--plugin", help="A Python file with methods of yours.")]
SweepFile = Annotated[Path | None, typer.Argument(help="A sweep file (TOML); flags override it.")]


def _flag(options: type[MachineOptions], name: str) -> Any:
    """The command line's option for a field of `options`; not given: None."""
    field = options.model_fields[name]
    extra = _extra(options, name)
    own = str(extra.get("flag", f"--{name.replace('_', '-')}"))
    names = [own, *([str(extra["short"])] if "short" in extra else [])]
    default = "" if not field.default else f" (default: {field.default})"
    kinds = (field.annotation, *get_args(field.annotation))
    limits: dict[str, Any] = {"min": 1} if int in kinds else {}
    simple = next((each for each in (int, float) if each in kinds), str)
    kind: Any = list[str] if get_origin(field.annotation) in (dict, list) else simple
    return Annotated[kind | None, typer.Option(*names, help=f"{field.description}{default}", **limits)]


def _extra(options: type[MachineOptions], name: str) -> dict[str, Any]:
    """flag: what it is called, "" if it has no flag; short: a letter."""
    extra = options.model_fields[name].json_schema_extra
    return extra if isinstance(extra, dict) else {}


def takes(
    options: type[MachineOptions], names: Iterable[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options `names` (none: all, its own first) in place of its `**flags`."""
    with_flag = [name for name in options.model_fields if _extra(options, name).get("flag") != ""]
    chosen = [*names] or sorted(with_flag, key=lambda name: name in MachineOptions.model_fields)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command).parameters.values())[:-1]
        kind = inspect.Parameter.KEYWORD_ONLY
        flags = [inspect.Parameter(name, kind, default=None, annotation=_flag(options, name)) for name in chosen]
        own = [parameter.replace(kind=kind) for parameter in own]
        command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *flags)}
        return command

    return decorate
