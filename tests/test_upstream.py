"""Connections to providers, over real sockets and real TLS on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from llamakey_addon import warmth
from llamakey_addon.errors import Denied, TooMany, UpstreamFault, UpstreamTimeout
from llamakey_addon.journey import Upstream
from llamakey_addon.upstream import Pool, UpstreamLink, Wish
from tests.front import until
from tests.loops import event_loop_policy as event_loop_policy

#: A host that nobody but the company's proxy knows (RFC 2606).
NAME = "provider.invalid"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Owner:
    """Collects what a link tells."""

    data: bytearray = field(default_factory=bytearray)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    roomy: asyncio.Event = field(default_factory=asyncio.Event)
    writable: list[bool] = field(default_factory=list)
    orderly: bool | None = None

    def link_data(self, data: bytes) -> None:
        self.data += data
        self.heard.set()

    def link_closed(self, why: str, *, orderly: bool) -> None:
        self.orderly = orderly
        self.closed.set()

    def link_writable(self, writable: bool) -> None:
        self.writable.append(writable)
        if writable:
            self.roomy.set()


@dataclass
class Provider:
    """A server whose connections the test holds."""

    port: int
    streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    server_names: list[str | None]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(autouse=True)
def no_company_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.asynccontextmanager
async def serving(
    authority: trustme.CA | None = None,
    name: str = "localhost",
    *,
    h2: bool = False,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> AsyncIterator[Provider]:
    context = None
    names: list[str | None] = []
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = version
        authority.issue_cert(name).configure_cert(context)
        context.sni_callback = lambda _, asked, __: names.append(asked)
        if h2:
            context.set_alpn_protocols(["h2", "http/1.1"])
    streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await streams.put((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield Provider(server.sockets[0].getsockname()[1], streams, names)
    finally:
        await end(server, writers)


async def end(server: asyncio.Server, writers: list[asyncio.StreamWriter]) -> None:
    server.close()
    for writer in writers:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def make(**more: object) -> Pool:
    settings: dict[str, object] = {"connect_timeout_s": 5.0, "idle_s": 30.0, "idle": 4, "proxy": ""}
    return Pool(**(settings | more))  # type: ignore[arg-type]


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = make()
    yield pool
    assert not pool._all, "connections were left open"


def at(provider: Provider, ca: str = "", host: str = "127.0.0.1", scheme: str = "http") -> Upstream:
    return Upstream(scheme, host, provider.port, ca)


async def exchange(
    link: UpstreamLink, owner: Owner, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    link.write(b"GET / HTTP/1.1\r\n\r\n")
    await stream[0].readuntil(b"\r\n\r\n")
    owner.heard.clear()
    stream[1].write(OK)
    await owner.heard.wait()


# ── verification ────────────────────────────────────────────────────────────────────────────────


async def test_tls_is_verified_with_our_ca_and_the_hosts_name(
    pool: Pool, authority: trustme.CA, ca_file: str
) -> None:
    async with serving(authority, h2=True) as provider:
        link = await pool.open(at(provider, ca_file, "localhost", "https"))
        owner = Owner()
        link.lend(owner)
        stream = await provider.streams.get()
        assert provider.server_names == ["localhost"]
        assert stream[1].get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        await exchange(link, owner, stream)
        assert bytes(owner.data) == OK
        link.drop()


@pytest.mark.parametrize("tls", [False, True])
async def test_what_is_written_in_two_pieces_arrives_as_one(
    pool: Pool, authority: trustme.CA, ca_file: str, tls: bool
) -> None:
    body = bytes(range(256)) * 2000
    async with serving(authority if tls else None) as provider:
        scheme, ca = ("https", ca_file) if tls else ("http", "")
        link = await pool.open(at(provider, ca, "localhost", scheme))
        owner = Owner()
        link.lend(owner)
        reader, writer = await provider.streams.get()
        link.write(b"POST / HTTP/1.1\r\n\r\n", body)
        assert await reader.readuntil(b"\r\n\r\n") == b"POST / HTTP/1.1\r\n\r\n"
        assert await reader.readexactly(len(body)) == body
        if tls:
            link.drop()
            return
        # and where the provider has answered before all is written: what it said is read first
        link.pause()
        writer.write(OK)
        assert link._poll is not None
        await asyncio.to_thread(link._poll.poll, 10_000)
        link.write(b"head", body)
        assert link._late
        link.resume()
        assert await reader.readexactly(len(body) + 4) == b"head" + body
        await owner.heard.wait()
        assert bytes(owner.data) == OK
        link.drop()


@pytest.mark.parametrize("case", ["unknown authority", "another name"])
async def test_a_bad_certificate_gets_no_byte(
    pool: Pool, authority: trustme.CA, ca_file: str, case: str
) -> None:
    name = "localhost" if case == "unknown authority" else "elsewhere.example"
    async with serving(authority, name) as provider:
        ca = "" if case == "unknown authority" else ca_file
        with pytest.raises(UpstreamFault, match="certificate of localhost") as caught:
            await pool.open(at(provider, ca, "localhost", "https"))
        assert "ca:" in caught.value.detail
        assert provider.streams.empty(), "the handshake must not have succeeded"


async def test_a_ca_file_that_is_none_is_named(pool: Pool, tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    async with serving() as provider:
        with pytest.raises(UpstreamFault) as caught:
            await pool.open(at(provider, str(empty), "localhost", "https"))
        assert str(empty) in caught.value.detail


async def test_a_provider_that_cannot_be_reached(pool: Pool) -> None:
    async with serving() as provider:
        gone = at(provider)
    with pytest.raises(UpstreamFault, match="could not be reached"):
        await pool.open(gone)


async def test_a_handshake_that_hangs_is_timed(ca_file: str) -> None:
    pool = make(connect_timeout_s=0.2)
    async with serving() as provider:
        with pytest.raises(UpstreamTimeout) as caught:
            await pool.open(at(provider, ca_file, "localhost", "https"))
        assert caught.value.setting == "limits.connect_timeout_s"
    pool.close()


# ── pool ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_is_used_again_and_by_others(pool: Pool) -> None:
    async with serving() as provider:
        upstream = at(provider)
        link = await pool.open(upstream)
        stream = await provider.streams.get()
        for _ in range(3):
            owner = Owner()
            link.lend(owner)
            await exchange(link, owner, stream)
            assert bytes(owner.data) == OK
            link.give_back()
            assert pool.take(upstream) is link
            assert link.reused
        assert pool.opened == 1
        assert pool.take(upstream) is None, "one connection is lent to one"
        assert pool.take(Upstream("http", "127.0.0.2", provider.port)) is None
        link.drop()


async def test_a_byte_on_an_idle_connection_closes_it(pool: Pool) -> None:
    async with serving() as provider:
        upstream = at(provider)
        link = await pool.open(upstream)
        owner = Owner()
        link.lend(owner)
        reader, writer = await provider.streams.get()
        link.give_back()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert pool.take(upstream) is None
        assert not owner.data, "nobody's answer becomes somebody's"


async def test_an_idle_connection_that_the_provider_closes_is_forgotten(pool: Pool) -> None:
    async with serving() as provider:
        upstream = at(provider)
        link = await pool.open(upstream)
        link.lend(Owner())
        reader, writer = await provider.streams.get()
        link.give_back()
        writer.write_eof()
        assert await reader.read() == b"", "we close it too"
        assert pool.take(upstream) is None


async def test_idle_connections_are_bounded_in_number_and_time() -> None:
    pool = make(idle=2, idle_s=0.05)
    async with serving() as provider:
        upstream = at(provider)
        links = [await pool.open(upstream) for _ in range(3)]
        ends = [(await provider.streams.get())[0] for _ in links]
        for link in links:
            link.lend(Owner())
            link.give_back()
        assert len(pool._idle[upstream]) == 2
        for reader in ends:  # the third at once, the others when their time is over
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert not pool._all


async def test_a_retired_pool_lets_what_runs_end(pool: Pool) -> None:
    async with serving() as provider:
        upstream = at(provider)
        running, idle = await pool.open(upstream), await pool.open(upstream)
        streams = [await provider.streams.get() for _ in range(2)]
        owner = Owner()
        running.lend(owner)
        idle.lend(Owner())
        idle.give_back()
        pool.retire()
        assert not idle.alive
        await exchange(running, owner, streams[0])
        running.give_back()
        assert not running.alive, "nothing is given back to a pool that nobody asks"


async def test_an_end_and_a_loss_are_told_apart(pool: Pool) -> None:
    async with serving() as provider:
        for orderly in (True, False):
            link = await pool.open(at(provider))
            owner = Owner()
            link.lend(owner)
            _, writer = await provider.streams.get()
            if orderly:
                writer.close()
            else:
                writer.transport.abort()
                link.write(b"x" * 1_000_000)
            await owner.closed.wait()
            assert owner.orderly in ((True,) if orderly else (True, False))
            link.drop()


async def test_a_provider_that_does_not_read_is_told(pool: Pool) -> None:
    async with serving() as provider:
        link = await pool.open(at(provider))
        owner = Owner()
        link.lend(owner)
        reader, _ = await provider.streams.get()
        size = 16_000_000
        link.write(b"x" * size)
        assert owner.writable == [False]
        got = 0
        while got < size:
            got += len(await reader.read(1_000_000))
        await owner.roomy.wait()
        assert owner.writable == [False, True]
        link.drop()


# ── sessions, and what is stale ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_tls_session_is_taken_up_again(
    pool: Pool, authority: trustme.CA, ca_file: str, version: ssl.TLSVersion
) -> None:
    async with serving(authority, version=version) as provider:
        upstream = at(provider, ca_file, "localhost", "https")
        resumed = []
        for _ in range(3):
            link, owner = await pool.open(upstream), Owner()
            link.lend(owner)
            stream = await provider.streams.get()
            await exchange(link, owner, stream)
            resumed.append(stream[1].get_extra_info("ssl_object").session_reused)
            link.give_back()
            link.drop()
        assert resumed == [False, True, True]


async def test_a_session_is_not_taken_to_another_host(
    pool: Pool, authority: trustme.CA, ca_file: str
) -> None:
    """It was verified for one name, and is good for that one alone."""
    async with serving(authority, "localhost") as provider:
        link, owner = await pool.open(at(provider, ca_file, "localhost", "https")), Owner()
        link.lend(owner)
        await exchange(link, owner, await provider.streams.get())
        link.give_back()
        assert list(pool._trust[ca_file]._sessions) == ["localhost"]
        with pytest.raises(UpstreamFault, match="certificate of"):
            await pool.open(at(provider, ca_file, "127.0.0.1", "https"))
        link.drop()


async def test_of_an_upstream_without_connections_nothing_is_left(pool: Pool) -> None:
    """Hosts that clients name are without end."""
    async with serving() as provider:
        link = await pool.open(at(provider))
        link.give_back()
        assert len(pool._idle) == 1
        assert pool.take(link.upstream) is link
        link.drop()
        assert not pool._idle and not pool._taken


async def test_what_has_ended_before_the_loop_knew_is_not_used(pool: Pool) -> None:
    """The provider closes an idle connection, or says something on it, while we are busy."""
    async with serving() as provider:
        upstream = at(provider)
        for how in ("close", "byte"):
            link = await pool.open(upstream)
            link.lend(Owner())
            _, writer = await provider.streams.get()
            link.give_back()
            raw = writer.get_extra_info("socket")
            # behind the loop's back: it has had no turn in which it could notice
            if how == "close":
                os.write(raw.fileno(), b"")
                socket_shutdown(raw)
            else:
                os.write(raw.fileno(), b"x")
            assert link.alive, "nobody has told it"
            assert pool.take(upstream) is None
            assert not link.alive


def socket_shutdown(transport_socket: object) -> None:
    duplicate = socket.socket(fileno=os.dup(transport_socket.fileno()))  # type: ignore[attr-defined]
    duplicate.shutdown(socket.SHUT_RDWR)
    duplicate.close()


# ── how many ────────────────────────────────────────────────────────────────────────────────────


class Asker(Owner):
    """Somebody with a wish."""

    def __init__(self, pool: Pool, upstream: Upstream, *, fresh: bool = False) -> None:
        super().__init__()
        self.link: UpstreamLink | None = None
        self.denied: Denied | None = None
        self.settled = asyncio.Event()
        self.wish = Wish(pool)
        self.wish.open(upstream, self, fresh=fresh, opened=self._opened, unopened=self._unopened)

    def _opened(self, link: UpstreamLink) -> None:
        self.link = link
        self.settled.set()

    def _unopened(self, denied: Denied) -> None:
        self.denied = denied
        self.settled.set()


async def test_no_more_connections_than_allowed_first_come_first_served() -> None:
    pool = make(most=2)
    async with serving() as provider:
        upstream = at(provider)
        askers = [Asker(pool, upstream) for _ in range(6)]
        for _ in range(3):
            served, askers = askers[:2], askers[2:]
            for each in served:
                await each.settled.wait()
            assert not any(each.settled.is_set() for each in askers)
            for each in served:
                assert each.link is not None
                each.link.give_back()
        assert pool.opened == 2
        assert Asker(pool, Upstream("http", "127.0.0.2", 1)).wish._waiting is None, "of its own"
    pool.close()


async def test_who_waits_takes_the_place_of_one_that_is_closed() -> None:
    pool = make(most=1)
    async with serving() as provider:
        upstream = at(provider)
        first = Asker(pool, upstream)
        await first.settled.wait()
        second, third = Asker(pool, upstream), Asker(pool, upstream)
        assert first.link is not None
        first.link.drop()
        await second.settled.wait()
        assert second.link is not None and second.link is not first.link
        second.link.give_back()
        await third.settled.wait()
        assert third.link is second.link
        third.link.drop()
        assert not pool._taken
    pool.close()


async def test_a_wish_for_a_fresh_one_gets_a_fresh_one() -> None:
    """A request that is sent again does not meet the same fate on another old connection."""
    pool = make(most=1)
    async with serving() as provider:
        upstream = at(provider)
        first = Asker(pool, upstream)
        await first.settled.wait()
        again = Asker(pool, upstream, fresh=True)
        assert first.link is not None
        first.link.give_back()
        await again.settled.wait()
        assert again.link is not None and again.link is not first.link
        assert not again.link.reused
        again.link.drop()
    pool.close()


async def test_waiting_has_an_end() -> None:
    pool = make(most=1, connect_timeout_s=0.1)
    async with serving() as provider:
        upstream = at(provider)
        first = Asker(pool, upstream)
        await first.settled.wait()
        late = Asker(pool, upstream)
        await late.settled.wait()
        assert isinstance(late.denied, TooMany)
        assert late.denied.setting == "limits.upstream_connections"
        assert not any(pool._lines.values())
        assert first.link is not None
        first.link.give_back()
        assert pool.take(upstream) is first.link
        first.link.drop()
    pool.close()


async def test_who_leaves_the_line_or_gives_up_takes_no_place() -> None:
    pool = make(most=1)
    async with serving() as provider:
        upstream = at(provider)
        hasty = Asker(pool, upstream)
        hasty.wish.cancel()
        gone, second = Asker(pool, upstream), Asker(pool, upstream)
        gone.wish.cancel()
        await second.settled.wait()
        assert second.link is not None
        second.link.drop()
        await asyncio.sleep(0)
        assert not hasty.settled.is_set() and not gone.settled.is_set()
        assert not pool._taken
    pool.close()


async def test_one_that_cannot_be_opened_takes_no_place() -> None:
    pool = make(most=1)
    async with serving() as provider:
        nowhere = at(provider)
    for _ in range(3):
        asker = Asker(pool, nowhere)
        await asker.settled.wait()
        assert isinstance(asker.denied, UpstreamFault)
    assert not pool._taken


# ── ahead ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_first_request_finds_a_connection_open(authority: trustme.CA, ca_file: str) -> None:
    async with serving(authority) as provider:
        pool, upstream = make(idle_s=0.05), at(provider, ca_file, "localhost", "https")
        pool.keep_warm([upstream], 1)
        await provider.streams.get()
        await until(lambda: pool.idle(upstream) == 1)
        await asyncio.sleep(0.2)  # longer than others are kept
        link = pool.take(upstream)
        assert link is not None
        assert pool.opened == 1
        assert link.reused, "that it may be stale is known"
        link.drop()
        pool.close()


async def test_a_retired_pool_opens_none_ahead() -> None:
    async with serving() as provider:
        pool, upstream = make(), at(provider)
        pool.keep_warm([upstream], 1)
        ahead = pool._warmth
        await provider.streams.get()
        pool.retire()
        assert ahead is not None
        ahead.lacks(upstream)
        pool.keep_warm([upstream], 1)
        await asyncio.sleep(0.01)
        assert provider.streams.empty()
        assert not pool._all


async def test_a_pool_that_cools_opens_none_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one that does not, which shows when it would have."""
    monkeypatch.setattr(warmth, "_SOON_S", 0.0)
    monkeypatch.setattr(warmth, "_BACKOFF_S", (0.0, 0.0))
    async with serving() as provider:
        pools, upstream = (make(), make()), at(provider)
        cools, stays = pools
        for pool in pools:
            pool.keep_warm([upstream], 1)
        await until(lambda: all(pool.idle(upstream) == 1 for pool in pools))
        cools.let_cool()
        for pool in pools:
            link = pool.take(upstream)
            assert link is not None, "what is there is used"
            link.drop()
        await until(lambda: stays.opened == 2 and stays.idle(upstream) == 1)
        assert (cools.opened, stays.opened) == (1, 2)
        for pool in pools:
            pool.close()


