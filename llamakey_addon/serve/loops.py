"""The event loop of `lmk serve`: uvloop where it is installed (`pip install 'llamakey[fast]'`).

It costs about a third less than asyncio's own for what comes and goes. mitmproxy runs on it too,
with one thing put right: its factory of eager tasks does not take what uvloop hands it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final

from llamakey_addon.errors import ConfigError

#: `asyncio` or `uvloop`; without it uvloop is taken where it is there.
VARIABLE: Final = "LLAMAKEY_LOOP"
_CHOICES: Final = ("", "asyncio", "uvloop")


def factory(choice: str | None = None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop; None for asyncio's own.

    Arguments:
        choice: before the environment's.

    Raises:
        ConfigError: the environment names one that is not there.
    """
    wanted = os.environ.get(VARIABLE, "") if choice is None else choice
    if wanted not in _CHOICES:
        raise ConfigError(f"{VARIABLE} is {wanted!r}: set it to asyncio or uvloop, or not at all.")
    if wanted == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if wanted == "uvloop":
            raise ConfigError(
                f"{VARIABLE} names uvloop, which is not installed: pip install 'llamakey[fast]'"
            ) from None
        return None

    class Loop(uvloop.Loop):
        """uvloop's, which takes eager tasks."""

        def set_task_factory(self, factory: Any) -> None:
            ours: Any = eager
            super().set_task_factory(ours if factory is asyncio.eager_task_factory else factory)

    return Loop


def eager(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, Any],
    *,
    name: str | None = None,
    context: Context | None = None,
    eager_start: bool | None = None,
) -> asyncio.Task[Any]:
    """A factory of tasks that run at once, as far as they go without waiting."""
    at_once = eager_start is not False and loop.is_running()
    return asyncio.Task(coro, loop=loop, name=name, context=context, eager_start=at_once)
