"""Connections to the providers: verified, pooled across clients, given back clean or closed.

A connection is an `asyncio.Protocol` of its own, so each direction drains by itself: an upload that
the provider does not read holds up neither its answer nor anybody else. Nothing of one client
stays on a connection: it is given back only after a complete answer with nothing behind it, and an
idle one that receives so much as a byte is closed.

Requests that find the most connections open that an upstream may have wait in line, first come,
first served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import ssl
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

from llamakey_addon.dial import Names, check_public, open_socket
from llamakey_addon.errors import ConfigError, Denied, TooMany, UpstreamFault, UpstreamTimeout
from llamakey_addon.journey import Upstream
from llamakey_addon.trust import TrustContext, trust
from llamakey_addon.tunnel import proxy_for, tunnel_through
from llamakey_addon.warmth import Warmth


class Owner(Protocol):
    """Whoever a connection is lent to."""

    def link_data(self, data: bytes) -> None: ...
    def link_closed(self, why: str, *, orderly: bool) -> None: ...
    def link_writable(self, writable: bool) -> None: ...


#: Shared by all connections of the process: what is read is handed on before the next is.
_BUFFER: Final[memoryview] = memoryview(bytearray(64 * 1024))


class UpstreamLink(asyncio.BufferedProtocol):
    """One connection to a provider. Idle in the pool, or lent to one owner.

    It reads into a buffer of ours, which bounds how much comes at once: of a client that does not
    read, so much waits here. (asyncio's own reads are of 256 KB.)
    """

    def __init__(self, pool: Pool, upstream: Upstream) -> None:
        self.upstream = upstream
        self.reused = False
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._owner: Owner | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._idle_until_s = 0.0
        self._late: list[bytes] = []
        self._written = False
        self._poll: select.poll | None = None
        self._context: TrustContext | None = None
        self._paused = False

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def stale(self) -> bool:
        """Whether an idle connection is of no more use: closed, or about to be told so."""
        transport = self._transport
        return transport is None or transport.is_closing() or self._has_input()

    def lend(self, owner: Owner) -> None:
        """From now on `owner` hears of this connection."""
        self._owner = owner

    def keep_idle(self, seconds: float) -> None:
        """Nobody uses it: close it after so long."""
        self._owner = None
        self._written = False
        self.reused = True
        self._idle_until_s = self._loop.time() + seconds
        if self._expiry is None:
            self._expiry = self._loop.call_at(self._idle_until_s, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if self._owner is not None:
            return  # it is lent, and timed anew once it is idle
        if self._loop.time() < self._idle_until_s:  # it was lent in between
            self._expiry = self._loop.call_at(self._idle_until_s, self._expire)
        else:
            self._pool.expired(self)

    # ── what an owner may do ──────────────────────────────────────────────────────────────────

    def write(self, data: bytes, more: bytes = b"") -> None:
        transport = self._transport
        if transport is None:
            return
        if self._late:
            self._late += (data, more)
        elif self._written and self._has_input():
            # An answer waits to be read. Were its sender gone already, a write would fail, and
            # asyncio would throw the answer away with the connection: read first, then write.
            self._late += (data, more)
            self._loop.call_later(0, self._write_late)
        else:
            self._written = True
            if more:
                transport.writelines((data, more))
            else:
                transport.write(data)

    def _write_late(self) -> None:
        late, self._late = self._late, []
        if self._transport is not None and self._owner is not None:
            self._transport.write(b"".join(late))

    def pause(self) -> None:
        self._paused = True
        if self.alive and self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        if self.alive and self._transport is not None:
            self._transport.resume_reading()

    def give_back(self) -> None:
        self._owner = None
        if self._context is not None:
            self._keep_session(self._context)
        transport = self._transport
        if transport is None:
            return
        if self._late or transport.get_write_buffer_size():
            self.drop()  # the next request would wait behind what was never read of this one
        elif not transport.is_closing():
            if self._paused:
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
        # not by its type: uvloop's has none of asyncio's
        transport = self._transport = cast("asyncio.Transport", transport)
        self._pool.met(self)
        with contextlib.suppress(AttributeError, OSError, ValueError):
            poll = select.poll()
            poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
            self._poll = poll

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._owner is None:
            self.drop()  # nobody asked: whatever it is, it must not become somebody's answer
        else:
            self._owner.link_data(bytes(_BUFFER[:nbytes]))

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

    def _has_input(self) -> bool:
        """Whether the socket has something to read, or an end or a reset to tell of."""
        try:
            return self._poll is not None and bool(self._poll.poll(0))
        except OSError:  # no socket any more
            return True

    def verified_by(self, context: TrustContext) -> None:
        self._context = context

    def _keep_session(self, context: TrustContext) -> None:
        """For the next connection to this host: by now the provider has sent what it takes."""
        if self._written and self._transport is not None:
            self._context = None
            tls = self._transport.get_extra_info("ssl_object")
            if tls is not None:
                context.keep_session(tls)

    def pause_writing(self) -> None:
        if self._owner is not None:
            self._owner.link_writable(False)

    def resume_writing(self) -> None:
        if self._owner is not None:
            self._owner.link_writable(True)


class _Waiting:
    """A request that waits for one of its upstream's connections."""

    __slots__ = ("fresh", "granted", "refused", "timer")

    def __init__(
        self,
        *,
        fresh: bool,
        granted: Callable[[UpstreamLink | None], None],
        refused: Callable[[Denied], None],
    ) -> None:
        self.fresh = fresh
        self.granted = granted
        """Called with a connection, or with None for leave to open one."""
        self.refused = refused
        self.timer: asyncio.TimerHandle | None = None


class Pool:
    """All connections of this process to providers.

    Arguments:
        connect_timeout_s: for name look-up, connection and TLS together; and for a place in line.
        idle_s: how long an unused connection is kept.
        idle: how many unused ones are kept an upstream.
        most: how many may be open an upstream.
        proxy: URL of the company's proxy; None reads HTTPS_PROXY and NO_PROXY.
        names: what names stand for; another pool's, where this one follows it.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        idle_s: float,
        idle: int,
        most: int = 1_000_000,
        proxy: str | None = None,
        names: Names | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._most_idle = idle
        self._most = most
        self._proxy = proxy
        self.names = names or Names()
        self._idle: defaultdict[Upstream, list[UpstreamLink]] = defaultdict(list)
        self._all: set[UpstreamLink] = set()
        self._taken: Counter[Upstream] = Counter()
        """Open connections an upstream, and those that are being opened."""
        self._lines: defaultdict[Upstream, deque[_Waiting]] = defaultdict(deque)
        self._trust: dict[str, TrustContext] = {}
        self._warmth: Warmth[UpstreamLink] | None = None
        self._closed = False
        self.opened = 0
        """Connections opened so far."""

    def keep_warm(self, upstreams: Iterable[Upstream], count: int) -> None:
        """Keep so many idle connections to each of these, from now on."""
        if count and not self._closed:
            self._warmth = Warmth(self, upstreams, count)

    def let_cool(self) -> None:
        """Open none ahead any more."""
        if self._warmth is not None:
            self._warmth.stop()
            self._warmth = None

    # ── connections ───────────────────────────────────────────────────────────────────────────

    def take(self, upstream: Upstream) -> UpstreamLink | None:
        """An idle connection, the one used last, or None."""
        links = self._idle.get(upstream)
        while links:
            link = links.pop()
            if not link.stale:
                if self._warmth is not None and len(links) < self._warmth.count:
                    self._warmth.lacks(upstream)
                return link
            link.drop()
        return None

    def idle(self, upstream: Upstream) -> int:
        """Idle connections to an upstream."""
        return len(self._idle.get(upstream, ()))

    def reserve(self, upstream: Upstream) -> bool:
        """Whether another connection may be opened now; it is counted, until it is closed or
        `release`d."""
        if self._taken[upstream] >= self._most:
            return False
        self._taken[upstream] += 1
        return True

    def release(self, upstream: Upstream) -> None:
        """A connection is no more: who waits first may open another."""
        line = self._lines.get(upstream)
        if line:
            self._next_in(line).granted(None)
            return
        self._taken[upstream] -= 1
        if not self._taken[upstream]:
            del self._taken[upstream]

    def wait(self, upstream: Upstream, waiting: _Waiting) -> None:
        """Stand in line. After `connect_timeout_s` it is refused."""
        self._lines[upstream].append(waiting)
        waiting.timer = asyncio.get_running_loop().call_later(
            self._connect_timeout_s, self._waited_enough, upstream, waiting
        )

    def leave_line(self, upstream: Upstream, waiting: _Waiting) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
        with contextlib.suppress(ValueError):
            self._lines[upstream].remove(waiting)

    async def open(self, upstream: Upstream, *, reserved: bool = False) -> UpstreamLink:
        """A new connection.

        Arguments:
            reserved: `reserve` has made room for it; else it is made here, without a limit.

        Raises:
            UpstreamFault, UpstreamTimeout: it can't be had; the message says what to do.
        """
        if not reserved:
            self._taken[upstream] += 1
        link = UpstreamLink(self, upstream)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._connect(link)
        except BaseException as error:
            if link in self._all:
                link.drop()
            else:
                self.release(upstream)
            if isinstance(error, Exception):
                raise self._denial(upstream, error) from None
            raise
        self.opened += 1
        return link

    def _denial(self, upstream: Upstream, error: Exception) -> Exception:
        host = upstream.host
        match error:
            case Denied():
                return error
            case TimeoutError():
                return UpstreamTimeout(
                    f"{host} could not be reached in time. Try again.",
                    setting="limits.connect_timeout_s",
                )
            case ssl.SSLCertVerificationError():
                return UpstreamFault(
                    f"The certificate of {host} could not be verified.",
                    detail=f"{error.verify_message} (a CA of your own: `ca:` of the provider)",
                )
            case OSError():  # ssl.SSLError is one
                return UpstreamFault(f"{host} could not be reached. Try again.", detail=str(error))
            case ConfigError():
                return UpstreamFault(f"{host} could not be reached.", detail=str(error))
        return error

    def met(self, link: UpstreamLink) -> None:
        self._all.add(link)

    def take_back(self, link: UpstreamLink) -> None:
        upstream = link.upstream
        if self._closed:
            link.drop()
            return
        line = self._lines.get(upstream)
        if line and (line[0].fresh or link.stale):
            link.drop()  # and in its place one is opened
            return
        if line:
            link.keep_idle(self._idle_s)
            self._next_in(line).granted(link)
            return
        links = self._idle[upstream]
        if len(links) >= self._most_idle:
            link.drop()
        else:
            links.append(link)
            link.keep_idle(self._idle_s)

    def expired(self, link: UpstreamLink) -> None:
        """An idle connection's time is over."""
        if (
            self._warmth is not None
            and self._warmth.wants(link.upstream)
            and self.idle(link.upstream) <= self._warmth.count
            and not link.stale
        ):
            link.keep_idle(self._idle_s)
        else:
            link.drop()

    def forget(self, link: UpstreamLink) -> None:
        """It is closed."""
        if link not in self._all:
            return
        self._all.discard(link)
        links = self._idle.get(link.upstream)
        if links is not None:
            if link in links:
                links.remove(link)
            if not links:
                del self._idle[link.upstream]
        self.release(link.upstream)
        if self._warmth is not None:
            self._warmth.lacks(link.upstream)

    def retire(self) -> None:
        """Another pool takes over: close what is idle, and the rest as it is given back."""
        self._closed = True
        self.let_cool()
        for links in list(self._idle.values()):
            for link in list(links):
                link.drop()

    def close(self) -> None:
        """Close everything."""
        self.retire()
        for link in list(self._all):
            link.drop()

    # ── inner ─────────────────────────────────────────────────────────────────────────────────

    def _next_in(self, line: deque[_Waiting]) -> _Waiting:
        waiting = line.popleft()
        if waiting.timer is not None:
            waiting.timer.cancel()
        return waiting

    def _waited_enough(self, upstream: Upstream, waiting: _Waiting) -> None:
        self.leave_line(upstream, waiting)
        waiting.refused(
            TooMany(
                f"All connections of this proxy to {upstream.host} are taken. Try again soon.",
                retry_after_s=2,
                setting="limits.upstream_connections",
            )
        )

    async def _connect(self, link: UpstreamLink) -> None:
        loop = asyncio.get_running_loop()
        upstream = link.upstream
        context = self._context(upstream.ca) if upstream.tls else None
        host = upstream.host if context else None
        proxy = proxy_for(upstream, self._proxy)
        if proxy is None:
            sock = await open_socket(
                self.names, upstream.host, upstream.port, public=upstream.public
            )
            try:
                await loop.create_connection(
                    lambda: link, sock=sock, ssl=context, server_hostname=host
                )
            except BaseException:
                sock.close()
                raise
        else:
            await self._tunnel(link, proxy, context)
        if context is not None:
            link.verified_by(context)

    async def _tunnel(self, link: UpstreamLink, proxy: str, context: TrustContext | None) -> None:
        loop = asyncio.get_running_loop()
        upstream = link.upstream
        if upstream.public:
            with contextlib.suppress(OSError):  # a name that only the other proxy knows
                await check_public(self.names, upstream.host, upstream.port)
        tunnel = await tunnel_through(proxy, upstream, self.names)
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

    def _context(self, ca: str) -> TrustContext:
        context = self._trust.get(ca)
        if context is None:
            context = self._trust[ca] = trust(ca)
        return context


class Wish:
    """A road's wish for a connection: granted at once from the pool, or when it is open."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._waiting: tuple[Upstream, _Waiting] | None = None

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

        def granted(link: UpstreamLink | None) -> None:
            self._waiting = None
            if link is not None:
                link.lend(owner)
                opened(link)
            else:
                # Eager, whatever the loop's tasks are: one that is cancelled before it has begun
                # could not give back its place.
                loop = asyncio.get_running_loop()
                self._task = asyncio.Task(connect(), loop=loop, eager_start=True)

        def refused(denied: Denied) -> None:
            self._waiting = None
            unopened(denied)

        async def connect() -> None:
            try:
                await asyncio.sleep(0)  # until the task is known to `cancel`
            except BaseException:
                self._pool.release(upstream)
                raise
            try:
                new = await self._pool.open(upstream, reserved=True)
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

        if self._pool.reserve(upstream):
            granted(None)
        else:
            waiting = _Waiting(fresh=fresh, granted=granted, refused=refused)
            self._waiting = (upstream, waiting)
            self._pool.wait(upstream, waiting)

    def cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        place, self._waiting = self._waiting, None
        if place is not None:
            self._pool.leave_line(*place)
