"""A door in this process: the rim on sockets of our own, with a real house behind it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from llamakey_addon.config import Listen
from llamakey_addon.config.settings import Tls
from llamakey_addon.house import House
from llamakey_addon.serve import ports
from llamakey_addon.serve.door import Door, server_tls
from llamakey_addon.store import open_store
from llamakey_addon.view.visitors import Greeter
from tests.roadside import Log, make_bench

HEALTH = b"GET /_llamakey/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
AUTHORITY = trustme.CA()


@dataclass
class Front:
    """An open door."""

    door: Door
    house: House
    log: Log
    port: int
    trust: ssl.SSLContext
    key: str
    """A local key of alice's."""

    async def connect(
        self, *, tls: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        more: dict[str, Any] = {"ssl": self.trust, "server_hostname": "localhost"} if tls else {}
        return await asyncio.open_connection("127.0.0.1", self.port, **more)

    async def health(self, *, tls: bool = False) -> bytes:
        reader, writer = await self.connect(tls=tls)
        writer.write(HEALTH)
        answer = await reader.readuntil(b"}\n")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return answer

    def empty(self) -> bool:
        return self.counted == 0

    @property
    def counted(self) -> int:
        """Connections that count against the limits."""
        return len(self.house._connections)


@contextlib.asynccontextmanager
async def opened(
    folder: Path,
    *,
    tls: bool = False,
    greeter: Greeter | None = None,
    limits: Mapping[str, float] | None = None,
    **config: Any,
) -> AsyncIterator[Front]:
    """An open door, with these settings; at its end all connections have to be gone."""
    with make_bench(folder, limits, **config) as bench:
        settings, key = bench.gate.settings, bench.key
    log = Log()
    made = House(settings, open_store(settings.data_folder), log)
    sockets = ports.listening(Listen("127.0.0.1", 0))
    port = sockets[0].getsockname()[1]
    door = Door(made, sockets, server_tls(certificate(folder)) if tls else None)
    door.greeter = greeter
    trust = ssl.create_default_context()
    AUTHORITY.configure_trust(trust)
    await door.open()
    try:
        front = Front(door, made, log, port, trust, key)
        yield front
    finally:
        door.shut()
        made.close()
    await until(front.empty)


def certificate(folder: Path) -> Tls:
    leaf = AUTHORITY.issue_cert("localhost")
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return Tls(cert, key)


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(45):
        while not fact():  # noqa: ASYNC110  what is looked at has no event
            await asyncio.sleep(0.005)
