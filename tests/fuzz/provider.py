"""The provider of the fuzzer: reads by h11, holds what came to account, and answers by plan."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import h11

from tests.fuzz.answers import Plan, plan_for
from tests.fuzz.generators import HIDDEN
from tests.fuzz.pieces import digest, split

NONCE = re.compile(r"fz-[0-9a-f]{16}")


@dataclass(slots=True)
class Arrival:
    """A request as it came to a provider."""

    provider: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    length: int = 0
    """Bytes of its body."""
    digest: bytes = b""
    """Of its body, where that is complete."""
    complete: bool = False
    answered: bool = False
    """Whether a byte of an answer was written."""
    first: bool = True
    """Whether it was the first on its connection."""


@dataclass(slots=True)
class Provider:
    """Serves one provider on a port of its own, plain HTTP on loopback."""

    name: str
    header: str
    """Lower case name of the credential's header."""
    credential: str
    key: str
    arrivals: list[Arrival] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    plans: Counter[str] = field(default_factory=Counter)
    port: int = 0
    _by_nonce: dict[str, list[Arrival]] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def of(self, nonce: str) -> list[Arrival]:
        return self._by_nonce.get(nonce, [])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = b""
        first = True
        while True:
            parser = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
            if left:
                parser.receive_data(left)
            arrival: Arrival | None = None
            body = bytearray()
            plan: Plan | None = None
            try:
                while not (arrival and arrival.complete):
                    event = parser.next_event()
                    if event is h11.NEED_DATA:
                        data = await reader.read(65536)
                        parser.receive_data(data)
                        if not data and arrival is None:
                            return
                    elif isinstance(event, h11.Request):
                        arrival = self._arrived(event)
                        arrival.first = first
                        plan = self._plan(arrival)
                        if plan.early and not await self._answer(writer, arrival, plan):
                            return
                    elif isinstance(event, h11.Data):
                        body += event.data
                    elif isinstance(event, h11.EndOfMessage):
                        assert arrival is not None
                        arrival.complete = True
                        arrival.length, arrival.digest = len(body), digest(body)
                        if event.headers:
                            self._fault(arrival, f"trailers came: {event.headers.raw_items()}")
                    else:
                        return
            except h11.RemoteProtocolError as error:
                # a request that was cut off is none; anything else was written by the proxy
                if "without sending complete message body" not in str(error):
                    where = arrival.target if arrival else "before a head"
                    self.faults.append(f"{self.name}: h11 refuses what came: {error} ({where})")
                return
            assert arrival is not None
            assert plan is not None
            left = parser.trailing_data[0]
            if left and not plan.early:  # else its answer is over, and the next one may come
                self._fault(arrival, f"bytes came behind it: {left[:80]!r}")
                return
            if not plan.early and not await self._answer(writer, arrival, plan):
                return
            first = False

    def _arrived(self, event: h11.Request) -> Arrival:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in event.headers.raw_items()
        ]
        arrival = Arrival(
            self.name, event.method.decode("latin-1"), event.target.decode("latin-1"), headers
        )
        self.arrivals.append(arrival)
        for nonce in set(NONCE.findall(arrival.target)):
            self._by_nonce.setdefault(nonce, []).append(arrival)
        found = [value for name, value in headers if name.lower() == self.header]
        if found != [self.credential]:
            self._fault(arrival, f"credentials: {len(found)}, right: {self.credential in found}")
        if sum(self.key in value for _, value in headers) != 1:
            self._fault(arrival, "the real key stands elsewhere too")
        text = repr(headers) + arrival.target
        if "sk-lmk" in text.lower():
            self._fault(arrival, "a local key came")
        if HIDDEN in arrival.target:
            self._fault(arrival, "a request that was hidden in a body came")
        if [value for name, value in headers if name.lower() == "host"] != [
            f"127.0.0.1:{self.port}"
        ]:
            self._fault(arrival, "the Host is not the provider's")
        return arrival

    def _plan(self, arrival: Arrival) -> Plan:
        found = NONCE.search(arrival.target)
        plan = plan_for(found[0] if found else arrival.target, arrival.method, self.key)
        self.plans[plan.name] += 1
        return plan

    async def _answer(self, writer: asyncio.StreamWriter, arrival: Arrival, plan: Plan) -> bool:
        """Writes an answer; False where the connection ends with it."""
        if plan.silent:
            await asyncio.sleep(30)
            return False
        random = Random(arrival.target)
        for piece in [plan.raw] if plan.at_once else split(random, plan.raw):
            arrival.answered = arrival.answered or bool(piece)
            writer.write(piece)
            await writer.drain()
            if random.random() < 0.5:
                await asyncio.sleep(0)
        if plan.reset:
            found: socket.socket = writer.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        return not plan.closes

    def _fault(self, arrival: Arrival, text: str) -> None:
        self.faults.append(f"{self.name} {arrival.method} {arrival.target[:200]}: {text}")