# ── the company's proxy ─────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def company_proxy(status: bytes = b"200 OK") -> AsyncIterator[tuple[int, list[bytes]]]:
    """An HTTP proxy that knows CONNECT (RFC 9110 9.3.6), and records the heads that it got."""
    heads: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        writer.write(b"HTTP/1.1 " + status + b"\r\n\r\n")
        if not status.startswith(b"200"):
            writer.close()
            return
        port = head.split()[1].decode().rpartition(":")[2]
        onward = await asyncio.open_connection("127.0.0.1", int(port))
        writers.append(onward[1])
        await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        await end(server, writers)


async def test_through_the_companys_proxy(authority: trustme.CA, ca_file: str) -> None:
    async with serving(authority, NAME) as provider, company_proxy() as (port, heads):
        pool = make(proxy=f"http://me:pass%20word@127.0.0.1:{port}")
        link = await pool.open(at(provider, ca_file, NAME, "https"))
        owner = Owner()
        link.lend(owner)
        await exchange(link, owner, await provider.streams.get())
        assert bytes(owner.data) == OK
        login = base64.b64encode(b"me:pass word")
        assert heads == [
            f"CONNECT {NAME}:{provider.port} HTTP/1.1\r\nHost: {NAME}:{provider.port}\r\n"
            f"Proxy-Authorization: Basic {login.decode()}\r\n\r\n".encode()
        ]
        pool.close()


