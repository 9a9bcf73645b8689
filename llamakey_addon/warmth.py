"""Connections that are open before anybody asks: a first call need not wait for them.

Each upstream is looked after by itself. One is opened when there are too few, a moment after that
was noticed, so that a connection which only changes hands does not bring forth another. Where an
opening fails, or the provider closes what nobody used, the next one waits twice as long each time:
a provider that does not want idle connections is not kept busy with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import uniform
from time import monotonic
from typing import Final, Protocol

from llamakey_addon.errors import Denied
from llamakey_addon.journey import Upstream

_SOON_S: Final = 0.5
_BACKOFF_S: Final = (2.0, 600.0)
_LIVED_S: Final = 20.0
"""A connection that lived so long was wanted by the provider."""
_AT_ONCE: Final = 4


class _Opens[Link](Protocol):
    """What of the pool is used here."""

    def idle(self, upstream: Upstream) -> int: ...
    def reserve(self, upstream: Upstream) -> bool: ...
    async def open(self, upstream: Upstream, *, reserved: bool) -> Link: ...
    def take_back(self, link: Link) -> None: ...


class _Care:
    """For one upstream."""

    __slots__ = ("backoff_s", "opened_s", "task", "timer")

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.backoff_s = 0.0
        self.opened_s = 0.0


class Warmth[Link]:
    """Keeps `count` idle connections to each of `upstreams`. Needs a running loop."""

    def __init__(self, pool: _Opens[Link], upstreams: Iterable[Upstream], count: int) -> None:
        self._pool = pool
        self.count = count
        self._cares = {upstream: _Care() for upstream in upstreams}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._loop = asyncio.get_running_loop()
        for upstream in self._cares:
            self._begin(upstream)

    def wants(self, upstream: Upstream) -> bool:
        return upstream in self._cares

    def lacks(self, upstream: Upstream) -> None:
        """One was taken, or is closed: look after it in a moment."""
        care = self._cares.get(upstream)
        if care is None or care.timer is not None or care.task is not None:
            return
        if monotonic() - care.opened_s > _LIVED_S:
            care.backoff_s = 0.0
        care.timer = self._loop.call_later(
            # no two proxies in step
            max(_SOON_S, care.backoff_s) * uniform(0.8, 1.2),  # noqa: S311
            self._begin,
            upstream,
        )

    def stop(self) -> None:
        cares, self._cares = self._cares, {}
        for care in cares.values():
            if care.timer is not None:
                care.timer.cancel()
            if care.task is not None:
                care.task.cancel()

    def _begin(self, upstream: Upstream) -> None:
        care = self._cares[upstream]
        care.timer = None
        if self._pool.idle(upstream) < self.count:
            care.task = self._loop.create_task(self._open(upstream, care))

    async def _open(self, upstream: Upstream, care: _Care) -> None:
        # In the background: whatever is at work now goes first.
        await asyncio.sleep(0)
        try:
            async with self._turns:
                if not self._pool.reserve(upstream):
                    return  # requests have them all
                link = await self._pool.open(upstream, reserved=True)
        except Denied:
            pass  # requests meet it themselves, and say so
        else:
            self._pool.take_back(link)
        finally:
            care.task = None
        care.backoff_s = _longer(care.backoff_s)
        care.opened_s = monotonic()
        if self._cares.get(upstream) is care and self._pool.idle(upstream) < self.count:
            self.lacks(upstream)


def _longer(backoff_s: float) -> float:
    first, most = _BACKOFF_S
    return min(max(first, 2 * backoff_s), most)
