"""A client that shows what came, byte by byte: sockets, heads and framing, and no opinion."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"trailer"})
"""Fields that speak of one connection alone (RFC 9110, 7.6.1; RFC 9112, 6.1): a proxy's own."""


class Closed(Exception):
    """The other side closed in the middle of a message. `partial` is what came of it."""

    def __init__(self, partial: bytes = b"") -> None:
        self.partial = partial
        super().__init__(f"closed after {len(partial)} bytes")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came."""

    version: str
    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in the case in which they came."""
    body: bytes
    """Without transfer coding."""
    framing: str
    """`none`, `length`, `chunked` or `close`."""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    whole: bool = True
    """False when it ended midway."""

    def header(self, name: str, default: str = "") -> str:
        wanted = name.lower().encode()
        return next(
            (value.decode("latin-1") for key, value in self.headers if key.lower() == wanted),
            default,
        )

    @property
    def denial(self) -> bool:
        """Whether the proxy itself answered. All answers that pass it have its id."""
        told = bool(self.header("x-llamakey-request-id"))
        return told and self.header("cache-control") == "no-store"

    @property
    def end_to_end(self) -> list[tuple[bytes, bytes]]:
        """Fields that concern the client, in their order."""
        return [
            (key, value)
            for key, value in self.headers
            if key.lower() not in HOP_BY_HOP and key != b"x-llamakey-request-id"
        ]


class Wire:
    """A connection. Closes itself at the end of a `with`."""

    def __init__(
        self, origin: str, context: ssl.SSLContext | None = None, timeout_s: float = 45
    ) -> None:
        place = urlsplit(origin)
        self.authority = place.netloc
        assert place.hostname
        assert place.port
        self._socket: socket.socket = socket.create_connection(
            (place.hostname, place.port), timeout_s
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if place.scheme == "https":
            assert context is not None
            try:
                self._socket = context.wrap_socket(self._socket, server_hostname=place.hostname)
            except OSError:
                self._socket.close()
                raise
        self._got = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        # `sendall` has one time-out for all of it; here it is one for each step that is taken
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self._socket.send(view[: 2**20]) :]

    def send_until_full(self, data: bytes, still_s: float = 1) -> int:
        """Sends until nothing was taken for so long; returns how many bytes were."""
        sent = 0
        before = self._socket.gettimeout()
        self._socket.settimeout(still_s)
        view = memoryview(data)
        try:
            while sent < len(data):
                sent += self._socket.send(view[sent : sent + 65536])
        except TimeoutError:
            pass
        finally:
            self._socket.settimeout(before)
        return sent

    def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        """Sends a plain request; Host and Content-Length are put in."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.authority}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def more(self) -> bytes:
        """What comes next, b"" at the end."""
        if self._got:
            data, self._got = self._got, b""
            return data
        try:
            return self._socket.recv(256 * 1024)
        except (ConnectionError, ssl.SSLError):
            return b""

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with the mark."""
        got = b""
        while mark not in got:
            data = self.more()
            if not data:
                raise Closed(got)
            got += data
        found, _, self._got = got.partition(mark)
        return found + mark

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        return b"".join(iter(self.more, b""))

    def head(self) -> tuple[str, int, str, tuple[tuple[bytes, bytes], ...]]:
        """Version, status, reason and fields of the next head, informational ones included."""
        lines = self.until(b"\r\n\r\n")[:-4].split(b"\r\n")
        version, status, reason = (lines[0].decode("latin-1") + "  ").split(" ", 2)
        return version, int(status), reason.strip(), _fields(lines[1:])

    def pieces(self, method: str, status: int, fields: Iterable[tuple[bytes, bytes]]) -> Framing:
        return Framing(self, method, status, fields)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, less informational ones before it."""
        status = 100
        while status < 200:
            version, status, reason, fields = self.head()
        framing = self.pieces(method, status, fields)
        body: list[bytes] = []
        whole = True
        try:
            body.extend(framing)
        except Closed as closed:
            body.append(closed.partial)
            whole = False
        return Answer(
            version, status, reason, fields, b"".join(body), framing.kind, framing.trailers, whole
        )


class Framing:
    """The body of an answer in the pieces in which it came."""

    def __init__(
        self, wire: Wire, method: str, status: int, fields: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self._wire = wire
        self.trailers: tuple[tuple[bytes, bytes], ...] = ()
        values = {name.lower(): value for name, value in fields}
        self._length = 0
        if method == "HEAD" or status in (204, 304):
            self.kind = "none"
        elif b"chunked" in values.get(b"transfer-encoding", b""):
            self.kind = "chunked"
        elif b"content-length" in values:
            self.kind = "length"
            self._length = int(values[b"content-length"])
        else:
            self.kind = "close"

    def __iter__(self) -> Iterator[bytes]:
        match self.kind:
            case "length":
                yield from self._exactly(self._length)
            case "chunked":
                while size := int(self._wire.until(b"\r\n").split(b";")[0], 16):
                    yield b"".join(self._exactly(size))
                    self._wire.until(b"\r\n")
                lines = []
                while line := self._wire.until(b"\r\n")[:-2]:
                    lines.append(line)
                self.trailers = _fields(lines)
            case "close":
                yield from iter(self._wire.more, b"")

    def _exactly(self, length: int) -> Iterator[bytes]:
        while length:
            data = self._wire.more()
            if not data:
                raise Closed
            self._wire._got = data[length:]
            data = data[:length]
            length -= len(data)
            yield data


def _fields(lines: Iterable[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for line in lines:
        name, _, value = line.partition(b":")
        found.append((name, value.strip(b" \t")))
    return tuple(found)
