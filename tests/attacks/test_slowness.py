"""Who is slow, or many: closed in time, while others are served."""

from __future__ import annotations

import time
from contextlib import ExitStack

import psutil
import pytest

from tests.attacks.conftest import LIMITS, Door, open_door, refused
from tests.conftest import Start
from tests.fakes import World
from tests.harness import _ticks

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
