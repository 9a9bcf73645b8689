"""Answers as they came: each call once straight to the fake and once through the proxy, compared.

Status, reason, header fields in their order and case, and body bytes must be equal. What may differ
is a connection's own, not the answer's:

- `Connection`, `Keep-Alive`, `Transfer-Encoding`, `Trailer`: hop-by-hop (RFC 9110, 7.6.1), each
  side has its own connection, and its own framing where the provider's ends by closing;
- the version: a proxy states its own (RFC 9110, 6.2);
- 1xx answers and trailers may be dropped (RFC 9110, 15.2 and 6.5.1), whole and without a trace;
- `x-llamakey-request-id` is the proxy's own word to the client.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterator

import pytest

from tests.calls import BIG, BIGGER, JSON, MIB, bearer, credential, direct, through
from tests.client import Answer, Closed, Wire
from tests.conftest import Start
from tests.fakes import World
from tests.harness import Mode, Proxy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(params=["lmk", "mitmdump"])
def both(request: pytest.FixtureRequest, shared_proxy: Start) -> Proxy:
    """The proxy, launched in each of its ways."""
    mode: Mode = request.param
    return shared_proxy(mode)


def assert_same(proxied: Answer, told: Answer) -> None:
    assert (proxied.status, proxied.reason) == (told.status, told.reason)
    assert proxied.end_to_end == told.end_to_end
    assert proxied.body == told.body
    assert proxied.whole == told.whole
    assert proxied.trailers in ((), told.trailers)


def ask(**more: object) -> bytes:
    return json.dumps({**CHAT, **more}).encode()


DOCUMENTED = [
    ("openai", "POST", "/v1/chat/completions", ask()),
    ("openai", "POST", "/v1/chat/completions", ask(stream=True)),
    ("openai", "POST", "/v1/responses", b'{"model":"m","input":"hi","stream":true}'),
    ("openai", "GET", "/v1/files/file-1/content", b""),
    ("openai", "POST", "/v1/audio/speech", b'{"model":"m","input":"hi","voice":"alloy"}'),
    ("openai", "GET", "/v1/no/such/path", b""),
    ("openai", "POST", "/v1/chat/completions", b'{"messages":[]}'),
    ("anthropic", "POST", "/v1/messages", ask(max_tokens=9)),
    ("anthropic", "POST", "/v1/messages", ask(max_tokens=9, stream=True)),
    ("anthropic", "POST", "/v1/messages", ask(max_tokens=9, model="fake-429")),
    ("cohere", "POST", "/v2/chat", ask(stream=True)),
    ("cohere", "POST", "/v1/chat", b'{"message":"hi","stream":true}'),
    ("cohere", "GET", "/v1/models?page_token=second", b""),
    ("gemini", "POST", "/v1beta/models/m:streamGenerateContent?alt=sse", b'{"contents":[]}'),
    ("gemini", "POST", "/v1beta/models/m:streamGenerateContent", b'{"contents":[]}'),
    ("vectara", "POST", "/v2/query", b'{"query":"hi","stream_response":true}'),
    ("elevenlabs", "POST", "/v1/text-to-speech/voice-1", b'{"text":"hi"}'),
    ("ollama", "POST", "/api/chat", ask()),
    ("hfendpoint", "POST", "/", b'{"inputs":"hi","stream":true}'),
    ("mistral", "POST", "/v1/embeddings", b'{"model":"m","input":["a"]}'),
]


@pytest.mark.parametrize(
    ("provider", "method", "path", "body"),
    DOCUMENTED,
    ids=[f"{provider}-{path}-{n}" for n, (provider, _, path, _) in enumerate(DOCUMENTED)],
)
def test_documented_answers(
    both: Proxy, world: World, provider: str, method: str, path: str, body: bytes
) -> None:
    fields = JSON if body else []
    told = direct(world, provider, method, path, fields, body)
    assert_same(through(both, provider, method, path, fields, body), told)


# A redirect within the provider, and other addresses of its own, become the proxy's: see
# test_addresses.py.
ODD = [
    "json",
    "sse?chunks=50",
    "ndjson",
    "gzip",
    "gzip-sse",
    "binary?bytes=65536",
    "204",
    "304",
    "trailers",
    "close-delimited",
    "http10",
    "informational?codes=100",
    "informational?codes=102,103,103",
    "truncated?framing=length",
    "truncated?framing=chunked",
    "headers",
    "redirect?to=https://elsewhere.example/&status=307",
    "download?bytes=3000001",
    *(f"status/{code}" for code in (400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 529)),
]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_odd_answers(both: Proxy, world: World, method: str, name: str) -> None:
    path = f"/v1/odd/{name}"
    body = b"some body" if method == "POST" else b""
    told = direct(world, "openai", method, path, [], body)
    assert_same(through(both, "openai", method, path, [], body), told)


@pytest.mark.parametrize("name", ["json", "sse", "204", "304", "gzip", "status/404"])
def test_head(both: Proxy, world: World, name: str) -> None:
    """An answer to HEAD has the head of a GET's and no body; the connection serves on."""
    told = direct(world, "openai", "HEAD", f"/v1/odd/{name}", [], b"")
    key = credential("openai", both.local_key)
    with Wire(both.url) as wire:
        for _ in range(2):
            wire.request("HEAD", f"/openai/v1/odd/{name}", key)
            assert_same(wire.answer("HEAD"), told)
        wire.request("GET", "/openai/v1/models", key)
        assert json.loads(wire.answer().body)["object"] == "list"


