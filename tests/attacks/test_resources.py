"""What one client may take of the proxy's memory and CPU."""

from __future__ import annotations

import contextlib
import functools
import select
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.attacks.conftest import Door, refused
from tests.client import Answer, Closed, Wire
from tests.harness import _ticks

MIB = 2**20
GROWTH = 64 * MIB


@contextmanager
def watched(door: Door, *, growth: int = GROWTH, cpu_s: float = 5) -> Iterator[None]:
    """The proxy grows by no more, at any moment, and burns no more than so much CPU."""
    process = psutil.Process(door.proxy.process.pid)
    door.assert_still_serves()
    before, times = process.memory_info().rss, process.cpu_times()
    most = [before]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            most.append(process.memory_info().rss)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    grown = max(most) - before
    assert grown < growth, f"grew by {grown / MIB:.0f} MiB"
    now = process.cpu_times()
    assert now.user + now.system - times.user - times.system < cpu_s


def pour(wire: Wire, piece: bytes, total: int) -> int:
    """Sends until so much is sent or the other side closes; how much went."""
    sent = 0
    try:
        while sent < total:
            wire.send(piece)
            sent += len(piece)
    except (ConnectionError, TimeoutError):
        pass
    return sent


def answer_or_none(wire: Wire) -> Answer | None:
    """The answer; None where a reset overtook it, since we went on sending."""
    try:
        return wire.answer()
    except (Closed, ConnectionError):
        return None


# ── memory ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("begin", "statuses"),
    [
        (b"GET /openai/", (414,)),
        (b"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\nX: ", (431,)),
        (b"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\n", (431, 400)),
        (b"", (400, 414)),
    ],
    ids=["target", "header", "headers", "method"],
)
def test_a_head_of_200_mb(door: Door, begin: bytes, statuses: tuple[int, ...]) -> None:
    piece = (b"X: aaaaaaaaaaa\r\n" if 400 in statuses and begin else b"A" * 16) * 65536
    with watched(door), door.wire() as wire:
        wire.send(begin)
        sent = pour(wire, piece, 200 * MIB)
        answer = answer_or_none(wire)
    assert sent < 100 * MIB, "it was cut off"
    assert answer is None or answer.status in statuses
    door.assert_untouched()


def test_heads_at_their_bounds(lmk_door: Door) -> None:
    def head(*headers: str) -> bytes:
        return lmk_door.head("GET /anthropic/odd/json", *headers)

    refused(lmk_door.ask(head(*[f"X-{i}: a" for i in range(99)])), 431)
    refused(lmk_door.ask(head("X: " + "a" * 65536)), 431)
    refused(lmk_door.ask(head("X: " + "a" * 17000)), 431)
    refused(lmk_door.ask(lmk_door.head("GET /anthropic/odd/json?" + "a" * 65536)), 414)
    lmk_door.assert_untouched()
    assert lmk_door.ask(head(*[f"X-{i}: a" for i in range(90)])).status == 200
    assert lmk_door.ask(head(*[f"X-{i}: {'a' * 15000}" for i in range(4)])).status == 200
    assert lmk_door.ask(lmk_door.head("GET /anthropic/odd/json?" + "a" * 30000)).status == 200
    assert len(lmk_door.seen()) == 3


