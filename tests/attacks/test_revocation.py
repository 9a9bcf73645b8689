"""A key that ends while a live proxy serves by it: what runs ends too, and nothing of others'."""

from __future__ import annotations

import sqlite3
import time

import pytest

from llamakey_addon import keys
from llamakey_addon.store import open_store
from tests import harness
from tests.attacks.conftest import LATE, Door
from tests.client import Wire
from tests.harness import _ticks

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"


def head(line: str, key: str) -> bytes:
    return f"{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


@pytest.mark.parametrize("how", ["revoked", "expires"])
def test_streams_and_open_connections_of_the_key_end(door: Door, how: str) -> None:
    """The provider would stream for ever: only the revocation can end it."""
    name = f"{how}-{door.proxy.mode}-{LATE}"
    gate = door.world.gate(name)
    path = door.world.script(name, HEAD, gate, b"0\r\n\r\n")
    key, other = door.proxy.mint("bob"), door.proxy.mint("bob")
    with door.wire() as streaming, door.wire() as waiting, door.wire() as others:
        for wire, its in ((streaming, key), (others, other)):
            wire.send(head(f"GET /anthropic{path}", its))
            wire.until(b"first")
        waiting.send(head("GET /anthropic/odd/json", key))
        assert waiting.answer().status == 200
        if how == "revoked":
            harness.revoke(door.proxy.home, key)
        else:
            parsed = keys.parse(key)
            assert parsed is not None
            with open_store(door.proxy.home) as store:
                store.expire(parsed.id, time.time() + 0.2)
        streaming.rest()
        waiting.rest()
        line = door.proxy.wait_for_log(path=path, end="the key is no longer valid")
        assert line["user"] == "bob"
        gate.open()
        assert others.until(b"0\r\n\r\n")
    with door.wire() as again:
        again.send(head("GET /anthropic/odd/json", key))
        assert again.answer().status == 401
    door.seen()


def last_use(door: Door, key: str) -> float | None:
    parsed = keys.parse(key)
    assert parsed is not None
    connection = sqlite3.connect(door.proxy.home / "llamakey.db")
    try:
        found = connection.execute("SELECT last_s FROM key_use WHERE id = ?", (parsed.id,))
        return next((last_s for (last_s,) in found), None)
    finally:
        connection.close()


def test_the_last_use_of_a_key_is_written(door: Door) -> None:
    key = door.proxy.mint("bob")
    before_s = time.time()
    assert last_use(door, key) is None
    with door.wire() as wire:
        wire.send(head("GET /anthropic/odd/json", key))
        assert wire.answer().status == 200
    for _ in _ticks(10):
        if used_s := last_use(door, key):
            break
    assert used_s is not None
    assert before_s <= used_s <= time.time()
    door.seen()


def test_networks_are_judged_by_the_address_that_a_trusted_proxy_gives(shared_proxy, world) -> None:
    proxy = shared_proxy("lmk", config={"trusted_proxies": ["127.0.0.0/8", "::1/128"]})
    minted = keys.mint()
    world.forbid(minted.text)
    with open_store(proxy.home) as store:
        store.add_key("ci", "alice", minted, networks=("10.0.0.0/8",))
    for address, status in (("10.1.2.3", 200), ("192.0.2.1", 401), ("192.0.2.1, 10.1.2.3", 200)):
        with Wire(proxy.url) as wire:
            fields = [("Authorization", f"Bearer {minted.text}"), ("X-Forwarded-For", address)]
            wire.request("GET", "/anthropic/odd/json", fields)
            answer = wire.answer()
        assert answer.status == status, address
        if status == 401:
            assert b"may not be used from 192.0.2.1" in answer.body
