from __future__ import annotations

from tests.cli.conftest import lmk

__all__ = ["lmk"]
