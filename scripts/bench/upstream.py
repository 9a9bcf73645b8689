"""An upstream that streams and moves bulk, and a relay that stands in for a network's round trip.

    python upstream.py provider [--chunks N --every S]    # prints its port
    python upstream.py relay PORT DELAY_S                 # prints its port

Both end with the process that started them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.bench.ways import MODEL, REAL, child  # noqa: E402

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BLOCK = b"\0" * 65536
_EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"%b","choices":[{"index":0,"delta":{"content":"at-%.6f"}}]}\n\n'
)
_USAGE = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"%b","choices":[],'
    b'"usage":{"prompt_tokens":60,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)


class Provider(asyncio.Protocol):
    """Answers who has the real key: a stream of events that tell when they were sent, `BYTES` of
    an audio file (`/v1/audio/speech`, as many as the request's `input` says), or that a file has
    come (`/v1/files`)."""

    chunks = 100
    every_s = 0.02

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._got = bytearray()
        self._left = 0
        self._head = b""
        self._room = asyncio.Event()
        self._room.set()
        self._timer: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.set()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._head:
            self._body(data)
            return
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        self._head = bytes(self._got[: end + 4])
        rest = bytes(self._got[end + 4 :])
        self._got.clear()
        length = _LENGTH.search(self._head)
        self._left = int(length[1]) if length else 0
        self._body(rest)

    def _body(self, data: bytes) -> None:
        self._left -= len(data)
        if b" /v1/files" not in self._head:
            self._got += data
        if self._left <= 0:
            head, self._head = self._head, b""
            content = bytes(self._got)
            self._got.clear()
            self._answer(head, content)

    def _answer(self, head: bytes, content: bytes) -> None:
        if REAL.encode() not in head:
            self._whole(b"401 Unauthorized", b"{}")
        elif b" /v1/files" in head:
            self._whole(b"200 OK", b'{"id": "file-bench", "object": "file"}')
        elif b" /v1/audio/speech" in head:
            found = re.search(rb'"input": *"(\d+)"', content)
            self._task = asyncio.ensure_future(self._bulk(int(found[1]) if found else 0))
        elif b'"stream"' in content:
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            self._begin_s = asyncio.get_running_loop().time()
            self._stream(0, b"include_usage" in content)
        else:
            self._whole(
                b"200 OK",
                b'{"id":"c","object":"chat.completion","created":1,"model":"%b","choices":[{"index"'
                b':0,"message":{"role":"assistant","content":"y"},"finish_reason":"stop"}],"usage":'
                b'{"prompt_tokens":60,"completion_tokens":1,"total_tokens":61}}' % MODEL.encode(),
            )

    def _whole(self, status: bytes, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )

    def _stream(self, number: int, usage: bool) -> None:
        if number == self.chunks:
            rest = b"data: [DONE]\n\n"
            if usage:
                n = self.chunks
                rest = _USAGE % (MODEL.encode(), n, n + 60) + rest
            self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
            return
        event = _EVENT % (MODEL.encode(), time.perf_counter())
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self._timer = asyncio.get_running_loop().call_at(
            self._begin_s + (number + 1) * self.every_s, self._stream, number + 1, usage
        )

    async def _bulk(self, size: int) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: %d\r\n\r\n" % size
        )
        while size > 0 and not self._transport.is_closing():
            self._transport.write(_BLOCK[:size])
            size -= len(_BLOCK)
            await self._room.wait()


class _Leg(asyncio.Protocol):
    """One side of a relayed connection: what comes goes to the other side, later."""

    def __init__(self, delay_s: float, other: _Leg | None = None) -> None:
        self._delay_s = delay_s
        self.other = other
        self.transport: Any = None
        self._waiting: list[bytes] = []
        self.not_before_s = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            transport.write(data)

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        assert self.other is not None
        # TCP's own handshake would have taken a round trip before the first byte
        when_s = max(loop.time(), self.not_before_s) + self._delay_s
        loop.call_at(when_s, self.other.take, data)

    def take(self, data: bytes) -> None:
        if self.transport is None:
            self._waiting.append(data)
        else:
            self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            asyncio.get_running_loop().call_later(self._delay_s, self.other.transport.close)


class _Near(_Leg):
    def __init__(self, port: int, delay_s: float) -> None:
        super().__init__(delay_s)
        self._port = port

    def connection_made(self, transport: Any) -> None:
        loop = asyncio.get_running_loop()
        self.not_before_s = loop.time() + 2 * self._delay_s
        far = self.other = _Leg(self._delay_s, self)
        self._task = loop.create_task(loop.create_connection(lambda: far, "127.0.0.1", self._port))
        super().connection_made(transport)


async def _serve(factory: Any) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.create_future()


@contextlib.contextmanager
def started(folder: Path, *arguments: str) -> Iterator[int]:
    """One of the two, in a process of its own; its port."""
    folder.mkdir()
    with child([sys.executable, __file__, *arguments], folder) as process:
        told = folder / "output.txt"
        end_s = time.monotonic() + 30
        while not told.read_text().endswith("\n"):
            if process.poll() is not None or time.monotonic() > end_s:
                raise SystemExit(f"{arguments[0]} did not start: {told.read_text()}")
            time.sleep(0.02)
        yield int(told.read_text().split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    what = parser.add_subparsers(dest="what", required=True)
    provider = what.add_parser("provider")
    provider.add_argument("--chunks", type=int, default=100)
    provider.add_argument("--every", type=float, default=0.02)
    relay = what.add_parser("relay")
    relay.add_argument("port", type=int)
    relay.add_argument("delay_s", type=float)
    wanted = parser.parse_args()
    if wanted.what == "provider":
        Provider.chunks, Provider.every_s = wanted.chunks, wanted.every
        factory: Any = Provider
    else:
        factory = lambda: _Near(wanted.port, wanted.delay_s)  # noqa: E731
    try:
        import uvloop

        make: Any = uvloop.new_event_loop
    except ImportError:
        make = None
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(_serve(factory))


if __name__ == "__main__":
    main()
