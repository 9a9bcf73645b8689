"""A store in a folder of the test's own."""

from __future__ import annotations

import pytest

from llamakey_addon.store import open_store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "llamakey"


@pytest.fixture
def store(folder):
    with open_store(folder) as opened:
        yield opened
