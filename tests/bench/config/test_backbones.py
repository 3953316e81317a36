"""Names of backbones: exactly those that can be built, known without importing what builds them."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import timm

import bench.backbone  # noqa: F401  registers ours
from bench.config import backbones
from bench.errors import UserError


def test_names_are_those_of_timms_registry_in_its_order() -> None:
    assert backbones.names() == timm.list_models()
    assert set(backbones.OWN) <= set(backbones.names())


def test_an_unknown_name_is_refused_without_importing_timm_or_torch() -> None:
    code = (
        "import sys; from bench.config import backbones; from bench.errors import UserError\n"
        "try: backbones.check('resnet81')\n"
        "except UserError as error: print(error, 'timm' in sys.modules, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    assert said == "unknown backbone 'resnet81': did you mean 'resnet18'? see `bench list backbones` False False"


def test_a_name_that_nothing_resembles_is_refused_without_a_guess() -> None:
    with pytest.raises(UserError, match=r"^unknown backbone '%%%': see `bench list backbones`$"):
        backbones.check("%%%")


def test_a_timm_laid_out_otherwise_is_asked_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = backbones.names()
    elsewhere = ModuleSpec("timm", None, is_package=True)
    elsewhere.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(backbones, "find_spec", lambda name: elsewhere)
    assert backbones.names.__wrapped__() == expected
