"""Clients that leave, providers that cut, a proxy that is told to stop: each settled once."""

from __future__ import annotations

import gzip
import socket
import time

import pytest

from tests.attacks.conftest import Door, open_door, refused
from tests.conftest import Start
from tests.fakes import Request, World
from tests.harness import Mode, _ticks


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
            assert running.process.wait(60) == 0
        [line] = [line for line in running.log() if line.get("path") == path]
        assert line["end"] == "complete"
        door.seen()


def test_gzip_answers_are_passed_on(lmk_door: Door) -> None:
    """The other side of the bombs: an honest packed answer passes byte for byte."""
    answer = lmk_door.ask(lmk_door.head("GET /anthropic/odd/gzip", "Accept-Encoding: gzip"))
    assert b"squeezed" in gzip.decompress(answer.body)
    lmk_door.seen()


def test_half_closed_clients_and_resets_harm_nobody(door: Door) -> None:
    for _ in range(20):
        with door.wire() as wire:
            wire.send(door.head("GET /anthropic/odd/json"))
            wire._socket.shutdown(socket.SHUT_WR)
            wire.rest()
        with door.wire() as wire:
            wire.send(door.head("GET /anthropic/odd/json")[:-1])
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    door.seen()
    door.assert_still_serves_soon()
