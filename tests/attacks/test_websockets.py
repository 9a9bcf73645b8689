"""WebSockets of a live proxy: what passes, what never becomes one, and how each ends."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests import harness
from tests.attacks.conftest import LATE, Door, open_door, refused
from tests.client import Wire
from tests.conftest import Start
from tests.fakes import World
from tests.fakes.steps import Deaf
from tests.fakes.world import Step
from tests.harness import Mode, _ticks
from tests.test_frames import frame

REALTIME = f"/v1/realtime?model={LATE}"
KEY = base64.b64encode(b"sixteen bytes ok").decode()
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: {accept}\r\n\r\n"
)
MASK = b"\x01\x02\x03\x04"
TEXT, BINARY = 1, 2


@contextmanager
def talking(door: Door, key: str | None = None) -> Iterator[ClientConnection]:
    """An open WebSocket to OpenAI's realtime API, its greeting read."""
    url = f"{door.proxy.url.replace('http', 'ws', 1)}/openai{REALTIME}"
    headers = {"Authorization": f"Bearer {key or door.proxy.local_key}"}
    with connect(url, additional_headers=headers, proxy=None, max_size=None) as client:
        greeting = json.loads(client.recv(timeout=45))
        assert greeting["type"] == "session.created"
        yield client
    door.seen()


@contextmanager
def switched(door: Door, *steps: Step) -> Iterator[Wire]:
    """A raw connection on which the provider has switched, and then does these steps."""
    door.world.switch("openai", "/v1/realtime", SWITCH, *steps)
    try:
        with door.wire() as wire:
            wire.send(door.head(f"GET /openai{REALTIME}", *UPGRADE))
            head = wire.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            yield wire
    finally:
        door.world.switch("openai", "/v1/realtime")
        door.seen()


# ── what passes ─────────────────────────────────────────────────────────────────────────────────


def test_messages_pass_in_both_directions_and_are_booked_once(door: Door) -> None:
    since = len(door.proxy.log())
    with talking(door) as client:
        client.send(json.dumps({"type": "response.create"}))
        text = ""
        while (event := json.loads(client.recv(timeout=45)))["type"] != "response.done":
            text += event["delta"] if event["type"] == "response.output_text.delta" else ""
        assert text == "Hello, wörld!"
        client.ping("from the client").wait(20)
        client.send(json.dumps({"type": "fake.ping", "data": "from the provider"}))
        client.send(b"\0\xff" * 100_000)
        [request] = [r for r in door.world.requests("openai") if r.target == REALTIME][-1:]
        for _ in _ticks(20):
            if len(request.messages) == 3 and request.pongs:
                break
    assert request.credential == "real"
    assert not request.extended, "compressed frames could not be read along"
    assert request.messages[2] == b"\0\xff" * 100_000
    assert request.pongs == [b"from the provider"]
    line = door.proxy.wait_for_log(since, endpoint="realtime")
    assert (line["status"], line["end"], line["user"]) == (101, "complete", "alice")
    assert line["bytes_up"] > 200_000
    used = (line["input_tokens"], line["output_tokens"], line["quality"])
    assert used == (9, 16, "unpriced"), "as `response.done` says; the model is nobody's"
    for _ in _ticks(20):
        if request.close_code:
            break
    assert request.close_code == 1000


def test_the_key_is_asked_for(door: Door) -> None:
    url = f"{door.proxy.url.replace('http', 'ws', 1)}/openai{REALTIME}"
    for headers in ({}, {"Authorization": "Bearer sk-proj-somebodys"}):
        with pytest.raises(InvalidStatus) as caught:
            connect(url, additional_headers=headers, proxy=None).__enter__()
        assert caught.value.response.status_code == 401
    door.assert_untouched()


def test_an_echoed_key_is_masked(door: Door) -> None:
    with talking(door) as client:
        client.send(json.dumps({"type": "fake.echo"}))
        said = json.loads(client.recv(timeout=45))
    real = door.world.key("openai")
    assert said == {"type": "error", "error": f"Bearer {'*' * len(real)}"}


# ── what never becomes one ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", ["/openai/v1/models", "/anthropic/v1/messages", "/openai/no/x"])
@pytest.mark.parametrize("upgrade", ["websocket", "H2C, websocket"])
def test_only_where_the_endpoint_is_one(door: Door, target: str, upgrade: str) -> None:
    headers = (f"Upgrade: {upgrade}", *UPGRADE[1:])
    refused(door.ask(door.head(f"GET {target}", *headers)), 501)
    door.assert_untouched()


