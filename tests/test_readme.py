"""What the README shows is what there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_example_method_is_the_file_as_it_stands() -> None:
    (block,) = re.findall(r"```python\n# (methods/barlow_twins\.py)\n(.*?)```", README, re.DOTALL)
    path, code = block
    assert (ROOT / path).read_text() == code


def test_the_example_needs_no_more_than_its_registry_line() -> None:
    naming = [
        path
        for folder in ("bench", "methods", "slurm")
        for path in (ROOT / folder).rglob("*.py")
        if "BarlowTwins" in path.read_text() and path.name != "barlow_twins.py"
    ]
    assert [path.name for path in naming] == ["__init__.py"]
