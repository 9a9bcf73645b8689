"""A road without sockets: the real gate, a rim that records, links that a test answers by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import h11
import yaml

from llamakey_addon.config import Settings
from llamakey_addon.errors import Denied
from llamakey_addon.gate import Gate
from llamakey_addon.journey import Ask, Receipt, Recipe, Upstream
from llamakey_addon.keys import mint
from llamakey_addon.rim import Look
from llamakey_addon.road import Road
from llamakey_addon.store import Store, open_store
from llamakey_addon.store.sqlite import FILE_NAME

REAL = "sk-real-canary-Zq83-0123456789-abcdefghij"
"""The real key of OpenAI's."""


class Log:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.notes: list[str] = []

    def write(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def note(self, text: str) -> None:
        self.notes.append(text)


class Link:
    """A connection to a provider as a road sees it."""

    def __init__(self, upstream: Upstream, *, reused: bool) -> None:
        self.upstream = upstream
        self.reused = reused
        self.written = bytearray()
        self._paused = False
        self.state = "lent"
        self.failing: BaseException | None = None

    def write(self, data: bytes, more: bytes = b"") -> None:
        assert self.state == "lent", "written to after it was given away"
        if self.failing is not None:
            raise self.failing
        self.written += data + more

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def paused(self) -> bool:
        return self._paused

    def give_back(self) -> None:
        assert self.state == "lent"
        self.state = "given back"

    def drop(self) -> None:
        assert self.state == "lent"
        self.state = "dropped"


class Rim:
    """What is around a road, on a clock that the test moves."""

    def __init__(self) -> None:
        self.out = bytearray()
        self._paused = self._finished = self._closed = False
        self.cancelled = 0
        self.reset = False
        self.turns: list[Callable[[], None]] = []
        self.time_s = 1000.0
        self.alarm_s: float | None = None
        self.wishes: list[tuple[Upstream, bool]] = []
        self.recipes: list[Recipe] = []
        """Credentials that were asked for; a test makes them by `Road.credited`."""
        self.look: Look | None = None
        self.own_user = True
        self.secured_as = ""
        """The host that TLS is to be spoken as."""
        self.tls = False
        self.road: Road
        self.at_once: list[Link | Denied] = []
        """Wishes are granted from here at once; when it is empty they wait for `Bench.open`."""

    def to_client(self, data: bytes) -> None:
        assert not self._finished, "bytes after the end of our side"
        assert not self._closed, "bytes after the close"
        assert data
        self.out += data

    def flush(self) -> None:
        pass

    def pause_client(self) -> None:
        self._paused = True

    def resume_client(self) -> None:
        self._paused = False

    def finish_client(self) -> None:
        self._finished = True

    def close_client(self, *, reset: bool = False) -> None:
        self._closed = True
        self.reset = reset

    # methods, since a type checker takes it that attributes stay as they were looked at

    def paused(self) -> bool:
        """Nothing is read from the client."""
        return self._paused

    def finished(self) -> bool:
        """Our side has ended; the client's is read on."""
        return self._finished

    def closed(self) -> bool:
        return self._closed

    def secure(self, host: str, before: bytes) -> None:
        self.to_client(before)
        self.secured_as = host

    def open_upstream(self, upstream: Upstream, *, fresh: bool) -> None:
        self.wishes.append((upstream, fresh))
        if self.at_once:
            thing = self.at_once.pop(0)
            if isinstance(thing, Link):
                thing.upstream = upstream
            if isinstance(thing, Denied):
                self.road.unopened(thing)
            else:
                self.road.opened(thing)

    def cancel_upstream(self) -> None:
        self.cancelled += 1

    def make_credential(self, recipe: Recipe) -> None:
        self.recipes.append(recipe)

    def soon(self) -> None:
        self.turns.append(self.road.go_on)

    def now(self) -> float:
        return self.time_s

    def wake_at(self, when_s: float) -> None:
        self.alarm_s = when_s

    def is_tls(self) -> bool:
        return self.tls

    def is_own_user(self) -> bool:
        return self.own_user

    def watch(self, ask: Ask) -> Look | None:
        return self.look


@dataclass(slots=True)
class Bench:
    """A road, and everything around it."""

    road: Road
    rim: Rim
    gate: Gate
    log: Log
    store: Store
    key: str
    """A local key of alice's."""
    links: list[Link] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.store.close()

    # ── the client ────────────────────────────────────────────────────────────────────────────

    def client(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.road.client_data(piece)
            while self.rim.turns:
                self.rim.turns.pop()()

    def head(
        self, line: str, *headers: str, key: str | None = "", body: bytes | None = None
    ) -> bytes:
        """A request's bytes: `GET /openai/v1/models`; a key of None sends none."""
        if not line.rpartition(" ")[2].startswith("HTTP/"):
            line += " HTTP/1.1"
        lines = [line, "Host: localhost:8000", *headers]
        if key is not None:
            lines.append(f"Authorization: Bearer {key or self.key}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")

    def got(self, *methods: str, closed: bool | None = None) -> list[Got]:
        """The answers that the client has read so far, as h11 reads them."""
        ended = self.rim.closed() if closed is None else closed
        return read_answers(bytes(self.rim.out), methods or ("GET",), closed=ended)

    # ── the provider ──────────────────────────────────────────────────────────────────────────

    def open(self, *, reused: bool = False) -> Link:
        """Grant the last wish."""
        link = self.make_link(reused=reused)
        self.road.opened(link)
        return link

    def make_link(self, *, reused: bool = False) -> Link:
        upstream = self.rim.wishes[-1][0] if self.rim.wishes else Upstream("https", "x", 443)
        link = Link(upstream, reused=reused)
        self.links.append(link)
        return link

    def grant_at_once(self, count: int = 100) -> None:
        """Grant wishes as they come, each by a link of its own."""
        for _ in range(count):
            link = Link(Upstream("https", "x", 443), reused=False)
            self.links.append(link)
            self.rim.at_once.append(link)

    def answer(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.road.link_data(piece)

    def end_link(self, *, orderly: bool = True) -> None:
        """The provider ends the connection, or it is lost."""
        why = "the provider ended the connection" if orderly else "reset"
        self.road.link_closed(why, orderly=orderly)

    def sent(self, link: Link | None = None) -> list[Sent]:
        """The requests on a link (else on the last one), as h11 reads them."""
        return read_requests(bytes((link or self.links[-1]).written))

    def another_road(self) -> Bench:
        """Another connection to the same gate."""
        rim = Rim()
        rim.road = Road(rim, self.gate, "192.0.2.2")
        return Bench(rim.road, rim, self.gate, self.log, self.store, self.key)

    # ── time, and the book ────────────────────────────────────────────────────────────────────

    def wait(self, seconds: float) -> None:
        """Let time pass, alarms going off as they are due."""
        end_s = self.rim.time_s + seconds
        while self.rim.alarm_s is not None and self.rim.alarm_s <= end_s:
            self.rim.time_s, self.rim.alarm_s = max(self.rim.time_s, self.rim.alarm_s), None
            self.road.tick()
        self.rim.time_s = end_s

    @property
    def receipts(self) -> list[Receipt]:
        return self.log.receipts

    def only_receipt(self) -> Receipt:
        assert len(self.log.receipts) == 1, self.log.receipts
        return self.log.receipts[0]

    @property
    def upstream_untouched(self) -> bool:
        """No connection was wished for, and nothing was written to any."""
        return not self.rim.wishes and not any(link.written for link in self.links)


_known: dict[tuple[str, tuple[tuple[str, str], ...]], Settings] = {}
"""Settings of most tests are alike, and reading them is half of a bench: by text, environment."""


def _settings(path: Path, environ: Mapping[str, str]) -> Settings:
    text, home = path.read_text(), path.parent / "data"
    environ = {"LLAMAKEY_HOME": str(home), "OPENAI_API_KEY": REAL, **environ}
    if re.search(r"\b(file|ca|tls|trust)\b", text):  # what lies in the folder may differ
        return Settings.load(path, environ)
    known = (text, tuple(sorted((environ | {"LLAMAKEY_HOME": ""}).items())))
    if known not in _known:
        _known[known] = Settings.load(path, environ)
    return replace(_known[known], data_folder=home, _scopes={})


_new_store: list[bytes] = []
"""What a store is that was opened and closed once: making its tables is most of a first opening."""


def _store(home: Path) -> Store:
    file = home / FILE_NAME
    if not _new_store:
        open_store(home).close()
        _new_store.append(file.read_bytes())
    elif not file.exists():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(0o600)
        file.write_bytes(_new_store[0])
    return open_store(home)


def make_bench(
    folder: Path,
    limits: Mapping[str, float] | None = None,
    *,
    name: str = "laptop",
    environ: Mapping[str, str] | None = None,
    **config: Any,
) -> Bench:
    """A bench with a config.yaml of these limits and settings; alice's key has this name.

    Arguments:
        environ: what the environment holds beside OpenAI's key.
    """
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"limits": dict(limits or {}), **config}))
    settings = _settings(path, environ or {})
    store = _store(settings.data_folder)
    minted = mint()
    store.add_key(name, "alice", minted)
    log, rim = Log(), Rim()
    gate = Gate(settings, store, log)
    rim.road = Road(rim, gate, "192.0.2.1")
    return Bench(rim.road, rim, gate, log, store, minted.text)


