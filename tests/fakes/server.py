"""One connection of a fake: requests are read by h11, recorded as bytes, checked and answered."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

from tests.fakes import odd
from tests.fakes.families import Family
from tests.fakes.socket import talk
from tests.fakes.steps import GATE_HEADER, Gate
from tests.fakes.wire import DATE, KEPT_BYTES, Reply, Request, json_reply

if TYPE_CHECKING:
    from tests.fakes.world import Line, World

LOCAL_KEY = b"sk-lmk-"
"""What must never reach a provider."""

_READ_BYTES = 256 * 1024
_HEAD_BYTES = 1024 * 1024


class Gone(Exception):
    """The other side closed, or broke off in the middle of a message."""


class Reader:
    """The bytes of one connection as a series of requests."""

    def __init__(
        self, stream: asyncio.StreamReader, line: Line, took: Callable[[Line, bytes], None]
    ) -> None:
        self._stream = stream
        self._took = took
        self._line = line
        self._left = b""
        self._start()

    def _start(self) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._kept = bytearray()
        self._total = 0
        if self._left:
            self._feed(self._left)
            self._left = b""

    def _feed(self, data: bytes) -> None:
        self._total += len(data)
        if len(self._kept) < KEPT_BYTES:
            self._kept += data
        self._parser.receive_data(data)

    def _consumed(self) -> bytes:
        return bytes(self._kept[: self._total - len(self._parser.trailing_data[0])])

    async def _event(self) -> object:
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            data = await self._stream.read(_READ_BYTES)
            if not data and not self._total:
                raise Gone
            self._took(self._line, data)
            self._feed(data)
        return event

    async def head(self, family: str) -> Request:
        """The next request's head. Raises Gone, or h11.RemoteProtocolError."""
        event = await self._event()
        if not isinstance(event, h11.Request):
            raise Gone
        return Request(
            family=family,
            connection=self._line.number,
            method=event.method.decode("latin-1"),
            target=event.target.decode("latin-1"),
            version=event.http_version.decode("latin-1"),
            headers=tuple((bytes(name), bytes(value)) for name, value in event.headers.raw_items()),
            head=self._consumed(),
        )

    async def body(self, request: Request) -> None:
        """Reads the request's body to its end; returns whether it came there in `complete`."""
        digest = hashlib.sha256()
        kept = bytearray()
        while not request.complete:
            event = await self._event()
            if isinstance(event, h11.Data):
                digest.update(event.data)
                request.body_length += len(event.data)
                if len(kept) < KEPT_BYTES:
                    kept += event.data
            elif isinstance(event, h11.EndOfMessage):
                trailers = event.headers.raw_items() if event.headers else []
                request.trailers = tuple((bytes(name), bytes(value)) for name, value in trailers)
                request.complete = True
            else:
                raise Gone
        request.body = bytes(kept)
        request.body_sha256 = digest.hexdigest()
        request.raw = self._consumed()

    def raw(self) -> bytes:
        """What came behind a request that is no HTTP any more; h11 sees nothing of it."""
        return bytes(self._parser.trailing_data[0])

    async def more(self) -> bytes:
        """Further bytes of a connection that is no HTTP any more; b"" at its end."""
        data = await self._stream.read(_READ_BYTES)
        self._took(self._line, data)
        return data

    async def gone(self) -> None:
        """Returns when the other side has closed. What comes until then is for the next request."""
        while data := await self._stream.read(_READ_BYTES):
            self._took(self._line, data)
            self._feed(data)

    def next(self) -> bool:
        """Makes ready for a further request; False when the connection cannot have one."""
        if self._parser.their_state is not h11.DONE:
            return False
        self._left = bytes(self._parser.trailing_data[0])
        self._start()
        return True


