"""Methods are found by name; their hyperparameters are known without importing torch, and are those of the class."""

import subprocess
import sys

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


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        METHODS["rapt"]
    assert "rapt" not in METHODS
