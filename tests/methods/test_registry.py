"""Methods are found by name; their hyperparameters are known without importing torch, and are those of the class."""

import subprocess
import sys
from pathlib import Path

import pytest

from methods import METHODS
from methods.config import MethodConfig

NAMES = tuple(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_the_config_that_is_read_is_the_one_of_the_class(name: str) -> None:
    read, real = METHODS.config(name), METHODS[name].Config
    assert read.model_json_schema() == real.model_json_schema()  # fields, types, limits, defaults, docstrings
    assert read().model_dump() == real().model_dump()
    assert all(field.description for field in read.model_fields.values())
    assert issubclass(read, MethodConfig)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_says_in_a_line_what_it_is(name: str) -> None:
    assert METHODS.summary(name).endswith((".", "2011.10944")) or "arXiv" in METHODS.summary(name)


def test_names_and_hyperparameters_need_no_torch() -> None:
    code = (
        "import sys; from methods import METHODS\n"
        "for name in METHODS: METHODS.config(name)(), METHODS.summary(name)\n"
        "print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_method_of_another_package_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_base.py").write_text(
        "from methods.base import Method\nfrom methods.config import MethodConfig\n\n\n"
        "class BaseConfig(MethodConfig):\n    strength: float = 1.0\n\n\n"
        "class Base(Method):\n    Config = BaseConfig\n"
    )
    (tmp_path / "theirs.py").write_text(
        '"""Theirs: as they like it."""\n\nfrom their_base import Base\n\n\nclass Mine(Base):\n    pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS.places, "mine", "theirs:Mine")
    assert METHODS.config("mine") is METHODS["mine"].Config and "strength" in METHODS.config("mine").model_fields
    assert METHODS.summary("mine") == "Theirs: as they like it."


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        METHODS["rapt"]
    assert "rapt" not in METHODS
