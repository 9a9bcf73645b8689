"""A client of the fuzzer: reads answers strictly by their framing, and keeps every byte."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

_STATUS = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ?([^\r\n]*)")
_FIELD = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([^\r\n\x00]*?)[ \t]*")


class NotHttp(Exception):
    """What came is no answer. The message says why."""


class End(Exception):
    """The connection ended before an answer began."""


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False
    until_close: bool = False

    def header(self, name: str) -> str:
        return next((v for n, v in self.headers if n.lower() == name), "")

    @property
    def denial(self) -> bool:
        """Whether the proxy itself answered."""
        told = bool(self.header("x-llamakey-request-id"))
        return told and self.header("cache-control") == "no-store"

    @property
    def closes(self) -> bool:
        return not self.whole or self.until_close or self.header("connection") == "close"


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.all = bytearray()
        """Everything that came."""
        self._buffer = bytearray()

    @classmethod
    async def connect(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))

    async def _more(self) -> bool:
        try:
            data = await self._reader.read(65536)
        except OSError:
            data = b""
        self.all += data
        self._buffer += data
        return bool(data)

    async def _until(self, mark: bytes, most: int = 200_000) -> bytes | None:
        """Up to and with the mark; None where the connection ends before."""
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > most:
                raise NotHttp(f"no {mark!r} in {most} bytes")
            if not await self._more():
                return None
        found = bytes(self._buffer[: at + len(mark)])
        del self._buffer[: at + len(mark)]
        return found

    async def rest(self) -> bytes:
        """Everything until the end."""
        while await self._more():
            pass
        found = bytes(self._buffer)
        self._buffer.clear()
        return found

    async def answer(self, method: str) -> Answer:
        """The next answer that is not informational. Raises End, NotHttp."""
        while True:
            answer = await self._head()
            if answer.status >= 200:
                break
            if answer.status == 101:
                raise NotHttp("a switch of protocols")
        lengths = [v for n, v in answer.headers if n.lower() == "content-length"]
        codings = [v for n, v in answer.headers if n.lower() == "transfer-encoding"]
        if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
            raise NotHttp(f"framed twice: {lengths} {codings}")
        if method == "HEAD" or answer.status in (204, 304):
            answer.whole = True
        elif codings:
            if codings != ["chunked"]:
                raise NotHttp(f"Transfer-Encoding {codings}")
            await self._chunks(answer)
        elif lengths:
            await self._length(answer, int(lengths[0]))
        else:
            answer.until_close = answer.whole = True
            answer.body = await self.rest()
        return answer

    async def _head(self) -> Answer:
        raw = await self._until(b"\r\n\r\n")
        if raw is None:
            if self._buffer:
                raise NotHttp(f"cut within a head: {bytes(self._buffer[:80])!r}")
            raise End
        line, *lines = raw[:-4].split(b"\r\n")
        match = _STATUS.fullmatch(line)
        if match is None:
            raise NotHttp(f"no status line: {line[:80]!r}")
        answer = Answer(int(match[1]))
        for each in lines:
            found = _FIELD.fullmatch(each)
            if found is None:
                raise NotHttp(f"no header: {each[:80]!r}")
            answer.headers.append((found[1].decode(), found[2].decode("latin-1")))
        return answer

    async def _length(self, answer: Answer, length: int) -> None:
        while len(self._buffer) < length:
            if not await self._more():
                break
        answer.body = bytes(self._buffer[:length])
        del self._buffer[:length]
        answer.whole = len(answer.body) == length

    async def _chunks(self, answer: Answer) -> None:
        body = bytearray()
        while True:
            line = await self._until(b"\r\n", 100_000)
            if line is None:
                break
            if not re.fullmatch(rb"[0-9a-f]+\r\n", line):
                raise NotHttp(f"no chunk size: {line[:80]!r}")
            size = int(line, 16)
            if size == 0:
                while (line := await self._until(b"\r\n", 100_000)) not in (b"\r\n", None):
                    assert line is not None
                    if not _FIELD.fullmatch(line[:-2]):
                        raise NotHttp(f"no trailer: {line[:80]!r}")
                answer.whole = line is not None
                break
            while len(self._buffer) < size + 2:
                if not await self._more():
                    break
            body += self._buffer[:size]
            if len(self._buffer) < size + 2:
                self._buffer.clear()
                break
            if self._buffer[size : size + 2] != b"\r\n":
                raise NotHttp("a chunk does not end where it should")
            del self._buffer[: size + 2]
        answer.body = bytes(body)
