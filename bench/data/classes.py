"""Which classes of an image folder are wanted: a list of names, of ours or the user's."""

from pathlib import Path

from bench.errors import UserError, few, unknown

LISTS = {"imagenet100": Path(__file__).with_name("imagenet100.txt")}
"""Lists of ours by name; each file says where it is from."""


def place(text: str) -> str:
    """`data.classes` with a file's path made absolute. Raises UserError if it is neither a list of ours nor a file."""
    if text in LISTS or not text:
        return text
    file = Path(text).absolute()
    if not file.is_file():
        raise UserError(f"{unknown('list of classes', text, LISTS)}, or a file with the name of a class a line")
    return str(file)


def listed(text: str) -> frozenset[str] | None:
    """The names of `data.classes`; None: all classes. Lines that begin with # do not count. Raises UserError."""
    if not text:
        return None
    file = LISTS.get(text) or Path(place(text))
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.classes={text}: cannot be read as a text ({error})") from None
    names = [line for line in lines if line and not line.startswith("#")]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"data.classes={text}: names {few(twice)} more than once")
    if len(names) < 2:
        raise UserError(f"data.classes={text}: names {len(names)} classes, at least 2 are needed: one a line")
    return frozenset(names)
