"""What goes over a fake's wire: requests as recorded, replies, and the routes between them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from tests.fakes.server import Exchange

KEPT_BYTES = 16 * 1024 * 1024
"""Of one request so much is kept; past that only its length and digest."""

DATE = "Mon, 23 Nov 2026 12:00:00 GMT"
"""Every answer has this date, so that two calls can be compared byte by byte."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    name: str
    filename: str | None
    content_type: str
    content: bytes


@dataclass(slots=True)
class Request:
    """A request as it came; recorded when its head is complete, filled as its body comes."""

    family: str
    connection: int
    """Number of the connection it came on; equal numbers shared one."""
    method: str
    target: str
    version: str
    """e.g. `1.1`"""
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in the case in which they came."""
    head: bytes
    """The exact bytes up to the empty line."""
    params: dict[str, str] = field(default_factory=dict)
    """What the route's `{…}` matched."""
    body: bytes = b""
    """Without transfer coding; at most KEPT_BYTES."""
    body_length: int = 0
    body_sha256: str = ""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    raw: bytes = b""
    """The exact bytes of head and body; at most KEPT_BYTES."""
    complete: bool = False
    """Whether the body came to its end."""
    credential: str = "missing"
    """`real`, `local` (a LlamaKey key was in the slot), `foreign` or `missing`."""
    key: str = ""
    """The real key that its family demands; for servers of tokens the client's secret."""
    status: int = 0
    """Of the answer; 0 before it."""
    chunks_sent: int = 0
    messages: list[str | bytes] = field(default_factory=list)
    """What came over a WebSocket, as far as the fake has read it."""
    pongs: list[bytes] = field(default_factory=list)
    extended: bool = False
    """Whether an extension of WebSockets was agreed on."""
    close_code: int | None = None
    """Of the other side's goodbye to a WebSocket."""
    fault: str = ""
    """What the `websockets` library held against the frames, or ""."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The first value of each parameter."""
        raw = self.target.partition("?")[2]
        return {name: values[0] for name, values in parse_qs(raw, keep_blank_values=True).items()}

    def place(self, name: str, prefix: str = "") -> int:
        """Where in a list a page's token stands; 0 for none, and for one that is not ours."""
        token = self.query.get(name, "").removeprefix(prefix)
        return int(token) if token.isdigit() else 0

    def values(self, name: str) -> list[str]:
        """All values of a header, compared without case."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def header(self, name: str, default: str = "") -> str:
        return next(iter(self.values(name)), default)

    def json(self) -> dict[str, Any]:
        """The JSON object in the body; {} when there is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def form(self) -> dict[str, Part]:
        """The parts of a multipart/form-data body by name; {} when it is none."""
        kind = self.header("content-type")
        if not kind.startswith("multipart/form-data"):
            return {}
        text = b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n" + self.body
        message = BytesParser(policy=policy.HTTP).parsebytes(text)
        parts = {}
        for part in message.iter_parts():
            assert isinstance(part, EmailMessage)
            name = str(part.get_param("name", "", header="content-disposition"))
            content = part.get_payload(decode=True)
            parts[name] = Part(
                name=name,
                filename=part.get_filename(),
                content_type=part.get_content_type(),
                content=content if isinstance(content, bytes) else b"",
            )
        return parts


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. With `chunks` it is streamed with chunked coding, else `body` has its length."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunks: tuple[bytes, ...] | None = None
    reason: str = ""


type Handler = Callable[[Request], Reply]
"""A documented answer: a plain function of the request."""

type Performer = Callable[[Exchange], Awaitable[None]]
"""An odd answer: writes what it likes to the connection."""


@dataclass(frozen=True, slots=True)
class Way:
    """What answers one method on one pattern of paths."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler


class Routes:
    """Ways of a provider, tried in order. `{name}` matches a segment, `{name...}` the rest."""

    def __init__(self) -> None:
        self._ways: list[Way] = []

    def __call__(self, method: str, *paths: str) -> Callable[[Handler], Handler]:
        """Decorates a handler with the method and the paths that it answers."""

        def add(handler: Handler) -> Handler:
            for path in paths:
                self._ways.append(Way(method, pattern(path), handler))
            return handler

        return add

    def include(self, other: Routes, prefix: str = "") -> None:
        """Takes over another's ways, below `prefix`; paths of the other begin with `/`."""
        for way in other._ways:
            pattern = re.compile(re.escape(prefix) + way.pattern.pattern)
            self._ways.append(Way(way.method, pattern, way.handler))

    def find(self, request: Request) -> Handler | None:
        """The first way that fits; puts the path's parameters into `request.params`."""
        method = "GET" if request.method == "HEAD" else request.method
        for way in self._ways:
            match = way.pattern.fullmatch(request.path)
            if match and way.method == method:
                request.params = {key: unquote(text) for key, text in match.groupdict().items()}
                return way.handler
        return None


def pattern(path: str) -> re.Pattern[str]:
    """`/a/{name}/{rest...}` as a regular expression with groups."""
    text = ""
    for piece in re.split(r"(\{\w+(?:\.\.\.)?\})", path):
        if piece.startswith("{") and piece.endswith("...}"):
            text += f"(?P<{piece[1:-4]}>.+)"
        elif piece.startswith("{"):
            text += f"(?P<{piece[1:-1]}>[^/]+?)"
        else:
            text += re.escape(piece)
    return re.compile(text)


def json_reply(value: object, status: int = 200, *headers: tuple[str, str]) -> Reply:
    """A JSON answer with its request id, as every provider here sends one."""
    body = json.dumps(value, ensure_ascii=False).encode()
    identity = hashlib.sha256(body).hexdigest()[:24]
    return Reply(
        status=status,
        headers=(("content-type", "application/json"), ("x-request-id", identity), *headers),
        body=body,
    )


def binary_reply(body: bytes, content_type: str, *headers: tuple[str, str]) -> Reply:
    return Reply(headers=(("content-type", content_type), *headers), body=body)


def sse_reply(*events: bytes, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Server-sent events, one chunk an event."""
    kind = ("content-type", "text/event-stream; charset=utf-8")
    return Reply(headers=(kind, ("cache-control", "no-cache"), *headers), chunks=tuple(events))


def sse_data(value: object) -> bytes:
    """One event of data alone."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def sse_event(name: str, value: object) -> bytes:
    """One event with a name."""
    return b"event: " + name.encode() + b"\n" + sse_data(value)


def ndjson_reply(*values: object, content_type: str = "application/x-ndjson") -> Reply:
    """One JSON value a line, one chunk a line."""
    lines = tuple(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)
    return Reply(headers=(("content-type", content_type),), chunks=lines)
