"""TOML files as editors save them."""

import codecs
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.planning import sweep_file
from bench.planning.toml import line_of, read_toml

TEXT = '# für alle\n[lab]\npartition = "grün"\ntime = 30\n'


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_byte_order_marks_and_line_endings(tmp_path: Path, mark: bytes, encoding: str, ending: str) -> None:
    path = tmp_path / "file.toml"
    path.write_bytes(mark + TEXT.replace("\n", ending).encode(encoding))
    assert read_toml(path) == {"lab": {"partition": "grün", "time": 30}}
    assert line_of(path, "time", "lab") == 4
    path.write_bytes(mark + (TEXT + "x = \n").replace("\n", ending).encode(encoding))
    with pytest.raises(UserError, match=r"file.toml:5: not valid TOML: "):
        read_toml(path)


@pytest.mark.parametrize("content", [TEXT.encode("latin-1"), TEXT.encode("utf-16") + b"x", b"\xff"])
def test_other_encodings_are_named_as_the_problem(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"file.toml: not a text file in UTF-8$"):
        read_toml(path)


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 5_000])
def test_what_python_cannot_hold_is_one_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "file.toml"
    path.write_text(f"seeds = {value}")
    with pytest.raises(UserError, match=r"file.toml: cannot be read: .*(digits|recursion)"):
        read_toml(path)


def test_the_line_of_a_table_in_double_brackets(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text("[lab]\ncpus = 1\n[[other]]\n")
    assert line_of(path, "other") == 3


def test_a_sweep_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "paper.toml"
    path.write_bytes(codecs.BOM_UTF8 + b'method = "raft"\r\nseeds = 2\r\n')
    assert sweep_file.options(path, {}).seeds == "2"
