from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Lmk


@pytest.fixture
def lmk(tmp_path: Path) -> Lmk:
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    return Lmk(folder)
