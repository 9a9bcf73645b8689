"""The road and time, its bounds, what it does not carry or answers itself, and its drain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.roadside import REAL, Bench, Link, make_bench

CHAT = b'{"model": "gpt-x", "messages": []}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIMITS = {
    "body_bytes": 65536,
    "head_timeout_s": 20,
    "keepalive_timeout_s": 75,
    "body_timeout_s": 60,
    "answer_timeout_s": 1800,
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with make_bench(tmp_path, LIMITS) as made:
        yield made


def upload(bench: Bench) -> Link:
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 60000"))
    return bench.open()


def begin_answer(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


# ── time ────────────────────────────────────────────────────────────────────────────────────────


def test_a_slow_body_behind_one_that_the_provider_did_not_read(bench: Bench) -> None:
    """Whether the last request's connection was full says nothing of the next one."""
    upload(bench)
    bench.road.link_writable(False)
    bench.client(b"x" * 60000)
    bench.answer(OK)
    head = bench.head("POST /openai/v1/chat/completions", "Content-Length: 100")
    bench.client(head + CHAT)
    bench.wait(59)
    assert len(bench.got("POST", "POST")) == 1
    bench.wait(2)
    assert bench.got("POST", "POST", closed=True)[1].status == 408


def test_a_slow_head(bench: Bench) -> None:
    for byte in bench.head("GET /openai/v1/models")[:15]:
        bench.client(bytes([byte]))
        bench.wait(1)
    assert not bench.rim.out
    bench.wait(6)
    assert bench.got(closed=True)[0].status == 408
    assert bench.rim.closed() or bench.rim.finished()
    assert bench.only_receipt().denied == "request_timeout"


def test_who_never_sends_anything_is_closed(bench: Bench) -> None:
    bench.wait(19)
    assert not bench.rim.closed()
    bench.wait(2)
    assert bench.rim.closed()
    assert not bench.rim.out
    assert not bench.receipts


