"""`lmk serve` in one process: signals, and looks at what may have changed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence

from llamakey_addon.house import House
from llamakey_addon.journal import Journal
from llamakey_addon.serve.changes import Changes
from llamakey_addon.serve.ports import Listener
from llamakey_addon.serve.serving import Serving
from llamakey_addon.serve.wishes import Wishes


class Alone:
    """The one process that serves.

    Arguments:
        opened: called once connections are taken.
    """

    def __init__(
        self,
        wishes: Wishes,
        house: House,
        journal: Journal,
        listeners: Sequence[Listener],
        opened: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._changes = Changes(wishes, house.settings, journal)
        self._opened = opened
        self._serving = Serving(wishes, house, journal, listeners, self._begin)
        self._signals = 0

    async def run(self) -> int:
        """Serve until a signal; the process's exit code. Raises StartFailed."""
        self._listen_to_signals()
        await self._serving.run()
        self._journal.note("stopped")
        return 0

    def _begin(self) -> None:
        self._opened()
        self._serving.spawn(self._changes.watch(self._serving.take))

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        handlers: dict[str, Callable[[], None]] = {
            "SIGINT": self._stop,
            "SIGTERM": self._stop,
            "SIGHUP": lambda: self._serving.spawn(self._reload("SIGHUP")),
            "SIGUSR2": lambda: self._journal.note(
                "SIGUSR2: restarts without a gap need `workers` of 2 or more"
            ),
        }
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            if number is None:
                continue
            try:
                loop.add_signal_handler(number, handler)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_, run=handler: loop.call_soon_threadsafe(run))
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _stop(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._serving.spawn(self._serving.drain("Ctrl-C again to stop at once"))
        elif self._signals == 2:
            self._serving.stop()
        else:
            os._exit(130)

    async def _reload(self, why: str) -> None:
        await self._changes.reload(why, self._serving.take)
