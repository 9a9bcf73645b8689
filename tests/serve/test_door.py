"""The rim on sockets of our own: who is let in, TLS, hooks of connections, the end. In this
process, with a real house behind the door; what it does with requests is tested on live proxies
of both launches (`both` and `door` of the other tests)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.connection import Client
from mitmproxy.master import Master
from mitmproxy.options import Options

from llamakey_addon.config.settings import Tls
from llamakey_addon.errors import ConfigError
from llamakey_addon.serve.door import server_tls
from llamakey_addon.view.visitors import Greeter
from tests.front import HEALTH, Front, opened, until
from tests.loops import event_loop_policy as event_loop_policy

type Opening = Callable[..., Awaitable[Front]]


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Opening]:
    """Opens a door, with these limits."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_(
            *, tls: bool = False, greeter: Greeter | None = None, **limits: float
        ) -> Front:
            made = opened(tmp_path, tls=tls, greeter=greeter, limits=limits)
            return await stack.enter_async_context(made)

        yield open_


# ── who is let in ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tls", [False, True])
async def test_connections_are_counted_from_their_first_packet_to_their_last(
    front: Opening, tls: bool
) -> None:
    """Those in a handshake too: they take a socket like any."""
    here = await front(tls=tls, connections=2, connections_per_address=2)
    silent = [await here.connect() for _ in range(2)]
    await until(lambda: here.counted == 2)
    reader, writer = await here.connect()
    with contextlib.suppress(OSError):
        assert await reader.read() == b""
    writer.close()
    assert any("connections" in note for note in here.log.notes)
    for _, each in silent:
        each.close()
    await until(here.empty)
    assert b"200 OK" in await here.health(tls=tls)
    await until(here.empty)
    assert not here.house.roads


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("begin", [b"", b"\x16\x03\x01"])
async def test_who_says_nothing_is_closed_in_time(front: Opening, tls: bool, begin: bytes) -> None:
    here = await front(tls=tls, head_timeout_s=0.1)
    reader, writer = await here.connect()
    if tls:
        writer.write(begin)
    with contextlib.suppress(OSError):
        assert await reader.read() == b""
    writer.close()
    await until(here.empty)


