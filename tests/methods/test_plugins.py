"""Methods of other people: files and installed packages, and what is refused."""

import importlib
import os
import sys
from pathlib import Path

import pytest
from readme_plugin import PLUGIN

from methods import METHODS, plugins
from methods.plugins import PluginError


@pytest.fixture(autouse=True)
def none_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, "")


def written(folder: Path, text: str = PLUGIN, name: str = "align_uniform.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_file_adds_its_methods(tmp_path: Path) -> None:
    assert "align_uniform" not in METHODS
    before = list(METHODS)
    plugins.use([written(tmp_path)])
    assert list(METHODS) == [*before, "align_uniform"] and len(METHODS) == len(before) + 1
    assert METHODS.summary("align_uniform") == "Views agree, and embeddings spread over the sphere. arXiv 2005.10242"
    assert [*METHODS.config("align_uniform").model_fields] == ["projector_hidden", "uniformity"]
    assert METHODS.origin("align_uniform") == "plug-in align_uniform.py" and METHODS.origin("byol") == ""


def test_paths_are_from_where_they_are_named_and_processes_inherit_them(tmp_path: Path) -> None:
    written(tmp_path)
    plugins.use(["align_uniform.py"], tmp_path)
    plugins.use(["align_uniform.py"], tmp_path)  # again: once
    assert os.environ[plugins.VARIABLE] == str(tmp_path / "align_uniform.py")


def test_its_content_is_hashed(tmp_path: Path) -> None:
    plugins.use([written(tmp_path)])
    before = plugins.sources()
    assert [*before] == ["plug-in align_uniform.py"]
    written(tmp_path, PLUGIN + "\n")
    assert plugins.sources() != before


def test_files_of_one_name_are_hashed_each(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    plugins.use([written(tmp_path), written(tmp_path / "other", PLUGIN.replace('"align_uniform"', '"other"'))])
    assert len(set(plugins.sources().values())) == len(plugins.sources()) == 2
    assert {"align_uniform", "other"} <= set(METHODS)


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: str) -> None:
    """A package `theirs` with the plug-in as its module `views`."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("")
    written(tmp_path / "theirs", name="views.py")
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    plugins._found.cache_clear()


@pytest.mark.parametrize(
    ("points", "name"),
    [("anything = theirs.views", "align_uniform"), ("spread = theirs.views:AlignUniform", "spread")],
)
def test_an_installed_package_names_a_module_or_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: str, name: str
) -> None:
    installed(tmp_path, monkeypatch, points)
    try:
        assert name in METHODS and METHODS[name].__name__ == "AlignUniform"
        assert METHODS.origin(name) == "package theirs"
        assert [*plugins.sources()] == ["plug-in theirs.views"]
    finally:
        plugins._found.cache_clear()
        for module in [each for each in sys.modules if each.startswith("theirs")]:
            del sys.modules[module]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("METHODS = {", "cannot be imported: SyntaxError"),
        ("import nowhere", "cannot be imported: ModuleNotFoundError: No module named 'nowhere' (line 1 of bad.py)"),
        ("x = 1", "defines no METHODS = {name: class}"),
        ("METHODS = {}", "defines no METHODS = {name: class}"),
        ("METHODS = {'x': int}", "x is no subclass of methods.base.Method"),
        (PLUGIN.replace('"align_uniform"', '"byol"'), "byol is a method of ssl-bench: give yours another name"),
        (PLUGIN.replace('"align_uniform"', '"Align-U"'), "'Align-U' is no name of a method"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path: Path, text: str, told: str) -> None:
    plugins.use([written(tmp_path, text, "bad.py")])
    with pytest.raises(PluginError) as error:
        list(METHODS)
    assert str(error.value).startswith("plug-in bad.py") and told in str(error.value)
    assert "\n" not in str(error.value)


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    plugins.use([written(tmp_path), written(tmp_path, name="other.py")])
    with pytest.raises(PluginError, match=r"plug-in other.py: align_uniform is also in plug-in align_uniform.py"):
        list(METHODS)


@pytest.mark.parametrize("name", ["nowhere.py", "text.txt", "."])
def test_a_file_that_is_none_is_told_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text(PLUGIN)
    with pytest.raises(PluginError, match="there is no such Python file"):
        plugins.use([name], tmp_path)
