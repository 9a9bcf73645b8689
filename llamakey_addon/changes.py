"""What may change under a running proxy: config.yaml, the keys that it refers to, the certificate.

Loading anew is all or nothing: what is faulty is told of, and changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llamakey_addon import certificates
from llamakey_addon.config import Settings, Tls, yamlfile
from llamakey_addon.errors import ConfigError

if TYPE_CHECKING:
    from llamakey_addon.journal import Journal

#: Between two looks at the files.
LOOK_S: Final = 1.0
#: So many looks lie between two at the certificate's end: an hour.
_LOOKS_A_RENEWAL: Final = 3600
#: Settings that a running process cannot change, beside `listen`.
_FIXED: Final = ("data_folder", "view", "workers")

type _Print = tuple[int, int, int]


class Changes:
    """Looks at the files, and loads the settings anew.

    Arguments:
        path: config.yaml, as it was asked for; None for ./config.yaml, if there is one.
        settings: those of now.
        check_tls: raises ConfigError for a certificate that can't be served.
    """

    def __init__(
        self,
        path: Path | None,
        settings: Settings,
        journal: Journal,
        check_tls: Callable[[Tls], object],
    ) -> None:
        self.settings = settings
        self._path = path
        self._journal = journal
        self._check_tls = check_tls
        self._reloading = asyncio.Lock()
        self._written = _written(settings.path)
        self._looks = 0
        self._known = self._seen = self._prints()

    def look(self) -> str:
        """Why to reload, or "": once config.yaml or the certificate has changed and stands still
        again. To be called every LOOK_S."""
        self._looks += 1
        now = self._prints()
        # An editor writes in steps, some by way of no file at all.
        changed = [
            path
            for path, print_ in now.items()
            if print_ is not None
            and print_ == self._seen.get(path)
            and print_ != self._known.get(path)
        ]
        self._seen = now
        if not changed:
            return ""
        self._known = now
        return f"{changed[0]} has changed"

    @property
    def renewal_is_due(self) -> bool:
        tls = self.settings.tls
        return tls is not None and tls.own and self._looks % _LOOKS_A_RENEWAL == 0

    def renew(self) -> None:
        """The proxy's own certificate near its end; a new one is then a change like any other."""
        place = certificates.place_in(self.settings.data_folder)
        if warning := certificates.refresh(place):
            self._journal.note(f"warning: {warning}")

    def load(self) -> Settings:
        """The settings anew, every reference read again. Raises ConfigError."""
        current = self.settings
        path = current.path or self._path
        door = current.door
        new = Settings.load(
            path,
            os.environ,
            listen=str(current.listen),
            door=door.open,
            door_listen=str(door.listen),
        )
        if new.door.open != door.open:
            new = replace(new, door=replace(new.door, open=door.open))
        if new.tls is not None:
            self._check_tls(new.tls)
        return new

    async def watch(self, take: Callable[[Settings], None]) -> None:
        """Look for as long as the process lives; see `reload`."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.renewal_is_due:
                await asyncio.to_thread(self.renew)
            if why := self.look():
                await self.reload(why, take)

    async def reload(self, why: str, take: Callable[[Settings], None]) -> None:
        """Load the settings anew; what is faulty changes nothing.

        Arguments:
            take: serves by them from then on, or raises ConfigError.
        """
        async with self._reloading:  # one after the other, or an older one might come last
            self._journal.reopen()
            try:
                # In a thread: a key's reference may be a command that takes its time.
                new = await asyncio.to_thread(self.load)
                take(new)
            except ConfigError as error:
                self.refuse(why, error)
            else:
                self.take(why, new)

    def refuse(self, why: str, error: ConfigError) -> None:
        """Say that nothing has changed."""
        faults = "\n".join(str(fault) for fault in error.faults)
        self._journal.note(
            f"{why}: not taken, the proxy goes on with the settings it has.\n{faults}"
        )

    def take(self, why: str, new: Settings, *, restarted: bool = False) -> None:
        """These are the settings from now on, of those that run or of new processes; say so."""
        current, self.settings = self.settings, new
        journal = self._journal
        journal.reload(new)
        for warning in new.warnings:
            if warning not in current.warnings:
                journal.note(f"warning: {warning}")
        changed = [name for name in _FIXED if getattr(new, name) != getattr(current, name)]
        fixed = [] if restarted else changed
        before, self._written = self._written, _written(new.path)
        fixed += [name for name, value in self._written.items() if value != before[name]]
        journal.note(f"{why}: {_difference(current, new)}")
        if fixed:
            journal.note(f"{', '.join(fixed)}: changed, and taken at the next start")

    def _prints(self) -> dict[Path, _Print | None]:
        """Of config.yaml, and of the certificate for clients, whether it is there or not."""
        settings = self.settings
        place = certificates.place_in(settings.data_folder)
        tls = settings.tls or Tls(place.cert, place.key)
        paths = (settings.path or Path("config.yaml"), tls.cert, tls.key)
        return {path: _fingerprint(path) for path in paths}


def _fingerprint(path: Path) -> _Print | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _written(path: Path | None) -> dict[str, object]:
    """What is taken at a start alone, as config.yaml has it: the settings hold what is served."""
    try:
        data = yamlfile.read(path, str(path)).data if path else {}
    except ConfigError:
        data = {}  # told of by the load
    door = data.get("door")
    if isinstance(door, dict):
        door = (door.get("open"), door.get("listen"))
    else:
        door = None
    return {"listen": data.get("listen"), "door": door}


def _difference(old: Settings, new: Settings) -> str:
    """What a reload did to the providers, for the log."""
    before = {provider.id for provider in old.providers.values() if provider.ready}
    after = {provider.id for provider in new.providers.values() if provider.ready}
    words = [
        f"{word} {', '.join(sorted(names))}"
        for word, names in (("now ready:", after - before), ("no longer ready:", before - after))
        if names
    ]
    return "; ".join(["settings taken", *words])
