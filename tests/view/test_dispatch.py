"""Hooks under guard: everybody is called, and what was raised is handed back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.test import tflow

from llamakey_addon.view.dispatch import fire


class Raises:
    """An addon that raises."""

    def __init__(self, error: BaseException, name: str = "raises") -> None:
        self.name = name
        self.error = error

    def request(self, flow: object) -> None:
        raise self.error


class Sees:
    """One that notes what it is called for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def request(self, flow: object) -> None:
        await asyncio.sleep(0)
        self.seen.append("request")

    def update(self, flows: object) -> None:
        self.seen.append("update")


async def _fire(*addons: Any) -> BaseException | None:
    master = Master(Options())
    master.addons.add(*addons)
    flow = tflow.tflow()
    return await fire(master, HttpRequestHook(flow), flow)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        RecursionError("x"),
        MemoryError(),
        asyncio.CancelledError(),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
    ],
)
async def test_an_error_is_handed_back_and_the_others_still_see(error: BaseException) -> None:
    sees = Sees()
    assert await _fire(Raises(error), sees, Raises(OSError(), "later")) is error
    assert sees.seen[0] == "request"


async def test_without_an_error_all_are_told_of_the_change() -> None:
    sees = Sees()
    assert await _fire(sees) is None
    assert sees.seen == ["request", "update"]


async def test_a_halt_ends_the_round() -> None:
    sees = Sees()
    assert await _fire(Raises(exceptions.AddonHalt()), sees) is None
    assert sees.seen == ["update"]


async def test_an_error_whose_text_cannot_be_read() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit

    error = Mute()
    assert await _fire(Raises(error)) is error


async def test_a_hook_that_is_no_function() -> None:
    class Odd:
        request = 5

    assert isinstance(await _fire(Odd()), exceptions.AddonManagerError)


async def test_a_module_by_the_name_of_a_hook_is_none() -> None:
    class Imports:
        request = asyncio

    assert await _fire(Imports()) is None


async def test_the_end_of_the_process_is_not_held_up() -> None:
    class Waits:
        def __init__(self, name: str) -> None:
            self.name = name

        async def request(self, flow: object) -> None:
            await asyncio.sleep(3600)

    task = asyncio.ensure_future(_fire(Waits("one"), Waits("two")))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
