"""What one client may take of the proxy: memory, time, sockets."""

from __future__ import annotations

import functools
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from tests.attacks.conftest import LIMITS, Door, open_door, refused
from tests.client import Answer, Closed, Wire
from tests.conftest import Start
from tests.fakes import Request, World
from tests.harness import Mode, _ticks

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
        wire.send(lmk_door.head("POST /anthropic/v1/messages", f"Content-Length: {total}"))
        assert pour(wire, b" " * MIB, total) == total
        wire.answer("POST")
    assert [request.body_length for request in lmk_door.seen()] == [total]


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
    body = bomb(384 * MIB, 31 if coding == "gzip" else 15)
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
    body = bomb(384 * MIB)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    path = lmk_door.world.script("bomb", head + body)
    with watched(lmk_door):
        answer = lmk_door.ask(lmk_door.head(f"GET /anthropic{path}", "Accept-Encoding: gzip"))
    assert answer.status == 200
    assert not answer.whole or answer.body == body
    lmk_door.seen()


def test_a_large_answer_to_a_client_that_does_not_read(lmk_door: Door) -> None:
    with watched(lmk_door), lmk_door.wire() as wire:
        wire.send(lmk_door.head(f"GET /anthropic/odd/download?bytes={300 * MIB}"))
        wire.until(b"\r\n\r\n")
        time.sleep(1.5)  # it may fill what buffers there are, and no more
    lmk_door.seen()


def test_requests_sent_ahead_are_bounded(lmk_door: Door) -> None:
    """A client that asks, and never reads."""
    gate = f"ahead-{time.monotonic_ns()}"
    with watched(lmk_door), lmk_door.wire() as wire:
        wire._socket.settimeout(2)
        # the last of its connection, so that nothing of what waits is sent once it is answered
        first = f"GET /anthropic/odd/hang?gate={gate}"
        wire.send(lmk_door.head(first, "Connection: close"))
        assert pour(wire, lmk_door.head("GET /anthropic/odd/json") * 1000, 100 * MIB) < 50 * MIB
    lmk_door.world.gate(gate).open()
    lmk_door.seen()


# ── time ────────────────────────────────────────────────────────────────────────────────────────

