"""What a provider answers, by plan, and what of it a client must get."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import zlib
from dataclasses import dataclass
from random import Random
from urllib.parse import quote

from tests.fuzz.pieces import chunked


@dataclass(slots=True)
class Plan:
    """An answer. Both ends read the same one: it is not changed once it is made."""

    name: str
    raw: bytes
    """Everything that the provider writes."""
    outcome: str = "whole"
    """`whole`: it must arrive so. `cut`: it must not seem whole, or be a 502. `fault`: it must be
    a 502 or a 504. `any`: whatever is no leak, no hang and no crossing."""
    status: int = 200
    body: bytes = b""
    """What the client must get, less transfer coding (`cut`: a beginning of it)."""
    early: bool = False
    """Written before the request's body is read."""
    closes: bool = False
    """The provider closes after it."""
    at_once: bool = False
    """Written in one piece."""
    silent: bool = False
    """Nothing comes, and the connection stays."""
    reset: bool = False


@functools.lru_cache(maxsize=128)  # both ends ask for it, and some take milliseconds
def plan_for(nonce: str, method: str, key: str) -> Plan:
    """The answer to the request with this nonce."""
    random = Random(f"plan {nonce}")
    plan = _choose(random, nonce, method, key)
    if random.random() < 0.15 and plan.outcome == "whole" and not plan.at_once:
        codes = random.choices((100, 102, 103), k=random.randint(1, 3))
        interim = b"".join(b"HTTP/1.1 %d Wait\r\nX-Fz: no\r\n\r\n" % code for code in codes)
        plan.raw = interim + plan.raw
    if random.random() < 0.08 and plan.outcome == "whole":
        plan.closes = True  # without a word: what was idle is then found closed
    # who closes on an upload that it has not read resets the connection, its own answer included
    if random.random() < 0.08 and plan.outcome == "whole" and not plan.closes:
        plan.early = True
    return plan


def _choose(random: Random, nonce: str, method: str, key: str) -> Plan:
    kind = random.random()
    if kind < 0.62:
        return _honest(random, nonce, method)
    if kind < 0.76:
        return _echo(random, nonce, method, key)
    if kind < 0.9:
        return _broken(random, nonce, method)
    return _garbage(random, nonce)


