"""Connections opened ahead: kept, opened again, and never in a storm. On a loop whose time is the
test's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llamakey_addon.errors import UpstreamFault
from llamakey_addon.journey import Upstream
from llamakey_addon.warmth import Warmth

UPSTREAM = Upstream("https", "provider.invalid", 443)
OTHER = Upstream("https", "other.invalid", 443)


class Link:
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream


class Pool:
    def __init__(self) -> None:
        self.there: dict[Upstream, int] = {}
        self.opened: list[float] = []
        self.fails = False
        self.full = False

    def idle(self, upstream: Upstream) -> int:
        return self.there.get(upstream, 0)

    def reserve(self, upstream: Upstream) -> bool:
        return not self.full

    async def open(self, upstream: Upstream, *, reserved: bool) -> Link:
        assert reserved
        self.opened.append(Clock.now_s)
        if self.fails:
            raise UpstreamFault("no")
        return Link(upstream)

    def take_back(self, link: Link) -> None:
        self.there[link.upstream] = self.idle(link.upstream) + 1


class Clock:
    """Timers go off when the test says so."""

    now_s = 0.0

    def __init__(self, loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        Clock.now_s = 1000.0
        self.timers: list[tuple[float, Any, tuple[Any, ...]]] = []
        monkeypatch.setattr(loop, "call_later", self._call_later)
        monkeypatch.setattr("llamakey_addon.warmth.monotonic", lambda: Clock.now_s)
        monkeypatch.setattr("llamakey_addon.warmth.uniform", lambda low, high: 1.0)

    def _call_later(self, delay_s: float, callback: Any, *args: Any) -> Any:
        timer = (Clock.now_s + delay_s, callback, args)
        self.timers.append(timer)
        clock = self

        class Handle:
            def cancel(self) -> None:
                if timer in clock.timers:
                    clock.timers.remove(timer)

        return Handle()

    async def advance(self, seconds: float) -> None:
        end_s = Clock.now_s + seconds
        await turns()
        while due := sorted((t for t in self.timers if t[0] <= end_s), key=lambda t: t[0]):
            timer = due[0]
            self.timers.remove(timer)
            Clock.now_s = timer[0]
            timer[1](*timer[2])
            await turns()
        Clock.now_s = end_s


async def turns() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(asyncio.get_running_loop(), monkeypatch)


async def test_they_are_open_before_anybody_asks(clock: Clock) -> None:
    pool = Pool()
    care = Warmth(pool, [UPSTREAM, OTHER], 2)
    await clock.advance(2)
    assert pool.there == {UPSTREAM: 2, OTHER: 2}
    await clock.advance(10_000)
    assert len(pool.opened) == 4, "and that is that"
    assert care.wants(UPSTREAM)
    assert not care.wants(Upstream("https", "nobody.invalid", 443))


async def test_one_that_only_changes_hands_brings_forth_no_other(clock: Clock) -> None:
    pool = Pool()
    care = Warmth(pool, [UPSTREAM], 1)
    for _ in range(100):
        await clock.advance(30)
        pool.there[UPSTREAM] = 0
        care.lacks(UPSTREAM)
        await clock.advance(0.05)
        pool.there[UPSTREAM] = 1
    assert len(pool.opened) == 1


async def test_one_that_is_taken_for_longer_is_replaced(clock: Clock) -> None:
    pool = Pool()
    care = Warmth(pool, [UPSTREAM], 1)
    await clock.advance(100)
    pool.there[UPSTREAM] = 0
    care.lacks(UPSTREAM)
    await clock.advance(1)
    assert pool.there[UPSTREAM] == 1
    assert len(pool.opened) == 2


async def test_a_provider_that_cannot_be_reached_is_asked_more_and_more_seldom(
    clock: Clock,
) -> None:
    pool = Pool()
    pool.fails = True
    Warmth(pool, [UPSTREAM], 1)
    await clock.advance(86_400)
    gaps = [after - before for before, after in zip(pool.opened, pool.opened[1:], strict=False)]
    assert gaps[:4] == [2, 4, 8, 16]
    assert gaps[-1] == 600
    assert len(pool.opened) < 160
    pool.fails = False
    await clock.advance(600)
    assert pool.there == {UPSTREAM: 1}


async def test_a_provider_that_closes_at_once_what_nobody_uses_is_let_be(clock: Clock) -> None:
    pool = Pool()
    care = Warmth(pool, [UPSTREAM], 1)
    end_s = Clock.now_s + 3600
    while Clock.now_s < end_s:
        await clock.advance(0.1)
        if pool.there.get(UPSTREAM):
            pool.there[UPSTREAM] = 0
            care.lacks(UPSTREAM)
    assert len(pool.opened) < 20


async def test_one_that_lived_is_opened_again_soon(clock: Clock) -> None:
    """Providers close what is idle for some minutes: no reason to wait longer each time."""
    pool = Pool()
    care = Warmth(pool, [UPSTREAM], 1)
    for number in range(1, 20):
        await clock.advance(120)
        assert len(pool.opened) == number
        pool.there[UPSTREAM] = 0
        care.lacks(UPSTREAM)
        await clock.advance(1)
        assert pool.there[UPSTREAM] == 1


async def test_requests_go_first_where_connections_are_few(clock: Clock) -> None:
    pool = Pool()
    pool.full = True
    Warmth(pool, [UPSTREAM], 1)
    await clock.advance(1000)
    assert pool.opened == []


async def test_after_its_end_nothing_is_opened(clock: Clock) -> None:
    pool = Pool()
    care = Warmth(pool, [UPSTREAM], 1)
    await clock.advance(1)
    pool.there[UPSTREAM] = 0
    care.lacks(UPSTREAM)
    care.stop()
    care.lacks(UPSTREAM)
    await clock.advance(10_000)
    assert len(pool.opened) == 1
    assert clock.timers == []
