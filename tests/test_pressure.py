"""What the proxy holds of bodies that pass: little, however large, and whoever stands still.

The bound is 64 MiB of growth of its process for 200 MB, up and down.
"""

from __future__ import annotations

import hashlib
import json

import psutil
import pytest

from tests.calls import BIG, MIB, bearer, through
from tests.client import Wire
from tests.conftest import Start
from tests.fakes import World, odd
from tests.harness import Mode, Proxy

MANY = 120 * MIB
UVLOOP = {"LLAMAKEY_LOOP": "uvloop"}


class Growth:
    """How much the proxy's process has grown since this was made."""

    def __init__(self, proxy: Proxy) -> None:
        self._processes = [psutil.Process(proxy.process.pid)]
        self._processes += self._processes[0].children(recursive=True)
        self._start = self._now()
        self._most = self._start

    def _now(self) -> int:
        total = 0
        for process in self._processes:
            total += process.memory_info().rss
        return total

    def look(self) -> None:
        self._most = max(self._most, self._now())

    @property
    def mib(self) -> float:
        return (self._most - self._start) / MIB


@pytest.fixture(params=["lmk", "lmk on uvloop", "mitmdump"])
def each(request: pytest.FixtureRequest, shared_proxy: Start) -> Proxy:
    """The proxy in each of its ways to read and write."""
    mode: Mode = "mitmdump" if request.param == "mitmdump" else "lmk"
    return shared_proxy(mode, env=UVLOOP if "uvloop" in request.param else None)


def test_200_mb_down(each: Proxy) -> None:
    """At less than 64 MiB of growth, byte for byte."""
    proxy = each
    warm_up(proxy)
    growth = Growth(proxy)
    with Wire(proxy.url) as wire:
        wire.request("GET", f"/openai/v1/odd/download?bytes={BIG}", bearer(proxy))
        _, status, _, headers = wire.head()
        digest, length = hashlib.sha256(), 0
        for piece in wire.pieces("GET", status, headers):
            digest.update(piece)
            length += len(piece)
            growth.look()
    block = odd.pattern(MIB)
    told = hashlib.sha256()
    for _ in range(BIG // MIB):
        told.update(block)
    assert (length, digest.digest()) == (BIG, told.digest())
    assert growth.mib < 64


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_200_mb_up(shared_proxy: Start, framing: str) -> None:
    """At less than 64 MiB of growth, byte for byte."""
    # one framing a launch: the launches share the road, and 200 MB take their time
    if framing == "length":
        proxy = shared_proxy("lmk", env=UVLOOP)
    else:
        proxy = shared_proxy("mitmdump")
    warm_up(proxy)
    growth = Growth(proxy)
    block = odd.pattern(MIB)
    told = hashlib.sha256()
    with Wire(proxy.url) as wire:
        head = "POST /openai/v1/odd/upload HTTP/1.1\r\nHost: h\r\n"
        head += f"Authorization: Bearer {proxy.local_key}\r\n"
        chunked = framing == "chunked"
        head += "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {BIG}\r\n"
        wire.send(f"{head}\r\n".encode())
        for _ in range(BIG // MIB):
            told.update(block)
            wire.send(*((b"%x\r\n" % len(block), block, b"\r\n") if chunked else (block,)))
            growth.look()
        if chunked:
            wire.send(b"0\r\n\r\n")
        answer = json.loads(wire.answer("POST").body)
    assert answer == {"length": BIG, "sha256": told.hexdigest()}
    assert growth.mib < 64


def test_a_reader_that_stands_still_holds_the_provider_back(each: Proxy, world: World) -> None:
    """The proxy does not fill up with what its client does not take."""
    proxy = each
    warm_up(proxy)
    growth = Growth(proxy)
    since = world.mark()
    with Wire(proxy.url) as wire:
        wire.request("GET", f"/openai/v1/odd/download?bytes={MANY}", bearer(proxy))
        _, status, _, headers = wire.head()
        pieces = iter(wire.pieces("GET", status, headers))
        got = len(next(pieces))
        # the fake is done only when everything is written, which nobody takes
        with pytest.raises(TimeoutError):
            world.wait_for(1, "openai", since, timeout_s=1)
        growth.look()
        for piece in pieces:
            got += len(piece)
    assert got == MANY
    assert growth.mib < 64


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_provider_that_stands_still_holds_the_client_back(
    shared_proxy: Start, world: World, framing: str
) -> None:
    """The proxy does not fill up with what the provider does not take."""
    proxy = shared_proxy("lmk" if framing == "chunked" else "mitmdump")
    warm_up(proxy)
    growth = Growth(proxy)
    gate = world.gate(f"late-{proxy.port}-{framing}")
    with Wire(proxy.url) as wire:
        head = f"POST /openai/v1/odd/late?gate={gate.name} HTTP/1.1\r\nHost: h\r\n"
        head += f"Authorization: Bearer {proxy.local_key}\r\n"
        chunked = framing == "chunked"
        head += "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {MANY}\r\n"
        wire.send(f"{head}\r\n".encode())
        block = b"x" * MIB
        piece = b"100000\r\n" + block + b"\r\n" if chunked else block
        stream = piece * (MANY // MIB) + (b"0\r\n\r\n" if chunked else b"")
        sent = wire.send_until_full(stream)
        assert sent < 64 * MIB
        growth.look()
        gate.open()
        wire.send(stream[sent:])
        growth.look()
        assert json.loads(wire.answer("POST").body)["length"] == MANY
    assert growth.mib < 64


def warm_up(proxy: Proxy) -> None:
    """What a first request loads is no growth."""
    for _ in range(3):
        assert through(proxy, "openai", "GET", "/v1/odd/download?bytes=9000000", [], b"").whole
        assert through(proxy, "openai", "POST", "/v1/odd/upload", [], b"x" * MIB).status == 200
