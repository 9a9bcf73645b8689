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
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mitmproxy.proxy import commands, events, layer

from llamakey_addon.edge import ClientEdge, end_when_stuck, reset_at_close
from llamakey_addon.road import Road

if TYPE_CHECKING:
    from mitmproxy.connection import Client
    from mitmproxy.proxy.context import Context
    from mitmproxy.proxy.server import ConnectionHandler

    from llamakey_addon.house import House

_HIGH_WATER_BYTES = 64 * 1024


class Flush(events.Event):
    """Something for the client waits to be written."""


async def _no_drain() -> None:
    """In place of the handler's own: see the module's docstring."""


class RoadLayer(ClientEdge, layer.Layer):
    """One client connection."""

    def __init__(self, context: Context, house: House, handler: ConnectionHandler) -> None:
        layer.Layer.__init__(self, context)
        ClientEdge.__init__(self, house)
        self._handler = handler
        self._out: list[commands.Command] = []
        self._inside = False
        self._flushing = False
        self._drain: asyncio.Task[None] | None = None
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
            self._house.gate.book.alarm(error)
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

    def _gone(self) -> None:
        super()._gone()
        if self._drain is not None:
            self._drain.cancel()

    # ── the rim ───────────────────────────────────────────────────────────────────────────────

    def to_client(self, data: bytes) -> None:
        self._out.append(commands.SendData(self.context.client, data))

    def flush(self) -> None:
        if self._inside or self._flushing or not self._out:
            return
        self._flushing = True
        # Runs at once (mitmproxy's tasks are eager) unless the handler is busy with an event.
        self._house.spawn(self._handler.server_event(Flush()))

    def finish_client(self) -> None:
        self._out.append(commands.CloseTcpConnection(self.context.client, half_close=True))

    def close_client(self, *, reset: bool = False) -> None:
        transport = self._transport()
        if reset and transport is not None:
            reset_at_close(transport)
        self._out.append(commands.CloseConnection(self.context.client))
        self._gone()
        self.flush()
        if transport is not None:
            end_when_stuck(transport.get_write_buffer_size, transport.abort)

    def resume_client(self) -> None:
        io = self._handler.transports.get(self.context.client)
        if io is not None and getattr(io.reader, "_paused", False):
            # The handler's stream reader is full. It will resume by itself once it was read: asked
            # to take more now, it would know no bound.
            self._reading_paused = False
            return
        super().resume_client()

    def client(self) -> Client:
        return self.context.client

    # ── pressure ──────────────────────────────────────────────────────────────────────────────

    def is_tls(self) -> bool:
        return bool(self.context.client.tls)

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
