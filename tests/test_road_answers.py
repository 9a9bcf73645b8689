"""The road: answers of every framing, in every split; and no key in any."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.roadside import REAL, Bench, make_bench

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with make_bench(tmp_path) as made:
        yield made


# ── answers ─────────────────────────────────────────────────────────────────────────────────────

ANSWERS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef", 200, b"abcdef"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;a=b\r\nabc\r\n3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n",
        200,
        b"abcdef",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", 204, b""),
    "304": (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', 304, b""),
    "1xx": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 429 Slow\r\n"
        b"Retry-After: 3\r\nContent-Length: 2\r\n\r\nno",
        429,
        b"no",
    ),
    "gzip": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
        % (len(gzip.compress(b"abc", mtime=0)), gzip.compress(b"abc", mtime=0)),
        200,
        gzip.compress(b"abc", mtime=0),
    ),
}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(list(ANSWERS)), cuts=st.lists(st.integers(0, 300), max_size=15))
@example(kind="1xx", cuts=list(range(300)))
@example(kind="chunked", cuts=list(range(300)))
def test_answers_in_any_pieces(bench: Bench, kind: str, cuts: list[int]) -> None:
    bench.rim.out.clear()
    bench.log.receipts.clear()
    wire, status, body = ANSWERS[kind]
    bench.client(bench.head("GET /openai/v1/models"))
    link = bench.open()
    for start, end in itertools.pairwise(sorted({0, len(wire), *(c % len(wire) for c in cuts)})):
        bench.answer(wire[start:end])
    [got] = bench.got()
    assert (got.status, got.body, got.whole) == (status, body, True)
    assert got.trailers == ([(b"X-Sum", b"1")] if kind == "chunked" else [])
    assert link.state == "given back"
    assert bench.only_receipt().bytes_down == len(body)


def test_an_answer_leaves_before_it_is_booked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[tuple[bytes, int]] = []
    monkeypatch.setattr(
        bench.rim, "flush", lambda: left.append((bytes(bench.rim.out[-6:]), len(bench.receipts)))
    )
    for kind, (end, booked) in {"length": (b"abcdef", 0), "chunked": (b" 1\r\n\r\n", 1)}.items():
        bench.client(bench.head("GET /openai/v1/models"))
        bench.open()
        left.clear()
        bench.answer(ANSWERS[kind][0])
        assert left[0] == (end, booked)
        assert len(bench.receipts) == booked + 1


def test_each_piece_of_a_stream_passes_at_once(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert b"\r\n\r\n" in bench.rim.out, "the head does not wait for a body"
    for number in range(5):
        bench.rim.out.clear()
        bench.answer(b"9\r\ndata: %d\n\n\r\n" % number)
        assert b"data: %d\n\n" % number in bench.rim.out


def test_a_whole_chunk_passes_as_the_same_bytes_and_any_other_is_framed_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    passed: list[bytes] = []
    monkeypatch.setattr(bench.rim, "to_client", passed.append)
    whole = b"a\r\ndata: 12\n\n\r\n"
    bench.answer(whole, b"00A;x=y\r\ndata: 13\n\n\r\n", b"a\r\ndata", b": 14\n\n\r\n")
    assert passed[0] is whole
    assert passed[1:] == [b"a\r\ndata: 13\n\n\r\n", b"4\r\ndata\r\n", b"6\r\n: 14\n\n\r\n"]
    echo = REAL.encode()
    bench.answer(b"%x\r\n%b\r\n" % (len(echo), echo))
    assert passed[4] == b"%x\r\n%b\r\n" % (len(echo), b"*" * len(echo))


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_an_answer_until_the_end(bench: Bench, version: bytes) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    link = bench.open()
    bench.answer(b"HTTP/" + version + b" 200 OK\r\nContent-Type: a/b\r\n\r\nab", b"cd")
    assert not bench.receipts
    bench.end_link()
    assert link.state == "dropped"
    assert bench.rim.closed()
    [got] = bench.got()
    assert (got.body, got.header("connection")) == (b"abcd", "close")
    assert bench.only_receipt().end == "complete"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx",
    ],
)
def test_a_connection_that_cannot_be_used_again_is_dropped(bench: Bench, answer: bytes) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    link = bench.open()
    bench.answer(answer)
    assert bench.got()[0].body == b"ok"
    assert link.state == "dropped"
    assert not bench.rim.closed(), "the client's connection goes on"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\nhello"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nhello"),
    ],
)
def test_bytes_behind_an_answer_without_body_never_reach_the_next_request(
    bench: Bench, method: str, answer: bytes
) -> None:
    bench.client(bench.head(f"{method} /openai/v1/models"))
    link = bench.open()
    bench.answer(answer)
    [got] = bench.got(method)
    assert (got.body, got.whole) == (b"", True)
    assert link.state == "dropped"


@pytest.mark.parametrize("named", ["close, Content-Length", "content-length", "Content-Type"])
def test_an_answers_connection_header_cannot_take_its_framing_away(
    bench: Bench, named: str
) -> None:
    bench.client(bench.head("GET /openai/v1/models") + bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(f"HTTP/1.1 200 OK\r\nConnection: {named}\r\nContent-Length: 2\r\n\r\nok".encode())
    if not bench.rim.closed() and not bench.rim.finished():
        bench.open()
        bench.answer(OK)
        assert [got.body for got in bench.got("GET", "GET")] == [b"ok", b"ok"]
    else:
        assert bench.got("GET", closed=True)[0].body == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
    ],
)
def test_answers_that_are_none(bench: Bench, answer: bytes) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    link = bench.open()
    bench.answer(answer)
    [got] = bench.got()
    assert got.status == 502
    assert json.loads(got.body)["error"]["message"]
    assert link.state == "dropped"
    receipt = bench.only_receipt()
    assert (receipt.status, receipt.denied) == (502, "upstream_unreachable")


@pytest.mark.parametrize(
    "rest", [b"zz\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\n", b"-1\r\n", b"0\r\nX\r\n\r\n"]
)
def test_broken_chunks_of_an_answer_cut_it(bench: Bench, rest: bytes) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    link = bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", rest)
    assert bench.rim.closed()
    assert link.state == "dropped"
    [got] = bench.got()
    assert not got.whole
    assert bench.only_receipt().end != "complete"


# ── no key in an answer ─────────────────────────────────────────────────────────────────────────


def test_an_echoed_key_is_masked_everywhere(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    key = REAL.encode()
    bench.answer(
        b"HTTP/1.1 400 no " + key + b"\r\nX-Echo: Bearer " + key + b"\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    for byte in b"you sent " + key + b"!":
        bench.answer(b"1\r\n%c\r\n" % byte)
    bench.answer(b"0\r\nX-Trailer: " + key + b"\r\n\r\n")
    assert key not in bench.rim.out
    [got] = bench.got()
    assert got.body == b"you sent " + b"*" * len(key) + b"!"
    assert got.header("x-echo") == "Bearer " + "*" * len(key)
    assert got.trailers == [(b"X-Trailer", b"*" * len(key))]


def test_an_echoed_key_in_a_packed_answer_cuts_it(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models", "Accept-Encoding: gzip"))
    link = bench.open()
    packed = gzip.compress(b"x" * 100 + REAL.encode() + b"y" * 100)
    bench.answer(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    )
    bench.answer(*(packed[i : i + 8] for i in range(0, len(packed), 8)))
    assert bench.rim.closed()
    assert link.state == "dropped"
    assert len(bench.got()[0].body) < len(packed)
    assert "key" in bench.only_receipt().end
