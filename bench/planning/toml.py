"""TOML files of the user: in which line a key stands, for error messages, and how a value is written."""

import codecs
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """The file's content. Raises UserError naming the file and, if it is malformed, the line."""
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        number = line[1] if line else len(_text(path).splitlines()) or 1
        raise UserError(f"{path}:{number}: not valid TOML: {problem}") from None
    except UnicodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise UserError(f"{path}: cannot be read: {str(error).partition(';')[0]}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _text(path: Path) -> str:
    """The file as editors save it: in UTF-8, or with a byte order mark that tells. Raises OSError, UnicodeError."""
    content = path.read_bytes()
    marks = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
    encoding = next((name for mark, name in marks if content.startswith(mark)), "utf-8")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def line_of(path: Path, key: str, table: str = "", nth: int = 0) -> int:
    """The line (from 1) of `key`, or of a dotted key that ends or begins with it, in [table]; 0 if it is not found.

    nth: which [[table]] of several, from 1; the line of its header if it does not show the key.
    """
    assigned = re.compile(rf"""(?:.*[{{,])?\s*["']?(?:[\w."'-]*\.)?{re.escape(key)}["']?\s*[=.]""")
    within = ""
    tables = first = 0
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if header := re.match(r"\s*\[{1,2}\s*([^\[\]]+?)\s*\]", line):
            within = header[1].replace('"', "").replace("'", "")
            tables += within == table
            if nth and tables != nth:
                within = ""
            elif nth and not first:
                first = number
            if within in (key, f"{table}.{key}"):
                return number
        elif within.split(".")[0] == table and assigned.match(line):
            return number
    return first


def value_of(text: str) -> str:
    """A number or a truth value as such where the file would give the same text back, else text in quotes."""
    if text in ("true", "false"):
        return text
    for kind in (int, float):
        try:
            if str(kind(text)) == text and text not in ("nan", "inf", "-inf"):
                return text
        except ValueError:
            continue
    return quoted(text)


def array_of(texts: Iterable[str]) -> str:
    """ "[0.1, true, \"a\"]"."""
    return f"[{', '.join(map(value_of, texts))}]"


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