class Exchange:
    """One request and its answer, for those who write the answer by hand."""

    def __init__(
        self,
        world: World,
        family: Family,
        request: Request,
        reader: Reader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.world = world
        self.family = family
        self.request = request
        self.writer = writer
        self.reader = reader
        self.closing = False
        """Set by an answer after which the connection is closed."""
        self._early: bytes | None = None

    async def read_body(self) -> None:
        await self.reader.body(self.request)

    async def read_more(self) -> bytes:
        """What comes after the request; b"" at the end of the connection."""
        if self._early is None:
            self._early = self.reader.raw()
            if self._early:
                return self._early
        return await self.reader.more()

    async def write(self, data: bytes) -> None:
        """Hands bytes to the socket, and waits while the other side does not take them."""
        self.writer.write(data)
        await self.writer.drain()

    async def flush(self) -> None:
        """Waits until the socket has taken everything."""
        transport = self.writer.transport
        transport.set_write_buffer_limits(high=0)
        await self.writer.drain()
        transport.set_write_buffer_limits()

    async def pass_gate(self, gate: Gate) -> None:
        """Waits for leave to send; raises Gone when the other side closes before."""
        leave = asyncio.ensure_future(gate.leave())
        gone = asyncio.ensure_future(self.reader.gone())
        try:
            await asyncio.wait((leave, gone), return_when=asyncio.FIRST_COMPLETED)
            if not leave.done():
                raise Gone
        finally:
            for task in (leave, gone):
                task.cancel()
            await asyncio.gather(leave, gone, return_exceptions=True)

    async def reply(self, reply: Reply) -> None:
        """Sends a well-formed answer; a streamed one through the gate that the request names."""
        request = self.request
        request.status = reply.status
        framing = ("transfer-encoding", "chunked")
        bodiless = request.method == "HEAD" or reply.status in (204, 304) or reply.status < 200
        fields = [("date", DATE), *reply.headers]
        if reply.chunks is not None:
            fields.append(framing)
        elif reply.status not in (204, 304):
            fields.append(("content-length", str(len(reply.body))))
        if self.closing:
            fields.append(("connection", "close"))
        await self.write(head_bytes(reply.status, fields, reply.reason))
        if bodiless:
            return
        if reply.chunks is None:
            await self.write(reply.body)
            return
        await self.stream(reply.chunks)
        await self.write(b"0\r\n\r\n")

    async def stream(self, chunks: tuple[bytes, ...]) -> None:
        """Sends chunks with chunked coding, each by leave of the gate where there is one."""
        name = self.request.header(GATE_HEADER.decode())
        gate = self.world.gate(name) if name else None
        for chunk in chunks:
            if gate:
                await self.pass_gate(gate)
            await self.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.request.chunks_sent += 1
            if gate:
                gate.mark_sent()


def head_bytes(status: int, fields: list[tuple[str, str]], reason: str = "") -> bytes:
    """The bytes of an answer's head."""
    if not reason:
        with contextlib.suppress(ValueError):
            reason = HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def serve(
    world: World,
    family: Family,
    line: Line,
    stream: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Serves a connection until either side closes it."""
    reader = Reader(stream, line, world.took)
    request: Request | None = None
    try:
        while True:
            request = None
            request = await reader.head(family.id)
            request.key = world.key(family.id)
            request.credential = family.credential_of(request, request.key)
            world.recorded(request)
            exchange = Exchange(world, family, request, reader, writer)
            exchange.closing = request.version == "1.0" or "close" in [
                token.strip().lower() for token in request.header("connection").split(",")
            ]
            await answer(exchange)
            world.answered(request)
            if exchange.closing or not reader.next():
                break
    except h11.RemoteProtocolError as error:
        line.malformed = str(error)
        with contextlib.suppress(OSError, ssl.SSLError):
            writer.write(head_bytes(400, [("content-length", "0"), ("connection", "close")]))
            await writer.drain()
    except (Gone, OSError, ssl.SSLError, asyncio.IncompleteReadError):
        pass
    finally:
        if request is not None:
            world.answered(request)
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError):
            await asyncio.wait_for(writer.wait_closed(), 2)


async def answer(exchange: Exchange) -> None:
    """One answer: odd ones by their path, documented ones by the family's routes."""
    request, family = exchange.request, exchange.family
    performer = odd.find(request)
    if performer is not None and request.credential == "real":
        if request.header("expect").lower() == "100-continue" and not odd.is_early(request):
            await exchange.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not odd.is_early(request):
            await exchange.read_body()
        await performer(exchange)
        return
    if request.header("expect").lower() == "100-continue":
        await exchange.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await exchange.read_body()
    if family.proof is not None:
        request.credential = family.proof(request)
    if request.credential != "real":
        await exchange.reply(family.refusal(request))
        return
    if "websocket" in request.header("upgrade").lower():
        steps = exchange.world.switch_steps(family.id, request.path)
        if steps is not None:
            await odd.play(exchange, steps)
            return
        if await talk(exchange, family.talks):
            return
    forced = exchange.world.forced(family.id, request.path)
    if forced is not None:
        await exchange.reply(forced)
        return
    handler = family.routes.find(request)
    if handler is None:
        await exchange.reply(family.unknown(request))
        return
    try:
        reply = handler(request)
    except Exception as error:
        # said to whoever asked, or it would look like the proxy's fault
        reply = json_reply({"error": f"the fake failed: {error!r}"}, 500)
    await exchange.reply(reply)
