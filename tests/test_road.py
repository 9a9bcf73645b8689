"""The road: requests and answers of every framing, in every split, in their order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.roadside import REAL, Bench, make_bench

CHAT = b'{"model": "gpt-x", "messages": []}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIMITS = {"json_body_bytes": 4096, "body_bytes": 65536, "head_bytes": 4096}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with make_bench(tmp_path, LIMITS) as made:
        yield made


# ── one request ─────────────────────────────────────────────────────────────────────────────────


def test_a_request_and_its_answer(bench: Bench) -> None:
    bench.client(
        bench.head(
            "GET /openai/v1/models?limit=2",
            "User-Agent: test",
            "X-Api-Key: " + bench.key,
            "OpenAI-Organization: org-mine",
            "Cookie: a=b",
        )
    )
    link = bench.open()
    [sent] = bench.sent()
    assert (sent.method, sent.target, sent.whole) == ("GET", "/v1/models?limit=2", True)
    assert sent.headers == [
        (b"Host", b"api.openai.com"),
        (b"User-Agent", b"test"),
        (b"Accept-Encoding", b"identity"),
        (b"Authorization", f"Bearer {REAL}".encode()),
    ]
    bench.answer(b"HTTP/1.1 200 Fine\r\nX-A: b\r\nConnection: x\r\nx: y\r\n")
    bench.answer(b"Content-Length: 5\r\n\r\nhello")
    [got] = bench.got()
    assert (got.status, got.reason, got.body, got.whole) == (200, b"Fine", b"hello", True)
    told = (b"x-llamakey-request-id", bench.only_receipt().id.encode())
    assert got.headers == [(b"X-A", b"b"), (b"Content-Length", b"5"), told]
    assert link.state == "given back"
    receipt = bench.only_receipt()
    assert (receipt.user, receipt.provider, receipt.endpoint) == ("alice", "openai", "models")
    assert (receipt.status, receipt.bytes_up, receipt.bytes_down) == (200, 0, 5)
    assert receipt.end == "complete"
    assert not bench.rim.closed()


def test_a_body_that_policy_reads_is_sent_whole(bench: Bench) -> None:
    raw = bench.head("POST /openai/v1/chat/completions", body=CHAT)
    bench.client(raw[:-5])
    assert bench.upstream_untouched
    bench.client(raw[-5:])
    bench.open()
    [sent] = bench.sent()
    assert (sent.target, sent.body) == ("/v1/chat/completions", CHAT)
    assert sent.values("content-length") == [str(len(CHAT))]
    bench.answer(OK)
    assert bench.only_receipt().model == "gpt-x"
    assert bench.only_receipt().bytes_up == len(CHAT)


def test_a_chunked_body_that_policy_reads_gets_a_length(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/chat/completions", "Transfer-Encoding: chunked"))
    bench.client(b"5;x=y\r\n" + CHAT[:5] + b"\r\n")
    assert bench.upstream_untouched
    bench.client(b"%x\r\n" % len(CHAT[5:]) + CHAT[5:] + b"\r\n0\r\nX-Trailer: a\r\n\r\n")
    bench.open()
    [sent] = bench.sent()
    assert sent.body == CHAT
    assert sent.values("content-length") == [str(len(CHAT))]
    assert sent.values("transfer-encoding") == []


def test_an_upload_is_streamed(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 10") + b"01")
    bench.open()
    [sent] = bench.sent()
    assert (sent.target, sent.body, sent.whole) == ("/v1/files", b"01", False)
    bench.client(b"234567")
    assert bench.sent()[0].body == b"01234567"
    bench.client(b"89")
    assert (bench.sent()[0].body, bench.sent()[0].whole) == (b"0123456789", True)
    bench.answer(OK)
    assert bench.got("POST")[0].body == b"ok"
    assert bench.only_receipt().bytes_up == 10


def test_a_chunked_upload_is_chunked_anew(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Transfer-Encoding: chunked", "Trailer: X"))
    bench.open()
    bench.client(b"3;secret=1\r\nabc\r\n2", b"\r\nde\r\n0\r\nX: trailer\r\n\r\n")
    [sent] = bench.sent()
    assert (sent.body, sent.whole) == (b"abcde", True)
    assert b"secret" not in bench.links[0].written
    assert b"trailer" not in bench.links[0].written.lower()
    bench.answer(OK)
    assert bench.links[0].state == "given back"


def test_a_large_body_of_a_judged_endpoint_is_streamed_unread(bench: Bench) -> None:
    body = b'{"model": "' + b"x" * 5000 + b'"}'
    bench.client(bench.head("POST /openai/v1/chat/completions", body=body))
    bench.open()
    assert bench.sent()[0].body == body
    bench.answer(OK)
    assert bench.only_receipt().model == ""


def test_a_chunked_body_that_grows_past_the_window_is_streamed(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/chat/completions", "Transfer-Encoding: chunked"))
    for _ in range(6):
        bench.client(b"400\r\n" + b"y" * 1024 + b"\r\n")
    bench.open()
    bench.client(b"0\r\n\r\n")
    [sent] = bench.sent()
    assert (sent.body, sent.whole) == (b"y" * 6144, True)
    assert sent.values("transfer-encoding") == ["chunked"]


REQUESTS = {
    "plain": ("GET", "/v1/models", b""),
    "length": ("POST", "/v1/chat/completions", CHAT),
    "chunked": ("POST", "/v1/chat/completions", CHAT),
    "upload": ("POST", "/v1/files", b"0123456789" * 20),
    "chunked upload": ("POST", "/v1/files", b"0123456789" * 20),
}


def request_bytes(bench: Bench, kind: str) -> bytes:
    method, path, body = REQUESTS[kind]
    line = f"{method} /openai{path}"
    if "chunked" not in kind:
        return bench.head(line, body=body or None)
    return bench.head(line, "Transfer-Encoding: chunked") + b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:7], body[7:], b"")
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(list(REQUESTS)), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 2000), max_size=25),
)
@example(kinds=list(REQUESTS), cuts=list(range(2000)))
def test_requests_in_any_pieces(tmp_path: Path, kinds: list[str], cuts: list[int]) -> None:
    with make_bench(Path(mkdtemp(dir=tmp_path)), LIMITS) as bench:
        serve_in_pieces(bench, kinds, cuts)


def serve_in_pieces(bench: Bench, kinds: list[str], cuts: list[int]) -> None:
    bench.grant_at_once()
    links = list(bench.links)
    wire = b"".join(request_bytes(bench, kind) for kind in kinds)
    answered = 0
    for start, end in itertools.pairwise(sorted({0, len(wire), *(c % len(wire) for c in cuts)})):
        bench.client(wire[start:end])
        while answered < len(bench.rim.wishes) and bench.sent(links[answered])[0].whole:
            answered += 1
            bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % answered)
    seen = [bench.sent(link)[0] for link in links[:answered]]
    assert [(s.method, s.target, s.body) for s in seen] == [REQUESTS[kind] for kind in kinds]
    got = bench.got(*(REQUESTS[kind][0] for kind in kinds))
    assert [each.body for each in got] == [b"%d" % (i + 1) for i in range(len(kinds))]
    assert len(bench.receipts) == len(kinds)


# ── several requests ────────────────────────────────────────────────────────────────────────────


def test_keep_alive(bench: Bench) -> None:
    for number in range(3):
        bench.client(bench.head(f"GET /openai/v1/models/m{number}"))
        bench.open()
        bench.answer(OK)
    assert [bench.sent(link)[0].target for link in bench.links] == [
        f"/v1/models/m{number}" for number in range(3)
    ]
    assert [got.status for got in bench.got("GET", "GET", "GET")] == [200] * 3
    assert len(bench.receipts) == 3


def test_pipelined_requests_are_answered_in_their_order(bench: Bench) -> None:
    bench.client(
        bench.head("GET /openai/v1/models/one")
        + bench.head("POST /openai/v1/chat/completions", body=CHAT)
        + bench.head("GET /openai/v1/models/two", key=None)
        + bench.head("GET /openai/v1/models/three")
    )
    assert len(bench.rim.wishes) == 1
    first = bench.open()
    bench.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
    bench.answer(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert len(bench.rim.wishes) == 1, "the second request must wait for the first answer"
    bench.answer(b"Content-Length: 3\r\n\r\non")
    bench.answer(b"e")
    assert first.state == "given back"
    assert len(bench.rim.wishes) == 2
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nchat\r\n0\r\n\r\n")
    assert len(bench.rim.wishes) == 3, "the third has no key: answered without a connection"
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthree")
    got = bench.got("GET", "POST", "GET", "GET")
    assert [(each.status, each.whole) for each in got] == [
        (200, True),
        (200, True),
        (401, True),
        (200, True),
    ]
    assert [got[0].body, got[1].body, got[3].body] == [b"one", b"chat", b"three"]
    assert [receipt.status for receipt in bench.receipts] == [200, 200, 401, 200]


def test_what_is_sent_ahead_is_bounded(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    sent = 0
    while not bench.rim.paused():
        bench.client(b"x" * 8192)
        sent += 8192
        assert sent < 256 * 1024
    bench.answer(OK)  # then the junk is refused, and the connection ends
    assert [got.status for got in bench.got("GET", "GET", closed=True)] == [200, 414]
    assert bench.rim.finished()


def test_what_is_answered_at_once_is_read_no_faster(bench: Bench) -> None:
    """A few heads a turn, whatever of them is there."""
    look = bench.head("GET /_llamakey/health", key=None)
    count = 80 * 1024 // len(look)
    bench.road.client_data(look * count)
    assert bench.rim.paused()
    while bench.rim.turns:
        bench.rim.turns.pop()()
    assert not bench.rim.paused()
    assert bench.rim.out.count(b"HTTP/1.1 200 OK") == count


def test_a_head_as_long_as_it_may_be_is_read_to_its_end(tmp_path: Path) -> None:
    with make_bench(tmp_path, {"head_bytes": 300_000}) as bench:
        fields = [f"X-{n}: {'a' * 4000}" for n in range(60)]
        head = bench.head("GET /openai/v1/models", *fields)
        bench.client(head[:-4])
        assert not bench.rim.paused()
        bench.client(head[-4:])
        assert bench.rim.wishes


def test_nothing_is_served_after_a_close(bench: Bench) -> None:
    bench.client(
        bench.head("GET /openai/v1/models/one", "Connection: close")
        + bench.head("GET /openai/v1/models/two")
    )
    bench.open()
    bench.answer(OK)
    assert len(bench.rim.wishes) == 1
    [got] = bench.got("GET", closed=True)
    assert got.header("connection") == "close"
    assert bench.rim.finished() or bench.rim.closed()


def test_an_empty_line_before_a_request_is_ignored(bench: Bench) -> None:
    bench.client(b"\r\n" + bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(OK)
    bench.client(b"\r\n", bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(OK)
    assert [got.status for got in bench.got("GET", "GET")] == [200, 200]


def test_a_stream_of_empty_lines_is_refused(bench: Bench) -> None:
    bench.client(b"\r\n" * 100)
    assert [got.status for got in bench.got("GET", closed=True)] == [400]
    assert bench.rim.closed() or bench.rim.finished()


# ── 100-continue, HEAD, HTTP/1.0 ────────────────────────────────────────────────────────────────


def test_100_continue_for_a_judged_body(bench: Bench) -> None:
    raw = bench.head("POST /openai/v1/chat/completions", "Expect: 100-continue", body=CHAT)
    bench.client(raw[: -len(CHAT)])
    assert bench.rim.out == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.client(CHAT)
    bench.open()
    assert bench.sent()[0].values("expect") == []
    bench.answer(OK)
    assert [got.status for got in bench.got("POST")] == [100, 200]


def test_100_continue_for_an_upload_comes_when_there_is_a_connection(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Expect: 100-continue", "Content-Length: 3"))
    assert not bench.rim.out
    bench.open()
    assert bench.rim.out == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.client(b"abc")
    bench.answer(OK)
    assert [got.status for got in bench.got("POST")] == [100, 200]


def test_a_denied_expectation_gets_no_100(bench: Bench) -> None:
    bench.client(
        bench.head("POST /openai/v1/files", "Expect: 100-continue", "Content-Length: 999", key=None)
    )
    assert [got.status for got in bench.got("POST", closed=True)] == [401]
    assert bench.rim.finished()
    assert bench.upstream_untouched


def test_head(bench: Bench) -> None:
    bench.client(bench.head("HEAD /openai/v1/models") + bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
    assert bench.links[0].state == "given back"
    bench.open()
    bench.answer(OK)
    head, got = bench.got("HEAD", "GET")
    assert (head.header("content-length"), head.body, got.body) == ("12345", b"", b"ok")


def test_a_denied_head_has_no_body(bench: Bench) -> None:
    bench.client(bench.head("HEAD /openai/v1/models", key=None))
    [got] = bench.got("HEAD")
    assert (got.status, got.body) == (401, b"")
    assert int(got.header("content-length")) > 0


@pytest.mark.parametrize("keep", [False, True])
def test_an_http10_client(bench: Bench, keep: bool) -> None:
    headers = ["Connection: keep-alive"] if keep else []
    bench.client(bench.head("GET /openai/v1/models HTTP/1.0", *headers))
    bench.open()
    assert bench.links[0].written.startswith(b"GET /v1/models HTTP/1.1\r\n")
    bench.answer(OK)
    [got] = bench.got()
    assert got.body == b"ok"
    assert got.header("connection") == ("keep-alive" if keep else "close")
    assert bench.rim.finished() is not keep


def test_an_http10_client_gets_no_chunks(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models HTTP/1.0", "Connection: keep-alive"))
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    bench.answer(b"3\r\ndef\r\n0\r\nX: y\r\n\r\n")
    assert bench.rim.closed()
    [got] = bench.got(closed=True)
    assert (got.body, got.header("connection")) == (b"abcdef", "close")
    assert not got.header("transfer-encoding")
    assert bench.links[0].state == "given back"
