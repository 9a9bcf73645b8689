"""Two clients on one connection to a provider: nothing of the one reaches the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.front import Front, opened, until
from tests.loops import event_loop_policy as event_loop_policy

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Provider:
    """Answers each request with what the test has put in its script, the last one for ever."""

    script: list[bytes] = field(default_factory=lambda: [PLAIN])
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    reads_bodies: bool = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                if length and self.reads_bodies:
                    await reader.readexactly(int(length))
                writer.write(self.script.pop(0) if len(self.script) > 1 else self.script[0])
        writer.close()


@dataclass
class Client:
    """One of the two."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    key: str

    async def ask(self, *headers: str, target: str = "/openai/v1/models") -> tuple[bytes, bytes]:
        """Head and body of the answer."""
        self.send("GET", target, *headers)
        return await self.answer()

    def send(self, method: str, target: str, *headers: str, body: bytes = b"") -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: a", f"Authorization: Bearer {self.key}"]
        self.writer.write("\r\n".join([*lines, *headers, "", ""]).encode() + body)

    async def answer(self) -> tuple[bytes, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head, await self.reader.readexactly(int(length or b"0"))


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await made.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield made
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
async def front(tmp_path: Path, provider: Provider) -> AsyncIterator[Front]:
    upstream = f"http://127.0.0.1:{provider.port}"  # type: ignore[attr-defined]
    async with opened(tmp_path, providers={"openai": {"upstream": upstream}}) as made:
        yield made


@pytest.fixture
async def two(front: Front) -> AsyncIterator[tuple[Client, Client]]:
    made = [Client(*await front.connect(), front.key) for _ in range(2)]
    yield made[0], made[1]
    for each in made:
        each.writer.close()
        with contextlib.suppress(OSError):
            await each.writer.wait_closed()


async def test_they_do_share_a_connection(two: tuple[Client, Client], provider: Provider) -> None:
    """Else the others here would show nothing."""
    for _ in range(3):
        for each in two:
            assert (await each.ask())[1] == b"ok"
    assert provider.connections == 1


async def test_cookies(two: tuple[Client, Client], provider: Provider) -> None:
    """The provider's go to whom they were given, and nobody's go to the provider."""
    one, other = two
    provider.script = [
        b"HTTP/1.1 200 OK\r\nSet-Cookie: session=of-one\r\nContent-Length: 2\r\n\r\nok",
        PLAIN,
    ]
    head, _ = await one.ask("Cookie: mine=1")
    assert b"session=of-one" in head
    head, _ = await other.ask()
    assert b"cookie" not in head.lower()
    await one.ask("Cookie: session=of-one")
    assert provider.connections == 1
    assert not any(b"cookie" in head.lower() for head in provider.heads)


async def test_an_interim_answer_that_comes_late(
    two: tuple[Client, Client], provider: Provider
) -> None:
    one, other = two
    provider.script = [PLAIN + b"HTTP/1.1 103 Early Hints\r\nLink: </of-one>\r\n\r\n", PLAIN]
    assert (await one.ask())[1] == b"ok"
    head, body = await other.ask()
    assert (body, b"of-one" in head) == (b"ok", False)
    assert provider.connections == 2, "what has more to say is not used again"


async def test_interim_answers_before_each_of_two(
    two: tuple[Client, Client], provider: Provider
) -> None:
    provider.script = [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + PLAIN]
    for _ in range(2):
        for each in two:
            head, body = await each.ask()
            assert (head.startswith(b"HTTP/1.1 200 "), body) == (True, b"ok")
            assert b"/a" not in head
    assert provider.connections == 1


async def test_an_answer_before_the_upload_has_ended(
    two: tuple[Client, Client], provider: Provider
) -> None:
    """The rest of the one's upload must not be the beginning of the other's request."""
    one, other = two
    provider.reads_bodies = False
    provider.script = [
        b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig",
        PLAIN,
    ]
    one.send("POST", "/openai/v1/files", "Content-Length: 1000000", body=b"x" * 1000)
    assert (await one.answer())[1] == b"big"
    provider.reads_bodies = True
    assert (await other.ask())[1] == b"ok"
    assert provider.connections == 2
    assert provider.heads[-1].startswith(b"GET ")


async def test_a_client_that_leaves_within_its_upload(
    two: tuple[Client, Client], provider: Provider, front: Front
) -> None:
    one, other = two
    one.send("POST", "/openai/v1/files", "Content-Length: 1000000", body=b"x" * 1000)
    await until(lambda: len(provider.heads) == 1)
    one.writer.transport.abort()
    await until(lambda: front.counted == 1)
    assert (await other.ask())[1] == b"ok"
    assert provider.connections == 2


async def test_a_client_that_leaves_within_its_answer(
    two: tuple[Client, Client], provider: Provider, front: Front
) -> None:
    one, other = two
    provider.script = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of ", PLAIN]
    one.send("GET", "/openai/v1/models")
    await one.reader.readuntil(b"half of ")
    one.writer.transport.abort()
    await until(lambda: front.counted == 1)
    head, body = await other.ask()
    assert (body, b"half" in head) == (b"ok", False)
    assert provider.connections == 2


@pytest.mark.parametrize(
    "more",
    [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers"],
    ids=["a byte", "an answer"],
)
async def test_a_provider_that_says_too_much(
    two: tuple[Client, Client], provider: Provider, more: bytes
) -> None:
    one, other = two
    provider.script = [PLAIN + more, PLAIN]
    assert (await one.ask())[1] == b"ok"
    assert (await other.ask())[1] == b"ok"
    assert provider.connections == 2


async def test_an_answer_without_an_end(two: tuple[Client, Client], provider: Provider) -> None:
    """It lasts until its connection ends, so nobody else can use that."""
    one, other = two
    provider.script = [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        PLAIN,
    ]
    assert (await one.ask())[1] == b"ok"
    assert (await other.ask())[1] == b"ok"
    assert provider.connections == 2