def test_gzip_is_not_touched(both: Proxy, world: World) -> None:
    """Even a client that did not ask for it gets the provider's compressed bytes."""
    answer = through(both, "openai", "GET", "/v1/odd/gzip", [("Accept-Encoding", "identity")], b"")
    assert answer.header("content-encoding") == "gzip"
    assert json.loads(gzip.decompress(answer.body))["text"].startswith("squeezed")


def test_more_than_announced_is_nobodys_answer(both: Proxy, world: World) -> None:
    """Bytes past an answer's length reach no one, neither this client nor the next."""
    key = credential("openai", both.local_key)
    with Wire(both.url) as wire:
        for _ in range(3):
            wire.request("GET", "/openai/v1/odd/too-much", key)
            assert wire.answer().body == b"right"
        wire.request("GET", "/openai/v1/odd/json", key)
        assert json.loads(wire.answer().body)["length"] == 0


def test_pipelined_answers_keep_their_order(both: Proxy) -> None:
    """Whatever 1xx, errors and framings are between."""
    names = ["informational?codes=100,103", "status/404", "sse", "204", "gzip", "json"] * 3
    with Wire(both.url) as wire:
        for number, name in enumerate(names):
            joint = "&" if "?" in name else "?"
            wire.request("GET", f"/openai/v1/odd/{name}{joint}n={number}", bearer(both))
        for number, name in enumerate(names):
            answer = wire.answer()
            if name.startswith("informational"):
                assert json.loads(answer.body)["target"].endswith(f"n={number}")
            if name.startswith("status"):
                assert answer.status == 404
            if name == "204":
                assert answer.status == 204


def test_a_reset_is_an_error_of_the_gateway(both: Proxy) -> None:
    answer = through(both, "openai", "POST", "/v1/odd/reset", [], b"x")
    assert answer.status == 502
    assert json.loads(answer.body)["error"]["code"] == "upstream_unreachable"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_real_key_is_told_to_the_owner(both: Proxy, world: World, status: int) -> None:
    """The provider's own answer passes unchanged; the log says whose key it refused."""
    path = f"/v1/odd/status/{status}"
    told = direct(world, "openai", "GET", path, [], b"")
    lines = len(both.log())
    assert_same(through(both, "openai", "GET", path, [], b""), told)
    line = both.wait_for_log(lines, path=path, status=status)
    assert "refused the real key" in line["note"]


STREAMS = [
    ("openai", "/v1/chat/completions", ask(stream=True), b'"role": "assistant"'),
    ("openai", "/v1/audio/speech", b'{"model":"m","input":"hi","voice":"alloy"}', b"\x00\x01\x02"),
    ("cohere", "/v1/chat", b'{"message":"hi","stream":true}', b'"stream-start"'),
    ("anthropic", "/v1/messages", ask(max_tokens=9, stream=True), b"event: message_start"),
    ("openai", "/v1/odd/gzip-sse", b"{}", b"\x1f\x8b"),
]


@pytest.mark.parametrize(
    ("provider", "path", "body", "first"), STREAMS, ids=[path for _, path, _, _ in STREAMS]
)
def test_each_chunk_arrives_before_the_next_is_sent(
    both: Proxy, world: World, provider: str, path: str, body: bytes, first: bytes
) -> None:
    """Counted in events: the fake sends a chunk only when the test has the one before."""
    gate = world.gate(f"{both.port}-{provider}{path}")
    fields = [*credential(provider, both.local_key), *JSON, ("x-fake-gate", gate.name)]
    with Wire(both.url) as wire:
        wire.request("POST", f"/{provider}{path}", fields, body)
        _, status, _, headers = wire.head()
        assert (status, gate.sent) == (200, 0)  # the head does not wait for a first chunk
        pieces: Iterator[bytes] = iter(wire.pieces("POST", status, headers))
        got = b""
        for number in range(1, 4):
            gate.wait_until_waiting()
            gate.release()
            # A compressed or binary chunk may come in pieces, or less a tail that begins a key:
            # something of it is here while the next one still waits for leave.
            got += next(pieces)
            gate.wait_until_waiting()
            assert gate.sent == number
        assert got.startswith(first) or first in got
        gate.open()
        rest = b"".join(pieces)
    told = direct(world, provider, "POST", path, JSON, body)
    assert got + rest == told.body