def _text(random: Random, nonce: str) -> bytes:
    size = random.choice((0, 1, 20, 500, 20_000, 150_000))
    kind = random.randrange(3)
    if kind == 0:
        return random.randbytes(size)
    line = b'data: {"nonce": "' + nonce.encode() + b'", "text": "sk- s sk-ant- b64"}\n\n'
    return (line * (size // len(line) + 1))[: max(size, len(line))]


def _head(status: int, nonce: str, *lines: bytes) -> bytes:
    return b"\r\n".join(
        [b"HTTP/1.1 %d Fine" % status, b"X-Fz: " + nonce.encode(), *lines, b"", b""]
    )


def _framed(
    random: Random, nonce: str, method: str, status: int, body: bytes, *lines: bytes
) -> tuple[bytes, bool]:
    """An answer's bytes, and whether its end is that of the connection."""
    empty = method == "HEAD" or status in (204, 304)
    match random.randrange(5):
        case 0 if not empty:
            head = _head(status, nonce, *lines)
            return head + body, True
        case 1 | 2:
            head = _head(status, nonce, *lines, b"Transfer-Encoding: chunked")
            if empty:
                return head, False
            end = random.choice((b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n", b"0;e\r\n\r\n"))
            return head + chunked(random, body) + end, False
    if status == 204:
        return _head(status, nonce, *lines), False
    head = _head(status, nonce, *lines, b"Content-Length: %d" % len(body))
    return (head if empty else head + body), False


def _honest(random: Random, nonce: str, method: str) -> Plan:
    status = random.choice((200, 200, 200, 201, 204, 304, 302, 400, 401, 404, 429, 500, 529))
    body = b"" if status in (204, 304) else _text(random, nonce)
    lines = []
    if random.random() < 0.25 and body:
        body = gzip.compress(body, mtime=0)
        lines.append(b"Content-Encoding: gzip")
    if random.random() < 0.1:
        lines.append(b"Connection: close")
    if random.random() < 0.2:
        lines += [
            b"Set-Cookie: a=b",
            b"Set-Cookie: c=d",
            b"X-Empty:",
            b"X-Text: gr\xc3\xbc\xc3\x9fe",
        ]
    raw, until_close = _framed(random, nonce, method, status, body, *lines)
    empty = method == "HEAD" or status in (204, 304)
    return Plan(
        "honest",
        raw,
        status=status,
        body=b"" if empty else body,
        closes=until_close or b"Connection: close" in lines,
    )


def _echo(random: Random, nonce: str, method: str, key: str) -> Plan:
    """The real key, in one of its spellings, somewhere in the answer."""
    spelled = random.choice(
        (
            key,
            key,
            quote(key, safe=""),
            json.dumps(key),
            base64.b64encode(key.encode()).decode().rstrip("="),
            key[: len(key) // 2] + key,
            key + key,
        )
    ).encode()
    where = random.randrange(4)
    if where == 0:
        lines = [b"X-Echo: Bearer " + spelled.replace(b'"', b"")]
        raw, closes = _framed(random, nonce, method, 400, b"echo", *lines)
        return Plan("echo in a header", raw, outcome="any", status=400, closes=closes)
    body = b"before " + random.randbytes(30) + spelled + b" after " + _text(random, nonce)[:3000]
    if where == 1:
        packing = random.choice(("gzip", "deflate", "raw"))
        packer = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw": -15}[packing])
        packed = packer.compress(body) + packer.flush()
        coding = b"Content-Encoding: " + (b"gzip" if packing == "gzip" else b"deflate")
        raw, closes = _framed(random, nonce, method, 200, packed, coding)
        return Plan("echo, packed", raw, outcome="any", closes=closes)
    raw, closes = _framed(random, nonce, method, 200, body)
    return Plan("echo in a body", raw, outcome="any", closes=closes)


def _broken(random: Random, nonce: str, method: str) -> Plan:
    """An answer that begins well and does not end so."""
    body = _text(random, nonce) + b"end"
    keep = random.randrange(len(body))
    if method == "HEAD":
        return Plan("nothing", b"", outcome="fault", closes=True)
    match random.randrange(7):
        case 0:
            raw = _head(200, nonce, b"Content-Length: %d" % len(body)) + body[:keep]
            return Plan("short of its length", raw, outcome="cut", body=body, closes=True)
        case 1:
            head = _head(200, nonce, b"Transfer-Encoding: chunked")
            raw = head + b"%x\r\n" % len(body) + body[:keep]
            return Plan("ends in a chunk", raw, outcome="cut", body=body, closes=True)
        case 2:
            head = _head(200, nonce, b"Transfer-Encoding: chunked")
            raw = (
                head
                + b"%x\r\n%b\r\n" % (len(body), body)
                + random.choice((b"", b"0\r\n", b"zz\r\n", b"0\r\nX\r\n\r\n", b"-1\r\n", b"\r\n"))
            )
            return Plan("no last chunk", raw, outcome="cut", body=body, closes=True)
        case 3:
            return Plan("nothing", b"", outcome="fault", closes=True)
        case 4:
            return Plan("reset", b"", outcome="fault", closes=True, reset=True)
        case 5:
            # Together, so that it is seen in time: what comes after an answer was passed and its
            # connection lent to another request is taken for that one's, by any client of HTTP/1.
            body = body[-500:]
            raw = _head(200, nonce, b"Content-Length: %d" % len(body)) + body
            extra = random.choice((b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", body))
            return Plan("more than its length", raw + extra, body=body, at_once=True)
    raw = _head(200, nonce, b"Content-Length: %d" % len(body))
    if random.random() < 0.2:
        return Plan("silence", b"", outcome="fault", silent=True)
    return Plan("a head, and reset", raw, outcome="cut", body=body, closes=True, reset=True)


def _garbage(random: Random, nonce: str) -> Plan:
    """No answer at all, or one that could be read in two ways."""
    choices: tuple[bytes, ...] = (
        random.randbytes(random.choice((1, 100, 5000))) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        _head(200, nonce, b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        _head(200, nonce, b"Content-Length: 5", b"Content-Length: 6") + b"hello!",
        _head(200, nonce, b"Content-Length: -5") + b"hello",
        _head(200, nonce, b"Content-Length: 5 5") + b"hello",
        _head(200, nonce, b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        _head(200, nonce, b"Transfer-Encoding: chunked\x00") + b"0\r\n\r\n",
        _head(200, nonce, b"X: a\r\n folded", b"Content-Length: 0"),
        _head(200, nonce, b"X: a\x00b", b"Content-Length: 0"),
        _head(200, nonce, b"X Y: a", b"Content-Length: 0"),
        _head(200, nonce, b"Content-Encoding: br", b"Content-Length: 1") + b"x",
        _head(200, nonce, b"X: " + b"a" * 70_000, b"Content-Length: 0"),
        b"HTTP/1.1 200 OK\r\nX: never ends",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
    )
    raw = random.choice(choices)
    outcome = "any" if b"Content-Encoding: br" in raw else "fault"
    return Plan("garbage", raw, outcome=outcome, closes=True)
