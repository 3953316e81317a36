"""An image folder, and an empty data directory."""

from pathlib import Path

import pytest
from image_folders import make_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "birds and beasts")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
