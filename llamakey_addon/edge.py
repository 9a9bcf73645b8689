"""What rims have in common: a road with its alarm and its wishes (`RoadEdge`), and a
client's socket, read and closed with care (`ClientEdge`).

Three rims stand on it: `layer.py` in mitmproxy, `serve/client.py` on sockets of our own, and the
replay of a flow, which has no client.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from llamakey_addon.errors import NotCarried
from llamakey_addon.journey import Ask, Recipe, Upstream
from llamakey_addon.neighbours import is_own_user
from llamakey_addon.rim import Look
from llamakey_addon.road import Road
from llamakey_addon.upstream import Wish

if TYPE_CHECKING:
    from llamakey_addon.house import House

_STUCK_S: Final = 30.0
_GLANCE_S: Final = 0.2
#: TCP states of Linux's TCP_INFO in which the other end has closed: CLOSE, CLOSE_WAIT.
_LEFT: Final = (7, 8)


class RoadEdge:
    """A road, its alarm, and its wishes for connections."""

    road: Road

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._wish: Wish | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def open_upstream(self, upstream: Upstream, *, fresh: bool) -> None:
        road = self.road
        self._wish = Wish(self._house.pool)  # the one of now: a reload brings another
        self._wish.open(upstream, road, fresh=fresh, opened=road.opened, unopened=road.unopened)

    def cancel_upstream(self) -> None:
        if self._wish is not None:
            self._wish.cancel()

    def make_credential(self, recipe: Recipe) -> None:
        self._house.vault.want(recipe, self.road.credited, self.road.uncredited)

    def secure(self, host: str, before: bytes) -> None:
        raise NotCarried("There is no second door here. The proxy's owner opens it by `lmk serve`.")

    now = staticmethod(time.monotonic)

    def wake_at(self, when_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(max(0.0, when_s - time.monotonic()), self._tick)

    def soon(self) -> None:
        self._loop.call_soon(self.road.go_on)

    def is_tls(self) -> bool:
        return False

    def is_own_user(self) -> bool:
        return False

    def _tick(self) -> None:
        self._alarm = None
        self.road.tick()

    def _hush(self) -> None:
        """The road has ended: nothing calls it any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _gone(self) -> None:
        """And so has what is around it."""
        self._hush()
        self._house.leave(self.road)


class ClientEdge(RoadEdge):
    """A client's connection, for rims that have its transport."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._reading_paused = False
        self._glance: asyncio.TimerHandle | None = None

    def _transport(self) -> asyncio.Transport | None:
        """The client's; None where it is gone."""
        raise NotImplementedError

    def client(self) -> Any:
        """The connection as mitmproxy knows it, for those who look."""
        raise NotImplementedError

    # ── the rim ───────────────────────────────────────────────────────────────────────────────

    def pause_client(self) -> None:
        self._reading_paused = True
        if (transport := self._transport()) is not None:
            transport.pause_reading()
        if self._glance is None:
            self._glance = self._loop.call_later(_GLANCE_S, self._look_if_left)

    def resume_client(self) -> None:
        self._reading_paused = False
        if (transport := self._transport()) is not None and not transport.is_closing():
            transport.resume_reading()

    def is_tls(self) -> bool:
        transport = self._transport()
        return transport is not None and transport.get_extra_info("ssl_object") is not None

    def is_own_user(self) -> bool:
        transport = self._transport()
        return transport is not None and is_own_user(transport.get_extra_info("socket"))

    def watch(self, ask: Ask) -> Look | None:
        watcher = self._house.watcher
        return None if watcher is None else watcher(ask, self.road, self.client)

    # ── ends ──────────────────────────────────────────────────────────────────────────────────

    def _hush(self) -> None:
        super()._hush()
        if self._glance is not None:
            self._glance.cancel()
            self._glance = None

    def _look_if_left(self) -> None:
        """Nothing is read from a client while it is paused, not even its end: ask the system."""
        self._glance = None
        if not self._reading_paused or self.road.closed:
            return
        transport = self._transport()
        if transport is None or _has_left(transport):
            self.road.client_closed()
        else:
            self._glance = self._loop.call_later(_GLANCE_S, self._look_if_left)


def reset_at_close(transport: asyncio.Transport) -> None:
    """Once closed, the connection ends without the courtesy of an end: the client's next read
    fails, so that it does not take for whole what is not."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def end_when_stuck(unsent: Callable[[], int], abort: Callable[[], None]) -> None:
    """A closed transport waits for its last bytes to leave, but not for ever: `abort` is called
    once `unsent` bytes have stopped to become fewer."""
    before = unsent()
    if before:
        loop = asyncio.get_running_loop()
        loop.call_later(_STUCK_S, _look_if_stuck, unsent, abort, before)


def _look_if_stuck(unsent: Callable[[], int], abort: Callable[[], None], before: int) -> None:
    if unsent() >= before:
        abort()
    else:
        end_when_stuck(unsent, abort)


def _has_left(transport: asyncio.Transport) -> bool:
    """Whether the client has closed its end; False where the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
    except OSError:
        return True
    return info[0] in _LEFT
