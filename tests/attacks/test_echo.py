"""A provider that says the real key back: in bodies, heads, trailers, packed, in pieces."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import zlib
from urllib.parse import quote

import pytest

from tests import canary
from tests.attacks.conftest import Door, open_door, refused
from tests.conftest import Start
from tests.fakes import World
from tests.harness import Mode


def everything(door: Door, path: str, *headers: str, method: str = "GET") -> bytes:
    """Every byte that a client gets."""
    with door.wire() as wire:
        wire.send(door.head(f"{method} {path}", *headers, "Connection: close"))
        got = wire.rest()
    door.seen()
    return got


def assert_no_key(door: Door, got: bytes) -> None:
    head, _, body = got.partition(b"\r\n\r\n")
    assert canary.find(head, door.world.keys.values()) == []
    assert canary.find(got, door.world.keys.values()) == []
    assert canary.find(body, door.world.keys.values()) == []


@pytest.mark.parametrize("provider", ["anthropic", "cohere", "gemini", "huggingface", "vectara"])
@pytest.mark.parametrize("form", ["plain", "split", "gzip", "header"])
def test_an_echo_of_the_request(door: Door, provider: str, form: str) -> None:
    slot = {"gemini": "x-goog-api-key", "vectara": "x-api-key"}.get(provider)
    extra = [f"{slot}: {door.proxy.local_key}"] if slot else []
    got = everything(
        door, f"/{provider}/odd/echo?form={form}&status=400", "Accept-Encoding: gzip", *extra
    )
    assert got.startswith(b"HTTP/1.1 400 ")
    assert_no_key(door, got)
    if form in ("plain", "header"):
        assert b"****" in got, "masked, not cut"


SPELLINGS = {
    "plain": lambda key: key,
    "url": lambda key: quote(key, safe=""),
    "json": lambda key: json.dumps({"key": key}),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "twice": lambda key: key + key,
    "after its own beginning": lambda key: key[:8] + key,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("packing", ["", "gzip", "deflate", "raw", "members"])
@pytest.mark.parametrize("size", [1, 7, 100000])
def test_bodies(lmk_door: Door, spelling: str, packing: str, size: int) -> None:
    key = lmk_door.world.key("anthropic")
    text = ("before " * 20 + SPELLINGS[spelling](key) + " after").encode()
    body, coding = text, b""
    match packing:
        case "gzip":
            body, coding = gzip.compress(text, mtime=0), b"gzip"
        case "deflate":
            body, coding = zlib.compress(text), b"deflate"
        case "raw":
            packer = zlib.compressobj(wbits=-15)
            body, coding = packer.compress(text) + packer.flush(), b"deflate"
        case "members":
            halves = text[:150], text[150:]
            body, coding = b"".join(gzip.compress(half, mtime=0) for half in halves), b"gzip"
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    path = lmk_door.world.script(
        f"echo-{spelling}-{packing}-{size}".replace(" ", "-"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        + (b"Content-Encoding: " + coding + b"\r\n" if coding else b"")
        + b"\r\n",
        *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces),
        b"0\r\n\r\n",
    )
    with lmk_door.wire() as wire:
        wire.send(lmk_door.head(f"GET /anthropic{path}", "Accept-Encoding: gzip, deflate"))
        answer = wire.answer()
    lmk_door.seen()
    got = answer.body
    if packing:
        assert not answer.whole, "cut before the key"
        got = unpack(answer.body, packing)
        assert text.startswith(got), "nothing was changed"
    else:
        assert answer.whole
        assert got.endswith(b" after")
    assert key.encode() not in got
    assert canary.find(got, [key]) == []


def unpack(data: bytes, packing: str) -> bytes:
    out = b""
    while data:
        one = zlib.decompressobj({"raw": -15, "deflate": 15}.get(packing, 31))
        out += one.decompress(data)
        data = one.unused_data
    return out


HEADS = [
    b"HTTP/1.1 200 your key is KEY\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Key: KEY\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nKEY: x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=KEY; path=/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/?key=KEY\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: <KEY>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="KEY"\r\nContent-Length: 0\r\n\r\n',
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: KEY\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;KEY\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 500 No\r\nContent-Length: KEY\r\n\r\n",
    b"KEY\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: KEY\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: KEY\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: KEY",
]


@pytest.mark.parametrize("head", HEADS, ids=range(len(HEADS)))
def test_heads_and_trailers(door: Door, head: bytes) -> None:
    raw = head.replace(b"KEY", door.world.key("anthropic").encode())
    path = door.world.script(f"echo-head-{HEADS.index(head)}", raw, "close")
    for method in ("GET", "HEAD"):
        got = everything(door, f"/anthropic{path}", method=method)
        assert got.startswith(b"HTTP/1.1 ")
        assert_no_key(door, got)


def test_a_head_that_holds_the_key_until_the_end_of_the_connection(door: Door) -> None:
    key = door.world.key("anthropic").encode()
    for cut in (1, len(key) // 2, len(key)):
        path = door.world.script(
            f"echo-cut-{cut}", b"HTTP/1.1 200 OK\r\n\r\nthe key: " + key[:cut], "close"
        )
        assert_no_key(door, everything(door, f"/anthropic{path}"))


def test_a_redirect_is_passed_on_and_not_followed(door: Door) -> None:
    elsewhere = door.world.origin("cohere")
    for status in (301, 302, 303, 307, 308):
        answer = door.ask(
            door.head(f"GET /anthropic/odd/redirect?status={status}&to={elsewhere}/odd/json")
        )
        assert answer.status == status
        assert answer.header("location") == f"{elsewhere}/odd/json"
        assert [request.family for request in door.seen()] == ["anthropic"]


@pytest.mark.parametrize("kind", ["untrusted", "other-host", "expired"])
@pytest.mark.parametrize("mode", ["lmk", "mitmdump"])
def test_a_certificate_that_does_not_verify_gets_no_key(
    shared_proxy: Start, world: World, mode: Mode, kind: str
) -> None:
    upstreams = {
        name: {"upstream": world.origin("anthropic", bad)}
        for name, bad in (
            ("anthropic", "untrusted"),
            ("cohere", "other-host"),
            ("mistral", "expired"),
        )
    }
    door = open_door(shared_proxy(mode, config={"providers": upstreams}), world)
    name = {"untrusted": "anthropic", "other-host": "cohere", "expired": "mistral"}[kind]
    before = len(world.lines())
    answer = door.ask(door.head(f"GET /{name}/v1/models"))
    refused(answer, 502)
    assert "ertificate" in answer.body.decode()
    assert door.world.requests(since=door._requests) == []
    key = world.key("anthropic").encode()
    assert not any(key in line.first_bytes for line in world.lines()[before:])


def test_no_key_in_flows_files_and_logs(proxy: Start, world: World) -> None:
    """`-w`, HAR and the loudest log, with an echoing provider; searched when it has ended."""
    running = proxy(
        "mitmdump",
        args=("-w", "flows.mitm", "--set", "hardump=flows.har", "--set", "flow_detail=4", "-v"),
    )
    looked_at = open_door(running, world)
    for form in ("plain", "split", "gzip", "header"):
        got = everything(looked_at, f"/anthropic/odd/echo?form={form}")
        assert_no_key(looked_at, got)
    with looked_at.wire() as wire:
        wire.send(looked_at.head("GET /anthropic/odd/json")[:-2])  # a head that is left undone
    with looked_at.wire() as wire:
        wire.send(b"GET /openai/v1 HTTP/1.1\r\nHost: a\r\n" + looked_at.bearer().encode())
        wire._socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == b""
    looked_at.seen()
    assert running.stop() == 0
    for name in ("flows.mitm", "flows.har", "output.txt"):
        content = (running.folder / name).read_bytes()
        assert b"/odd/echo" in content
        assert canary.find(content, [*world.keys.values(), *running.keys]) == []