async def test_the_environment_names_the_proxy_and_what_goes_without(
    authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(authority, NAME) as provider, company_proxy() as (port, heads):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        pool = make(proxy=None)
        await pool.open(at(provider, ca_file, NAME, "https"))
        assert len(heads) == 1
        monkeypatch.setenv("NO_PROXY", NAME)
        with pytest.raises(UpstreamFault):  # directly, where nobody knows the name
            await pool.open(at(provider, ca_file, NAME, "https"))
        assert len(heads) == 1
        pool.close()


@pytest.mark.parametrize(("host", "scheme"), [("localhost", "https"), ("127.0.0.1", "http")])
async def test_what_is_here_or_plain_goes_by_no_proxy(
    authority: trustme.CA, ca_file: str, host: str, scheme: str
) -> None:
    """A plain one would show it the real key; and its localhost is not ours."""
    tls = authority if scheme == "https" else None
    async with serving(tls) as provider, company_proxy() as (port, heads):
        pool = make(proxy=f"http://127.0.0.1:{port}")
        await pool.open(at(provider, ca_file, host, scheme))
        assert heads == []
        pool.close()


async def test_a_proxy_that_refuses(authority: trustme.CA, ca_file: str) -> None:
    async with (
        serving(authority, NAME) as provider,
        company_proxy(b"407 Proxy Authentication Required") as (port, _),
    ):
        pool = make(proxy=f"http://127.0.0.1:{port}")
        with pytest.raises(UpstreamFault, match="company's proxy refused") as caught:
            await pool.open(at(provider, ca_file, NAME, "https"))
        assert "407" in caught.value.detail
        assert caught.value.setting == "upstream_proxy"
        pool.close()


async def test_a_proxy_url_of_another_kind_is_told(pool: Pool) -> None:
    async with serving() as provider:
        other = make(proxy="socks5://127.0.0.1:1")
        with pytest.raises(UpstreamFault) as caught:
            await other.open(at(provider, "", NAME, "https"))
        assert "http://HOST:PORT" in caught.value.detail
