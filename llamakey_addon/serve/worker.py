"""A worker: one of several processes that serve on the same sockets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence

from llamakey_addon.errors import ConfigError, LlamaKeyError
from llamakey_addon.house import House
from llamakey_addon.journal import Journal
from llamakey_addon.serve import orders
from llamakey_addon.serve.crew import Duty
from llamakey_addon.serve.log import what
from llamakey_addon.serve.orders import Word
from llamakey_addon.serve.ports import Listener
from llamakey_addon.serve.serving import Serving
from llamakey_addon.serve.wishes import Wishes
from llamakey_addon.store import open_store


def work(
    duty: Duty,
    wishes: Wishes,
    listeners: Sequence[Listener],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
) -> int:
    """Serve until the parent says so, or is gone; the exit code. What goes wrong it is told."""
    try:
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(open_store(duty.settings.data_folder))
            journal = Journal(duty.settings)
            stack.callback(journal.close)
            house = House(duty.settings, store, journal)
            worker = _Worker(duty, wishes, house, journal, listeners)
            asyncio.run(worker.run(), loop_factory=loop_factory)
    except LlamaKeyError as error:
        duty.line.say(Word.FAILED, str(error).encode())
        return 1
    except Exception as error:
        duty.line.say(Word.FAILED, what(error).encode())
        return 1
    return 0


class _Worker:
    def __init__(
        self,
        duty: Duty,
        wishes: Wishes,
        house: House,
        journal: Journal,
        listeners: Sequence[Listener],
    ) -> None:
        self._line = duty.line
        self._journal = journal
        self._serving = Serving(wishes, house, journal, listeners, self._begin, duty.seat)
        self._stopping = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        try:
            await self._serving.run()
        finally:
            loop.remove_reader(self._line.fileno())

    def _begin(self) -> None:
        asyncio.get_running_loop().add_reader(self._line.fileno(), self._hear)
        self._line.say(Word.READY)

    def _hear(self) -> None:
        for word, content in self._line.heard():
            match word:
                case Word.SETTINGS:
                    self._take(content)
                case Word.REOPEN:
                    self._journal.reopen()
                case Word.RETIRE:
                    self._serving.spawn(self._serving.retire())
                case Word.STOP:
                    self._stop()
                case Word.NOW:
                    self._serving.stop()
        if self._line.closed:
            asyncio.get_running_loop().remove_reader(self._line.fileno())
            if not self._stopping:
                self._journal.note("the parent process has ended: stopping")
                self._stop()

    def _take(self, content: bytes) -> None:
        try:
            new = orders.unpack(content)
            self._serving.take(new)
        except ConfigError as error:
            self._line.say(Word.REFUSED, str(error).encode())
        except Exception as error:  # of a parent with other code, say
            self._line.say(Word.REFUSED, what(error).encode())
        else:
            self._journal.reload(new)
            self._line.say(Word.TAKEN)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._serving.spawn(self._serving.drain())