@pytest.mark.parametrize(
    "headers",
    [
        ("Upgrade: H2C, websocket", *UPGRADE[1:]),
        UPGRADE[:3],
        (*UPGRADE[:2], "Sec-WebSocket-Version: 12", UPGRADE[3]),
        (*UPGRADE, "Content-Length: 5"),
    ],
)
def test_half_a_handshake_is_none(door: Door, headers: tuple[str, ...]) -> None:
    refused(door.ask(door.head(f"GET /openai{REALTIME}", *headers)), 400)
    door.assert_untouched()


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH.replace(b"{accept}", b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        SWITCH[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["accept", "h2c", "extension", "bare"],
)
def test_no_other_101_passes(door: Door, answer: bytes) -> None:
    door.world.switch("openai", "/v1/realtime", answer, b"raw bytes of a tunnel", "close")
    try:
        got = door.ask(door.head(f"GET /openai{REALTIME}", *UPGRADE))
    finally:
        door.world.switch("openai", "/v1/realtime")
    refused(got, 502)
    assert b"raw bytes" not in got.body
    door.seen()


def test_what_is_no_frame_goes_nowhere(door: Door) -> None:
    """Not a tunnel: a second request, or bytes of another protocol, end it."""
    gate = door.world.gate(f"no-frame-{door.proxy.mode}")
    with switched(door, gate) as wire:
        wire.send(door.head("GET /anthropic/odd/json") * 3)
        [request] = [r for r in door.seen() if r.target == REALTIME]
        rest = wire.rest()
    assert rest[:4] == bytes((0x88, len(rest) - 2)) + struct.pack("!H", 1002)
    line = next(line for line in door.world.lines() if line.number == request.connection)
    assert door.world.wait_closed(line.number)
    assert b"/odd/json" not in line.first_bytes
    gate.open()
    door.assert_still_serves()


def test_a_provider_that_leaves_the_protocol_ends_it(door: Door) -> None:
    with switched(door, frame(TEXT, b"good"), b"HTTP/1.1 200 OK\r\n\r\n") as wire:
        got = wire.rest()
    assert got.startswith(frame(TEXT, b"good"))
    assert got[6:10] == bytes((0x88, got[7])) + struct.pack("!H", 1014)
    door.assert_still_serves()


@pytest.mark.parametrize("size", [2**40, 2**62])
def test_a_frame_of_absurd_length_is_told_so(door: Door, size: int) -> None:
    gate = door.world.gate(f"absurd-{size}-{door.proxy.mode}")
    with switched(door, gate) as wire:
        wire.send(b"\x82\xff" + struct.pack("!Q", size) + MASK)
        assert wire.rest()[2:4] == struct.pack("!H", 1009)
    gate.open()


# ── how each ends ───────────────────────────────────────────────────────────────────────────────


def test_a_revoked_key_s_websocket_is_closed_and_told(door: Door) -> None:
    key = door.proxy.mint("alice")
    with talking(door) as other, talking(door, key) as client:
        harness.revoke(door.proxy.home, key)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=45)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
        assert caught.value.rcvd.reason == "LlamaKey: the key is no longer valid"
        # within a second: what a sweep takes, not what a test on a busy machine can time
        other.send(json.dumps({"type": "response.create"}))
        assert json.loads(other.recv(timeout=45))["type"] == "response.created"
    door.proxy.wait_for_log(endpoint="realtime", end="the key is no longer valid")


def test_a_client_that_leaves_takes_the_provider_s_connection_with_it(door: Door) -> None:
    gate = door.world.gate(f"leaving-socket-{door.proxy.mode}")
    since = len(door.proxy.log())
    with switched(door, frame(TEXT, b"hello"), gate) as wire:
        wire.until(b"hello")
        [request] = [r for r in door.seen() if r.target == REALTIME]
    assert door.world.wait_closed(request.connection)
    assert door.proxy.wait_for_log(since, endpoint="realtime")["end"] == "client left"
    gate.open()


def test_a_provider_that_is_cut_cuts_the_client(door: Door) -> None:
    since = len(door.proxy.log())
    with switched(door, frame(BINARY, b"x" * 1000)[:500], "reset") as wire:
        got = wire.rest()
    assert got == frame(BINARY, b"x" * 1000)[:500], "no close in the middle of a frame"
    assert door.proxy.wait_for_log(since, endpoint="realtime")["end"] == "upstream cut"
    door.assert_still_serves()


def test_a_stop_says_goodbye(proxy: Start, world: World) -> None:
    modes: tuple[Mode, ...] = ("lmk", "mitmdump")
    for mode in modes:
        running = proxy(mode, config={"limits": {"drain_timeout_s": 0.5}})
        door = open_door(running, world)
        with talking(door) as client:
            running.process.terminate()
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(timeout=45)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
        assert running.process.wait(60) == 0  # by the one signal: a second may meet no handler
        line = running.wait_for_log(endpoint="realtime")
        assert line["end"] == "the proxy stopped"


# ── pressure ────────────────────────────────────────────────────────────────────────────────────


def test_a_provider_that_does_not_read_holds_the_client_back(door: Door) -> None:
    gate = door.world.gate(f"deaf-{door.proxy.mode}")
    size = 64 * 2**20
    with switched(door, Deaf(gate), "close") as wire:
        wire.send(b"\x82\xff" + struct.pack("!Q", size) + MASK)
        sent = wire.send_until_full(b"\0" * size)
        assert sent < size, "everything was taken, though nobody read it"
        door.assert_still_serves()
        gate.open()
        wire.rest()


def test_a_client_that_does_not_read_holds_the_provider_back(door: Door) -> None:
    name = f"flood-{door.proxy.mode}"
    gate = door.world.gate(name)
    piece = frame(BINARY, b"x" * 2**20)
    with switched(door, *[piece] * 64, gate) as wire:
        with pytest.raises(TimeoutError):  # the provider cannot write everything
            gate.wait_until_waiting(1)
        door.assert_still_serves()
        got = 0
        while got < 64 * len(piece):
            got += len(wire.more())
        gate.wait_until_waiting()
        gate.open()