SLOW = {
    "silent": b"",
    "one byte": b"G",
    "half a line": b"GET /openai/v1",
    "half a head": b"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\nX: ",
    "empty line": b"\r\n",
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_slow_head_is_closed_in_time(door: Door, kind: str) -> None:
    begun = time.monotonic()
    with door.wire() as wire:
        if SLOW[kind]:
            wire.send(SLOW[kind])
        got = wire.rest()
    # 2 s in this configuration, 20 s by default; then two more to part
    assert 1.5 < time.monotonic() - begun < 10
    assert got == b"" or got.startswith(b"HTTP/1.1 408 ")
    door.assert_untouched()


def test_a_head_that_drips_is_closed_in_time(lmk_door: Door) -> None:
    begun = time.monotonic()
    head = iter(lmk_door.head("GET /anthropic/odd/json"))
    with lmk_door.wire() as wire:
        wire._socket.settimeout(0.2)
        while True:
            assert time.monotonic() - begun < 10
            try:
                wire.send(bytes([next(head)]))
                if not wire._socket.recv(4096):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    lmk_door.assert_untouched()


def test_a_slow_body_is_closed_in_time(lmk_door: Door) -> None:
    for path in ("/anthropic/v1/messages", "/anthropic/odd/upload"):
        begun = time.monotonic()
        with lmk_door.wire() as wire:
            wire.send(lmk_door.head(f"POST {path}", "Content-Length: 100"), b"half")
            answer = wire.answer("POST")
            refused(answer, 408)
            wire.rest()
        assert 1.5 < time.monotonic() - begun < 10
    assert not any(request.complete for request in lmk_door.seen())


def test_200_slow_ones_and_the_others(door: Door) -> None:
    """Others are served meanwhile; then all the slow ones are closed."""
    begins = [
        b"GET /openai/v1",
        door.head("GET /anthropic/odd/json")[:-3],
        door.head("POST /anthropic/v1/messages", "Content-Length: 9"),
        door.head("POST /anthropic/odd/upload", "Content-Length: 9") + b"x",
    ]
    with ExitStack() as stack:
        slow = [stack.enter_context(door.wire()) for _ in range(200)]
        for number, wire in enumerate(slow):
            wire.send(begins[number % len(begins)])
        for _ in range(10):
            assert door.ask(door.head("GET /anthropic/odd/json")).status == 200
        for wire in slow:
            wire.rest()
    door.seen()
    process = psutil.Process(door.proxy.process.pid)
    for _ in _ticks(10):
        open_ones = [c for c in process.net_connections("tcp") if c.laddr.port == door.proxy.port]
        if len(open_ones) < 20:
            break
    else:
        raise AssertionError(f"{len(open_ones)} connections are left")


def test_connections_from_one_address_are_bounded(proxy: Start, world: World) -> None:
    limits = {**LIMITS["limits"], "connections_per_address": 20}
    door = open_door(proxy("lmk", config={"limits": limits}), world)
    with ExitStack() as stack:
        for wire in door.hold(20):
            stack.enter_context(wire)
        with door.wire() as over:
            try:
                over.send(door.head("GET /anthropic/odd/json"))
                assert over.rest()[9:12] in (b"", b"429", b"503")
            except ConnectionError:
                pass
        door.assert_untouched()
    door.assert_still_serves_soon()


def test_a_full_disk_ends_no_process(proxy: Start, world: World) -> None:
    """The log cannot be written: new requests are served or refused plainly, running ones end."""
    running = proxy("lmk", config={"logging": {"file": "/dev/full"}})
    door = open_door(running, world)
    for _ in range(3):
        answer = door.ask(door.head("GET /anthropic/odd/json"))
        assert answer.whole
        assert answer.status in (200, 503)
    assert running.process.poll() is None
    door.seen()


# ── goodbyes ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("begun", [True, False], ids=["answering", "waiting"])
def test_a_client_that_leaves_takes_its_upstream_with_it(door: Door, begun: bool) -> None:
    gate = door.world.gate("leaving")
    if begun:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        path = door.world.script("leaving", head, gate)
    else:
        path = "/odd/hang/leaving?gate=leaving"
    with door.wire() as wire:
        wire.send(door.head(f"GET /anthropic{path}"))
        if begun:
            wire.until(b"hello")
        request = request_to(door, path)
        line = next(line for line in door.world.lines() if line.number == request.connection)
    left = time.monotonic()
    for _ in _ticks(5):
        if not line.open:
            break
    assert time.monotonic() - left < 1
    booked = door.proxy.wait_for_log(end="client left", path=path.partition("?")[0])
    assert [each.get("id") for each in door.proxy.log()].count(booked["id"]) == 1


def request_to(door: Door, path: str) -> Request:
    """The request to this path, as soon as it has come."""
    for _ in _ticks(10):
        for request in door.seen():
            if request.target == path:
                return request
    raise TimeoutError


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upstream_that_is_cut_midway(door: Door, framing: str) -> None:
    before = len([line for line in door.proxy.log() if line.get("end") == "upstream cut"])
    answer = door.ask(door.head(f"GET /anthropic/odd/truncated?framing={framing}"))
    assert (answer.status, answer.body, answer.whole) == (200, b"only this", False)
    for _ in _ticks(5):
        cut = [line for line in door.proxy.log() if line.get("end") == "upstream cut"]
        if len(cut) > before:
            break
    assert len(cut) == before + 1
    door.seen()


def test_a_reset_in_place_of_an_answer(lmk_door: Door) -> None:
    refused(lmk_door.ask(lmk_door.head("GET /anthropic/odd/reset")), 502)
    assert len(lmk_door.seen()) in (1, 2), "again, once, where its connection was an old one"


def test_a_stop_lets_streams_end(proxy: Start, world: World) -> None:
    modes: tuple[Mode, ...] = ("lmk", "mitmdump")
    for mode in modes:
        running = proxy(mode, config={"limits": {"drain_timeout_s": 20}})
        door = open_door(running, world)
        gate = world.gate(f"stop-{mode}")
        path = world.script(
            f"stop-{mode}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
            gate,
            b"6\r\nsecond\r\n0\r\n\r\n",
        )
        with door.wire() as wire:
            wire.send(door.head(f"GET /anthropic{path}"))
            wire.until(b"first")
            running.process.terminate()
            while running.healthy():
                pass  # until it says that it drains
            gate.open()
            assert b"second" in wire.until(b"0\r\n\r\n")
            assert running.process.wait(20) == 0
        [line] = [line for line in running.log() if line.get("path") == path]
        assert line["end"] == "complete"
        door.seen()


def test_gzip_answers_are_passed_on(lmk_door: Door) -> None:
    """The other side of the bombs: an honest packed answer passes byte for byte."""
    answer = lmk_door.ask(lmk_door.head("GET /anthropic/odd/gzip", "Accept-Encoding: gzip"))
    assert b"squeezed" in gzip.decompress(answer.body)
    lmk_door.seen()


def test_half_closed_clients_and_resets_harm_nobody(lmk_door: Door) -> None:
    for _ in range(20):
        with lmk_door.wire() as wire:
            wire.send(lmk_door.head("GET /anthropic/odd/json"))
            wire._socket.shutdown(socket.SHUT_WR)
            wire.rest()
        with lmk_door.wire() as wire:
            wire.send(lmk_door.head("GET /anthropic/odd/json")[:-1])
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    lmk_door.seen()
    lmk_door.assert_still_serves_soon()
