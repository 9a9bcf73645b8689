"""Both event loops that `lmk serve` runs on, for tests in this process.

A module that imports `event_loop_policy` runs each of its tests on both.
"""

from __future__ import annotations

import asyncio
import sys
import warnings

import pytest

from llamakey_addon.serve import loops

# asyncio's policies go away with Python 3.16; the plugin knows no other way to choose a loop
warnings.filterwarnings("ignore", message=".*policy.*", category=DeprecationWarning)


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes the loop of `lmk serve`."""

    def __init__(self, choice: str) -> None:
        super().__init__()
        self._choice = choice

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        make = loops.factory(self._choice)
        return super().new_event_loop() if make is None else make()


CHOICES = ["asyncio", *([] if sys.platform == "win32" else ["uvloop"])]


@pytest.fixture(params=CHOICES)
def event_loop_policy(request: pytest.FixtureRequest) -> Policy:
    return Policy(request.param)
