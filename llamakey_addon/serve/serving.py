"""One process that serves: its doors, what stands beside them, its end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from llamakey_addon.config import Settings
from llamakey_addon.house import House
from llamakey_addon.journal import Journal
from llamakey_addon.serve.door import Door, server_tls
from llamakey_addon.serve.log import ToJournal
from llamakey_addon.serve.ports import Listener
from llamakey_addon.serve.second import SecondDoor
from llamakey_addon.serve.turns import Seat
from llamakey_addon.serve.wishes import StartFailed, Wishes

#: New objects before those are looked through, and how many such looks before the older ones are.
_GARBAGE: Final = (20_000, 20, 20)


class Serving:
    """Serves until it is stopped.

    Arguments:
        listeners: they are this object's from now on.
        opened: called once connections are taken.
        seat: among other workers; None where this process serves alone.
    """

    def __init__(
        self,
        wishes: Wishes,
        house: House,
        journal: Journal,
        listeners: Sequence[Listener],
        opened: Callable[[], None],
        seat: Seat | None = None,
    ) -> None:
        self._wishes = wishes
        self.house = house
        self._journal = journal
        self._doors = [_door(house, listener, seat) for listener in listeners]
        self._log = ToJournal(
            journal, house.gate.book.scrub, {0: 30, 1: 20}.get(wishes.verbosity, 10)
        )
        self._opened = opened
        self._started = False
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Returns when it was stopped and all is settled. Raises StartFailed."""
        self._log.install()
        try:
            if self._wishes.web or self._wishes.scripts:
                await self._run_beside_mitmproxy()
            else:
                await self._open()
                await self._stopped.wait()
                await self.house.end()
        finally:
            self._shut()
            for task in self._tasks:
                task.cancel()
            self._log.uninstall()
        if not self._started:
            raise StartFailed("\n".join(["The proxy did not start.", *self._log.failures]))

    async def _run_beside_mitmproxy(self) -> None:
        from mitmproxy.exceptions import OptionsError

        from llamakey_addon.serve.master import LmkMaster

        master = LmkMaster(self.house, self._log, scripts=self._wishes.scripts, started=self._open)
        beside: list[object] = []
        if self._wishes.web:
            from llamakey_addon.view.web import Web

            beside = Web(master, self.house.settings).addons
        try:
            master.begin(beside)
        except OptionsError as error:
            raise StartFailed(str(error)) from None
        for door in self._doors:
            door.greeter = master.greeter
        running = asyncio.ensure_future(master.run())
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        master.stop()
        await running

    async def _open(self) -> None:
        # What was made at the start stays until the end: the collector of garbage need not look at
        # it again and again, nor at every two thousandth object of a request.
        gc.freeze()
        gc.set_threshold(*_GARBAGE)
        for door in self._doors:
            await door.open()
        self.house.open_ahead()
        self._log.starting = False
        self._started = True
        self._opened()

    def _shut(self) -> None:
        for door in self._doors:
            door.shut()

    def take(self, settings: Settings) -> None:
        """Serve by these settings from the next request on.

        Raises ConfigError, and nothing has changed: the certificate is not what it was when the
        settings were loaded.
        """
        tls = None if settings.tls is None else server_tls(settings.tls)
        for door in self._doors:
            door.tls = tls
        self.house.reload(settings)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside, until the end at most."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """End now: what runs is settled as it is."""
        self._stopped.set()

    async def retire(self) -> None:
        """Others serve who comes from now on: end with the last of those who are here."""
        self._shut()
        for door in self._doors:
            await door.settled()
        limit_s = self.house.settings.limits.retire_timeout_s
        if left := await self.house.retire(limit_s):
            self._journal.note(
                f"{left} connections of a worker that was replaced did not end within "
                f"{limit_s:.0f} s: they are cut"
            )
        self._stopped.set()

    async def drain(self, hint: str = "") -> None:
        """Take no new connections, let running answers end, then stop."""
        house = self.house
        if self._started:
            self._shut()
            limit_s = house.settings.limits.drain_timeout_s
            if house.roads and hint:
                self._journal.note(
                    f"stopping: waiting up to {limit_s:.0f} s for running requests ({hint})"
                )
            left = await house.drain(limit_s)
            if left:
                self._journal.note(
                    f"{left} connections did not end within {limit_s:.0f} s: they are cut"
                )
        self._stopped.set()


def _door(house: House, listener: Listener, seat: Seat | None) -> Door:
    """What stands behind a listener."""
    match listener.role:
        case "front":
            tls = house.settings.tls
            return Door(house, listener.sockets, None if tls is None else server_tls(tls), seat)
        case "door":
            return SecondDoor(house, listener.sockets, seat)