def test_a_slow_second_head_that_began_during_the_first_answer(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models") + b"GET /open")
    bench.open()
    bench.answer(OK)
    bench.wait(21)
    assert [got.status for got in bench.got("GET", "GET", closed=True)] == [200, 408]


def test_empty_lines_are_no_sign_of_life(bench: Bench) -> None:
    for _ in range(30):
        bench.client(b"\r\n")
        bench.wait(1)
    assert bench.rim.closed() or bench.rim.finished()


def test_an_idle_connection(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(OK)
    bench.wait(74)
    assert not bench.rim.closed()
    bench.wait(2)
    assert bench.rim.closed()
    assert bench.only_receipt().status == 200


def test_a_slow_body_before_judging(bench: Bench) -> None:
    raw = bench.head("POST /openai/v1/chat/completions", body=CHAT)
    bench.client(raw[:-8])
    for piece in (raw[-8:-7], raw[-7:-6]):
        bench.wait(59)
        bench.client(piece)
    bench.wait(61)
    assert bench.got("POST", closed=True)[0].status == 408
    assert bench.upstream_untouched
    assert bench.only_receipt().status == 408


def test_a_slow_upload(bench: Bench) -> None:
    link = upload(bench)
    bench.client(b"x" * 10)
    bench.wait(59)
    assert link.state == "lent"
    bench.wait(2)
    assert link.state == "dropped"
    assert bench.got("POST", closed=True)[0].status == 408
    assert bench.only_receipt().bytes_up == 10


def test_a_provider_that_does_not_read_is_waited_for_as_for_an_answer(bench: Bench) -> None:
    link = upload(bench)
    bench.client(b"x" * 10)
    bench.road.link_writable(False)
    bench.wait(1700)
    assert link.state == "lent"
    assert not bench.rim.out
    bench.wait(200)
    assert link.state == "dropped"
    assert bench.got("POST", closed=True)[0].status == 504


def test_waiting_for_an_answer_is_not_idle(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    link = bench.open()
    bench.wait(1799)
    assert not bench.rim.out
    bench.wait(2)
    assert bench.got()[0].status == 504
    assert link.state == "dropped"
    assert bench.only_receipt().status == 504


def test_an_answer_that_falls_silent_is_cut(bench: Bench) -> None:
    begin_answer(bench)
    bench.wait(1799)
    bench.answer(b"f")
    bench.wait(1799)
    assert not bench.rim.closed()
    bench.wait(2)
    assert bench.rim.closed()
    assert bench.links[0].state == "dropped"
    assert bench.only_receipt().end == "timeout"


def test_what_comes_behind_a_last_request_resets_nothing(bench: Bench) -> None:
    """A socket that is closed while bytes are under way to it is reset, and the answer with it."""
    bench.client(bench.head("GET /openai/v1/models", "Connection: close"))
    bench.open()
    bench.answer(OK)
    assert bench.rim.finished()
    assert not bench.rim.closed()
    bench.client(bench.head("GET /openai/v1/models"))
    assert len(bench.links) == 1, "nobody asked for it"
    assert len(bench.got()) == 1
    bench.road.client_closed()
    assert bench.rim.closed()


def test_a_lingering_close_ends(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 9", key=None))
    assert bench.rim.finished()
    bench.wait(10)
    assert bench.rim.closed()


# ── bounds, and what is not carried ─────────────────────────────────────────────────────────────


def test_a_body_that_says_it_is_too_large(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 65537"))
    assert bench.got("POST", closed=True)[0].status == 413
    assert bench.upstream_untouched
    assert bench.only_receipt().note == "stopped by limits.body_bytes"


def test_a_chunked_body_that_becomes_too_large(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Transfer-Encoding: chunked"))
    link = bench.open()
    for _ in range(9):
        bench.client(b"2000\r\n" + b"x" * 8192 + b"\r\n")
    assert link.state == "dropped"
    assert bench.got("POST", closed=True)[0].status == 413
    assert not bench.sent(link)[0].whole
    bench.only_receipt()


@pytest.mark.parametrize("path", ["/openai/v1/files", "/openai/v1/chat/completions"])
def test_broken_chunks_of_a_request(bench: Bench, path: str) -> None:
    bench.client(bench.head(f"POST {path}", "Transfer-Encoding: chunked"))
    if path.endswith("files"):
        bench.open()
    bench.client(b"2\r\nabX\r\n")
    assert bench.got("POST", closed=True)[0].status == 400
    assert [link.state for link in bench.links] == ["dropped"] * len(bench.links)
    assert not any(bench.sent(link)[0].whole for link in bench.links)
    bench.only_receipt()


def test_other_upgrades_are_ignored(bench: Bench) -> None:
    bench.client(
        bench.head(
            "GET /openai/v1/models",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            "Connection: Upgrade, HTTP2-Settings",
        )
    )
    bench.open()
    [sent] = bench.sent()
    assert {name.lower() for name, _ in sent.headers} == {
        b"host",
        b"accept-encoding",
        b"authorization",
    }
    bench.answer(OK)
    assert bench.got()[0].status == 200


def test_health_is_answered_here_and_not_booked(bench: Bench) -> None:
    bench.client(b"GET /_llamakey/health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"ok" in bench.got()[0].body
    bench.gate.draining = True
    bench.client(b"GET /_llamakey/health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [got.status for got in bench.got("GET", "GET", closed=True)] == [200, 503]
    assert not bench.receipts
    assert bench.upstream_untouched


def test_a_look_at_a_bare_prefix_is_answered_here(bench: Bench) -> None:
    bench.client(bench.head("HEAD /openai", key=None), bench.head("GET /openai/", key=None))
    assert [(got.status, got.body) for got in bench.got("HEAD", "GET")] == [(200, b"")] * 2
    assert bench.upstream_untouched


# ── drain ───────────────────────────────────────────────────────────────────────────────────────


def test_a_drain_closes_what_is_idle(bench: Bench) -> None:
    bench.road.close_when_idle()
    assert bench.rim.closed()


def test_a_drain_lets_an_answer_end(bench: Bench) -> None:
    begin_answer(bench)
    bench.gate.draining = True
    bench.road.close_when_idle()
    assert not bench.rim.closed()
    bench.answer(b"and on")
    assert bench.rim.finished()
    assert bench.got()[0].whole
    assert bench.only_receipt().end == "complete"


def test_a_drain_that_begins_before_an_answer_tells_the_client(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.gate.draining = True
    bench.road.close_when_idle()
    bench.answer(OK)
    assert bench.got()[0].header("connection") == "close"
    assert bench.rim.finished()


def test_whoever_is_replaced_tells_its_clients_with_the_next_answer(bench: Bench) -> None:
    """And closes nothing before: a client's next request may be on its way, and an answer whose
    head has left can't tell any more."""
    begin_answer(bench)
    bench.gate.leaving = True
    bench.answer(b"and on")
    assert not bench.rim.closed()
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(OK)
    first, second = bench.got("GET", "GET")
    assert first.whole and not first.header("connection")
    assert second.status == 200 and second.header("connection") == "close"
    assert [receipt.end for receipt in bench.receipts] == ["complete", "complete"]


def test_no_real_key_in_any_receipt_or_note(bench: Bench) -> None:
    begin_answer(bench)
    bench.road.client_closed()
    assert REAL not in repr(bench.receipts) + repr(bench.log.notes)
