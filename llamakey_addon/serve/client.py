"""The road on a socket of our own: one client connection of `lmk serve`, an `asyncio.Protocol`.

What `layer.py` does in mitmproxy, without its events, commands and tasks between the socket and the
road: bytes come in by `data_received`, and leave in one write at the end of each step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final, cast

from llamakey_addon.edge import ClientEdge, end_when_stuck, reset_at_close

if TYPE_CHECKING:
    from llamakey_addon.serve.door import Door

logger = logging.getLogger("llamakey")

_HIGH_WATER_BYTES: Final = 64 * 1024


class ClientConnection(ClientEdge, asyncio.Protocol):
    """One client connection.

    Arguments:
        ticket: under what the door has counted it in; None where it is yet to be.
        below: the socket's own transport, where TLS stands between it and the road.
    """

    def __init__(
        self, door: Door, ticket: object = None, below: asyncio.Transport | None = None
    ) -> None:
        super().__init__(door.house)
        self._door = door
        self._ticket = ticket
        self._below = below
        self._below_ended = False
        self._socket: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._early = b""
        """What came before it could be taken: with TLS's last handshake message, say."""
        self._held = False
        self._shown: Any = None

    # ── asyncio's side ────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        try:
            peer = transport.get_extra_info("peername")
            if self._ticket is None:
                self._ticket = self
                if not self._door.enter(self, peer):
                    transport.abort()
                    return
            transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
            self.road = self._door.road(self, peer[0])
            self._house.enter(self.road)
            self._socket = transport
            self._held = self._door.greet(self)
            if self._held:
                transport.pause_reading()
            else:
                self._take_early()
        except BaseException as error:
            self._house.gate.book.alarm(error)
            transport.abort()

    def let_in(self) -> None:
        """Whoever had to see this connection first has seen it."""
        self._held = False
        if self._socket is not None and not self._socket.is_closing():
            self._socket.resume_reading()
            self._take_early()

    @property
    def gone(self) -> bool:
        return self._socket is None

    def turn_away(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    def data_received(self, data: bytes) -> None:
        if self._socket is not None and not self._held and self._socket is not self._below:
            self.road.client_data(data)
        elif self._held or self._below is not None:
            self._early += data

    def eof_received(self) -> bool:
        if self._socket is not None:
            self.road.client_closed()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._socket = self._socket, None
        self._door.leave(self._ticket)
        if transport is not None:
            self.road.client_closed()
            self._gone()
            self._door.part(self._shown)

    def pause_writing(self) -> None:
        if self._socket is not None:
            self.road.client_writable(False)

    def resume_writing(self) -> None:
        if self._socket is not None:
            self.road.client_writable(True)

    # ── the rim ───────────────────────────────────────────────────────────────────────────────

    def to_client(self, data: bytes) -> None:
        self._out.append(data)

    def secure(self, host: str, before: bytes) -> None:
        context = self._door.context(host)
        assert self._below is None
        self.to_client(before)
        self.flush()
        # Eager, whatever the loop's tasks are: what comes next is TLS's, not the road's.
        self._securing = asyncio.Task(self._secure(context), loop=self._loop, eager_start=True)

    async def _secure(self, context: ssl.SSLContext) -> None:
        below = self._below = self._socket
        assert below is not None
        try:
            made = await self._loop.start_tls(
                below,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._house.settings.limits.head_timeout_s,
            )
            if made is not None and self._socket is not None:
                self._secured(made)
                return
        except (OSError, EOFError) as error:  # ssl.SSLError is an OSError
            logger.info("client's TLS handshake failed: %s", error)
        except BaseException as error:
            self._house.gate.book.alarm(error)
        below.abort()
        self.connection_lost(None)

    def _secured(self, made: asyncio.Transport) -> None:
        self._socket = made
        made.set_write_buffer_limits(_HIGH_WATER_BYTES)
        tls = made.get_extra_info("ssl_object")
        self.road.secured(
            getattr(tls, "asked_for", ""),
            http2_alone=tls.selected_alpn_protocol() == "h2",
        )
        self._take_early()

    def flush(self) -> None:
        out = self._out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            if self._socket is not None:
                self._socket.write(data)

    def finish_client(self) -> None:
        self.flush()
        transport, below = self._socket, self._below
        if transport is None or transport.is_closing():
            return
        # a client that is gone answers what was just written by a reset: nothing is left to end
        with contextlib.suppress(OSError):
            if below is None:
                transport.write_eof()
            elif not transport.get_write_buffer_size():
                # asyncio's TLS can't end one side alone: end TCP's, as mitmproxy does
                self._below_ended = True
                below.write_eof()

    def close_client(self, *, reset: bool = False) -> None:
        transport = self._socket
        if transport is None or transport.is_closing():
            return
        try:
            self._close(transport, reset)
        except BaseException as error:
            self._house.gate.book.alarm(error)
            transport.abort()

    def _close(self, transport: asyncio.Transport, reset: bool) -> None:
        self._hush()
        below = self._below
        self.flush()
        if reset:
            reset_at_close(transport)
        if below is None:
            transport.close()
            end_when_stuck(transport.get_write_buffer_size, transport.abort)
            return
        if not self._below_ended:
            transport.close()
        if not transport.get_write_buffer_size():
            # TLS has said goodbye, and would wait for the client's, which an idle one never says
            below.close()
            end_when_stuck(below.get_write_buffer_size, below.abort)

    def client(self) -> Any:
        """The connection as mitmproxy knows it, made when somebody looks."""
        if self._shown is None:
            from llamakey_addon.view import visitors

            assert self._socket is not None
            self._shown = visitors.make(self._socket)
        return self._shown

    def _take_early(self) -> None:
        early, self._early = self._early, b""
        if early:
            self.road.client_data(early)

    def _transport(self) -> asyncio.Transport | None:
        return self._socket