def without_id(data: bytes) -> bytes:
    """An answer as the provider sent it, less the id that the proxy tells in its head."""
    left, found = re.subn(rb"x-llamakey-request-id: lmk_[0-9a-f]{16}\r\n", b"", data)
    assert found == 1
    return left


# ── what h11 reads ──────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Got:
    """An answer that a client read."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    whole: bool
    trailers: list[tuple[bytes, bytes]]

    def header(self, name: str) -> str:
        wanted = name.lower().encode()
        return next((v.decode() for n, v in self.headers if n.lower() == wanted), "")


@dataclass(slots=True)
class Sent:
    """A request that a provider read."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    whole: bool

    def values(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [v.decode() for n, v in self.headers if n.lower() == wanted]


def read_answers(data: bytes, methods: Iterable[str], *, closed: bool) -> list[Got]:
    """The answers in `data` to requests with these methods.

    Raises AssertionError where something is left over, or not HTTP.
    """
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    parser.receive_data(data)
    if closed:
        parser.receive_data(b"")
    found: list[Got] = []
    for method in methods:
        parser.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        parser.send(h11.EndOfMessage())
        got: Got | None = None
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                cut = "closed" in str(error) or "without" in str(error)
                if got is None or not cut:
                    raise AssertionError(f"not HTTP: {error}") from error
                return found  # cut midway: what h11 says when a body ends too early
            if isinstance(event, h11.Response):
                headers = [(bytes(n), bytes(v)) for n, v in event.headers.raw_items()]
                got = Got(event.status_code, bytes(event.reason), headers, b"", False, [])
                found.append(got)
            elif isinstance(event, h11.Data):
                assert got is not None
                got.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert got is not None
                got.whole = True
                got.trailers = [(bytes(n), bytes(v)) for n, v in event.headers.raw_items()]
                break
            elif isinstance(event, h11.InformationalResponse):
                found.append(Got(event.status_code, b"", [], b"", True, []))
            elif isinstance(event, h11.ConnectionClosed) or event in (h11.NEED_DATA, h11.PAUSED):
                return found
        if parser.their_state is not h11.DONE or parser.our_state is not h11.DONE:
            break
        parser.start_next_cycle()
    left, _ = parser.trailing_data
    assert left == b"", f"bytes behind the last answer: {left[:80]!r}"
    return found


def read_requests(data: bytes) -> list[Sent]:
    """The requests in `data`, the last one perhaps not whole.

    Raises h11.RemoteProtocolError where they are not HTTP.
    """
    found: list[Sent] = []
    while data:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        parser.receive_data(data)
        event = parser.next_event()
        if not isinstance(event, h11.Request):
            break
        headers = [(bytes(n), bytes(v)) for n, v in event.headers.raw_items()]
        sent = Sent(event.method.decode(), event.target.decode(), headers, b"", False)
        found.append(sent)
        while isinstance(event := parser.next_event(), h11.Data):
            sent.body += event.data
        if not isinstance(event, h11.EndOfMessage):
            break
        sent.whole = True
        data = bytes(parser.trailing_data[0])
    return found