@pytest.mark.parametrize("framing", ["Content-Length: 314572800", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("key", ["X-Nothing: a", "Authorization: Bearer wrong"])
def test_300_mb_without_a_valid_key(door: Door, key: str, framing: str) -> None:
    head = f"POST /openai/v1/files HTTP/1.1\r\nHost: a\r\n{key}\r\n{framing}\r\n\r\n".encode()
    with watched(door), door.wire() as wire:
        wire.send(head)
        answer = wire.answer("POST")  # on the head alone
        refused(answer, 401)
        assert answer.header("connection") == "close"
        piece = b"x" * MIB
        sent = pour(
            wire, b"100000\r\n" + piece + b"\r\n" if "chunked" in framing else piece, 300 * MIB
        )
    assert sent < 100 * MIB, "it was cut off"
    door.assert_untouched()


def test_a_body_larger_than_the_limit_is_refused_and_the_connection_closed(lmk_door: Door) -> None:
    with watched(lmk_door), lmk_door.wire() as wire:
        wire.send(lmk_door.head("POST /anthropic/odd/upload", f"Content-Length: {600 * MIB}"))
        refused(wire.answer("POST"), 413)
        begun = time.monotonic()
        assert wire.rest() == b""
        assert time.monotonic() - begun < 1
    lmk_door.assert_untouched()


def test_a_json_body_larger_than_is_read(lmk_door: Door) -> None:
    """200 MB of JSON on an endpoint whose body is judged: streamed, not kept."""
    with watched(lmk_door, cpu_s=20), lmk_door.wire() as wire:
        total = 200 * MIB
        wire.send(lmk_door.head("POST /deepseek/v1/chat/completions", f"Content-Length: {total}"))
        assert pour(wire, b" " * MIB, total) == total
        wire.answer("POST")
    assert [request.body_length for request in lmk_door.seen()] == [total]


def test_a_json_body_that_may_name_what_is_anothers_is_not_streamed(lmk_door: Door) -> None:
    with watched(lmk_door), lmk_door.wire() as wire:
        head = lmk_door.head("POST /anthropic/v1/messages", f"Content-Length: {200 * MIB}")
        wire.send(head)
        answer = wire.answer("POST")
        refused(answer, 403)
        assert b"limits.json_body_bytes" in answer.body
    lmk_door.assert_untouched()


def test_tiny_chunks(lmk_door: Door) -> None:
    chunks = b"1\r\nx\r\n" * 10_000
    for path in ("/anthropic/odd/upload", "/anthropic/v1/messages"):
        with watched(lmk_door, cpu_s=3), lmk_door.wire() as wire:
            wire.send(lmk_door.head(f"POST {path}", "Transfer-Encoding: chunked"))
            pour(wire, chunks, 36 * MIB)
            answer = answer_or_none(wire)
        assert answer is None or answer.status == 400
    assert not any(request.complete for request in lmk_door.seen())


@functools.cache
def bomb(size: int, wbits: int = 31) -> bytes:
    """So many zeros, packed to a thousandth."""
    packer = zlib.compressobj(9, wbits=wbits)
    zeros = b"\0" * MIB
    return b"".join(packer.compress(zeros) for _ in range(size // MIB)) + packer.flush()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_for_a_body(lmk_door: Door, coding: str) -> None:
    body = bomb(160 * MIB, 31 if coding == "gzip" else 15)
    assert len(body) < 2 * MIB
    head = lmk_door.head(
        "POST /anthropic/v1/messages",
        "Content-Type: application/json",
        f"Content-Encoding: {coding}",
        f"Content-Length: {len(body)}",
    )
    with watched(lmk_door):
        refused(lmk_door.ask(head + body, method="POST"), 400, 413)
    lmk_door.assert_untouched()


def test_a_bomb_for_an_answer(lmk_door: Door) -> None:
    body = bomb(160 * MIB)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    path = lmk_door.world.script("bomb", head + body)
    with watched(lmk_door):
        answer = lmk_door.ask(lmk_door.head(f"GET /anthropic{path}", "Accept-Encoding: gzip"))
    assert answer.status == 200
    assert not answer.whole or answer.body == body
    lmk_door.seen()


def until_it_reads_no_more(door: Door) -> None:
    """Returns when the proxy has taken nothing from any socket for a while."""
    process = psutil.Process(door.proxy.process.pid)
    looks = [-1] * 8
    for _ in _ticks(20):
        looks = [*looks[1:], process.io_counters().read_chars]
        if len(set(looks)) == 1:
            return
        time.sleep(0.02)
    raise TimeoutError("it reads on and on")


def test_a_large_answer_to_a_client_that_does_not_read(door: Door) -> None:
    with watched(door), door.wire() as wire:
        wire.send(door.head(f"GET /anthropic/odd/download?bytes={300 * MIB}"))
        wire.until(b"\r\n\r\n")
        until_it_reads_no_more(door)  # it has filled what buffers there are
    door.seen()


def test_requests_sent_ahead_are_bounded(door: Door) -> None:
    """A client that asks, and never reads."""
    gate = f"ahead-{time.monotonic_ns()}"
    with watched(door), door.wire() as wire:
        wire._socket.settimeout(2)
        # the last of its connection, so that nothing of what waits is sent once it is answered
        first = f"GET /anthropic/odd/hang?gate={gate}"
        wire.send(door.head(first, "Connection: close"))
        assert pour(wire, door.head("GET /anthropic/odd/json") * 1000, 100 * MIB) < 50 * MIB
    door.world.gate(gate).open()
    door.seen()


@pytest.mark.parametrize("door", ["mitmdump"], indirect=True)
def test_a_client_that_asks_faster_than_it_is_answered(door: Door) -> None:
    """It needs no key for that, and reads its answers. Here two pause the reading, mitmproxy's
    stream and the road, and neither may undo what the other did."""
    look = b"GET /_llamakey/health HTTP/1.1\r\nHost: a\r\n\r\n"
    heads, sent, answered = look * 20_000, 0, 0
    with door.wire() as wire:
        connection = wire._socket
        connection.setblocking(False)
        while answered < 60_000:
            select.select([connection], [connection], [], 10)
            with contextlib.suppress(BlockingIOError):
                at = sent % len(look)
                sent += connection.send(heads[at : at + 65536])
            with contextlib.suppress(BlockingIOError):
                # a word that is cut between two reads is counted in neither: there are few
                answered += connection.recv(1 << 20).count(b'"ok"')
            assert sent - answered * len(look) < 16 * MIB, "read without bound"
