"""Answers that no provider documents but every road must carry: `/odd/…`, on each provider's fake.

Also below one segment (`/v1/odd/…`), for providers whose paths the proxy completes. They need the
real credential like any path. Query parameters make them: `bytes`, `chunks`, `gate` (its name),
`to` (a redirect's target), `framing` (`length`, `chunked` or `close`).

    /odd/json, /odd/sse, /odd/ndjson, /odd/binary       the kinds of body
    /odd/gzip, /odd/gzip-sse                            compressed whatever was asked for
    /odd/204, /odd/304, /odd/status/{code}              the last with an error body
    /odd/trailers, /odd/close-delimited, /odd/http10    framings of HTTP/1
    /odd/informational?codes=100,103                    1xx before the answer
    /odd/truncated?framing=                             ends midway
    /odd/too-much                                       more bytes than Content-Length says
    /odd/echo?form=plain|split|gzip|base64              the request's own headers in an error body
    /odd/redirect?to=                                   302
    /odd/hang?gate=                                     nothing until the gate opens
    /odd/download?bytes=                                generated on the fly
    /odd/upload                                         length and digest of what came
    /odd/late?gate=                                     reads the upload when the gate opens
    /odd/413                                            refuses an upload without reading it
    /odd/early                                          answers before the upload, then reads it
    /odd/duplex                                         half of the answer before the upload ended
    /odd/reset                                          RST in place of an answer
    /odd/headers                                        unusual but legal head
    /odd/script/{name}                                  whatever `World.script` said, byte by byte
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from websockets.utils import accept_key

from tests.fakes.steps import Deaf, Gate
from tests.fakes.wire import DATE, Performer, Reply, Request, json_reply, ndjson_reply

if TYPE_CHECKING:
    from tests.fakes.server import Exchange
    from tests.fakes.world import Step

_PERFORMERS: dict[str, Performer] = {}
_EARLY = {"413", "duplex", "early", "late", "script-early", "reset-early"}


def find(request: Request) -> Performer | None:
    """Who performs this path; None when it is not an odd one."""
    return _PERFORMERS.get(_words(request)[0])


def is_early(request: Request) -> bool:
    """Whether the answer comes before the request's body is read."""
    return _words(request)[0] in _EARLY


def _words(request: Request) -> list[str]:
    """What follows `/odd/` in the path, by segment; [""] where nothing does."""
    return request.path.partition("/odd/")[2].split("/")


def _odd(name: str) -> Callable[[Performer], Performer]:
    def add(performer: Performer) -> Performer:
        _PERFORMERS[name] = performer
        return performer

    return add