def test_an_upload_flows_before_it_is_whole(both: Proxy, world: World) -> None:
    """A body that no policy reads is on its way while the client still sends it."""
    since = world.mark()
    half = b"x" * BIGGER
    with Wire(both.url) as wire:
        size = 2 * BIGGER
        head = f"POST /openai/v1/odd/upload HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n"
        head += f"Authorization: Bearer {both.local_key}\r\n\r\n"
        wire.send(head.encode(), half)
        seen = world.wait_recorded(1, "openai", since)[0]
        assert not seen.complete
        wire.send(half)
        assert json.loads(wire.answer().body)["length"] == size


@pytest.mark.parametrize("size", [100, 20_000_000])
def test_an_answer_without_reading_the_upload(both: Proxy, world: World, size: int) -> None:
    """A 413 arrives whole, however long it is, while the upload is still unread."""
    key = f"Authorization: Bearer {both.local_key}\r\n"
    with Wire(both.url) as wire:
        wire.send(f"POST /openai/v1/odd/413?bytes={size} HTTP/1.1\r\nHost: h\r\n{key}".encode())
        wire.send(f"Content-Length: {500 * MIB}\r\n\r\n".encode(), b"x" * 100_000)
        answer = wire.answer("POST")
    assert answer.status == 413
    assert answer.whole
    assert len(json.loads(answer.body)["error"]["message"]) == size


def test_an_early_answer_is_not_held_by_its_upload(both: Proxy) -> None:
    """The client has the answer while its upload is still under way."""
    with Wire(both.url) as wire:
        head = f"POST /openai/v1/odd/early HTTP/1.1\r\nHost: h\r\nContent-Length: {BIG}\r\n"
        wire.send(f"{head}Authorization: Bearer {both.local_key}\r\n\r\n".encode())
        # nobody reads the rest for ever: as SDKs do, read the answer when the pipe breaks
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(b"x" * BIGGER)
        assert json.loads(wire.answer("POST").body) == {"early": True}


def test_both_directions_at_once(both: Proxy) -> None:
    """An answer that begins while the upload goes on ends neither of the two."""
    with Wire(both.url) as wire:
        size = BIGGER + MIB
        head = f"POST /openai/v1/odd/duplex HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n"
        wire.send(f"{head}Authorization: Bearer {both.local_key}\r\n\r\n".encode(), b"x" * BIGGER)
        _, status, _, headers = wire.head()
        pieces = iter(wire.pieces("POST", status, headers))
        got = next(pieces)
        assert b"listening;".startswith(got)
        wire.send(b"x" * MIB)
        got += b"".join(pieces)
        assert got == f"listening;heard {size}".encode()
        wire.request("GET", "/openai/v1/models", bearer(both))
        assert wire.answer().status == 200


def test_a_client_that_leaves_ends_the_provider_too(both: Proxy, world: World) -> None:
    since, lines = world.mark(), len(both.log())
    gate = world.gate(f"left-{both.port}")
    with Wire(both.url) as wire:
        fields = [*bearer(both), *JSON, ("x-fake-gate", gate.name)]
        wire.request("POST", "/openai/v1/chat/completions", fields, ask(stream=True))
        wire.head()  # its status is known by then
        gate.wait_until_waiting()
    line = both.wait_for_log(lines, path="/v1/chat/completions", end="client left")
    seen = world.requests("openai", since)[-1]
    assert world.wait_closed(seen.connection)
    assert line["status"] == 200


def test_midway_is_told_by_the_end(both: Proxy, world: World) -> None:
    """A cut answer is cut for the client too: never a clean end of half an answer."""
    for framing in ("length", "chunked"):
        answer = through(both, "openai", "GET", f"/v1/odd/truncated?framing={framing}", [], b"")
        assert not answer.whole
        assert answer.body == b"only this"
    with Wire(both.url) as wire:
        wire.request("GET", "/openai/v1/odd/truncated?framing=chunked", bearer(both))
        wire.head()
        with pytest.raises(Closed):
            wire.until(b"0\r\n\r\n")
