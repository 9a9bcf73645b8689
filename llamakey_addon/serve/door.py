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
    from llamakey_addon.serve.turns import Seat
    from llamakey_addon.view.visitors import Greeter

logger = logging.getLogger("llamakey")

#: Of the connections that wait, how many are taken in one turn of the loop.
_ACCEPTS: Final = 64
#: How long a worker with more connections than another leaves the next one to that.
_COURTESY_S: Final = 0.001
#: How many it then takes itself, since nobody else did.
_LEFT_OVER: Final = 4
#: After a failure to accept, where open files have run out.
_AGAIN_S: Final = 1.0
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
        seat: among the workers that accept on the same sockets; None for the only one.
    """

    def __init__(
        self,
        house: House,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None = None,
        seat: Seat | None = None,
    ) -> None:
        self.house = house
        self._seat = seat
        self._waiting: dict[socket.socket, asyncio.TimerHandle] = {}
        """Sockets that are left to others for a moment."""
        self._coming: set[asyncio.Task[None]] = set()
        """Accepted, and not here yet."""
        self.greeter: Greeter | None = None
        """Who calls the scripts' hooks of connections; None where there are no scripts."""
        self._sockets = sockets
        self.tls = tls
        """For connections that come from now on."""
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Take connections from now on."""
        loop = asyncio.get_running_loop()
        if self._seat is not None:
            self._seat.tell(self.house.counted)
            for each in self._sockets:
                each.setblocking(False)
                loop.add_reader(each, self._knock, each)
            return
        for each in self._sockets:
            server = await loop.create_server(self._entrance, sock=each, backlog=_ACCEPTS)
            each.listen(BACKLOG)  # asyncio takes one number for both
            self._servers.append(server)

    def shut(self) -> None:
        """Take no more; those that are in stay in."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        if self._seat is not None and self._sockets:
            self._seat.leave()
            waiting, self._waiting = self._waiting, {}
            for timer in waiting.values():
                timer.cancel()
            loop = asyncio.get_running_loop()
            for each in self._sockets:
                loop.remove_reader(each)
        for each in self._sockets:
            each.close()
        self._sockets = ()

    async def settled(self) -> None:
        """Until those that were accepted are in."""
        while self._coming:
            await asyncio.wait(set(self._coming))

    # ── accepting beside other workers ────────────────────────────────────────────────────────

    def _knock(self, listening: socket.socket) -> None:
        assert self._seat is not None
        if self._seat.is_ahead():
            self._pause(listening, _COURTESY_S)
        else:
            self._accept(listening, 1)

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._waiting[listening] = loop.call_later(seconds, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        """Whoever is still there was taken by nobody else."""
        del self._waiting[listening]
        if self._accept(listening, _LEFT_OVER):
            asyncio.get_running_loop().add_reader(listening, self._knock, listening)

    def _accept(self, listening: socket.socket, most: int) -> bool:
        """False where that is paused, since the system has no more to give."""
        for _ in range(most):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                self.house.journal.note(f"no connection can be taken: {error.strerror or error}")
                self._pause(listening, _AGAIN_S)
                return False
            connection.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._bring_in(connection))
            if not task.done():
                self._coming.add(task)
                task.add_done_callback(self._coming.discard)
        return True

    async def _bring_in(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._entrance, connection)
        except OSError:
            connection.close()  # gone already
        except BaseException as error:
            self.house.gate.book.alarm(error)
            connection.close()

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
        why = self.house.admit_connection(connection, peer[0])
        if self._seat is not None and self._sockets:
            self._seat.tell(self.house.counted)
        if why:
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
        if self._seat is not None and self._sockets:
            self._seat.tell(self.house.counted)

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
