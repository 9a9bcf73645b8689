"""mitmproxy's master with what the proxy needs, and nothing that looks or edits.

Stock mitmdump walks some 35 addons for each hook. Here stand the sockets, the scripts that the
owner asked for, and LlamaKey, last: whatever layer a script chooses, LlamaKey's stands.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from mitmproxy.addons import core, proxyserver, script
from mitmproxy.exceptions import OptionsError
from mitmproxy.master import Master
from mitmproxy.options import Options

from llamakey_addon.addon import LlamaKey
from llamakey_addon.config import Settings
from llamakey_addon.journal import Journal
from llamakey_addon.keys import redact
from llamakey_addon.store import Store

#: Connections that wait to be accepted. asyncio's 100 makes clients of a burst wait a second, until
#: they ask again.
_BACKLOG = 4096


class LmkMaster(Master):
    """Serves `settings.listen` once `run` is awaited.

    Arguments:
        settings: with a port that is free.
        store: opened by this thread.
        journal: for requests, and for what mitmproxy and scripts log.
        scripts: mitmproxy scripts to load, in their order.
        started: called when the sockets are open.
        level: of Python's logging, from which on the journal has it.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        journal: Journal,
        *,
        scripts: Sequence[Path] = (),
        started: Callable[[], None],
        level: int = logging.WARNING,
    ) -> None:
        super().__init__(Options())
        self._started = started
        self.llamakey = LlamaKey(settings, store, journal)
        self.log_handler = _ToJournal(journal, self._scrub, level)
        self.log_handler.install()
        self.addons.add(core.Core(), proxyserver.Proxyserver())
        self._scripts = scripts

    def begin(self, beside: Sequence[object] = ()) -> None:
        """Build the chain, with these addons before LlamaKey. Raises mitmproxy's OptionsError."""
        self.addons.add(*beside)
        if self._scripts:
            self.addons.add(script.ScriptLoader())
        self.addons.add(self.llamakey)
        if self._scripts:
            self.options.update(scripts=[str(path) for path in self._scripts])

    async def running(self) -> None:
        await super().running()
        server = self.addons.get("proxyserver")
        if self.failures or not any(instance.is_running for instance in server.servers):
            # A script that was asked for and does not load may be somebody's guard: nothing is
            # served without it.
            self.stop()
            return
        _widen(server)
        self.log_handler.starting = False
        self._started()

    def stop(self) -> None:
        """End `run`, at once."""
        self.should_exit.set()

    async def done(self) -> None:
        await super().done()
        self.log_handler.uninstall()

    @property
    def failures(self) -> list[str]:
        """What was logged as an error before the sockets were open."""
        return self.log_handler.failures

    def _scrub(self, text: str) -> str:
        try:
            return self.llamakey.house.gate.scrub(text)
        except OptionsError:  # not loaded yet
            return redact(text)


def _widen(server: proxyserver.Proxyserver) -> None:
    for instance in server.servers:
        for listener in getattr(instance, "_servers", ()):
            for sock in getattr(listener, "sockets", ()):
                # The same socket under a second descriptor; listen() again only sets its backlog.
                with socket.fromfd(sock.fileno(), sock.family, sock.type) as twin:
                    twin.listen(_BACKLOG)


class _ToJournal(logging.Handler):
    """mitmproxy's log, and that of scripts, scrubbed of keys."""

    def __init__(self, journal: Journal, scrub: Callable[[str], str], level: int) -> None:
        super().__init__(level)
        self._journal = journal
        self._scrub = scrub
        self._was = logging.getLogger().level
        self.starting = True
        self.failures: list[str] = []

    def install(self) -> None:
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(self.level)
        for chatty in ("asyncio", "hpack", "quic", "tornado"):
            logging.getLogger(chatty).setLevel(max(self.level, logging.WARNING))

    def uninstall(self) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._was)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if text.startswith("Warning: Running proxyserver without nextlayer addon"):
                return  # ours is that addon, by another name
            if record.exc_info and record.exc_info[1] is not None:
                text = f"{text} ({self._what(record.exc_info[1])})"
            text = self._scrub(text)
            if self.starting and record.levelno >= logging.ERROR:
                self.failures.append(text)
            else:
                self._journal.note(f"{record.levelname.lower()}: {text}")
        except Exception as error:
            # Not logging's own handling, which prints the record with its values.
            self._journal.note(f"a log record of {record.name} failed: {type(error).__name__}")

    @staticmethod
    def _what(error: BaseException) -> str:
        """An exception on one line, with the place where it was raised."""
        place = ""
        trace = error.__traceback__
        while trace is not None:
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            trace = trace.tb_next
        return f"{type(error).__name__}: {error}, at {place or 'an unknown place'}"