async def test_what_is_no_handshake_is_told_or_closed(
    front: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await front(tls=True)
    assert b"200 OK" in await here.health(), "to this machine plain HTTP is served beside"
    monkeypatch.setattr(here.house, "may_be_plain", lambda _: False)
    reader, writer = await here.connect()
    writer.write(HEALTH)
    assert (await reader.read()).endswith(b"use an https:// URL.\r\n")
    writer.close()
    reader, writer = await here.connect()
    writer.write(b"\x16\x03\x01\x00\x05hello" + b"x" * 1000)
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()
    await until(here.empty)
    assert b"200 OK" in await here.health(tls=True)


async def test_a_request_in_one_packet_with_the_end_of_the_handshake(front: Opening) -> None:
    """With TLS 1.3 a client may send its request along with its last handshake message."""
    here = await front(tls=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = here.trust.wrap_bio(incoming, outgoing, server_hostname="localhost")
    reader, writer = await here.connect()
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
    tls.write(HEALTH)
    writer.write(outgoing.read())  # Finished and request together
    got = b""
    while b"}\n" not in got:
        incoming.write(await reader.read(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            got += tls.read(65536)
    assert got.startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(ConfigError, match="not a PEM certificate"):
        server_tls(Tls(empty, empty))


# ── ends ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tls", [False, True])
async def test_an_idle_client_is_closed_without_its_goodbye(front: Opening, tls: bool) -> None:
    """A client that does not read does not hold up a drain, nor does its half of TLS's end."""
    here = await front(tls=tls)
    reader, writer = await here.connect(tls=tls)
    writer.write(HEALTH)
    await reader.readuntil(b"}\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert await here.house.drain(10) == 0
    await until(here.empty)
    writer.transport.abort()


@pytest.mark.parametrize("tls", [False, True])
async def test_whoever_is_replaced_waits_for_all_who_have_come(front: Opening, tls: bool) -> None:
    """For a client between two requests, and for one in a handshake, until each has had an answer
    that tells it to come anew."""
    here = await front(tls=tls)
    reader, writer = await here.connect(tls=tls)
    writer.write(HEALTH)
    await reader.readuntil(b"}\n")
    raw, began = await here.connect()
    await until(lambda: here.counted == 2)
    retired = asyncio.ensure_future(here.house.retire(60))
    await asyncio.sleep(0)
    writer.write(HEALTH)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK") and b"Connection: close" in answer
    writer.close()
    await until(lambda: here.counted == 1)
    assert not retired.done()
    began.close()
    assert await retired == 0
    assert await raw.read() == b""


async def test_a_drain_waits_until_answers_have_left(front: Opening) -> None:
    """What the client has yet to read is not thrown away with the process."""
    here = await front()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # little waits in the system
    raw.connect(("127.0.0.1", here.port))
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await until(lambda: len(here.house.roads) == 1)
    [road] = here.house.roads
    body = b"x" * 20_000_000
    road._rim.to_client(body)
    road._rim.flush()
    road.end("done")
    assert road.closed
    drained = asyncio.ensure_future(here.house.drain(10))
    got = 0
    while piece := await loop.sock_recv(raw, 1 << 20):
        assert got > len(body) // 2 or not drained.done()
        got += len(piece)
    assert got == len(body)
    assert await drained == 0
    raw.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_denial_reaches_a_client_that_is_still_sending(front: Opening, tls: bool) -> None:
    """Our side ends, theirs is read on for a moment, with TLS as without."""
    here = await front(tls=tls)
    reader, writer = await here.connect(tls=tls)
    writer.write(b"POST /openai/v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
    writer.write(b"x" * 500_000)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await reader.read()
    writer.transport.abort()
    await until(here.empty)


async def test_no_new_connections_after_it_is_shut(front: Opening) -> None:
    here = await front()
    reader, writer = await here.connect()
    await until(lambda: here.counted == 1)
    here.door.shut()
    with pytest.raises(OSError):
        await here.connect()
    writer.write(HEALTH)
    assert b"200 OK" in await reader.readuntil(b"}\n")
    writer.close()


async def test_a_client_that_left_before_its_last_answer_is_no_fault(front: Opening) -> None:
    """What is written to it comes back as a reset, so that its side cannot be ended any more."""
    here = await front()
    broken = "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    broken += f"Authorization: Bearer {here.key}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", here.port)) as client:
        await until(lambda: here.counted == 1)
        # all of it before the door looks: a request to deny, more behind it, and the end
        client.sendall(f"{broken}Content-Length: 1\r\n\r\n{{".encode() + HEALTH)
    await until(here.empty)
    assert here.log.notes == []
    assert [receipt.status for receipt in here.log.receipts] == [400]
    assert b"ok" in await here.health()


# ── hooks of connections ────────────────────────────────────────────────────────────────────────


class Script:
    """Somebody's addon."""

    def __init__(self, *, refuse: bool = False) -> None:
        self.refuse = refuse
        self.came: list[Client] = []
        self.left: list[Client] = []
        self.go = asyncio.Event()
        self.go.set()

    async def client_connected(self, client: Client) -> None:
        self.came.append(client)
        await self.go.wait()
        if self.refuse:
            client.error = "not you"

    def client_disconnected(self, client: Client) -> None:
        self.left.append(client)

    def next_layer(self, layer: object) -> None: ...


async def greeted(script: Script) -> Greeter:
    master = Master(Options())
    master.addons.add(script)
    return Greeter(master, object())


@pytest.mark.parametrize("tls", [False, True])
async def test_scripts_see_connections(front: Opening, tls: bool, caplog: Any) -> None:
    script = Script()
    script.go.clear()
    here = await front(tls=tls, greeter=await greeted(script))
    answer = asyncio.ensure_future(here.health(tls=tls))
    await until(lambda: bool(script.came))
    [client] = script.came
    assert client.peername[0] == "127.0.0.1"
    assert client.sockname == ("127.0.0.1", here.port)
    assert client.connected
    assert client.tls_established is tls
    assert not answer.done(), "nothing is read before the script has seen it"
    script.go.set()
    assert b"200 OK" in await answer
    await until(lambda: bool(script.left))
    [gone] = script.left
    assert gone is client
    assert not gone.connected
    assert gone.timestamp_end is not None
    assert "hooks that lmk serve does not call: next_layer" in caplog.text


async def test_a_script_may_refuse_a_connection(front: Opening) -> None:
    here = await front(greeter=await greeted(Script(refuse=True)))
    reader, writer = await here.connect()
    with contextlib.suppress(OSError):
        writer.write(HEALTH)
        assert await reader.read() == b""
    writer.close()
    await until(here.empty)


async def test_without_anybody_who_looks_mitmproxy_has_no_view_of_it(front: Opening) -> None:
    here = await front()
    _, writer = await here.connect()
    await until(lambda: len(here.house.roads) == 1)
    [road] = here.house.roads
    rim: Any = road._rim
    assert rim._shown is None
    assert rim.client() is rim.client()
    writer.close()
