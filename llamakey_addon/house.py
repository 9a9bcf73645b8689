"""What one process has of LlamaKey: the gate, the pool, the vault, the roads, and those who look.

It outlives the addon object: mitmproxy reloads a script when its file changes, and what was
counted, opened or promised must not be forgotten with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Set
from typing import Any, Final

from llamakey_addon.asking import asker
from llamakey_addon.book import Journal
from llamakey_addon.config import Settings
from llamakey_addon.config.addresses import is_loopback
from llamakey_addon.credentials.vault import Vault
from llamakey_addon.dial import Names
from llamakey_addon.gate import Gate
from llamakey_addon.journey import Ask
from llamakey_addon.rim import Look
from llamakey_addon.road import Road
from llamakey_addon.store import Store, StoreError
from llamakey_addon.upstream import Pool

type Watcher = Callable[[Ask, Road, Callable[[], Any]], Look | None]
"""Given a request, its road, and what makes mitmproxy's view of the client's connection: somebody
who looks, or None."""

_LOOK_S: Final = 0.5
#: How long rows that were closed wait for others to be committed with them.
_FLUSH_S: Final = 0.003
_AGAIN_S: Final = 1.0
_RECOVER_S: Final = 5.0
#: Transactions of the ledger after which they are brought into the main file.
_CHECKPOINT_AFTER: Final = 500


class House:
    """Everything that a process shares between its connections."""

    def __init__(self, settings: Settings, store: Store, journal: Journal) -> None:
        self.settings = settings
        self.store = store
        self.journal = journal
        self.vault = Vault(asker(lambda: self.settings.upstream_proxy), journal.note)
        self.gate = Gate(settings, store, journal, self.vault)
        self.pool = _pool(settings, Names())
        self._ahead = False
        self._roads: set[Road] = set()
        self.watcher: Watcher | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._addresses: Counter[str] = Counter()
        self._connections: dict[object, str] = {}
        self._closed = False
        self.silent: dict[str, asyncio.TimerHandle] = {}
        """By connection: when one that never sent a byte is closed."""
        self._empty: asyncio.Event | None = None
        """Set when the last road ends; there while a drain waits for it."""
        self._deserted: asyncio.Event | None = None
        """The same for the last connection, begun or not."""
        self._recovered_s = 0.0
        self._validity = -1
        self._look: asyncio.TimerHandle | None = None
        self._checkpoint: asyncio.Future[None] | None = None
        self._checkpointed = 0
        self._flushing: asyncio.TimerHandle | None = None
        self._written = 0
        """Transactions when that was set."""
        store.ledger.checkpoints_elsewhere = True
        store.ledger.waiting = self._flush_soon
        self.gate.book.soon = self._admit_soon
        self.gate.book.recover()
        self.gate.book.prices.warm()

    # ── connections of clients ────────────────────────────────────────────────────────────────

    def admit_connection(self, connection: object, address: str) -> str:
        """Count a connection in; why not, or ""."""
        limits = self.settings.limits
        self._connections[connection] = address
        self._addresses[address] += 1
        if len(self._connections) > limits.connections:
            return f"more than limits.connections = {limits.connections}"
        if self._addresses[address] > limits.connections_per_address:
            return (
                f"more than limits.connections_per_address = {limits.connections_per_address} "
                f"from {address}"
            )
        return ""

    def release_connection(self, connection: object) -> None:
        """Count it out, whether it was let in or not."""
        address = self._connections.pop(connection, None)
        if address is not None:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
        self._look_if_deserted()

    @property
    def counted(self) -> int:
        """Connections that were counted in, and not out yet."""
        return len(self._connections)

    def may_be_plain(self, own_address: str) -> bool:
        """Whether plain HTTP is served beside TLS to a connection that came to this address of
        ours: from this machine no network lies between."""
        return self.settings.allow_plain or is_loopback(own_address)

    def heard(self, connection: str) -> None:
        """It has sent something, or is gone: it is no longer timed as silent."""
        timer = self.silent.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` at once, as far as it goes without waiting."""
        task = asyncio.get_running_loop().create_task(work)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @property
    def roads(self) -> Set[Road]:
        """Those that `enter` and have yet to `leave`."""
        return self._roads

    def enter(self, road: Road) -> None:
        """A connection begins, of whatever rim."""
        self._roads.add(road)
        if self._look is None:
            self._look_at_keys()

    def leave(self, road: Road) -> None:
        """A connection has ended."""
        self._roads.discard(road)
        if not self._roads and self._empty is not None:
            self._empty.set()
        self._look_if_deserted()

    def _look_if_deserted(self) -> None:
        if self._deserted is not None and not self._roads and not self._connections:
            self._deserted.set()

    # ── keys ──────────────────────────────────────────────────────────────────────────────────

    def _look_at_keys(self) -> None:
        """Twice a second: end what runs by a key that is no longer valid, and write down which
        keys were used. Each new request looks for itself."""
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(_LOOK_S, self._look_at_keys)
        try:
            now_s = time.time()
            validity = self.store.validity(now_s)
            if validity != self._validity:
                for road in list(self._roads):
                    road.recheck()
                self._validity = validity
            self.store.keep_uses(now_s)
            if now_s - self._recovered_s > _RECOVER_S:
                self._recovered_s = now_s
                self.gate.book.recover()
            self._checkpoint_if_due(loop)
        except StoreError:
            pass  # requests are refused for it, with the reason in the log
        except BaseException as error:
            self.gate.book.alarm(error)

    # ── the ledger ────────────────────────────────────────────────────────────────────────────

    def _admit_soon(self) -> None:
        """Requests that come in one turn of the loop are admitted at its end, in one transaction:
        the first of them asks for this, and it runs before anything of the next turn."""
        asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        book = self.gate.book
        try:
            book.admit()
        except BaseException as error:
            book.tell(error)

    def _flush_soon(self) -> None:
        """Rows that were closed are committed together: with the next admission, or by this."""
        if self._flushing is None:
            self._flush_in(_FLUSH_S)

    def _flush_in(self, seconds: float) -> None:
        self._written = self.store.ledger.written
        self._flushing = asyncio.get_running_loop().call_later(seconds, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if self._closed:
            return
        if self.store.ledger.written != self._written:
            self._flush_in(_FLUSH_S)  # admissions come, and take along what waits
        elif not self.gate.book.flush():
            self._flush_in(_AGAIN_S)

    def _checkpoint_if_due(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bring what was committed into the main file, in a thread: it waits for the disk."""
        ledger = self.store.ledger
        if self._checkpoint is not None and not self._checkpoint.done():
            return
        if self._checkpoint is not None and (error := self._checkpoint.exception()) is not None:
            self.gate.book.alarm(error)
        self._checkpoint = None
        if ledger.written - self._checkpointed >= _CHECKPOINT_AFTER:
            self._checkpointed = ledger.written
            self._checkpoint = loop.run_in_executor(None, ledger.checkpoint)

    def scrub_record(self, record: logging.LogRecord) -> bool:
        """A logging filter: takes keys by value out of warnings, errors and tracebacks, of
        mitmproxy's or of other addons', before they are shown."""
        if record.levelno >= logging.WARNING or record.exc_info:
            try:
                record.msg = self.gate.book.scrub(record.getMessage())
                record.args = ()
                if record.exc_info:
                    text = logging.Formatter().formatException(record.exc_info)
                    record.msg += "\n" + self.gate.book.scrub(text)
                    record.exc_info = record.exc_text = None
            except BaseException as error:
                record.msg = f"(a log record could not be read: {type(error).__name__})"
                record.args, record.exc_info, record.exc_text = (), None, None
        return True

    def open_ahead(self) -> None:
        """From now on, keep connections to the providers that are in service open ahead."""
        self._ahead = True
        limits = self.settings.limits
        upstreams = {
            provider.upstream
            for provider in self.settings.providers.values()
            if provider.ready and provider.upstream is not None and provider.upstream.tls
        }
        self.pool.keep_warm(upstreams, min(limits.pool_warm, limits.pool_idle))

    # ── life ──────────────────────────────────────────────────────────────────────────────────

    def reload(self, settings: Settings) -> None:
        """Serve by these settings from the next request on; running ones end as they began."""
        self.settings = settings
        self.gate.reload(settings)
        old, self.pool = self.pool, _pool(settings, self.pool.names)
        if self._ahead:
            self.open_ahead()
        old.retire()

    async def retire(self, timeout_s: float) -> int:
        """Others serve who comes from now on: end each connection with the next answer on it, which
        tells the client so. One that is idle is left to its client, whose request may be on its
        way. How many did not end in time."""
        self.gate.leaving = True
        self._ahead = False
        self.pool.let_cool()
        self._deserted = asyncio.Event()
        self._look_if_deserted()
        await _wait(self._deserted, timeout_s)
        return len(self._roads)

    async def drain(self, timeout_s: float) -> int:
        """Begin nothing new, end idle connections, wait for what runs; how many did not end."""
        self.gate.draining = self.gate.leaving = True
        self._empty = asyncio.Event()
        for road in list(self._roads):
            road.close_when_idle()
        if self._roads:
            await _wait(self._empty, timeout_s)
        return len(self._roads)

    async def end(self) -> None:
        """Let running answers end, settle what does not, then close."""
        if not self.gate.draining:  # `lmk serve` has done it already
            await self.drain(self.settings.limits.drain_timeout_s)
        self.close()

    def close(self) -> None:
        """End everything: roads settle what they carry, then connections are closed."""
        self.gate.draining = True
        if self._look is not None:
            self._look.cancel()
        for road in list(self._roads):
            road.end("the proxy stopped")
        self._closed = True
        self.gate.book.flush()
        self.pool.close()
        self.store.close()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


def _pool(settings: Settings, names: Names) -> Pool:
    limits = settings.limits
    return Pool(
        connect_timeout_s=limits.connect_timeout_s,
        idle_s=limits.pool_idle_s,
        idle=limits.pool_idle,
        most=limits.upstream_connections,
        proxy=settings.upstream_proxy,
        names=names,
    )
