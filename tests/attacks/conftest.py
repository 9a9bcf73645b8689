"""A live proxy, raw bytes at its door, and what the providers saw of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.client import Answer, Closed, Wire
from tests.conftest import Start
from tests.fakes import Request, World
from tests.harness import Mode, Proxy, _ticks

LIMITS = {"limits": {"head_timeout_s": 2.0, "body_timeout_s": 2.0, "body_bytes": 512 * 2**20}}
"""Small times, so that slow attacks are seen to end soon."""


LATE = "cut-off-in-the-end"
"""Stands in the target of requests that may come to a provider after their answer."""
_NUMBERS = itertools.count()


@dataclass(slots=True)
class Door:
    """The proxy under attack."""

    proxy: Proxy
    world: World
    _requests: int = 0
    _bytes: int = 0
    _malformed: int = 0

    def wire(self) -> Wire:
        return Wire(self.proxy.url)

    def bearer(self, key: str | None = None) -> str:
        return f"Authorization: Bearer {key or self.proxy.local_key}"

    def head(self, line: str, *headers: str, host: str = "localhost") -> bytes:
        """A request's head, with alice's key; `line` is `METHOD TARGET`."""
        return "\r\n".join(
            [f"{line} HTTP/1.1", f"Host: {host}", self.bearer(), *headers, "", ""]
        ).encode("latin-1")

    def ask(self, *pieces: bytes, method: str = "GET") -> Answer:
        """Sends bytes on a connection of their own, and reads one answer."""
        with self.wire() as wire:
            wire.send(*pieces)
            return wire.answer(method)

    def all_answers(self, *pieces: bytes) -> list[Answer]:
        """Sends bytes on a connection of their own, and reads answers until it is closed."""
        found = []
        with self.wire() as wire:
            wire.send(*pieces)
            try:
                while True:
                    found.append(wire.answer())
            except Closed as closed:
                if closed.partial:
                    raise
        return found

    # ── what the providers saw since the last look ────────────────────────────────────────────

    def seen(self) -> list[Request]:
        """Requests that came to any provider."""
        found = self.world.requests(since=self._requests)
        self._requests += len(found)
        self._bytes = self._all_bytes()
        return found

    def malformed(self) -> list[str]:
        """What h11 held against anything that came to a provider since this test began."""
        return self._all_malformed()[self._malformed :]

    def assert_untouched(self) -> None:
        """Not a byte came to any provider."""
        found = self.world.requests(since=self._requests)
        # what another test cut off may be recorded late: it names itself
        late = [request for request in found if LATE in request.target]
        assert [request for request in found if request not in late] == []
        assert late or self._all_bytes() == self._bytes

    def assert_still_serves(self) -> None:
        """An honest request is served as ever."""
        path = f"/odd/json/honest-{next(_NUMBERS)}"
        assert self.ask(self.head(f"GET /anthropic{path}")).status == 200
        # what was cut off a moment ago may be recorded late
        found = [request for request in self.seen() if request.path == path]
        assert [request.credential for request in found] == ["real"]

    def assert_still_serves_soon(self) -> None:
        """As above, once what was closed a moment ago is seen to be closed."""
        for _ in _ticks(10):
            try:
                if self.ask(self.head("GET /anthropic/odd/json")).status == 200:
                    break
            except (Closed, ConnectionError):
                continue
        self.seen()
        self.assert_still_serves()

    def hold(self, count: int) -> list[Wire]:
        """So many connections that are served; waits for earlier ones to be seen closed."""
        found: list[Wire] = []
        for _ in _ticks(10):
            wire = self.wire()
            try:
                wire.send(b"GET /anthropic HTTP/1.1\r\nHost: a\r\n\r\n")
                assert wire.answer().status == 200
                found.append(wire)
            except (Closed, ConnectionError):
                wire.close()
            if len(found) == count:
                return found
        raise TimeoutError(f"{len(found)} of {count} connections are served")

    def _all_malformed(self) -> list[str]:
        return [line.malformed for line in self.world.lines() if line.malformed]

    def _all_bytes(self) -> int:
        return sum(line.bytes_in for line in self.world.lines())


def refused(answer: Answer, *statuses: int) -> None:
    """Asserts a plain denial: one of these statuses, whole, with an id and a message."""
    assert answer.status in (statuses or (400, 401, 404, 405, 501)), answer
    assert answer.whole
    assert answer.header("x-llamakey-request-id").startswith("lmk_")
    assert answer.body or answer.framing == "none"


def open_door(proxy: Proxy, world: World) -> Door:
    door = Door(proxy, world)
    door._malformed = len(door._all_malformed())
    door.seen()
    return door


@pytest.fixture(params=["lmk", "mitmdump"])
def door(request: pytest.FixtureRequest, shared_proxy: Start, world: World) -> Iterator[Door]:
    """Both ways to run it; afterwards it must be there and whole."""
    mode: Mode = request.param
    proxy = shared_proxy(mode, config=LIMITS)
    yield open_door(proxy, world)
    assert proxy.process.poll() is None, proxy.output()
    assert "Traceback" not in proxy.output()


@pytest.fixture
def lmk_door(shared_proxy: Start, world: World) -> Iterator[Door]:
    """`lmk serve` alone, for what costs time."""
    proxy = shared_proxy("lmk", config=LIMITS)
    yield open_door(proxy, world)
    assert proxy.process.poll() is None, proxy.output()
    assert "Traceback" not in proxy.output()
