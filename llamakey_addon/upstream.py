"""Connections to the providers: verified, pooled across clients, given back clean or closed.

A connection is an `asyncio.Protocol` of its own, so each direction drains by itself: an upload that
the provider does not read holds up neither its answer nor anybody else. Nothing of one client
stays on a connection: it is given back only after a complete answer with nothing behind it, and an
idle one that receives so much as a byte is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import ssl
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from llamakey_addon.errors import ConfigError, Denied, UpstreamFault, UpstreamTimeout
from llamakey_addon.journey import Upstream
from llamakey_addon.tunnel import proxy_for, tunnel_through


class Owner(Protocol):
    """Whoever a connection is lent to."""

    def link_data(self, data: bytes) -> None: ...
    def link_closed(self, why: str, *, orderly: bool) -> None: ...
    def link_writable(self, writable: bool) -> None: ...


class UpstreamLink(asyncio.Protocol):
    """One connection to a provider. Idle in the pool, or lent to one owner."""

    def __init__(self, pool: Pool, upstream: Upstream) -> None:
        self._pool = pool
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._owner: Owner | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._late: list[bytes] = []
        self._written = False
        self.reused = False

    @property
    def upstream(self) -> Upstream:
        return self._upstream

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def lend(self, owner: Owner) -> None:
        """From now on `owner` hears of this connection."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._owner = owner

    def keep_idle(self, seconds: float) -> None:
        """Nobody uses it: close it after so long."""
        self._owner = None
        self._written = False
        self.reused = True
        self._expiry = asyncio.get_running_loop().call_later(seconds, self.drop)

    # ── what an owner may do ──────────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        if self._late:
            self._late.append(data)
        elif self._written and _has_input(transport):
            # An answer waits to be read. Were its sender gone already, a write would fail, and
            # asyncio would throw the answer away with the connection: read first, then write.
            self._late.append(data)
            asyncio.get_running_loop().call_later(0, self._write_late)
        else:
            self._written = True
            transport.write(data)

    def _write_late(self) -> None:
        late, self._late = self._late, []
        if self._transport is not None and self._owner is not None:
            self._transport.write(b"".join(late))

    def pause(self) -> None:
        if self.alive and self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.alive and self._transport is not None:
            self._transport.resume_reading()

    def give_back(self) -> None:
        self._owner = None
        if self._late or (self._transport is not None and self._transport.get_write_buffer_size()):
            self.drop()  # the next request would wait behind what was never read of this one
        elif self.alive:
            self.resume()
            self._pool.take_back(self)

    def drop(self) -> None:
        self._owner = None
        if self._expiry is not None:
            self._expiry.cancel()
        self._pool.forget(self)
        if self._transport is not None:
            self._transport.abort()

    # ── asyncio ───────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pool.met(self)

    def data_received(self, data: bytes) -> None:
        if self._owner is None:
            self.drop()  # nobody asked: whatever it is, it must not become somebody's answer
        else:
            self._owner.link_data(data)

    def eof_received(self) -> bool:
        owner, self._owner = self._owner, None
        self._pool.forget(self)
        if owner is not None:
            owner.link_closed("the provider ended the connection", orderly=True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._owner is not None:
            self._read_last_words()
        owner, self._owner = self._owner, None
        self._pool.forget(self)
        if owner is not None:
            why = str(exc) if exc else "the connection was lost"
            owner.link_closed(why, orderly=False)

    def _read_last_words(self) -> None:
        """A write has failed; what the provider said before it left may still be in the socket."""
        transport = self._transport
        if transport is None or transport.get_extra_info("ssl_object") is not None:
            return
        with contextlib.suppress(OSError, ValueError):
            while self._owner is not None:
                data = os.read(transport.get_extra_info("socket").fileno(), 65536)
                if not data:
                    return
                self._owner.link_data(data)

    def pause_writing(self) -> None:
        if self._owner is not None:
            self._owner.link_writable(False)

    def resume_writing(self) -> None:
        if self._owner is not None:
            self._owner.link_writable(True)


class Pool:
    """All connections of this process to providers.

    Arguments:
        connect_timeout_s: for name look-up, connection and TLS together.
        idle_s: how long an unused connection is kept.
        idle: how many unused ones are kept an upstream.
        proxy: URL of the company's proxy; None reads HTTPS_PROXY and NO_PROXY.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        idle_s: float,
        idle: int,
        proxy: str | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._most_idle = idle
        self._proxy = proxy
        self._idle: defaultdict[Upstream, list[UpstreamLink]] = defaultdict(list)
        self._all: set[UpstreamLink] = set()
        self._trust: dict[str, ssl.SSLContext] = {}
        self._closed = False
        self.opened = 0
        """Connections opened so far."""

    def take(self, upstream: Upstream) -> UpstreamLink | None:
        """An idle connection, the one used last, or None."""
        links = self._idle.get(upstream)
        while links:
            link = links.pop()
            if link.alive:
                return link
        return None

    async def open(self, upstream: Upstream) -> UpstreamLink:
        """A new connection.

        Raises:
            UpstreamFault, UpstreamTimeout: it can't be had; the message says what to do.
        """
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                link = await self._connect(upstream)
        except TimeoutError:
            raise UpstreamTimeout(
                f"{upstream.host} could not be reached in time. Try again.",
                setting="limits.connect_timeout_s",
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise UpstreamFault(
                f"The certificate of {upstream.host} could not be verified.",
                detail=f"{error.verify_message} (a CA of your own: `ca:` of the provider)",
            ) from None
        except OSError as error:  # ssl.SSLError is one
            raise UpstreamFault(
                f"{upstream.host} could not be reached. Try again.", detail=str(error)
            ) from None
        except ConfigError as error:
            raise UpstreamFault(
                f"{upstream.host} could not be reached.", detail=str(error)
            ) from None
        self.opened += 1
        return link

    def met(self, link: UpstreamLink) -> None:
        self._all.add(link)

    def take_back(self, link: UpstreamLink) -> None:
        links = self._idle[link.upstream]
        if self._closed or len(links) >= self._most_idle:
            link.drop()
        else:
            links.append(link)
            link.keep_idle(self._idle_s)

    def forget(self, link: UpstreamLink) -> None:
        self._all.discard(link)
        links = self._idle.get(link.upstream)
        if links is not None and link in links:
            links.remove(link)

    def retire(self) -> None:
        """Another pool takes over: close what is idle, and the rest as it is given back."""
        self._closed = True
        for links in list(self._idle.values()):
            for link in list(links):
                link.drop()

    def close(self) -> None:
        """Close everything."""
        self._closed = True
        for link in list(self._all):
            link.drop()

    async def _connect(self, upstream: Upstream) -> UpstreamLink:
        loop = asyncio.get_running_loop()
        link = UpstreamLink(self, upstream)
        context = self._context(upstream.ca) if upstream.tls else None
        proxy = proxy_for(upstream, self._proxy)
        if proxy is None:
            await loop.create_connection(
                lambda: link,
                upstream.host,
                upstream.port,
                ssl=context,
                server_hostname=upstream.host if context else None,
                # no happy_eyeballs_delay: asyncio's fails under eager tasks (CPython gh-124309)
            )
            return link
        tunnel = await tunnel_through(proxy, upstream)
        try:
            if context is not None:
                transport = await loop.start_tls(
                    tunnel, link, context, server_hostname=upstream.host
                )
                assert transport is not None
                link.connection_made(transport)
            else:
                tunnel.set_protocol(link)
                link.connection_made(tunnel)
        except BaseException:
            tunnel.abort()
            raise
        return link

    def _context(self, ca: str) -> ssl.SSLContext:
        context = self._trust.get(ca)
        if context is None:
            context = self._trust[ca] = trust(ca)
        return context


def _has_input(transport: asyncio.Transport) -> bool:
    """Whether the socket has something to read, or a reset to tell of."""
    try:
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll here, or no socket any more
        return False


def trust(ca: str) -> ssl.SSLContext:
    """What a provider's certificate is verified with: the system's roots, and those in `ca`.

    Raises:
        ConfigError: the file cannot be read as PEM.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if not context.cert_store_stats()["x509_ca"] and not _has_root_folder():
        with contextlib.suppress(ImportError):  # a Python without the system's roots
            import certifi

            context.load_verify_locations(certifi.where())
    if ca:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{ca}: no PEM file of trusted certificates ({error})") from None
    return context


def _has_root_folder() -> bool:
    folder = ssl.get_default_verify_paths().capath
    return bool(folder) and any(Path(str(folder)).glob("*.0"))


class Wish:
    """A road's wish for a connection: granted at once from the pool, or when it is open."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None

    def open(
        self,
        upstream: Upstream,
        owner: Owner,
        *,
        fresh: bool,
        opened: Callable[[UpstreamLink], None],
        unopened: Callable[[Denied], None],
    ) -> None:
        """Call `opened` or `unopened`, perhaps before this returns."""
        link = None if fresh else self._pool.take(upstream)
        if link is not None:
            link.lend(owner)
            opened(link)
            return

        async def connect() -> None:
            # An eager task runs before it is known here; one turn of the loop puts that right.
            await asyncio.sleep(0)
            try:
                new = await self._pool.open(upstream)
            except Denied as denied:
                self._task = None
                unopened(denied)
            except BaseException as error:
                if self._task is None:  # cancelled by us: nobody waits
                    raise
                self._task = None
                unopened(UpstreamFault("The provider could not be reached.", detail=repr(error)))
            else:
                self._task = None
                new.lend(owner)
                opened(new)

        self._task = asyncio.get_running_loop().create_task(connect())

    def cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
