"""From a name to an open socket: names are looked up ahead, and addresses tried side by side.

`Names` remembers what a name stood for. What it remembers is used at once and looked up again
beside, so that no request waits for a name server twice, and one that fails harms nobody.

`connect` is RFC 8305 in small: families alternate, the next address gets its try when the one
before has failed or had a quarter of a second, and the first connection wins. asyncio has the like,
but it fails under eager tasks (CPython gh-124309), and it forgets which address worked.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llamakey_addon.config.addresses import is_public
from llamakey_addon.errors import Forbidden

type Address = tuple[int, Any]
"""Family, and address as its sockets take it."""

_FRESH_S: Final = 30.0
_KEPT_S: Final = 3600.0
#: Names that are remembered at most; clients of the second door choose theirs.
_MOST: Final = 1024
_HEAD_START_S: Final = 0.25
#: A connection that lost its way (behind a NAT, say) without a word is noticed by these probes.
_PROBES: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


@dataclass(slots=True)
class _Known:
    addresses: list[Address]
    at_s: float


class Names:
    """What names stand for.

    Arguments:
        fresh_s: so long an answer is used without a second look.
        kept_s: so long it is used while a look is under way, or fails.
        most: so many names are remembered, those that were looked up last.
    """

    def __init__(
        self, *, fresh_s: float = _FRESH_S, kept_s: float = _KEPT_S, most: int = _MOST
    ) -> None:
        self._fresh_s = fresh_s
        self._kept_s = kept_s
        self._most = most
        self._known: dict[tuple[str, int], _Known] = {}
        self._looking: dict[tuple[str, int], asyncio.Task[list[Address]]] = {}

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Where `host` is, what worked last first. Raises OSError."""
        place = (host, port)
        known = self._known.get(place)
        if known is not None:
            age_s = time.monotonic() - known.at_s
            if age_s > self._fresh_s:
                looking = self._look(place)
                if age_s > self._kept_s:
                    return list(await asyncio.shield(looking))
            return list(known.addresses)
        with contextlib.suppress(socket.gaierror):  # an address is no name
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
            return _of(found)
        return list(await asyncio.shield(self._look(place)))

    def worked(self, host: str, port: int, address: Address) -> None:
        """This one is tried first from now on."""
        known = self._known.get((host, port))
        if known is not None and address in known.addresses:
            known.addresses.remove(address)
            known.addresses.insert(0, address)

    def failed(self, host: str, port: int) -> None:
        """None of them can be reached: the name may stand for others by now."""
        self._known.pop((host, port), None)

    def _look(self, place: tuple[str, int]) -> asyncio.Task[list[Address]]:
        task = self._looking.get(place)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_up(place))
            if not task.done():
                self._looking[place] = task
                task.add_done_callback(lambda done: self._looked(place, done))
        return task

    def _looked(self, place: tuple[str, int], task: asyncio.Task[list[Address]]) -> None:
        del self._looking[place]
        if not task.cancelled():
            task.exception()  # whoever waited has it; where nobody did, the old answer serves on

    async def _look_up(self, place: tuple[str, int]) -> list[Address]:
        host, port = place
        loop = asyncio.get_running_loop()
        found = _of(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        before = self._known.pop(place, None)
        if before is not None and before.addresses[0] in found:
            found.remove(before.addresses[0])
            found.insert(0, before.addresses[0])
        while len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[place] = _Known(found, time.monotonic())
        return found


def _of(found: Iterable[tuple[Any, ...]]) -> list[Address]:
    addresses = list(dict.fromkeys((int(family), address) for family, *_, address in found))
    if not addresses:
        raise OSError("the name stands for no address")
    return addresses


async def check_public(names: Names, host: str, port: int) -> list[Address]:
    """Where `host` is.

    Raises OSError, and Forbidden where any of its addresses is not of the public internet.
    """
    addresses = await names.addresses(host, port)
    if not all(is_public(place[0]) for _, place in addresses):
        raise Forbidden(
            f"{host} is in a private network, or this machine itself. The proxy's owner can let it "
            "through by its whole name in door.tunnel.",
            setting="door.tunnel",
        )
    return addresses


async def open_socket(names: Names, host: str, port: int, *, public: bool = False) -> socket.socket:
    """A connected socket.

    Arguments:
        public: the host's addresses are to be of the public internet.

    Raises OSError where none of the host's addresses can be reached, and Forbidden.
    """
    look = check_public if public else Names.addresses
    addresses = await look(names, host, port)
    try:
        sock, address = await connect(addresses)
    except OSError:
        names.failed(host, port)
        raise
    names.worked(host, port, address)
    _probe(sock)
    return sock


async def connect(
    addresses: Sequence[Address], *, head_start_s: float = _HEAD_START_S
) -> tuple[socket.socket, Address]:
    """The first connection that comes about, non-blocking, and to where.

    Raises OSError where none does, with what each attempt failed of.
    """
    loop = asyncio.get_running_loop()
    waiting = _alternating(addresses)
    running: dict[asyncio.Task[socket.socket], Address] = {}
    failures: list[str] = []
    try:
        while waiting or running:
            if waiting:
                address = waiting.pop(0)
                running[loop.create_task(_attempt(address))] = address
            done, _ = await asyncio.wait(
                running,
                timeout=head_start_s if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                if task.exception() is None:
                    return task.result(), running.pop(task)
                failures.append(f"{running.pop(task)[1][0]}: {task.exception()}")
        raise OSError("; ".join(failures))
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_late)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """An attempt that came second."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _alternating(addresses: Iterable[Address]) -> list[Address]:
    """One of each family in turn, each family in its order."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for each in rounds for address in each if address is not None]


async def _attempt(address: Address) -> socket.socket:
    family, place = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await _connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(sock: socket.socket, place: Any) -> None:
    """As the loop's `sock_connect`; uvloop's mixes up two sockets when the second gets the
    descriptor of the first, which has failed."""
    loop = asyncio.get_running_loop()
    try:
        error = sock.connect_ex(place)
        if error in (errno.EINPROGRESS, errno.EINTR):
            writable: asyncio.Future[None] = loop.create_future()
            loop.add_writer(sock, _settle, writable)
            try:
                await writable
            finally:
                loop.remove_writer(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except NotImplementedError:  # Windows
        await loop.sock_connect(sock, place)
        return
    if error:
        raise OSError(error, os.strerror(error))


def _settle(writable: asyncio.Future[None]) -> None:
    if not writable.done():
        writable.set_result(None)


def _probe(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
