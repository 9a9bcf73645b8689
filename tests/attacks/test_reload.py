"""A reload of the script: state outlives it; after a failed one nothing is served, on no
connection."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import harness
from tests.attacks.conftest import Door, open_door, refused
from tests.client import Closed, Wire
from tests.conftest import Start
from tests.fakes import World
from tests.harness import _ticks

BROKEN = ["def broken(:\n", "raise RuntimeError('no')\n", "import nothing_of_this_name\n", ""]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the script, so that touching it reloads no other proxy."""
    copy = tmp_path / "script.py"
    shutil.copy(harness.SCRIPT, copy)
    monkeypatch.setattr(harness, "SCRIPT", copy)
    return copy


@pytest.fixture
def door(script: Path, proxy: Start, world: World) -> Iterator[Door]:
    limits = {"connections_per_address": 12}
    running = proxy("mitmdump", config={"limits": limits})
    yield open_door(running, world)
    assert running.process.poll() is None


def write(door: Door, script: Path, text: str) -> None:
    """Changes the script, and waits until mitmproxy has loaded it again."""
    times = door.proxy.output().count("Loading script")
    # mitmproxy compares times of modification
    later = script.stat().st_mtime + 2
    script.write_text(text)
    os.utime(script, (later, later))
    for _ in _ticks(20):
        if door.proxy.output().count("Loading script") > times:
            return
    raise TimeoutError(door.proxy.output())


def honest(wire: Wire, door: Door) -> int:
    wire.send(door.head("GET /anthropic/odd/json"))
    return wire.answer().status


def test_a_touch_changes_nothing(door: Door, script: Path) -> None:
    good = script.read_text()
    with door.wire() as kept:
        assert honest(kept, door) == 200
        for _ in range(3):
            write(door, script, good)
            assert honest(kept, door) == 200, "an open connection goes on"
            assert door.ask(door.head("GET /anthropic/odd/json")).status == 200
            wrong = b"GET /anthropic/odd/json HTTP/1.1\r\nHost: a\r\nx-api-key: wrong\r\n\r\n"
            refused(door.ask(wrong), 401)
    assert "Traceback" not in door.proxy.output()
    assert "rror" not in door.proxy.output(), door.proxy.output()


def test_a_stream_outlives_a_reload(door: Door, script: Path) -> None:
    gate = door.world.gate("reload-stream")
    path = door.world.script(
        "reload-stream",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        gate,
        b"6\r\nsecond\r\n0\r\n\r\n",
    )
    with door.wire() as wire:
        wire.send(door.head(f"GET /anthropic{path}"))
        wire.until(b"first")
        write(door, script, script.read_text())
        gate.open()
        assert b"second" in wire.until(b"0\r\n\r\n")
    door.proxy.wait_for_log(path=path, end="complete")


def test_connections_are_counted_over_reloads(door: Door, script: Path) -> None:
    """Twelve at once are allowed: many more one after the other, with reloads between."""
    for _ in range(3):
        wires = door.hold(8)
        write(door, script, script.read_text())
        for wire in wires:
            wire.close()
    door.assert_still_serves_soon()


def test_a_failed_reload_serves_nothing(door: Door, script: Path) -> None:
    good = script.read_text()
    for broken in BROKEN:
        with door.wire() as kept, door.wire() as begun:
            assert honest(kept, door) == 200
            half = door.head("POST /anthropic/v1/messages", "Content-Length: 2")
            begun.send(half[:-5])
            door.seen()
            write(door, script, broken)
            # a connection that was open
            kept.send(door.head("GET /anthropic/odd/json"))
            assert_unserved(kept)
            begun.send(half[-5:] + b"{}")
            assert_unserved(begun)
        # new ones, with a right key, a wrong one, and none
        for key in (door.bearer(), "Authorization: Bearer wrong", "X: y"):
            for target in ("/anthropic/odd/json", "http://a.example/"):
                with door.wire() as wire:
                    wire.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n".encode())
                    assert_unserved(wire)
        door.assert_untouched()
        # and when the script is whole again, it serves again
        write(door, script, good)
        door.assert_still_serves_soon()


def test_settings_are_taken_all_or_none(door: Door, script: Path) -> None:
    """As `lmk serve` does, also after the script was loaded again."""
    proxy = door.proxy
    config = proxy.folder / "config.yaml"
    good = yaml.safe_load(config.read_text())
    ask = door.head("GET /anthropic/odd/json")
    fine: dict[str, object] = {"alice": {}}
    none: dict[str, object] = {"alice": {"allow": []}}

    def change(**parts: object) -> None:
        config.write_text(yaml.safe_dump({**good, **parts}))

    change(users=none, money={"time_zone": "Nowhere/Else"})
    proxy.wait_for_output("goes on with the settings it has")
    proxy.wait_for_output("no time zone")
    assert door.ask(ask).status == 200
    change(users=none)
    proxy.wait_for_output("config.yaml has changed: settings taken")
    assert door.ask(ask).status == 403
    write(door, script, script.read_text())
    assert door.ask(ask).status == 403
    config.write_text(yaml.safe_dump({**good, "users": fine, "contact": "second@corp.example"}))
    proxy.process.send_signal(signal.SIGHUP)
    proxy.wait_for_output("SIGHUP: settings taken")
    assert door.ask(ask).status == 200
    assert b"second@corp.example" in door.ask(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").body
    door.seen()


def assert_unserved(wire: Wire) -> None:
    """Closed, or a plain 5xx; never an answer of a provider's."""
    try:
        answer = wire.answer()
    except (Closed, ConnectionError):
        return
    assert answer.status in (502, 503), answer
    assert b"sha256" not in answer.body


def test_a_script_that_is_gone_serves_nothing(door: Door, script: Path) -> None:
    with door.wire() as kept:
        assert honest(kept, door) == 200
        door.seen()
        script.unlink()
        door.proxy.wait_for_output("Removing script")
        kept.send(door.head("GET /anthropic/odd/json"))
        assert_unserved(kept)
    with door.wire() as wire:
        wire.send(door.head("GET /anthropic/odd/json"))
        assert_unserved(wire)
    door.assert_untouched()
