"""The road as a mitmproxy `Layer`: a thin rim.

mitmproxy owns the client's socket: its bytes come as events and leave as commands. What happens
elsewhere (a provider's bytes, an opened connection, a hook that returned, a timer) calls the road
directly, and what the road then has for the client is flushed through the connection handler, under
the handler's own lock. The layer never blocks and never pauses, so the road always sees closings.

Two things of the handler are steered from here, because mitmproxy has no command for them: reading
from the client is paused on its transport, and the handler's own `drain_writers`, which would stop
*reading* while the client is slow to read, is put out of work; the road's back-pressure is its own.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mitmproxy.proxy import commands, events, layer

from llamakey_addon.journey import Ask, Recipe, Upstream
from llamakey_addon.rim import Look
from llamakey_addon.road import Road
from llamakey_addon.upstream import Wish

if TYPE_CHECKING:
    from mitmproxy.proxy.context import Context
    from mitmproxy.proxy.server import ConnectionHandler

    from llamakey_addon.house import House

_HIGH_WATER_BYTES = 64 * 1024
_STUCK_S = 30.0
_GLANCE_S = 0.2
#: TCP states of Linux's TCP_INFO in which the other end has closed: CLOSE, CLOSE_WAIT.
_LEFT = (7, 8)


class Flush(events.Event):
    """Something for the client waits to be written."""


async def _no_drain() -> None:
    """In place of the handler's own: see the module's docstring."""


def _has_left(transport: asyncio.Transport) -> bool:
    """Whether the client has closed its end; False where the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
    except OSError:
        return True
    return info[0] in _LEFT


class RoadLayer(layer.Layer):
    """One client connection."""

    def __init__(self, context: Context, house: House, handler: ConnectionHandler) -> None:
        super().__init__(context)
        self._house = house
        self._handler = handler
        self._wish: Wish | None = None
        self._out: list[commands.Command] = []
        self._inside = False
        self._flushing = False
        self._reading_paused = False
        self._glance: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._drain: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        handler.drain_writers = _no_drain  # type: ignore[method-assign]
        self.road = Road(self, house.gate, context.client.peername[0])
        house.enter(self.road)

    # ── mitmproxy's side ──────────────────────────────────────────────────────────────────────

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        try:
            yield from self._take(event)
        except GeneratorExit:
            raise
        except BaseException as error:
            # mitmproxy would log it and leave the client hanging, or end the process
            self._house.gate.alarm(error)
            self.road.client_closed()
            self._gone()
            self._out.clear()
            yield commands.CloseConnection(self.context.client)

    def _take(self, event: events.Event) -> layer.CommandGenerator[None]:
        self._inside = True
        try:
            if isinstance(event, events.DataReceived):
                self.road.client_data(event.data)
                if self._reading_paused:
                    # The handler's stream reader pauses the transport too, when it is full, and
                    # resumes it once it was read, knowing nothing of our pause.
                    self.pause_client()
            elif isinstance(event, events.ConnectionClosed):
                self.road.client_closed()
                self._gone()
        finally:
            self._inside = False
        self._flushing = False
        yield from self._commands()
        self._watch_pressure()

    def _commands(self) -> Iterator[commands.Command]:
        while self._out:
            out, self._out = self._out, []
            data = bytearray()
            for command in out:
                if isinstance(command, commands.SendData):
                    data += command.data
                    continue
                if data:
                    yield commands.SendData(self.context.client, bytes(data))
                    data = bytearray()
                yield command
            if data:
                yield commands.SendData(self.context.client, bytes(data))

    def _flush(self) -> None:
        if self._inside or self._flushing:
            return
        self._flushing = True
        # Runs at once (mitmproxy's tasks are eager) unless the handler is busy with an event.
        self._house.spawn(self._handler.server_event(Flush()))

    def _gone(self) -> None:
        self._house.leave(self.road)
        if self._alarm is not None:
            self._alarm.cancel()
        if self._drain is not None:
            self._drain.cancel()
        if self._glance is not None:
            self._glance.cancel()

    # ── the rim ───────────────────────────────────────────────────────────────────────────────

    def to_client(self, data: bytes) -> None:
        self._out.append(commands.SendData(self.context.client, data))
        self._flush()

    def finish_client(self) -> None:
        self._out.append(commands.CloseTcpConnection(self.context.client, half_close=True))
        self._flush()

    def close_client(self, *, reset: bool = False) -> None:
        if reset and (transport := self._transport()) is not None:
            # closed without the courtesy of an end: the client's next read fails
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._out.append(commands.CloseConnection(self.context.client))
        self._gone()
        self._flush()
        if (transport := self._transport()) is not None:
            self._end_when_stuck(transport, transport.get_write_buffer_size())

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

    def open_upstream(self, upstream: Upstream, *, fresh: bool) -> None:
        self._wish = Wish(self._house.pool)  # the one of now: a reload brings another
        self._wish.open(
            upstream,
            self.road,
            fresh=fresh,
            opened=self.road.opened,
            unopened=self.road.unopened,
        )

    def cancel_upstream(self) -> None:
        if self._wish is not None:
            self._wish.cancel()

    def make_credential(self, recipe: Recipe) -> None:
        self._house.vault.want(recipe, self.road.credited, self.road.uncredited)

    def now(self) -> float:
        return time.monotonic()

    def wake_at(self, when_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(max(0.0, when_s - time.monotonic()), self._tick)

    def soon(self) -> None:
        self._loop.call_soon(self.road.go_on)

    def watch(self, ask: Ask) -> Look | None:
        return self._house.watch(ask, self.road, self.context.client)

    def _end_when_stuck(self, transport: asyncio.Transport, before: int) -> None:
        """A closed transport waits for its last bytes to leave, but not for ever."""
        if before:
            self._loop.call_later(_STUCK_S, self._look_if_stuck, transport, before)

    def _look_if_stuck(self, transport: asyncio.Transport, before: int) -> None:
        now = transport.get_write_buffer_size()
        if now >= before:
            transport.abort()
        else:
            self._end_when_stuck(transport, now)

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

    # ── pressure ──────────────────────────────────────────────────────────────────────────────

    def _tick(self) -> None:
        self._alarm = None
        self.road.tick()

    def _transport(self) -> asyncio.Transport | None:
        io = self._handler.transports.get(self.context.client)
        writer = None if io is None else io.writer
        transport = writer.transport if isinstance(writer, asyncio.StreamWriter) else None
        return transport if isinstance(transport, asyncio.Transport) else None

    def _watch_pressure(self) -> None:
        """When the client is slow to read, stop reading for it, until it has caught up."""
        if self._drain is not None or self.road.closed:
            return
        transport = self._transport()
        if transport is not None and transport.get_write_buffer_size() > _HIGH_WATER_BYTES:
            self.road.client_writable(False)
            self._drain = self._loop.create_task(self._wait_for_room())

    async def _wait_for_room(self) -> None:
        await asyncio.sleep(0)
        io = self._handler.transports.get(self.context.client)
        writer = None if io is None else io.writer
        try:
            if isinstance(writer, asyncio.StreamWriter):
                await writer.drain()
        except OSError:
            return  # the client is gone: the handler tells the road
        finally:
            self._drain = None
        self.road.client_writable(True)
