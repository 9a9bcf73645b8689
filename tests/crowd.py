"""Many clients at once, each on a connection of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Told:
    """What one of them was told."""

    status: int
    """0 where the connection ended before an answer began."""
    id: str
    """The request's, from the answer's head."""
    whole: bool
    body: bytes


async def _one(url: str, request: bytes, start: asyncio.Event) -> Told:
    place = urlsplit(url)
    got = bytearray()
    try:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
    except OSError:
        return Told(0, "", False, b"")
    try:
        await start.wait()
        writer.write(request)
        while piece := await reader.read(65536):
            got += piece
    except OSError:
        pass  # what came before the connection was reset counts
    finally:
        writer.close()
    return _told(bytes(got))


def _told(got: bytes) -> Told:
    head, end, body = got.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.1 (\d{3})", head)
    if not end or found is None:
        return Told(0, "", False, got)
    id = re.search(rb"\r\nx-llamakey-request-id: (\S+)", head, re.IGNORECASE)
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    if length is not None:
        whole = len(body) == int(length[1])
    else:
        whole = body.endswith(b"0\r\n\r\n")
    return Told(int(found[1]), id[1].decode() if id else "", whole, body)


def crowd(
    urls: Sequence[str],
    request: bytes,
    count: int,
    *,
    after: int = 0,
    then: Callable[[], object] | None = None,
) -> list[Told]:
    """Send the request `count` times at once, by turns to these URLs. It must close its connection
    (`Connection: close`). When `after` of them have their answer, `then` is called."""

    async def all_of_them() -> list[Told]:
        start = asyncio.Event()
        clients = [
            asyncio.create_task(_one(urls[number % len(urls)], request, start))
            for number in range(count)
        ]
        left = after

        def one_less(_: object) -> None:
            nonlocal left
            left -= 1
            if not left and then is not None:
                then()

        for client in clients:
            client.add_done_callback(one_less)
        await asyncio.sleep(0)
        start.set()
        return await asyncio.gather(*clients)

    return asyncio.run(all_of_them())


def post(path: str, key: str, body: bytes, *headers: str) -> bytes:
    """A request with a JSON body, for a connection of its own."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