def pattern(length: int, start: int = 0) -> bytes:
    """Bytes of a download: cheap to make, and telling when they are out of place."""
    first = start // 8
    words = range(first, (start + length) // 8 + 1)
    data = struct.pack(f"<{len(words)}Q", *words)
    return data[start - first * 8 :][:length]


def events(count: int) -> tuple[bytes, ...]:
    return tuple(f"data: {json.dumps({'number': i})}\n\n".encode() for i in range(count))


def _number(request: Request, name: str, default: int) -> int:
    return int(request.query.get(name, default))


def _gate(exchange: Exchange) -> Gate | None:
    name = exchange.request.query.get("gate")
    return exchange.world.gate(name) if name else None


@_odd("json")
async def _json(exchange: Exchange) -> None:
    request = exchange.request
    await exchange.reply(json_reply({"length": request.body_length, "sha256": request.body_sha256}))


@_odd("sse")
async def _sse(exchange: Exchange) -> None:
    kind = ("content-type", "text/event-stream")
    await exchange.reply(
        Reply(headers=(kind,), chunks=events(_number(exchange.request, "chunks", 3)))
    )


@_odd("ndjson")
async def _ndjson(exchange: Exchange) -> None:
    await exchange.reply(ndjson_reply({"a": 1}, {"b": "ü"}, {"c": None}))


@_odd("binary")
async def _binary(exchange: Exchange) -> None:
    body = bytes(range(256)) * max(1, _number(exchange.request, "bytes", 4096) // 256)
    await exchange.reply(Reply(headers=(("content-type", "application/octet-stream"),), body=body))


@_odd("gzip")
async def _gzip(exchange: Exchange) -> None:
    body = gzip.compress(json.dumps({"text": "squeezed " * 200}).encode(), mtime=0)
    fields = (("content-type", "application/json"), ("content-encoding", "gzip"))
    await exchange.reply(Reply(headers=fields, body=body))


@_odd("gzip-sse")
async def _gzip_sse(exchange: Exchange) -> None:
    body = gzip.compress(b"".join(events(20)), mtime=0)
    fields = (("content-type", "text/event-stream"), ("content-encoding", "gzip"))
    chunks = tuple(body[i : i + 16] for i in range(0, len(body), 16))
    await exchange.reply(Reply(headers=fields, chunks=chunks))


@_odd("204")
async def _204(exchange: Exchange) -> None:
    await exchange.reply(Reply(status=204, headers=(("x-odd", "nothing"),)))


@_odd("304")
async def _304(exchange: Exchange) -> None:
    await exchange.reply(Reply(status=304, headers=(("etag", '"odd"'),)))


@_odd("status")
async def _status(exchange: Exchange) -> None:
    status = int(_words(exchange.request)[1])
    fields = [("retry-after", "7")] if status in (429, 503) else []
    body = {"error": {"message": f"fake {status}", "type": "fake", "param": None, "code": None}}
    await exchange.reply(json_reply(body, status, *fields))


@_odd("trailers")
async def _trailers(exchange: Exchange) -> None:
    exchange.request.status = 200
    head = "HTTP/1.1 200 OK\r\ndate: {}\r\ncontent-type: text/plain\r\ntrailer: x-sum\r\n"
    await exchange.write(head.format(DATE).encode() + b"transfer-encoding: chunked\r\n\r\n")
    await exchange.stream((b"with ", b"trailers"))
    await exchange.write(b"0\r\nx-sum: 42\r\n\r\n")


@_odd("close-delimited")
async def _close_delimited(exchange: Exchange) -> None:
    exchange.request.status, exchange.closing = 200, True
    head = f"HTTP/1.1 200 OK\r\ndate: {DATE}\r\ncontent-type: text/plain\r\n\r\n"
    await exchange.write(head.encode())
    for number in range(_number(exchange.request, "chunks", 3)):
        await exchange.write(f"piece {number}\n".encode())


@_odd("http10")
async def _http10(exchange: Exchange) -> None:
    exchange.request.status, exchange.closing = 200, True
    head = f"HTTP/1.0 200 OK\r\ndate: {DATE}\r\ncontent-type: text/plain\r\n\r\n"
    await exchange.write(head.encode() + b"an old answer")


@_odd("informational")
async def _informational(exchange: Exchange) -> None:
    for code in exchange.request.query.get("codes", "103").split(","):
        await exchange.write(f"HTTP/1.1 {code} Wait\r\nlink: </early>\r\n\r\n".encode())
    await exchange.reply(json_reply({"target": exchange.request.target}))


@_odd("truncated")
async def _truncated(exchange: Exchange) -> None:
    exchange.request.status, exchange.closing = 200, True
    framing = exchange.request.query.get("framing", "length")
    head = f"HTTP/1.1 200 OK\r\ndate: {DATE}\r\ncontent-type: text/plain\r\n"
    if framing == "length":
        await exchange.write(head.encode() + b"content-length: 1000\r\n\r\nonly this")
    else:
        await exchange.write(
            head.encode() + b"transfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n"
        )


@_odd("too-much")
async def _too_much(exchange: Exchange) -> None:
    exchange.request.status = 200
    head = (
        f"HTTP/1.1 200 OK\r\ndate: {DATE}\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n"
    )
    await exchange.write(head.encode() + b"rightHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")


@_odd("echo")
async def _echo(exchange: Exchange) -> None:
    request = exchange.request
    seen = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    form = request.query.get("form", "plain")
    body = json.dumps({"error": {"message": "bad request", "headers": seen}}).encode()
    fields: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    status = _number(request, "status", 400)
    if form == "gzip":
        fields += (("content-encoding", "gzip"),)
        await exchange.reply(Reply(status, fields, gzip.compress(body, mtime=0)))
    elif form == "split":
        await exchange.reply(Reply(status, fields, chunks=tuple(bytes([byte]) for byte in body)))
    elif form == "header":
        echoed = tuple((f"x-echo-{name}", value) for name, value in seen.items())
        await exchange.reply(Reply(status, (*fields, *echoed), b"{}"))
    else:
        await exchange.reply(Reply(status, fields, body))


@_odd("redirect")
async def _redirect(exchange: Exchange) -> None:
    query = exchange.request.query
    fields = (("location", query.get("to", "/odd/json")), ("content-type", "text/plain"))
    await exchange.reply(Reply(_number(exchange.request, "status", 302), fields, b"elsewhere"))


@_odd("hang")
async def _hang(exchange: Exchange) -> None:
    gate = _gate(exchange)
    if gate is None:
        raise ValueError("/odd/hang needs ?gate=")
    await exchange.pass_gate(gate)
    await exchange.reply(json_reply({"waited": True}))


@_odd("download")
async def _download(exchange: Exchange) -> None:
    request = exchange.request
    request.status = 200
    total = _number(request, "bytes", 1024)
    head = f"HTTP/1.1 200 OK\r\ndate: {DATE}\r\ncontent-type: application/octet-stream\r\n"
    await exchange.write(f"{head}content-length: {total}\r\n\r\n".encode())
    block = pattern(1024 * 1024)
    for start in range(0, total, len(block)):
        await exchange.write(block[: min(len(block), total - start)])


@_odd("upload")
async def _upload(exchange: Exchange) -> None:
    await _json(exchange)


@_odd("late")
async def _late(exchange: Exchange) -> None:
    gate = _gate(exchange)
    if gate is None:
        raise ValueError("/odd/late needs ?gate=")
    await gate.leave()
    await exchange.read_body()
    await _json(exchange)


@_odd("413")
async def _413(exchange: Exchange) -> None:
    """Never reads; a large answer shows that both directions drain by themselves."""
    request = exchange.request
    exchange.closing = True
    message = "x" * _number(request, "bytes", 100)
    body = {"error": {"message": message, "type": "too_large", "param": None, "code": None}}
    await exchange.reply(json_reply(body, 413))
    await exchange.flush()
    # a socket that is closed over unread bytes is reset, and what was sent may be lost with it
    await exchange.reader.gone()


@_odd("early")
async def _early(exchange: Exchange) -> None:
    await exchange.reply(json_reply({"early": True}))
    await exchange.read_body()


@_odd("duplex")
async def _duplex(exchange: Exchange) -> None:
    request = exchange.request
    request.status = 200
    head = f"HTTP/1.1 200 OK\r\ndate: {DATE}\r\ncontent-type: text/plain\r\n"
    await exchange.write(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
    await exchange.stream((b"listening;",))
    await exchange.read_body()
    await exchange.stream((f"heard {request.body_length}".encode(),))
    await exchange.write(b"0\r\n\r\n")


@_odd("reset")
async def _reset(exchange: Exchange) -> None:
    exchange.closing = True
    _abort(exchange)


_PERFORMERS["reset-early"] = _reset


@_odd("headers")
async def _headers(exchange: Exchange) -> None:
    exchange.request.status = 200
    lines = [
        "HTTP/1.1 200 Quite  all right",
        f"Date: {DATE}",
        "X-Twice: one",
        "x-twice: two",
        "X-EMPTY:",
        "X-Spaces: \t  padded  ",
        "X-Latin: caf\xe9",
        "Set-Cookie: a=b",
        "Set-Cookie: c=d",
        "OpenAI-Processing-Ms: 12",
        "Content-Length: 2",
        "",
        "{}",
    ]
    await exchange.write("\r\n".join(lines).encode("latin-1"))


@_odd("script")
async def _script(exchange: Exchange) -> None:
    name = "/".join(_words(exchange.request)[1:])
    steps = exchange.world.steps(name)
    if not steps:
        await exchange.reply(json_reply({"error": f"no script {name}"}, 404))
        return
    await play(exchange, steps)


async def play(exchange: Exchange, steps: tuple[Step, ...]) -> None:
    """Performs steps in place of an answer; `{accept}` in bytes is the right Sec-WebSocket-Accept
    for what was asked."""
    exchange.request.status = 1
    key = exchange.request.header("sec-websocket-key")
    for step in steps:
        if isinstance(step, Gate):
            await exchange.pass_gate(step)
            step.mark_sent()
        elif isinstance(step, Deaf):
            await step.gate.leave()
        elif isinstance(step, bytes):
            await exchange.write(step.replace(b"{accept}", accept_key(key).encode()))
        elif step == "reset":
            exchange.closing = True
            _abort(exchange)
            return
        else:
            exchange.closing = True
            return


_PERFORMERS["script-early"] = _script


def _abort(exchange: Exchange) -> None:
    found = exchange.writer.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport = exchange.writer.transport
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
