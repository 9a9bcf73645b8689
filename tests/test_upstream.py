"""Connections to providers, over real sockets and real TLS on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from llamakey_addon.errors import UpstreamFault, UpstreamTimeout
from llamakey_addon.journey import Upstream
from llamakey_addon.upstream import Pool, UpstreamLink

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
    authority: trustme.CA | None = None, name: str = "localhost", *, h2: bool = False
) -> AsyncIterator[Provider]:
    context = None
    names: list[str | None] = []
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
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
