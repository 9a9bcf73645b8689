"""Calls addons' hooks. Whatever a hook raises stays here, and is handed back.

mitmproxy's own dispatcher logs an `Exception` and goes on as if nothing were, and lets anything
else through: a `SystemExit` in a hook ends the process, a `CancelledError` leaves the client
hanging. Here the caller learns what was raised, of any kind, and every other addon is still called,
so that those who only look see each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mitmproxy import exceptions, hooks
from mitmproxy.addonmanager import traverse
from mitmproxy.addons.disable_h2c import DisableH2C

if TYPE_CHECKING:
    from mitmproxy.flow import Flow
    from mitmproxy.master import Master

logger = logging.getLogger("llamakey")


async def fire(master: Master, hook: hooks.Hook, flow: Flow) -> BaseException | None:
    """Call `hook` on every addon, then tell all that `flow` has changed.

    Returns the first thing that a handler raised, or None. Raises nothing but the cancellation of
    the task that it runs in.
    """
    first = await call_all(master, hook)
    return first or await call_all(master, hooks.UpdateHook([flow]))


async def call_all(master: Master, hook: hooks.Hook, *, but: object = None) -> BaseException | None:
    """Call `hook` on every addon, except `but`. Returns and raises as `fire`."""
    first: BaseException | None = None
    args = hook.args()
    for addon in list(traverse(master.addons.chain)):
        if isinstance(addon, DisableH2C) or addon is but:
            # It takes Connection and Upgrade out of flows; the road drops them, with what they name
            continue
        try:
            handler = _handler(addon, hook.name)
            if handler is not None:
                result = handler(*args)
                if inspect.isawaitable(result):
                    await result
        except exceptions.AddonHalt:
            break
        except BaseException as error:
            if cancelled(error):
                raise
            _tell(addon, hook, error)
            first = first or error
    return first


def cancelled(error: BaseException) -> bool:
    """Whether the running task itself is cancelled, and not only somebody says so by raising."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def handlers(addon: Any, names: tuple[str, ...]) -> Iterator[str]:
    """Which of these hooks an addon has."""
    for name in names:
        try:
            if _handler(addon, name) is not None:
                yield name
        except Exception:
            yield name  # it has something by that name, and will fail with it


def _handler(addon: Any, name: str) -> Callable[..., Any] | None:
    handler = getattr(addon, name, None)
    # A script may have imported a module by the name of a hook.
    if not handler or isinstance(handler, types.ModuleType):
        return None
    if not callable(handler):
        raise exceptions.AddonManagerError(f"its {name!r} is not a function")
    result: Callable[..., Any] = handler
    return result


def _tell(addon: Any, hook: hooks.Hook, error: BaseException) -> None:
    name = getattr(addon, "name", None) or getattr(addon, "__name__", None) or type(addon).__name__
    with contextlib.suppress(Exception):  # an error that cannot even be logged
        logger.error(
            "the addon %s failed in %s: %s",
            name,
            hook.name,
            type(error).__name__,
            exc_info=(type(error), error, error.__traceback__),
        )
