"""A provider of chats in a thread of this process, which says what it answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from typing import Any

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Chats:
    """How it answers is its subclass's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.port: int = server.sockets[0].getsockname()[1]

    async def answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
                await self.answer(body, writer)
                await writer.drain()
        writer.close()


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 30, "completion_tokens": tokens, "total_tokens": 30 + tokens}


def whole(writer: asyncio.StreamWriter, model: str, tokens: int) -> None:
    """An answer that does not stream."""
    text = json.dumps({"model": model, "usage": usage(tokens)}).encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
    )


def piece(parts: dict[str, Any]) -> bytes:
    """A chunk of a stream, as it is on the wire."""
    data = b"data: " + json.dumps(parts).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)
