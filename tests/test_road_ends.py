"""How a road ends: early answers, slow sides, cuts, goodbyes and retries; each booked once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamakey_addon.errors import UpstreamFault, UpstreamTimeout
from llamakey_addon.journey import Upstream
from tests.roadside import Bench, Link, make_bench

CHAT = b'{"model": "gpt-x", "messages": []}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIMITS = {
    "json_body_bytes": 4096,
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


def upload(bench: Bench, length: int = 60000) -> Link:
    bench.client(bench.head("POST /openai/v1/files", f"Content-Length: {length}"))
    return bench.open()


# ── early answers ───────────────────────────────────────────────────────────────────────────────


def test_an_answer_during_an_upload_is_served(bench: Bench) -> None:
    link = upload(bench)
    bench.client(b"x" * 1000)
    bench.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
    [got] = bench.got("POST", closed=True)
    assert (got.status, got.body, got.whole) == (413, b"big", True)
    assert link.state == "dropped", "half a request stands on it"
    receipt = bench.only_receipt()
    assert (receipt.status, receipt.bytes_up, receipt.end) == (413, 1000, "complete")
    # what the client still sends is read and thrown away for a moment, so that the answer arrives
    assert bench.rim.finished()
    assert not bench.rim.closed()
    bench.client(b"x" * 30000, bench.head("GET /openai/v1/models"))
    assert not bench.rim.closed()
    bench.wait(5)
    assert bench.rim.closed()
    assert len(bench.receipts) == 1
    assert len(bench.rim.wishes) == 1


def test_an_answer_that_begins_early_and_ends_late(bench: Bench) -> None:
    link = upload(bench, 6)
    bench.client(b"abc")
    bench.answer(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nea\r\n"
    )
    assert b"ea" in bench.rim.out
    bench.client(b"def")
    assert bench.sent()[0].body == b"abcdef"
    bench.answer(b"4\r\nrly!\r\n0\r\n\r\n")
    [got] = bench.got("POST")
    assert (got.body, got.whole) == (b"early!", True)
    assert link.state == "given back"
    bench.client(bench.head("GET /openai/v1/models"))
    assert len(bench.rim.wishes) == 2


def test_who_goes_on_sending_to_a_denial_is_read_no_more_and_cut_off(bench: Bench) -> None:
    """Not cut at once: a client that cannot send any more may never look at its answer."""
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 60000", key=None))
    assert bench.got("POST", closed=True)[0].status == 401
    sent = 0
    while not bench.rim.paused():
        bench.client(b"x" * 65536)
        sent += 65536
        assert sent < 4 * 1024 * 1024
    assert not bench.rim.closed()
    bench.wait(3)
    assert bench.rim.closed()
    assert bench.upstream_untouched


# ── pressure ────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_waits_for_the_provider(bench: Bench) -> None:
    link = upload(bench)
    bench.client(b"x" * 1000)
    bench.road.link_writable(False)
    assert bench.rim.paused()
    written = len(link.written)
    bench.client(b"y" * 1000)  # was under way already
    bench.road.link_writable(True)
    assert not bench.rim.paused()
    assert len(link.written) == written + 1000
    bench.client(b"z" * 58000)
    assert bench.sent()[0].whole


def test_a_paused_upload_does_not_pause_the_answer(bench: Bench) -> None:
    upload(bench)
    bench.road.link_writable(False)
    assert bench.rim.paused()
    bench.answer(OK)
    assert bench.got("POST", closed=True)[0].body == b"ok"
    assert not bench.rim.paused(), "the rest of the upload is read away"


def test_a_slow_client_pauses_the_provider(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    link = bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"a" * 50)
    bench.road.client_writable(False)
    assert link.paused()
    bench.road.client_writable(True)
    assert not link.paused()


def test_a_slow_client_is_not_served_its_next_request_before_it_has_caught_up(
    bench: Bench,
) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.road.client_writable(False)
    bench.answer(OK)
    bench.client(bench.head("GET /openai/v1/models") * 3)
    assert len(bench.rim.wishes) == 1
    assert bench.rim.paused()
    bench.road.client_writable(True)
    assert len(bench.rim.wishes) == 2
    bench.road.client_writable(False)
    assert bench.open().paused(), "a connection taken meanwhile is paused at once"


# ── the provider cuts ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ],
)
def test_an_answer_that_is_cut(bench: Bench, begun: bytes, orderly: bool) -> None:
    bench.client(bench.head("GET /openai/v1/models") + bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(begun)
    bench.end_link(orderly=orderly)
    assert bench.rim.closed()
    [got] = bench.got()
    assert (got.body, got.whole) == (b"half", False)
    receipt = bench.only_receipt()
    assert (receipt.status, receipt.bytes_down) == (200, 4)
    assert receipt.end == "upstream cut"
    assert len(bench.rim.wishes) == 1, "the request behind it is not served on this connection"


def test_a_lost_connection_is_not_the_end_of_an_answer_until_the_end(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    bench.end_link(orderly=False)
    assert bench.rim.closed()
    assert bench.rim.reset, "else what came would look whole"
    assert bench.only_receipt().end == "upstream cut"


def test_a_connection_that_comes_late_is_not_the_next_requests(bench: Bench) -> None:
    """The first wish is over when its connection opens; the next request goes elsewhere."""
    bench.client(bench.head("GET /openai/v1/models"))
    late = bench.make_link()
    bench.wait(bench.gate.limits.connect_timeout_s + 6)
    [got] = bench.got()
    assert got.status == 504
    assert bench.rim.cancelled == 1
    bench.client(bench.head("GET /openai/v1/models"))
    late.upstream = Upstream("https", "elsewhere.example", 443)
    bench.road.opened(late)
    assert (bytes(late.written), late.state) == (b"", "given back")


def test_a_request_that_may_have_been_served_is_not_sent_again(bench: Bench) -> None:
    """A stale connection shows at once; one that ends later was at work."""
    bench.client(bench.head("GET /openai/v1/models"))
    bench.road.opened(bench.make_link(reused=True))
    bench.wait(3)
    bench.end_link()
    assert len(bench.rim.wishes) == 1
    [got] = bench.got()
    assert got.status == 502


def test_others_come_first_when_many_requests_come_at_once(bench: Bench) -> None:
    heads = bench.head("GET /openai/v1/models", key=None) * 100
    bench.road.client_data(heads)
    assert len(bench.receipts) == 9  # the first, and eight of those that waited behind it
    turns = 0
    while bench.rim.turns:
        bench.rim.turns.pop()()
        turns += 1
    assert len(bench.receipts) == 100
    assert turns == 12


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 20", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_no_answer_at_all(bench: Bench, begun: bytes) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    if begun:
        bench.answer(begun)
    bench.end_link()
    [got] = bench.got()
    assert got.status == 502
    assert bench.only_receipt().status == 502
    assert not bench.rim.closed()
    bench.client(bench.head("GET /openai/v1/models"))
    assert len(bench.rim.wishes) == 2


def test_no_connection(bench: Bench) -> None:
    for denied, status in ((UpstreamFault("x"), 502), (UpstreamTimeout("x"), 504)):
        bench.client(bench.head("POST /openai/v1/chat/completions", body=CHAT))
        bench.road.unopened(denied)
        assert bench.receipts[-1].status == status
    assert [got.status for got in bench.got("POST", "POST")] == [502, 504]
    assert len(bench.receipts) == 2
    assert not bench.rim.closed()


# ── again, once ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("orderly", [True, False])
def test_a_stale_connection_is_replaced_once(bench: Bench, orderly: bool) -> None:
    bench.client(bench.head("POST /openai/v1/chat/completions", body=CHAT))
    stale = bench.open(reused=True)
    assert stale.written
    bench.end_link(orderly=orderly)
    assert [fresh for _, fresh in bench.rim.wishes] == [False, True]
    assert not bench.rim.out
    bench.open()
    assert bench.sent() == bench.sent(stale)
    bench.answer(OK)
    assert bench.got("POST")[0].body == b"ok"
    assert bench.only_receipt().bytes_up == len(CHAT)


def test_and_not_twice(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open(reused=True)
    bench.end_link()
    bench.open(reused=True)
    bench.end_link()
    assert len(bench.rim.wishes) == 2
    assert bench.got()[0].status == 502
    assert bench.only_receipt().status == 502


def test_a_fresh_connection_is_not_replaced(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()
    bench.end_link()
    assert len(bench.rim.wishes) == 1
    assert bench.got()[0].status == 502


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_nothing_is_sent_again_once_a_byte_has_come(bench: Bench, begun: bytes) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open(reused=True)
    bench.answer(begun)
    bench.end_link()
    assert len(bench.rim.wishes) == 1
    assert bench.got()[0].status == 502


def test_a_streamed_upload_is_not_sent_again(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 10") + b"01234")
    bench.open(reused=True)
    bench.end_link()
    assert len(bench.rim.wishes) == 1
    assert bench.got("POST", closed=True)[0].status == 502
    assert bench.only_receipt().bytes_up == 5


# ── the client leaves ───────────────────────────────────────────────────────────────────────────


def in_head(bench: Bench) -> None:
    bench.client(b"GET /openai/v1/mod")


def in_read(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/chat/completions", body=CHAT)[:-3])


def in_open(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))


def in_stream(bench: Bench) -> None:
    upload(bench)
    bench.client(b"x" * 100)


def in_answer(bench: Bench) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    bench.open()


def in_answer_begun(bench: Bench) -> None:
    in_answer(bench)
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


def in_linger(bench: Bench) -> None:
    bench.client(bench.head("POST /openai/v1/files", "Content-Length: 9", key=None))


STATES: list[tuple[Callable[[Bench], None], int, int]] = [
    # state, receipts in all, connections that are dropped
    (in_head, 0, 0),
    (in_read, 1, 0),
    (in_open, 1, 0),
    (in_stream, 1, 1),
    (in_answer, 1, 1),
    (in_answer_begun, 1, 1),
    (in_linger, 1, 0),
]


@pytest.mark.parametrize(("state", "receipts", "dropped"), STATES)
def test_the_client_leaves(
    bench: Bench, state: Callable[[Bench], None], receipts: int, dropped: int
) -> None:
    state(bench)
    bench.road.client_closed()
    assert bench.rim.closed()
    assert len(bench.receipts) == receipts
    assert [link.state for link in bench.links] == ["dropped"] * dropped
    if state is in_open:
        assert bench.rim.cancelled == 1
    if state is not in_linger and receipts:
        receipt = bench.only_receipt()
        assert (receipt.end, receipt.user) == ("client left", "alice")
    # whatever comes late changes nothing
    before = len(bench.rim.out)
    bench.road.client_closed()
    bench.client(bench.head("GET /openai/v1/models"))
    bench.answer(OK)
    bench.end_link()
    bench.road.client_writable(True)
    bench.road.link_writable(True)
    bench.road.unopened(UpstreamFault("late"))
    bench.wait(10_000)
    late = bench.make_link()
    bench.road.opened(late)
    assert late.state == "given back"
    assert not late.written
    assert len(bench.receipts) == receipts
    assert len(bench.rim.out) == before


@pytest.mark.parametrize(("first", "second"), list(itertools.product([True, False], repeat=2)))
def test_both_leave_at_once(bench: Bench, first: bool, second: bool) -> None:
    in_answer_begun(bench)
    for client in (first, second):
        if client:
            bench.road.client_closed()
        else:
            bench.end_link()
    bench.only_receipt()


# ── what the client waits for ───────────────────────────────────────────────────────────────────

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_answer_that_cannot_leave_is_booked_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.client(bench.head("GET /openai/v1/models"))
    link = bench.open()
    flush, left = bench.rim.flush, [1]

    def failing() -> None:
        if left:
            left.pop()
            raise MemoryError
        flush()

    monkeypatch.setattr(bench.rim, "flush", failing)
    bench.answer(OK)
    assert bench.only_receipt().end != "complete"
    assert link.state == "dropped"
    assert bench.rim.closed()
