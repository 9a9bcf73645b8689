"""Where clients come in: listening sockets of our own, TLS, and who is let in at all."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from llamakey_addon.errors import ConfigError, NotCarried
from llamakey_addon.road import Road
from llamakey_addon.serve.client import ClientConnection
from llamakey_addon.serve.ports import BACKLOG

if TYPE_CHECKING:
    from llamakey_addon.config.settings import Tls
    from llamakey_addon.edge import RoadEdge
    from llamakey_addon.house import House
    from llamakey_addon.view.visitors import Greeter

logger = logging.getLogger("llamakey")

#: Of the connections that wait, how many are taken in one turn of the loop.
_ACCEPTS: Final = 64
_HANDSHAKE: Final = 0x16
"""First byte of a TLS connection."""
_PLAIN_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 44\r\n\r\nThis port speaks TLS: use an https:// URL.\r\n"
)


class Door:
    """The listening sockets of one process.

    Arguments:
        sockets: bound; they are this object's from now on.
        tls: what clients' TLS is answered with; None where plain HTTP is spoken.
    """

    def __init__(
        self, house: House, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None
    ) -> None:
        self.house = house
        self.greeter: Greeter | None = None
        """Who calls the scripts' hooks of connections; None where there are no scripts."""
        self._sockets = sockets
        self.tls = tls
        """For connections that come from now on."""
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Take connections from now on."""
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            server = await loop.create_server(self._entrance, sock=each, backlog=_ACCEPTS)
            each.listen(BACKLOG)  # asyncio takes one number for both
            self._servers.append(server)

    def shut(self) -> None:
        """Take no more; those that are in stay in."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        for each in self._sockets:
            each.close()

    def _entrance(self) -> asyncio.Protocol:
        try:
            return ClientConnection(self) if self.tls is None else _Hello(self, self.tls)
        except BaseException as error:
            self.house.gate.book.alarm(error)
            return Nobody()

    # ── who comes, who goes ───────────────────────────────────────────────────────────────────

    def enter(self, connection: object, peer: tuple[Any, ...] | None) -> bool:
        """Whether it is let in; it is counted either way, until it leaves."""
        if not peer:
            return False  # gone before it could be asked
        logger.info("client connect %s", peer[0])
        if why := self.house.admit_connection(connection, peer[0]):
            self.house.journal.note(f"connection refused: {why}")
            return False
        return True

    def road(self, rim: RoadEdge, peer: str) -> Road:
        """What a connection leads to."""
        return Road(rim, self.house.gate, peer)  # type: ignore[arg-type]

    def context(self, host: str) -> ssl.SSLContext:
        """What TLS is answered with as another host. Raises Denied."""
        raise NotCarried("Nothing but this proxy itself is behind this port.")

    def leave(self, connection: object) -> None:
        self.house.release_connection(connection)

    def greet(self, client: ClientConnection) -> bool:
        """Let scripts see a connection that was made; whether it waits until they have."""
        if self.greeter is None or not self.greeter.wanted:
            return False
        self.house.spawn(self._introduce(self.greeter, client))
        return True

    async def _introduce(self, greeter: Greeter, client: ClientConnection) -> None:
        await asyncio.sleep(0)  # until it is held
        if client.gone:
            return
        if await greeter.refuses(client.client()):
            client.turn_away()
        else:
            client.let_in()

    def part(self, shown: Any) -> None:
        """A connection has ended; `shown` is mitmproxy's view of it, if there is one."""
        if self.greeter is not None and shown is not None:
            self.house.spawn(self.greeter.left(shown))


class Nobody(asyncio.Protocol):
    """Nothing is behind this connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        transport.abort()


class _Hello(asyncio.Protocol):
    """The first bytes on a port that speaks TLS: a handshake, or a client that speaks plain HTTP,
    which is served to this machine, and told elsewhere."""

    def __init__(self, door: Door, tls: ssl.SSLContext) -> None:
        self._door = door
        self._context = tls
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # not by its type: uvloop's has none of asyncio's
        transport = self._transport = cast("asyncio.Transport", transport)
        if not self._door.enter(transport, transport.get_extra_info("peername")):
            transport.abort()
            return
        limits = self._door.house.settings.limits
        self._timer = asyncio.get_running_loop().call_later(limits.head_timeout_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport.is_closing():
            return
        if data[0] != _HANDSHAKE:
            self._plain(data)
            return
        loop = asyncio.get_running_loop()
        # Eager, whatever the loop's tasks are: the bytes that we have go in before any others.
        self._securing = asyncio.Task(self._secure(), loop=loop, eager_start=True)
        loop.call_soon(self._hand_over, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._door.leave(self._transport)

    def _plain(self, data: bytes) -> None:
        transport = self._transport
        if self._door.house.may_be_plain(transport.get_extra_info("sockname")[0]):
            client = ClientConnection(self._door, ticket=transport)
            transport.set_protocol(client)
            client.connection_made(transport)
            client.data_received(data)
        else:
            transport.write(_PLAIN_ANSWER)
            transport.close()

    async def _secure(self) -> None:
        client = ClientConnection(self._door, ticket=self._transport, below=self._transport)
        limits = self._door.house.settings.limits
        try:
            made = await asyncio.get_running_loop().start_tls(
                self._transport,
                client,
                self._context,
                server_side=True,
                ssl_handshake_timeout=limits.head_timeout_s,
            )
        except (OSError, EOFError) as error:  # ssl.SSLError is an OSError
            logger.info("client's TLS handshake failed: %s", error)
        except BaseException as error:
            self._door.house.gate.book.alarm(error)
        else:
            if made is not None:
                client.connection_made(made)
                return
        self._door.leave(self._transport)
        self._transport.abort()

    def _hand_over(self, data: bytes) -> None:
        """What was read before TLS was there."""
        protocol: Any = self._transport.get_protocol()
        if hasattr(protocol, "get_buffer") and not self._transport.is_closing():
            while data:
                buffer = memoryview(protocol.get_buffer(len(data)))
                size = min(len(buffer), len(data))
                buffer[:size] = data[:size]
                protocol.buffer_updated(size)
                data = data[size:]


def server_tls(tls: Tls) -> ssl.SSLContext:
    """What clients' TLS is answered with. HTTP/1.1 alone is offered.

    Raises:
        ConfigError: certificate or key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # a word for a password, or OpenSSL would ask for one on the terminal
        context.load_cert_chain(tls.cert, tls.key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"tls: {tls.cert} and {tls.key} are not a PEM certificate and its key ({error})"
        ) from None
    return context
