"""A key that is no longer valid, at each place that a road can be at."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamakey_addon.journey import Ask
from tests.roadside import Bench, make_bench

CHAT = b'{"model": "gpt-5-mini", "messages": []}'
BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with make_bench(tmp_path) as made:
        yield made


def revoke(bench: Bench) -> None:
    bench.store.revoke("laptop")
    bench.road.recheck()


def call(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/chat/completions", body=CHAT))


def test_a_streaming_answer_is_cut_and_booked(bench: Bench) -> None:
    call(bench)
    link = bench.open()
    bench.answer(BEGUN)
    bench.road.recheck()  # of another's key
    assert not bench.rim.closed()
    revoke(bench)
    [got] = bench.got("POST")
    assert (got.status, got.body, got.whole) == (200, b"first", False)
    assert link.state == "dropped"
    receipt = bench.only_receipt()
    assert (receipt.status, receipt.end) == (200, "the key is no longer valid")
    [row] = bench.store.ledger.rows(0, 1e12)
    assert (row.open, row.quality, row.end) == (False, "estimated", receipt.end)


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def test_a_stream_is_ended_by_the_providers_error(bench: Bench) -> None:
    call(bench)
    link = bench.open()
    bench.answer(SSE, chunks(b'data: {"choices": []}\n', b"\n"))
    revoke(bench)
    [got] = bench.got("POST")
    assert got.whole and got.status == 200
    first, error, nothing = got.body.split(b"\n\n")
    assert (first, nothing) == (b'data: {"choices": []}', b"")
    problem = json.loads(error.removeprefix(b"data: "))["error"]
    assert problem["code"] == "invalid_api_key" and "was revoked at" in problem["message"]
    assert link.state == "dropped" and (bench.rim.closed() or bench.rim.finished())
    assert bench.only_receipt().end == "the key is no longer valid"
    [row] = bench.store.ledger.rows(0, 1e12)
    assert (row.open, row.status, row.end) == (False, 200, "the key is no longer valid")


def test_before_its_first_event_too(bench: Bench) -> None:
    call(bench)
    bench.open()
    bench.answer(SSE)
    revoke(bench)
    [got] = bench.got("POST")
    assert got.whole and got.body.startswith(b'data: {"error"') and got.body.endswith(b"\n\n")


@pytest.mark.parametrize(
    "begun",
    [
        SSE + chunks(b'data: {"choices": []}\n\n', b'data: {"choi'),
        SSE.replace(b"Type", b"Encoding: gzip\r\nContent-Type", 1) + chunks(b"\n\n"),
        SSE.replace(b"Transfer-Encoding: chunked", b"Content-Length: 1000") + b"data: {}\n\n",
    ],
    ids=["within an event", "packed", "of a length"],
)
def test_where_no_word_fits_in_a_stream_is_cut(bench: Bench, begun: bytes) -> None:
    bench.client(bench.head("GET /openai/v1/some/stream", "Accept-Encoding: gzip"))
    link = bench.open()
    bench.answer(begun)
    revoke(bench)
    [got] = bench.got("GET")
    assert not got.whole and b"revoked" not in got.body
    assert link.state == "dropped" and bench.rim.closed()


@pytest.mark.parametrize("sent", [False, True])
def test_before_an_answer_has_begun_it_is_denied(bench: Bench, sent: bool) -> None:
    call(bench)
    if sent:
        link = bench.open()
    revoke(bench)
    [got] = bench.got("POST")
    assert got.status == 401
    assert b"was revoked at" in got.body
    if sent:
        assert link.state == "dropped"
    else:
        assert bench.rim.cancelled == 1
    assert bench.only_receipt().status == 401
    [row] = bench.store.ledger.rows(0, 1e12)
    assert not row.open


def test_an_upload_is_denied(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 60000"), b"x" * 100)
    link = bench.open()
    revoke(bench)
    [got] = bench.got("POST", closed=True)
    assert got.status == 401
    assert link.state == "dropped"


def test_a_connection_that_waits_is_closed(bench: Bench) -> None:
    call(bench)
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    bench.road.recheck()
    assert not bench.rim.closed()
    revoke(bench)
    assert bench.rim.closed()


def test_a_connection_that_has_shown_no_key_stays(bench: Bench) -> None:
    revoke(bench)
    assert not bench.rim.closed()


def test_a_request_that_is_on_its_way_is_judged_by_its_own_key(bench: Bench) -> None:
    call(bench)
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    head = bench.head("POST /openai/v1/chat/completions", body=CHAT)
    bench.client(head[:40])
    revoke(bench)
    assert not bench.rim.closed()
    bench.client(head[40:])
    assert [got.status for got in bench.got("POST", "POST")] == [200, 401]


def test_a_request_that_is_held_is_judged_when_it_is_let_go(bench: Bench) -> None:
    class Held:
        def asked(self, visit: object, content: object) -> None: ...
        def refused(self, ask: Ask, answer: object) -> None: ...

    bench.rim.look = Held()  # type: ignore[assignment]
    call(bench)
    revoke(bench)
    assert bench.rim.out == b""
    assert not bench.rim.closed()


@pytest.mark.parametrize("ended", ["expired", "rotated"])
def test_what_ends_by_itself_ends_what_runs(bench: Bench, ended: str) -> None:
    from llamakey_addon.keys import mint

    call(bench)
    bench.open()
    bench.answer(BEGUN)
    if ended == "expired":
        bench.store.expire("laptop", time.time())
    else:
        bench.store.rotate("laptop", mint(), overlap_s=0, expires_s=None)
    bench.road.recheck()
    assert bench.rim.closed()


def test_a_store_that_fails_ends_nothing_that_runs(bench: Bench) -> None:
    call(bench)
    bench.open()
    bench.answer(BEGUN)
    bench.store.close()
    bench.road.recheck()
    assert not bench.rim.closed()
    bench.answer(b"0\r\n\r\n")
    [got] = bench.got("POST")
    assert (got.body, got.whole) == (b"first", True)
