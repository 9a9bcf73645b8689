"""WebSockets of the fakes: the `websockets` library on a connection whose request h11 has read.

A family names who talks at which path (`Talks`); a talk is a coroutine over a `Socket`. The library
judges the handshake and each frame, so what a proxy sends is read by another's code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from tests.fakes.wire import Request, pattern

if TYPE_CHECKING:
    from tests.fakes.server import Exchange


class Hangup(Exception):
    """The other side said goodbye, or is gone."""


class Socket:
    """One WebSocket, as a fake provider has it."""

    def __init__(self, exchange: Exchange, subprotocols: tuple[str, ...]) -> None:
        self.exchange = exchange
        self.request = exchange.request
        self._protocol = ServerProtocol(
            # offered to whoever wants it, so that a proxy that passes the offer on is seen
            extensions=[ServerPerMessageDeflateFactory()],
            subprotocols=[Subprotocol(word) for word in subprotocols] or None,
            select_subprotocol=lambda _, offered: next(
                (word for word in offered if word in subprotocols), None
            ),
            max_size=None,
        )
        self._messages: list[str | bytes] = []
        self._parts: list[bytes] = []
        self._opcode = Opcode.TEXT

    @property
    def close_code(self) -> int:
        """Of the other side's goodbye; 1006 where it left without one."""
        said = self._protocol.close_rcvd
        return 1006 if said is None else said.code

    @property
    def extended(self) -> bool:
        """Whether an extension was agreed on."""
        return bool(self._protocol.extensions)

    async def accept(self) -> bool:
        """Answers the handshake; False where the library refused it."""
        self._protocol.receive_data(self.request.head)
        [handshake] = self._protocol.events_received()
        assert isinstance(handshake, Handshake)
        response = self._protocol.accept(handshake)
        self.request.status = response.status_code
        self._protocol.send_response(response)
        await self._flush()
        self.exchange.world.switched(self.request)
        return self._protocol.state is State.OPEN

    async def receive(self) -> str | bytes:
        """The next message, recorded in the request's `messages`. Raises Hangup."""
        while not self._messages:
            if self._protocol.state is not State.OPEN:
                raise Hangup
            data = await self.exchange.read_more()
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            for event in self._protocol.events_received():
                assert isinstance(event, Frame)
                self._take(event)
            await self._flush()
        message = self._messages.pop(0)
        self.request.messages.append(message)
        return message

    async def json(self) -> dict[str, Any]:
        """The next message as JSON; of audio, `{}`. Raises Hangup."""
        message = await self.receive()
        try:
            value = json.loads(message)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    async def send(self, message: str | bytes | dict[str, Any]) -> None:
        if isinstance(message, dict):
            message = json.dumps(message, ensure_ascii=False)
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        await self._flush()

    async def ping(self, data: bytes) -> None:
        self._protocol.send_ping(data)
        await self._flush()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye and waits for the other side's."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            await self._flush()
        while self._protocol.state is not State.CLOSED and not self._protocol.eof_sent:
            data = await self.exchange.read_more()
            if not data:
                self._protocol.receive_eof()
                break
            self._protocol.receive_data(data)
            await self._flush()

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._opcode = Opcode(frame.opcode)
            self._parts = []
        elif frame.opcode is Opcode.PONG:
            self.request.pongs.append(bytes(frame.data))
            return
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._parts)
            self._messages.append(whole.decode() if self._opcode is Opcode.TEXT else whole)

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await self.exchange.write(data)


type Talk = Callable[[Socket], Awaitable[None]]


class Talks:
    """Who talks at which path, tried in order; patterns as those of `Routes`."""

    def __init__(self) -> None:
        self._ways: list[tuple[re.Pattern[str], Talk, tuple[str, ...]]] = []

    def __call__(self, *paths: str, subprotocols: tuple[str, ...] = ()) -> Callable[[Talk], Talk]:
        """Decorates a talk with its paths, and the subprotocols that it would choose."""

        def add(talk: Talk) -> Talk:
            for path in paths:
                self._ways.append((pattern(path), talk, subprotocols))
            return talk

        return add

    def include(self, other: Talks, prefix: str = "") -> None:
        for found, talk, subprotocols in other._ways:
            self._ways.append((re.compile(re.escape(prefix) + found.pattern), talk, subprotocols))

    def find(self, request: Request) -> tuple[Talk, tuple[str, ...]] | None:
        for found, talk, subprotocols in self._ways:
            if match := found.fullmatch(request.path):
                request.params = {key: unquote(text) for key, text in match.groupdict().items()}
                return talk, subprotocols
        return None


async def talk(exchange: Exchange, talks: Talks) -> bool:
    """Serves a WebSocket where the path has one, to its end; False where it has none."""
    found = talks.find(exchange.request)
    if found is None:
        return False
    speak, subprotocols = found
    socket = Socket(exchange, subprotocols)
    exchange.closing = True
    if await socket.accept():
        exchange.request.extended = socket.extended
        try:
            await speak(socket)
            await socket.close()
        except Hangup:
            await socket.close()
        except ProtocolError as error:
            exchange.request.fault = str(error)
        exchange.request.close_code = socket.close_code
    return True
